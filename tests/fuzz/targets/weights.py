"""Weights files, which travel."""

from __future__ import annotations

import json
import struct
from random import Random
from typing import Any

from clesr.engines.models.weights import METADATA_KEY, find_model, load_model, shipped
from clesr.tools.commands.info import describe
from fuzz.mutations import DEEP, flip, reword
from fuzz.target import Target

_SIZE = struct.Struct("<Q")


class Weights(Target):
    """The header of a file, whose length is made right, behind a first byte: 1 and the tensors of ``fast`` follow."""

    def seeds(self) -> list[bytes]:
        header = self._shipped()[0]
        values: dict[str, Any] = json.loads(header)
        metadata = [text.decode() for text in DEEP] + [json.dumps(large) for large in _large(values)]
        changed = [{**values, "__metadata__": {METADATA_KEY: text}} for text in metadata]
        whole = _SIZE.pack(len(header)) + header
        return [
            b"\1" + header,
            *(b"\1" + json.dumps(v).encode() for v in changed),
            b"\0" + whole,
            b"\0PK\3\4",
            b"\0",
        ]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        kind, header = data[:1], data[1:]
        if kind != b"\1" or rng.random() < 0.1:
            return kind + flip(rng, header)
        if rng.random() < 0.3:
            return kind + reword(rng, header)
        return kind + self._reworded(rng, header)

    def run(self, data: bytes) -> None:
        path = self.folder / "a.safetensors"
        header = data[1:]
        whole = data[:1] == b"\1"
        path.write_bytes(_SIZE.pack(len(header)) + header + self._shipped()[1] if whole else header)
        if len(header) % 3 == 0:
            find_model(str(path), 2)
        elif len(header) % 3 == 1:
            load_model(path)
        else:
            json.dumps(describe(str(path)))

    @staticmethod
    def _reworded(rng: Random, header: bytes) -> bytes:
        """With another descriptor, which is a text in the header."""
        try:
            values = json.loads(header)
            text: str = values["__metadata__"][METADATA_KEY]
            values["__metadata__"][METADATA_KEY] = reword(rng, text.encode()).decode(errors="replace")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return reword(rng, header)
        return json.dumps(values).encode()

    @staticmethod
    def _shipped() -> tuple[bytes, bytes]:
        """Header and tensors of the smallest model."""
        content = shipped()["fast", 2].read_bytes()
        (size,) = _SIZE.unpack_from(content)
        return content[_SIZE.size : _SIZE.size + size], content[_SIZE.size + size :]


def _large(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Descriptors of networks that no memory holds."""
    own = json.loads(values["__metadata__"][METADATA_KEY])
    return [
        {**own, "architecture": name, "arguments": arguments}
        for name, arguments in (
            ("fast", {"channels": 10**5, "depth": 10**6}),
            ("fast", {"channels": -1, "depth": 0}),
            ("densenet", {"blocks": 10**7}),
            ("densenet", {"growth": 10**5}),
            ("srcnn", {"features": 10**6}),
        )
    ]
