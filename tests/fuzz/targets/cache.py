"""Files in the cache folder, which another program may have written."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from random import Random

from clesr.engines import timing as choice
from clesr.engines.cache import VARIABLE, Cache, pack, unpack
from clesr.engines.common.errors import ClesrError
from clesr.engines.models.weights import Model, find_model
from fuzz.mutations import DEEP, flip, reword
from fuzz.target import Target

DIGEST = hashlib.sha256().digest_size
KEY = {"model": "fast", "shape": "16x16"}
SHAPE = (16, 16)


class CacheFile(Target):
    """A first byte 0: a file, whose checksum is made right; 1: what it holds of the times of engines."""

    allowed = (ClesrError, ValueError)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        os.environ[VARIABLE] = str(folder)
        choice.gpu_key = lambda: {"gpu": "none"}  # type: ignore[attr-defined]  # a machine without one never asks
        self._files = Cache(folder, "what was kept", ".kept")
        choice.remember(_model(), SHAPE, [], choice.Trial({"a": 1.0}))
        (self._times,) = (folder / "choices").iterdir()
        self._times_key, _ = unpack(self._times.read_bytes())

    def seeds(self) -> list[bytes]:
        timed = json.dumps({"milliseconds": {"a": 1.0}, "reasons": {"b": "c"}}).encode()
        empty = pack({}, b"")
        head = empty[: -DIGEST - len(b"{}") - 4]
        deep = [b"\0" + head + len(text).to_bytes(4, "little") + text + bytes(DIGEST) for text in DEEP]
        return [b"\1" + text for text in (timed, b"", *DEEP)] + [
            b"\0" + pack(KEY, b"kept"),
            b"\0" + empty,
            *deep,
        ]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        return data[:1] + (flip if rng.random() < 0.4 else reword)(rng, data[1:])

    def run(self, data: bytes) -> None:
        if data[:1] == b"\1":
            self._times.write_bytes(pack(self._times_key, data[1:]))
            trial = choice.recall(_model(), SHAPE, [])
            if trial is not None:
                trial.fastest_first([])
            return
        body = data[1:][:-DIGEST]
        content = body + hashlib.sha256(body).digest()
        self._files.path("a", KEY).write_bytes(content)
        self._files.read("a", KEY)
        unpack(content)


@cache
def _model() -> Model:
    return find_model("fast", 2)
