"""A clip from a plain recording: a video, a Cellvizio file, a TIFF stack, images."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import av

from clesr.engines.common.errors import EndOfSource, SourceError, UsageError
from clesr.engines.common.text import shown
from clesr.pipeline.frame import Corrupt, Frame
from clesr.pipeline.source import Source
from clesr.pipeline.sources.registry import open_source
from clesr.tools.export.clip import Clip, Still
from clesr.tools.export.selection import Selection, absent_error, thin

log = logging.getLogger(__name__)
LOSSLESS = ("ffv1", "rawvideo", "png", "huffyuv", "ffvhuff", "utvideo", "magicyuv", "tiff")
KEPT = ("title", "comment", "artist", "date", "creation_time", "location")


def recording_clip(
    address: str, selection: Selection, *, pixel_um: float | None, dated: bool = False, named: bool = False
) -> Clip:
    """The frames of the recording at ``address``, their numbers counted from 0.

    ``dated`` copies the date from the file, ``named`` its name, title and what else is KEPT. A frame that cannot be
    decoded is left out, and said so.
    Raises UsageError for a live source, SourceError where the recording cannot be opened.
    """
    if not os.path.exists(address):
        raise SourceError(f"{shown(address)}: no such session or file; check the path")
    source = open_source(address, pace="max")
    if source.info.live:
        source.close()
        name = source.info.address
        raise UsageError(f"{name} is live; record it first: clesr-live --source {name} --record FOLDER")
    lossy, tags = _of_file(Path(address))
    notes = "; ".join(
        [f"source {Path(address).name}", *(f"{name} {tags[name]}" for name in KEPT if name in tags)]
    )
    return Clip(
        kind="raw",
        stills=thin(_stills(source, selection), selection.seconds),
        total=source.info.frames,
        fps=source.info.fps,
        pixel_um=pixel_um,
        lossy=lossy,
        started=_date(tags) if dated else None,
        notes=notes if named else "",
    )


def _stills(source: Source, selection: Selection) -> Iterator[Still]:
    origin: Fraction | None = None
    absent = set(selection.only)
    with closing(source), suppress(EndOfSource):
        while True:
            item = source.read(1.0)
            if isinstance(item, Corrupt):
                log.warning(f"frame {item.number} is left out: {item.reason}")
            elif isinstance(item, Frame):
                if selection.end is not None and item.number > selection.end:
                    break
                seconds = (item.pts or 0) * (item.time_base or Fraction(1))
                origin = seconds if origin is None else origin
                if item.number in selection:
                    absent.discard(item.number)
                    yield Still(item.number, round((seconds - origin) * 10**9), item.image)
    if absent:
        raise absent_error(source.info.address, "raw", map(str, sorted(absent)))


def _date(tags: dict[str, str]) -> str | None:
    """When the file says it was made, where that is a date."""
    try:
        return datetime.fromisoformat(tags.get("creation_time", "")).isoformat()
    except ValueError:
        return None


def _of_file(path: Path) -> tuple[bool | None, dict[str, str]]:
    """Whether the codec of a video file loses something, None where it is no video; what its container says."""
    if path.is_dir() or path.suffix.lower() in (".mkt", ".tif", ".tiff"):
        return None, {}
    try:
        with av.open(f"file:{path}") as container:
            codec = container.streams.video[0].codec_context.name
            return codec not in LOSSLESS, dict(container.metadata)
    except (av.FFmpegError, IndexError):
        return None, {}
