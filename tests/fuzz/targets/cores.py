"""A calibration of a fibre bundle: its file, and what is made of a frame by it."""

from __future__ import annotations

import struct
from functools import cache
from random import Random

import numpy as np
from bundles import draw_bundle

from clesr.pipeline.cores.calibration import BundleFacts, encode_cores, load_cores
from clesr.pipeline.cores.removal import CoreRemoval
from fuzz.mutations import DEEP, flip, reword
from fuzz.target import Target

VALUES = (
    *(
        struct.pack("<f", value)
        for value in (
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            1e-6,
            1e-38,
            7.0,
            39.5,
            43.0,
            1e9,
            float("nan"),
            float("inf"),
        )
    ),
    *(struct.pack("<i", value) for value in (0, 1, -1, 2, 3, 30, 60, 2**31 - 1, -(2**31))),
)
MOST = 1 << 20  # pixels of a frame on which a calibration is tried


class Cores(Target):
    """The header of the file, whose length is made right for two of three; a line feed; the arrays."""

    def seeds(self) -> list[bytes]:
        corner = np.array([[0, 0], [7, 0], [0, 7]])
        least = encode_cores(
            BundleFacts(shape=(8, 8), spacing=7.0),
            places=corner,
            flat=np.ones(3),
            dead=np.empty((0, 2)),
            triangles=np.array([[0, 1, 2]]),
            map=np.where(np.add.outer(np.arange(8), np.arange(8)) < 8, 0, -1),
        )
        return [
            _apart(_drawn()),
            _apart(least),
            *(b"\0" + deep + b"\n" for deep in DEEP),
            b"",
        ]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        how = b"\2" if rng.random() < 0.1 else b"\0"
        header, found, arrays = data[1:].partition(b"\n")
        if rng.random() < 0.5:
            return how + reword(rng, header) + found + arrays
        return how + header + found + (flip(rng, arrays) if rng.random() < 0.2 else _overwritten(rng, arrays))

    def run(self, data: bytes) -> None:
        header, _, arrays = data[1:].partition(b"\n")
        size = len(header) + (data[0] if data else 0)
        path = self.folder / "a.cores"
        path.write_bytes(struct.pack("<Q", size) + header + arrays)
        calibration = load_cores(path)
        height, width = calibration.facts.shape
        if height * width <= MOST:
            image = CoreRemoval(calibration)(np.full((height, width), 200, np.uint8))
            assert image.shape == (height, width)


def _overwritten(rng: Random, arrays: bytes) -> bytes:
    """``arrays`` with a few numbers in place of others."""
    changed = bytearray(arrays)
    for _ in range(1 + int(rng.random() * 4)):
        at = 4 * int(rng.random() * (len(arrays) // 4 + 1))
        changed[at : at + 4] = VALUES[int(rng.random() * len(VALUES))]
    return bytes(changed[: len(arrays)])


def _apart(whole: bytes) -> bytes:
    """A file as an input."""
    (size,) = struct.unpack_from("<Q", whole)
    return b"\0" + whole[8 : 8 + size] + b"\n" + whole[8 + size :]


@cache
def _drawn() -> bytes:
    return draw_bundle((40, 44), 6.0).calibration().data
