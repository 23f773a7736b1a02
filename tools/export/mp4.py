"""MP4 for players and browsers: H.264 or HEVC, true times, the index before the images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from clesr.engines.common.files import numbered
from clesr.pipeline.frame import Image
from clesr.pipeline.video.encoding import FINEST, Encoding, VideoWriter, check_codec, choose_encoding
from clesr.tools.export.burn_in import WARNING
from clesr.tools.export.clip import Clip, Still, runs
from clesr.tools.export.files import Files

CODECS = ("h264", "hevc", "hevc10", "hevc12")
FPS = 25.0  # where the recording cannot tell; only the length of the last image depends on it


def write_mp4(
    clip: Clip, path: Path, files: Files, *, codec: str = "h264", crf: int | None = None
) -> list[str]:
    """Write ``clip`` to ``path``, ``NAME.2.mp4`` and so on where its images change their size. What was written, in
    words.

    Times are those of the clip, to the microsecond. ``codec`` is one of CODECS;
    16-bit images keep their top 8 bits in ``h264`` and ``hevc``, 10 or 12 in the others. Odd sides get one
    more row or column, a copy of the last, where players need even ones.
    """
    check_codec(codec, ".mp4")
    said = []
    for number, run in enumerate(runs(clip.stills), 1):
        final = path if number == 1 else numbered(path, number)
        said.append(_write_run(clip, run, final, files.begin(final), codec, crf))
    return said


def _write_run(
    clip: Clip, run: Iterator[Still], final: Path, temporary: Path, codec: str, crf: int | None
) -> str:
    tick = Fraction(1, FINEST)
    writer, last, origin = None, -1, clip.origin_ns
    for still in run:
        image = _fitted(still.image, codec)
        if writer is None:
            encoding = _encoding(codec, image, crf)
            fps = clip.fps or FPS
            shape = image.shape[0], image.shape[1]
            writer = VideoWriter(
                temporary, encoding, shape, tick=tick, fps=fps,
                container={"movflags": "faststart"}, metadata=_tags(clip),
            )  # fmt: skip
            origin = still.time_ns if origin is None else origin
        last = max(last + 1, round(Fraction(still.time_ns - (origin or 0), 10**9) / tick))
        writer.write(image, last)
    assert writer is not None
    writer.close()
    height, width = writer.shape
    return f"{final}: {writer.frames} frames, {width}x{height}, {codec}"


def _encoding(codec: str, image: Image, crf: int | None) -> Encoding:
    live = choose_encoding(codec, ".mp4", image.dtype, (image.shape[0], image.shape[1]), crf=crf)
    options = {name: value for name, value in live.options.items() if name != "tune"}
    return replace(live, options=options | {"preset": "faster"})  # nobody waits for the next frame


def _fitted(image: Image, codec: str) -> Image:
    """``image`` as the codec and players take it."""
    if codec in ("hevc10", "hevc12"):
        return image
    if image.dtype != np.uint8:
        image = (image >> 8).astype(np.uint8)
    odd = [(0, side % 2) for side in image.shape]
    return np.pad(image, odd, mode="edge") if any(end for _, end in odd) else image


def _tags(clip: Clip) -> dict[str, str]:
    comment = [str(clip.derivation)] if clip.derivation else []
    tags = {"comment": "; ".join([*comment, *clip.edits, f"{WARNING}; exported by clesr"])}
    if clip.started:
        tags["creation_time"] = clip.started
    return tags | ({"title": clip.notes} if clip.notes else {})
