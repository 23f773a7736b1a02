"""Recordings: Cellvizio's, video files of several kinds, FFV1 packets."""

from __future__ import annotations

import struct
from random import Random

from clesr.pipeline.sources.registry import open_source
from clesr.pipeline.sources.video.ranges import index_video, split_video
from clesr.pipeline.video.decode import SliceCheck, intact
from fuzz.mutations import flip
from fuzz.target import Target, drain

SUFFIXES = (".mkv", ".mp4", ".avi", ".ts", ".webm", ".mov")


class Mkt(Target):
    def seeds(self) -> list[bytes]:
        made = []
        for width, rows, fps in ((576, 2, 12.0), (512, 4, 8.5)):
            header = bytearray(16)
            struct.pack_into(">f", header, 5, fps)
            struct.pack_into(">i", header, 10, width * rows * 2)
            made.append(bytes(header) + bytes(width * rows * 2 + 32) * 3)
        return made

    def run(self, data: bytes) -> None:
        path = self.folder / "a.mkt"
        path.write_bytes(data)
        drain(open_source(str(path), pace="max"))


class Video(Target):
    """A first byte that says the suffix and what is done, then the file. All good ones are in the corpus."""

    def seeds(self) -> list[bytes]:
        return [b"\0", b"\0" + bytes(100)]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        suffix, use = (
            int(data[0] / 3) if data and rng.random() < 0.8 else int(rng.random() * 80),
            int(rng.random() * 3),
        )
        return bytes([3 * suffix + use]) + flip(rng, data[1:])

    def run(self, data: bytes) -> None:
        kind, use = divmod(data[0] if data else 0, 3)
        path = self.folder / f"a{SUFFIXES[kind % len(SUFFIXES)]}"
        path.write_bytes(data[1:])
        if use == 0:
            index = index_video(path)
            split_video(index, index.frames, 4)
        else:
            drain(open_source(str(path), pace="max", count=use == 1, deinterlace=use == 2))


class Ffv1(Target):
    """A packet of which it is asked whether its checksums hold."""

    def seeds(self) -> list[bytes]:
        return [b"", bytes(40)]

    def run(self, data: bytes) -> None:
        check = SliceCheck()
        check.problem(data, key=True)
        check.problem(data[::-1], key=False)
        intact(data[8:])
