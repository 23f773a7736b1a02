"""Images as the H.264 or HEVC stream of a DICOM video object (PS3.5, 8.2.7, 8.2.8, 8.2.10)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np

from clesr.engines.common.clock import ASSUMED_FPS
from clesr.engines.common.errors import UsageError
from clesr.engines.common.files import sync
from clesr.pipeline.frame import Image
from clesr.pipeline.video.encoding import FINEST, VideoWriter
from clesr.tools.export.clip import Clip, Still
from clesr.tools.export.mp4 import encoding, fitted, write_stills

CODECS = ("h264", "hevc")
LARGEST = 2**32 - 4  # bytes of a fragment
BLOCK = 16  # side of a macroblock of H.264
NO_PIXELS = np.empty((0, 0), np.uint8)


@dataclass(frozen=True, slots=True)
class Syntax:
    """A transfer syntax for video, with the level that it allows: units of area a frame and a second."""

    codec: str
    transfer_syntax: str
    level: str
    method: str
    area: int
    rate: int


# H.264 counts macroblocks (ITU-T H.264, A.3), HEVC pixels (H.265, A.4).
SYNTAXES = (
    Syntax("h264", "1.2.840.10008.1.2.4.102", "4.1", "ISO_14496_10", 8192, 245_760),
    Syntax("h264", "1.2.840.10008.1.2.4.104", "4.2", "ISO_14496_10", 8704, 522_240),
    Syntax("hevc", "1.2.840.10008.1.2.4.107", "5.1", "ISO_23008_2", 8_912_896, 534_773_760),
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A stream: its transfer syntax, the (H, W) of its frames, and how many times smaller it is than the images."""

    syntax: Syntax
    shape: tuple[int, int]
    ratio: float


@dataclass(frozen=True, slots=True)
class Form:
    """What the pixels of an object are: (H, W), bytes each, and the stream that they are in, None for plain ones."""

    shape: tuple[int, int]
    itemsize: int
    video: Encoded | None = None


def choose_syntax(shape: tuple[int, int], fps: float, codec: str | None) -> Syntax:
    """The first of SYNTAXES, of those of ``codec`` where it is given, whose level has room for (H, W) images. Raises
    UsageError where none has."""
    for syntax in SYNTAXES:
        block = BLOCK if syntax.codec == "h264" else 1
        area = -(-shape[0] // block) * -(-shape[1] // block)
        if codec in (None, syntax.codec) and area <= syntax.area and area * fps <= syntax.rate:
            return syntax
    known = f"codec {codec}" if codec else "any codec"
    raise UsageError(
        f"{shape[1]}x{shape[0]} at {fps:g} frames/s is more than a DICOM video of {known} may have; choose another "
        "--codec, --sop-class secondary-capture, or a smaller scale"
    )


def encode(
    clip: Clip, stills: Iterator[Still], path: Path, codec: str | None, crf: int | None
) -> tuple[Encoded, list[Still]]:
    """``stills`` of one size as an MP4 at ``path``, at their times, and what was shown, without pixels. 16-bit images
    keep their top 8 bits, odd sides get one more row or column."""
    first, shown, fps = next(stills), list[Still](), clip.fps or ASSUMED_FPS
    height, width = fitted(first.image, "h264").shape
    syntax = choose_syntax((height, width), fps, codec)

    def noted() -> Iterator[Still]:
        for still in chain([first], stills):
            shown.append(replace(still, image=NO_PIXELS))
            yield still

    writer = write_stills(noted(), "h264", lambda image: _writer(path, syntax, image, fps, crf))
    sync(path)
    size = path.stat().st_size
    if size > LARGEST:
        raise UsageError(f"the video has {size} bytes, and DICOM allows {LARGEST}; export less by --frames")
    return Encoded(syntax, writer.shape, writer.frames * height * width / size), shown


def _writer(path: Path, syntax: Syntax, image: Image, fps: float, crf: int | None) -> VideoWriter:
    shape = image.shape[0], image.shape[1]
    usual = encoding(syntax.codec, image, crf)
    options = dict(usual.options)
    if syntax.codec == "h264":
        options |= {"profile": "high", "level": syntax.level}
    else:
        options["x265-params"] = f"{options['x265-params']}:level-idc={syntax.level}"
    return VideoWriter(
        path, replace(usual, options=options), shape, tick=Fraction(1, FINEST), fps=fps,
        container={"movflags": "faststart"},
    )  # fmt: skip
