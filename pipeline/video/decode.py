"""Packets of one video stream in, images and losses out: each packet's picture is accounted for."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import av
import av.error
from av.video.codeccontext import VideoCodecContext

from clesr.engines.common.errors import SourceError, on_error
from clesr.engines.common.limits import INTER_KEPT, INTRA_KEPT, most_pixels, size_problem, video_problem
from clesr.engines.common.processor import core_count
from clesr.engines.common.text import shown
from clesr.pipeline.frame import Image
from clesr.pipeline.video.hardware_decoding import Decoded, hardware_decoder, reason
from clesr.pipeline.video.header import header_problem
from clesr.pipeline.video.luma import luma

AWAITED = 128  # pictures that a decoder may hold back for reordering, at most
_UNKNOWN = "not a video that FFmpeg can read, or its beginning or index is damaged; try it with ffprobe"
_UNKNOWN_BITS = 24  # a pixel, where a header does not tell
_THREADS = min(4, core_count())
_INTRA = ("ffv1", "mjpeg")  # FFmpeg does not mark these as intra-only, or not in every version
_TEXT = ("ansi", "bintext", "xbin", "idf")  # text files, which FFmpeg would draw as terminal screens

# FFV1 (RFC 9043, 4.9): a slice ends with its size (3 bytes), a status (1) and a CRC-32 (4) whose bits run
# from the top of each byte, as in MPEG. zlib has the same polynomial with bits from the bottom.
_TRAILER = 8
_ONES = 0xFFFFFFFF
_MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

# What FFmpeg and PyAV raise for damaged or hostile data.
FAULTS = (av.error.FFmpegError, ValueError, ArithmeticError, LookupError, MemoryError)


class DecodedImage(NamedTuple):
    """A decoded image and its time in the stream's time base, None where there is none."""

    image: Image
    pts: int | None


class Damage(NamedTuple):
    """A picture that the stream had and that cannot be shown; one line."""

    reason: str


def open_container(
    address: str, *, timeout: float | None = None, options: Mapping[str, str] | None = None
) -> av.container.InputContainer:
    """An open container with at least one video stream, of pictures that are not too large. Raises SourceError."""
    stored = stored_bytes(address)
    if stored is not None:
        try:
            problem = header_problem(Path(address.removeprefix("file:")))
        except OSError as error:
            problem = f"cannot be opened ({error.strerror}); check the path"
        if problem is not None:
            raise SourceError(f"{shown(address)} {problem}")
    allowed = {"max_pixels": str(most_pixels(stored)), **(options or {})}
    try:
        container = av.open(address, timeout=timeout, options=allowed, metadata_errors="replace")
    except av.error.InvalidDataError as error:
        raise SourceError(f"{shown(address)}: {_UNKNOWN}") from error
    except (*FAULTS, OSError) as error:
        problem = f"cannot be opened ({reason(error)}); check the address and that the sender is running"
        raise SourceError(f"{shown(address)}: {problem}") from error
    with on_error(container.close):
        _check_video(container, address, stored)
    return container


def stored_bytes(address: str) -> int | None:
    """How many bytes the file at ``address`` has; None where that is not known."""
    path = address.removeprefix("file:")
    return os.path.getsize(path) if "://" not in address and os.path.isfile(path) else None


def _check_video(container: av.container.InputContainer, address: str, stored: int | None) -> None:
    streams = container.streams.video
    context = streams[0].codec_context if streams else None
    if context is None or context.name in _TEXT:
        raise SourceError(f"{shown(address)} has no video in it; give a video, or a folder of images")
    shape = (context.height, context.width)
    bits = context.format.padded_bits_per_pixel if context.format is not None else _UNKNOWN_BITS
    problem = video_problem(shape, stored, bits=bits, kept=_kept(context)) if all(shape) else None
    if problem is not None:
        raise SourceError(f"{shown(address)}: {problem}")


def _is_intra(context: VideoCodecContext) -> bool:
    return context.codec.intra_only or context.name in _INTRA


def _kept(context: VideoCodecContext) -> int:
    return INTRA_KEPT if _is_intra(context) else INTER_KEPT


class VideoDecoder:
    """Decodes ``stream``. Slice threads only: they hold no frame back, and an error belongs to its packet."""

    def __init__(self, stream: av.VideoStream, decode: str = "cpu", *, stored: int | None = None) -> None:
        context = stream.codec_context
        stream.thread_type = "SLICE"
        stream.thread_count = _THREADS
        options = {"max_pixels": str(most_pixels(stored, kept=_kept(context)))}
        if _is_intra(context):
            options["err_detect"] = "crccheck+explode"
        context.options = options
        self._context = context
        self._hardware = hardware_decoder(context, decode)
        self._checksums = SliceCheck() if context.name == "ffv1" else None
        # Times of packets whose picture has not come yet. Hidden VP8 packets and second fields have none.
        self._allowed: tuple[int, int] | None = None  # a size that was found to be allowed
        self._awaited: dict[int, None] | None = None if context.name == "vp8" else {}

    def decode(self, packet: av.Packet[av.VideoStream]) -> Iterator[DecodedImage | Damage]:
        """What ``packet`` completes: usually one picture, none while the decoder reorders."""
        damage = self._checksums and self._checksums.problem(bytes(packet), key=packet.is_keyframe)
        if damage:
            yield Damage(damage)
            return
        if self._awaited is not None and packet.pts is not None and not packet.is_discard:
            self._awaited[packet.pts] = None
        try:
            for frame, image in self._decoded(packet):
                yield self._picture(frame, image)
        except FAULTS as error:
            self._received(packet.pts)
            yield Damage(f"cannot be decoded ({reason(error)})")
            return
        while self._awaited is not None and len(self._awaited) > AWAITED:
            del self._awaited[next(iter(self._awaited))]
            yield Damage("the decoder gave no image for it")

    def flush(self) -> Iterator[DecodedImage | Damage]:
        """What the decoder still holds, then a Damage for each packet that gave nothing."""
        for _ in range(AWAITED):  # a decoder may fail on one picture and still hold others
            try:
                pictures = list(self._decoded(None))
            except EOFError:
                break
            except FAULTS:
                continue
            if not pictures:
                break
            for frame, image in pictures:
                yield self._picture(frame, image)
        for _ in self._awaited or ():
            yield Damage("the decoder gave no image for it")
        self._awaited = None

    def _decoded(self, packet: av.Packet[av.VideoStream] | None) -> Iterator[Decoded]:
        if self._hardware is not None:
            return self._hardware.pictures(packet)
        return ((frame, None) for frame in self._context.decode(packet))

    def _picture(self, frame: av.VideoFrame, image: Image | None) -> DecodedImage | Damage:
        self._received(frame.pts)
        if frame.interlaced_frame:
            self._awaited = None
        size = frame.height, frame.width
        if size != self._allowed:
            if problem := size_problem(size):
                return Damage(problem)
            self._allowed = size
        if frame.is_corrupt:
            return Damage("damaged: part of the image is made up by the decoder")
        try:
            return DecodedImage(luma(frame) if image is None else image, frame.pts)
        except FAULTS as error:
            return Damage(f"pixel format {frame.format.name} cannot be converted ({reason(error)})")

    def _received(self, pts: int | None) -> None:
        if self._awaited is not None and pts is not None:
            self._awaited.pop(pts, None)


class SliceCheck:
    """Tells damaged packets of one FFV1 stream from good ones.

    FFmpeg's decoder patches a slice whose checksum is wrong with the image before it and says so only in its log: a
    recording that is to be lossless must not pass such a frame on as measured.

    A stream without checksums (FFV1 before version 3, ``slicecrc=0``) is not judged: what is checked begins
    with the first packet whose checksums hold. Frames that are predicted from a damaged one are damaged too.
    """

    def __init__(self) -> None:
        self._protected = False
        self._broken = False

    def problem(self, packet: bytes, *, key: bool) -> str | None:
        """What is wrong with ``packet`` (a key frame or not), in one line, or None."""
        if intact(packet):
            self._protected = True
            self._broken = self._broken and not key
        elif self._protected:
            self._broken = True
            return "its FFV1 checksum does not match its data"
        return "it builds on a damaged FFV1 frame" if self._broken else None


def intact(packet: bytes) -> bool:
    """Whether the slices fill ``packet`` exactly and the checksum of each holds."""
    mirrored = packet.translate(_MIRROR)
    end = len(packet)
    while end >= _TRAILER:
        start = end - _TRAILER - int.from_bytes(packet[end - _TRAILER : end - _TRAILER + 3], "big")
        if start < 0 or zlib.crc32(memoryview(mirrored)[start:end], _ONES) != _ONES:
            return False
        end = start
    return end == 0 and len(packet) > 0
