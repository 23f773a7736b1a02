"""A clip from a plain recording: a video, a Cellvizio file, a TIFF stack, images."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from clesr.engines.common.errors import EndOfSource, SourceError, UsageError
from clesr.engines.common.text import shown
from clesr.pipeline.frame import Corrupt, Frame
from clesr.pipeline.prepare import stretch
from clesr.pipeline.source import Source
from clesr.pipeline.sources.registry import open_source
from clesr.pipeline.video.tracks import video_track
from clesr.tools.export.clip import Clip, Still
from clesr.tools.export.selection import Selection, absent_error, thin

log = logging.getLogger(__name__)
LOSSLESS = ("ffv1", "rawvideo", "png", "huffyuv", "ffvhuff", "utvideo", "magicyuv", "tiff")
KEPT = ("title", "comment", "artist", "date", "creation_time", "location")


def recording_clip(
    address: str,
    selection: Selection,
    *,
    pixel_um: float | None,
    dated: bool = False,
    named: bool = False,
    reading: Mapping[str, Any] | None = None,
) -> Clip:
    """The frames of the recording at ``address``, their numbers counted from 0.

    ``reading`` says how images and stacks are read (``ReadingSettings.reading``).
    ``dated`` copies the date from the file, ``named`` its name, title and what else is KEPT. A frame that cannot be
    decoded is left out, and said so.
    Raises UsageError for a live source, SourceError where the recording cannot be opened.
    """
    if not os.path.exists(address):
        raise SourceError(f"{shown(address)}: no such session or file; check the path")
    source = open_source(address, pace="max", **(reading or {}))
    if source.info.live:
        source.close()
        name = source.info.address
        raise UsageError(f"{name} is live; record it first: clesr-live --source {name} --record FOLDER")
    lossy, tags = _of_file(Path(address))
    asked = (reading or {}).get("window")
    notes = "; ".join(
        [f"source {Path(address).name}", *(f"{name} {tags[name]}" for name in KEPT if name in tags)]
    )
    clip = Clip(
        kind="raw",
        stills=thin(_stills(source, selection), selection.seconds),
        total=source.info.frames,
        fps=source.info.fps,
        pixel_aspect=source.info.pixel_aspect,
        pixel_um=pixel_um,
        window=source.info.window if asked is None else None,
        lossy=lossy,
        started=_date(tags) if dated else None,
        notes=notes if named else "",
    )
    if asked is None:
        return clip
    low, high = source.info.window or asked
    return clip.edited(
        lambda still: stretch(still.image, low, high), f"grey levels {asked[0]:g} to {asked[1]:g} stretched"
    )


def _stills(source: Source, selection: Selection) -> Iterator[Still]:
    origin: Fraction | None = None
    absent, damaged = set(selection.only), 0
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
                    damaged += item.damaged
                    yield Still(item.number, round((seconds - origin) * 10**9), item.image)
    if damaged:
        log.warning(
            f"{damaged} of the exported frames build on a damaged picture: parts of them may be wrong"
        )
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
            codec = video_track(container, None, str(path)).codec_context.name
            return codec not in LOSSLESS, dict(container.metadata)
    except (av.FFmpegError, SourceError):
        return None, {}
