"""Messages that come by ZeroMQ."""

from __future__ import annotations

import json
from random import Random

from clesr.engines.common.errors import ClesrError
from clesr.pipeline.sources.zeromq.message import Refused, parse_message
from clesr.pipeline.sources.zeromq.source import Renumbered
from fuzz.mutations import DEEP, flip, reword
from fuzz.target import Target

HEADER = {
    "version": 1,
    "shape": [2, 3],
    "dtype": "uint8",
    "number": 41,
    "time_ns": 81234567890,
    "stream": "probe",
}


class Message(Target):
    """A first byte that says whether there is a topic, then header and pixels with a line feed between."""

    allowed = (ClesrError, Refused)

    def seeds(self) -> list[bytes]:
        deep = json.dumps({**HEADER, "dtype": "uint16"}).encode()
        headers = [json.dumps(HEADER).encode(), deep, *DEEP]
        return [bytes([n % 2]) + header + b"\n" + bytes(6 * (1 + n % 2)) for n, header in enumerate(headers)]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        return flip(rng, data) if rng.random() < 0.3 else data[:1] + reword(rng, data[1:])

    def run(self, data: bytes) -> None:
        topic = data[:1] == b"\1"
        header, _, pixels = data[1:].partition(b"\n")
        parts = [memoryview(b"topic")] * topic + [memoryview(header), memoryview(pixels)]
        found, image = parse_message(parts, topic=topic)
        assert image.shape == found.shape
        numbers = Renumbered()
        given = [numbers.of(found.number), numbers.of(0), numbers.next(), numbers.of(found.number)]
        assert given == sorted(set(given)), "numbers rise"
