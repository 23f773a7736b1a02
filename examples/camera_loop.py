"""A camera loop of one's own: an engine that stays open takes images from any iterable.

    python examples/camera_loop.py [FRAMES]

``camera`` stands for what gives your images; here they are those of the simulated endomicroscope.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import clesr


def camera(frames: int) -> Iterator[clesr.Frame]:
    source = clesr.open_source(f"demo:?size=64&frames={frames}&pace=max")
    try:
        while True:
            item = source.read(timeout=1.0)
            if isinstance(item, clesr.Frame):
                yield item
    except clesr.EndOfSource:
        source.close()


def main(frames: int) -> None:
    with clesr.Upscaler(scale=2, model="fast") as upscaler:
        for number, sr in enumerate(upscaler.stream(frame.image for frame in camera(frames))):
            print(f"frame {number}: {sr.shape} {sr.dtype}, mean {sr.mean():.1f}")
        print(f"by {upscaler.info}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
