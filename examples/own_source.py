"""A source of one's own under an address of its own, through the whole live path into a video file.

    python examples/own_source.py OUTPUT.mkv

A package that others install names ``Noise`` as an entry point of ``clesr.sources`` instead of adding it.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from functools import partial

import numpy as np

import clesr


class Noise:
    def __init__(self, address: str, options: clesr.SourceOptions) -> None:
        self.info = clesr.SourceInfo(address, live=False, fps=25.0, shape=(64, 64), frames=10)
        self._clock, self._number = options.clock, -1

    def read(self, timeout: float) -> clesr.Frame:
        self._number += 1
        if self._number == self.info.frames:
            raise clesr.EndOfSource
        image = np.random.default_rng(self._number).integers(0, 256, (64, 64), np.uint8)
        now, due = self._clock.now_ns(), Fraction(1, 25)  # seconds from frame to frame: it is a recording
        return clesr.Frame(image, self._number, now, pts=self._number, time_base=due)

    def close(self) -> None: ...


if __name__ == "__main__":
    clesr.SOURCES.add("noise", Noise)
    sink = clesr.open_sink(sys.argv[1], fps=25.0)
    engine = partial(clesr.open_engine, "auto", "fast", 2)
    print(clesr.Pipeline(clesr.open_source("noise:", pace="max"), engine, [sink], scale=2).run().outputs[0])
