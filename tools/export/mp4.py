"""MP4 for players and browsers: H.264 or HEVC, true times, the index before the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np

from clesr.engines.common.clock import ASSUMED_FPS
from clesr.engines.view import eight_bits
from clesr.pipeline.frame import Image
from clesr.pipeline.video.encoding import FINEST, Encoding, VideoWriter, check_codec, choose_encoding
from clesr.tools.export.burn_in import WARNING
from clesr.tools.export.clip import Clip, Still, runs, to_files
from clesr.tools.export.files import Files


class Mp4Exporter:
    """A video file for each size of image.

    Times are those of the clip, to the microsecond. ``codec`` is h264, hevc, hevc10 or hevc12, h264 where it is None;
    16-bit images keep their top 8 bits in ``h264`` and ``hevc``, 10 or 12 in the others. Odd sides get one
    more row or column, a copy of the last, where players need even ones.
    """

    what, named_by_frame = "sr", False

    def __init__(self, *, codec: str | None = None, crf: int | None = None) -> None:
        self._codec, self._crf = codec or "h264", crf

    def write(self, clip: Clip, path: Path, files: Files) -> list[str]:
        check_codec(self._codec, ".mp4")
        return [
            self._write_run(clip, run, final, files.begin(final))
            for final, run in to_files(runs(clip.stills), path)
        ]

    def _write_run(self, clip: Clip, run: Iterator[Still], final: Path, temporary: Path) -> str:
        def opened(image: Image) -> VideoWriter:
            return VideoWriter(
                temporary, encoding(self._codec, image, self._crf), (image.shape[0], image.shape[1]),
                tick=Fraction(1, FINEST), fps=clip.fps or ASSUMED_FPS, container={"movflags": "faststart"},
                metadata=_tags(clip), pixel_aspect=clip.pixel_aspect,
            )  # fmt: skip

        writer = write_stills(run, self._codec, opened, clip.origin_ns)
        height, width = writer.shape
        return f"{final}: {writer.frames} frames, {width}x{height}, {self._codec}"


def write_stills(
    stills: Iterator[Still], codec: str, opened: Callable[[Image], VideoWriter], origin_ns: int | None = None
) -> VideoWriter:
    """All of ``stills``, at least one, into the file that ``opened`` for the first image, at their times since
    ``origin_ns``, None: since the first. The file is closed in any case."""
    first = next(stills)
    origin_ns, last = first.time_ns if origin_ns is None else origin_ns, -1
    with closing(opened(fitted(first.image, codec))) as writer:
        for still in chain([first], stills):
            last = max(last + 1, round(Fraction(still.time_ns - origin_ns, 10**9) * FINEST))
            writer.write(fitted(still.image, codec), last)
    return writer


def encoding(codec: str, image: Image, crf: int | None) -> Encoding:
    """That of a file with images like ``image``, at ``crf``."""
    live = choose_encoding(codec, ".mp4", image.dtype, (image.shape[0], image.shape[1]), crf=crf)
    options = {name: value for name, value in live.options.items() if name != "tune"}
    return replace(live, options=options | {"preset": "faster"})  # nobody waits for the next frame


def fitted(image: Image, codec: str) -> Image:
    """``image`` as the codec and players take it."""
    if codec in ("hevc10", "hevc12"):
        return image
    image = eight_bits(image)
    odd = [(0, side % 2) for side in image.shape]
    return np.pad(image, odd, mode="edge") if any(end for _, end in odd) else image


def _tags(clip: Clip) -> dict[str, str]:
    comment = [str(clip.derivation)] if clip.derivation else []
    tags = {"comment": "; ".join([*comment, *clip.edits, f"{WARNING}; exported by clesr"])}
    if clip.started:
        tags["creation_time"] = clip.started
    return tags | ({"title": clip.notes} if clip.notes else {})
