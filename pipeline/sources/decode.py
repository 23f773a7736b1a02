"""Packets of one video stream in, images and losses out: each packet's picture is accounted for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import av
import av.error

from clesr.pipeline.errors import SourceError
from clesr.pipeline.frame import Image
from clesr.pipeline.sources.ffv1 import SliceCheck
from clesr.pipeline.sources.hardware import Decoded, Decoding, assisted
from clesr.pipeline.sources.luma import luma
from clesr.pipeline.text import shown

AWAITED = 128  # pictures that a decoder may hold back for reordering, at most
_THREADS = min(4, os.cpu_count() or 1)
_INTRA = ("ffv1", "mjpeg")  # FFmpeg does not mark these as intra-only, or not in every version
_TEXT = ("ansi", "bintext", "xbin", "idf")  # text files, which FFmpeg would draw as terminal screens


class Picture(NamedTuple):
    """A decoded image and its time in the stream's time base, None where there is none."""

    image: Image
    pts: int | None


class Damage(NamedTuple):
    """A picture that the stream had and that cannot be shown; one line."""

    reason: str


def open_container(
    address: str, *, timeout: float | None = None, options: Mapping[str, str] | None = None
) -> av.container.InputContainer:
    """An open container with at least one video stream. Raises SourceError."""
    try:
        container = av.open(address, timeout=timeout, options=dict(options or {}), metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise SourceError(f"{shown(address)}: {_open_problem(error)}") from error
    streams = container.streams.video
    if streams and streams[0].codec_context is not None and streams[0].codec_context.name not in _TEXT:
        return container
    container.close()
    raise SourceError(f"{shown(address)} has no video in it; give a video, or a folder of images")


def _open_problem(error: Exception) -> str:
    if isinstance(error, av.error.InvalidDataError):
        return "not a video that FFmpeg can read, or its beginning or index is damaged; try it with ffprobe"
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"cannot be opened ({reason}); check the address and that the sender is running"


class Decoder:
    """Decodes ``stream``. Slice threads only: they hold no frame back, and an error belongs to its packet."""

    def __init__(self, stream: av.VideoStream, decoding: Decoding | None = None) -> None:
        context = stream.codec_context
        stream.thread_type = "SLICE"
        stream.thread_count = _THREADS
        if context.codec.intra_only or context.name in _INTRA:
            context.options = {"err_detect": "crccheck+explode"}
        self._context = context
        self._assisted = assisted(context, decoding)
        self._checksums = SliceCheck() if context.name == "ffv1" else None
        # Times of packets whose picture has not come yet. Hidden VP8 packets and second fields have none.
        self._awaited: dict[int, None] | None = None if context.name == "vp8" else {}

    def decode(self, packet: av.Packet[av.VideoStream]) -> Iterator[Picture | Damage]:
        """What ``packet`` completes: usually one picture, none while the decoder reorders."""
        if self._checksums is not None:
            problem = self._checksums.problem(bytes(packet), key=packet.is_keyframe)
            if problem is not None:
                yield Damage(problem)
                return
        if self._awaited is not None and packet.pts is not None and not packet.is_discard:
            self._awaited[packet.pts] = None
        try:
            for frame, image in self._decoded(packet):
                yield self._picture(frame, image)
        except av.error.FFmpegError as error:
            self._received(packet.pts)
            yield Damage(f"cannot be decoded ({error.strerror})")
            return
        while self._awaited is not None and len(self._awaited) > AWAITED:
            del self._awaited[next(iter(self._awaited))]
            yield Damage("the decoder gave no image for it")

    def flush(self) -> Iterator[Picture | Damage]:
        """What the decoder still holds, then a Damage for each packet that gave nothing."""
        for _ in range(AWAITED):  # a decoder may fail on one picture and still hold others
            try:
                pictures = list(self._decoded(None))
            except EOFError:
                break
            except av.error.FFmpegError:
                continue
            if not pictures:
                break
            for frame, image in pictures:
                yield self._picture(frame, image)
        for _ in self._awaited or ():
            yield Damage("the decoder gave no image for it")
        self._awaited = None

    def _decoded(self, packet: av.Packet[av.VideoStream] | None) -> Iterator[Decoded]:
        if self._assisted is not None:
            return self._assisted.pictures(packet)
        return ((frame, None) for frame in self._context.decode(packet))

    def _picture(self, frame: av.VideoFrame, image: Image | None) -> Picture | Damage:
        self._received(frame.pts)
        if frame.interlaced_frame:
            self._awaited = None
        if frame.is_corrupt:
            return Damage("damaged: part of the image is made up by the decoder")
        try:
            return Picture(luma(frame) if image is None else image, frame.pts)
        except av.error.FFmpegError as error:
            return Damage(f"pixel format {frame.format.name} cannot be converted ({error.strerror})")

    def _received(self, pts: int | None) -> None:
        if self._awaited is not None and pts is not None:
            self._awaited.pop(pts, None)
