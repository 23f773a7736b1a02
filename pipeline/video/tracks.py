"""The video tracks of a container: which there are, which is read, and the form of its pixels."""

from __future__ import annotations

import logging
from fractions import Fraction

import av
from av.stream import Disposition

from clesr.engines.common.errors import SourceError, UsageError
from clesr.engines.common.text import shown
from clesr.pipeline.messages import SafeLogger

log = SafeLogger(logging.getLogger(__name__))
_STILLS = Disposition.attached_pic | Disposition.timed_thumbnails
_TEXT = ("ansi", "bintext", "xbin", "idf")  # text files, which FFmpeg would draw as terminal screens
_FIRST_SHOWN = {2: "top", 3: "bottom", 4: "bottom", 5: "top"}  # AVFieldOrder: TT, BB, TB, BT
_MOST_OBLONG = 100  # a pixel that much wider than high, or the reverse, is a mistake of the file's


def video_track(container: av.container.InputContainer, track: int | None, address: str) -> av.VideoStream:
    """The video track number ``track``, counted from 1 without cover pictures; where that is None, the first that the
    container marks as its default, or the first. Raises SourceError without a video, UsageError without that track."""
    name = shown(address)
    tracks = video_tracks(container)
    if not tracks:
        raise SourceError(f"{name} {_absence(container)}")
    if track is None:
        return next((one for one in tracks if one.disposition & Disposition.default), tracks[0])
    if not 1 <= track <= len(tracks):
        raise UsageError(f"{name} has no video track {track}; it has {_listed(tracks)}")
    return tracks[track - 1]


def video_tracks(container: av.container.InputContainer) -> list[av.VideoStream]:
    """Those that FFmpeg can decode, in order; cover art and thumbnails are none."""
    return [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None
        and stream.codec_context.name not in _TEXT
        and not stream.disposition & _STILLS
    ]


def tell_tracks(container: av.container.InputContainer, chosen: av.VideoStream, address: str) -> None:
    """Says which track is read, where there are several."""
    tracks = video_tracks(container)
    if len(tracks) > 1:
        log.warning(
            f"{shown(address)} has {_listed(tracks)}; track {tracks.index(chosen) + 1} is read, "
            "--track N reads another"
        )


def pixel_aspect(stream: av.VideoStream) -> Fraction:
    """Width of a pixel over its height: 1 where nothing is stated, or nothing that can be."""
    for ratio in (stream.sample_aspect_ratio, stream.codec_context.sample_aspect_ratio):
        if ratio and Fraction(1, _MOST_OBLONG) <= ratio <= _MOST_OBLONG:
            return Fraction(ratio)
    return Fraction(1)


def field_order(stream: av.VideoStream) -> str | None:
    """``top`` or ``bottom``: the field that is shown first, where the container or its first pictures say that the
    video is interlaced."""
    return _FIRST_SHOWN.get(int(stream.codec_context.field_order))


def _listed(tracks: list[av.VideoStream]) -> str:
    said = (
        f"{number} ({one.codec_context.width}x{one.codec_context.height} {one.codec_context.name})"
        for number, one in enumerate(tracks, 1)
    )
    return f"{len(tracks)} video track{'s' * (len(tracks) > 1)}: {', '.join(said)}"


def _absence(container: av.container.InputContainer) -> str:
    streams = container.streams.video
    if any(stream.disposition & _STILLS for stream in streams):
        return "has a cover picture, but no video in it; give a video, or a folder of images"
    if any(stream.codec_context is None for stream in streams):
        return (
            "holds video in a form that FFmpeg has no decoder for; write it anew with the program that made it, "
            "as FFV1 or as a TIFF stack"
        )
    return "has no video in it; give a video, or a folder of images"
