"""Packets of one video stream in, images and losses out: each packet's picture is accounted for."""

from __future__ import annotations

import logging
import os
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import av
import av.error
from av.video.codeccontext import VideoCodecContext

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import SourceError, on_error
from clesr.engines.common.limits import INTER_KEPT, INTRA_KEPT, most_pixels, size_problem, video_problem
from clesr.engines.common.processor import core_count
from clesr.engines.common.text import shown
from clesr.pipeline.frame import Image
from clesr.pipeline.messages import SafeLogger
from clesr.pipeline.video.deinterlace import FILTER, Deinterlacer
from clesr.pipeline.video.hardware_decoding import Decoded, hardware_decoder, reason
from clesr.pipeline.video.header import header_problem
from clesr.pipeline.video.luma import luma
from clesr.pipeline.video.orientation import UPRIGHT, orientation_of
from clesr.pipeline.video.tracks import field_order, video_track, video_tracks

log = SafeLogger(logging.getLogger(__name__))
AWAITED = 128  # pictures that a decoder may hold back for reordering, at most
_UNKNOWN = "not a video that FFmpeg can read, or its beginning or index is damaged; try it with ffprobe"
_CHECK = "check the address and that the sender is running"
_CUT = "it may have ended before its first frame, or was cut; check how it was written or copied"
_UNKNOWN_BITS = 24  # a pixel, where a header does not tell
_THREADS = min(4, core_count())
_FLIPPED = b"BottomUp\0"  # what FFmpeg gives its decoder of raw video for an AVI file stored bottom-up
_INTRA = ("ffv1", "mjpeg")  # FFmpeg does not mark these as intra-only, or not in every version

# FFV1 (RFC 9043, 4.9): a slice ends with its size (3 bytes), a status (1) and a CRC-32 (4) whose bits run
# from the top of each byte, as in MPEG. zlib has the same polynomial with bits from the bottom.
_TRAILER = 8
_ONES = 0xFFFFFFFF
_MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

# What FFmpeg and PyAV raise for damaged or hostile data.
FAULTS = (av.error.FFmpegError, ValueError, ArithmeticError, LookupError, MemoryError)


class ReadFile(Protocol):
    """What PyAV reads as a file."""

    def read(self, size: int) -> bytes: ...

    def close(self) -> None: ...


class DecodedImage(NamedTuple):
    """A decoded image and its time in the stream's time base, None where there is none. ``damaged``: it builds on a
    picture that was damaged or never came; a ``key`` image builds on none."""

    image: Image
    pts: int | None
    damaged: bool = False
    key: bool = False


class Damage(NamedTuple):
    """A picture that the stream had and that cannot be shown: a ``reason`` in one line, and its time, None where that
    is not known."""

    reason: str
    pts: int | None = None


def open_container(
    address: str,
    *,
    timeout: float | None = None,
    options: Mapping[str, str] | None = None,
    file: tuple[ReadFile, str] | None = None,
) -> av.container.InputContainer:
    """An open container with at least one video stream, of pictures that are not too large. ``file`` is what is read in
    place of ``address``, which then is only its name, and its format. Raises SourceError."""
    stored = stored_bytes(address)
    if stored is not None:
        try:
            problem = header_problem(Path(address.removeprefix("file:")))
        except OSError as error:
            problem = f"cannot be opened ({error.strerror}); check the path"
        if problem is not None:
            raise SourceError(f"{shown(address)} {problem}")
    allowed = {"max_pixels": str(most_pixels(stored)), **(options or {})}
    begun_ns = SYSTEM.now_ns()
    try:
        source, form = file or (address, None)
        container = av.open(
            source, "r", format=form, timeout=timeout, options=allowed, metadata_errors="replace"
        )
    except (*FAULTS, OSError) as error:
        waited = (SYSTEM.now_ns() - begun_ns) / 1e9
        silent = timeout is not None and waited >= timeout
        problem = f"does not answer within {timeout:g} s; {_CHECK}" if silent else _why_not(error, stored)
        raise SourceError(f"{shown(address)}: {problem}") from error
    with on_error(container.close):
        _check_video(container, address, stored)
    return container


def _why_not(error: Exception, stored: int | None) -> str:
    if isinstance(error, av.error.InvalidDataError):
        return _UNKNOWN
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return f"refuses us ({reason(error)}); check the user name and password in the address, NAME:PASSWORD@HOST"
    return f"cannot be opened ({reason(error)}); {_CHECK if stored is None else _CUT}"


def stored_bytes(address: str) -> int | None:
    """How many bytes the file at ``address`` has; None where that is not known."""
    path = address.removeprefix("file:")
    return os.path.getsize(path) if "://" not in address and os.path.isfile(path) else None


def _check_video(container: av.container.InputContainer, address: str, stored: int | None) -> None:
    video_track(container, None, address)
    for stream in video_tracks(container):
        context = stream.codec_context
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
    """Decodes ``stream``. Slice threads only: they hold no frame back, and an error belongs to its packet.

    ``decode`` says by what (``hardware_decoder``), ``levels`` how grey levels are meant (``luma``). Images stand as the
    stream's display matrix says; the first that is interlaced is told, unless ``deinterlace`` makes whole pictures.
    ``quiet``: nothing is told.

    FFmpeg flags a damaged picture and none of those predicted from it: from a damaged picture, a damaged packet or
    ``broken`` on, images are ``damaged`` until a key frame that is whole. ``prompt`` gives up the picture of a packet
    as soon as a later one has come: for streams, whose packets may be lost, and whose times rise.
    """

    def __init__(
        self,
        stream: av.VideoStream,
        decode: str = "cpu",
        *,
        stored: int | None = None,
        levels: str = "auto",
        deinterlace: bool = False,
        prompt: bool = False,
        quiet: bool = False,
    ) -> None:
        stream.thread_type = "SLICE"
        stream.thread_count = _THREADS
        context = _without_palette(stream.codec_context)
        options = {"max_pixels": str(most_pixels(stored, kept=_kept(context)))}
        self.predicts, self._prompt = not _is_intra(context), prompt  # whether pictures may build on others
        self._damaged = False
        self._damaged_pts: int | None = None
        if not self.predicts:
            options["err_detect"] = "crccheck+explode"
        context.options = options
        self._context, self._levels, self._time_base = context, levels, stream.time_base
        self._hardware = hardware_decoder(context, "cpu" if deinterlace else decode, levels)
        self._checksums = SliceCheck() if context.name == "ffv1" else None
        # Times of packets whose picture has not come yet. Hidden VP8 packets and second fields have none.
        self._allowed: tuple[int, int] | None = None  # a size that was found to be allowed
        self._awaited: dict[int, None] | None = None if context.name == "vp8" else {}
        self._order = field_order(stream)
        self._deinterlacer = Deinterlacer(self._order or "auto", stream.time_base) if deinterlace else None
        self._marks: deque[tuple[bool, bool]] = deque()  # of the pictures in it: damaged, key
        self._before = False  # whether the picture before was damaged
        self.interlaced = False  # whether any picture was, so far
        self._quiet, self._name = quiet, shown(stream.container.name.removeprefix("file:"))
        self._told: set[str] = set()
        self.turned = UPRIGHT  # how the newest image was turned
        if self._order is not None:
            self._tell_fields()

    def decode(self, packet: av.Packet[av.VideoStream]) -> Iterator[DecodedImage | Damage]:
        """What ``packet`` completes: usually one picture, none while the decoder reorders."""
        damage = self._checksums and self._checksums.problem(bytes(packet), key=packet.is_keyframe)
        if damage:
            yield from self._after_held(Damage(damage, packet.pts))
            return
        if packet.is_corrupt:
            self.broken(packet.pts)
        if self._awaited is not None and packet.pts is not None and not packet.is_discard:
            self._awaited[packet.pts] = None
        try:
            for frame, image in self._decoded(packet):
                yield from self._overtaken(frame.pts)
                yield from self._pictures(frame, image)
        except FAULTS as error:
            self._received(packet.pts)
            self.broken(packet.pts)
            yield from self._after_held(Damage(f"cannot be decoded ({reason(error)})", packet.pts))
            return
        while self._awaited is not None and len(self._awaited) > AWAITED:
            yield from self._given_up(next(iter(self._awaited)))

    def broken(self, pts: int | None = None) -> None:
        """A picture is missing, or damaged at ``pts``: what builds on it is damaged. Pictures that build on none never
        are."""
        self._damaged, self._damaged_pts = self.predicts, pts

    def _overtaken(self, pts: int | None) -> Iterator[DecodedImage | Damage]:
        """Pictures that were due before the one at ``pts``, which has come."""
        if self._prompt and self._awaited and pts is not None:
            for earlier in [time for time in self._awaited if time < pts]:
                yield from self._given_up(earlier)

    def _given_up(self, pts: int) -> Iterator[DecodedImage | Damage]:
        self._received(pts)
        self.broken(pts)
        yield from self._after_held(Damage("the decoder gave no image for it", pts))

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
                yield from self._pictures(frame, image)
        yield from self._held()
        for pts in list(self._awaited or ()):
            yield from self._given_up(pts)
        self._awaited = None

    def _decoded(self, packet: av.Packet[av.VideoStream] | None) -> Iterator[Decoded]:
        if self._hardware is not None:
            return self._hardware.pictures(packet)
        return ((frame, None) for frame in self._context.decode(packet))

    def _pictures(self, frame: av.VideoFrame, image: Image | None) -> Iterator[DecodedImage | Damage]:
        """What comes of a decoded ``frame``: itself, or what the deinterlacer makes of it and those before."""
        self._received(frame.pts)
        if frame.interlaced_frame:
            self._awaited = None
            self._tell_fields()
        if problem := self._problem(frame):
            yield from self._after_held(Damage(problem, frame.pts))
            return
        damaged, key = self._builds_on_damage(frame), bool(frame.key_frame)
        if self._deinterlacer is None:
            yield self._image(frame, frame.pts, damaged, key, image)
            return
        self._marks.append((damaged, key))
        try:
            yield from map(self._whole, self._deinterlacer.push(frame))
        except FAULTS as error:
            self._marks.clear()
            yield Damage(f"cannot be deinterlaced ({reason(error)})", frame.pts)

    def _builds_on_damage(self, frame: av.VideoFrame) -> bool:
        pts, broken = frame.pts, self._damaged_pts
        reordered = pts is not None and broken is not None and pts <= broken
        if frame.key_frame and not reordered:
            self._damaged = False
        return self._damaged

    def _problem(self, frame: av.VideoFrame) -> str | None:
        size = frame.height, frame.width
        if size != self._allowed:
            if problem := size_problem(size):
                return problem
            self._allowed = size
        if not frame.is_corrupt:
            return None
        self.broken(frame.pts)
        return "damaged: part of the image is made up by the decoder"

    def _image(
        self, frame: av.VideoFrame, pts: int | None, damaged: bool, key: bool, image: Image | None = None
    ) -> DecodedImage | Damage:
        try:
            image = luma(frame, self._levels) if image is None else image
        except FAULTS as error:
            return Damage(f"pixel format {frame.format.name} cannot be converted ({reason(error)})", pts)
        return DecodedImage(self._upright(image, frame), pts, damaged, key)

    def _whole(self, frame: av.VideoFrame) -> DecodedImage | Damage:
        """The image of a deinterlaced ``frame``, which rests on its neighbours as well."""
        damaged, key = self._marks.popleft() if self._marks else (False, False)
        around = damaged or self._before or (bool(self._marks) and self._marks[0][0])
        self._before = damaged
        pts, base = frame.pts, frame.time_base
        if pts is not None and base and self._time_base:
            pts = round(pts * base / self._time_base)
        return self._image(frame, pts, around, key)

    def _upright(self, image: Image, frame: av.VideoFrame) -> Image:
        orientation = orientation_of(frame) if frame.side_data else UPRIGHT
        self.turned = orientation or UPRIGHT
        if orientation is None:
            self._tell("the video states a turn that is no quarter turn: its images stay as they are stored")
        if self.turned == UPRIGHT:
            return image
        self._tell("images are turned as the video states it")
        return self.turned.apply(image)

    def _tell(self, line: str) -> None:
        """Once."""
        if not self._quiet and line not in self._told:
            self._told.add(line)
            log.warning(f"{self._name}: {line}" if self._name else line)

    def _after_held(self, damage: Damage) -> Iterator[DecodedImage | Damage]:
        """``damage``, behind the pictures that are held, which came before it."""
        yield from self._held()
        yield damage

    def _held(self) -> Iterator[DecodedImage | Damage]:
        if self._deinterlacer is not None:
            yield from map(self._whole, self._deinterlacer.flush())
            self._marks.clear()
            self._before = False

    def _tell_fields(self) -> None:
        if self.interlaced:
            return
        self.interlaced = True
        order = "" if self._order is None else f", {self._order} field first"
        remedy = "what moves has combs, which --deinterlace removes"
        self._tell(
            f"the video is interlaced{order}: {remedy if self._deinterlacer is None else f'deinterlaced by {FILTER}'}"
        )

    def _received(self, pts: int | None) -> None:
        if self._awaited is not None and pts is not None:
            self._awaited.pop(pts, None)


def _without_palette(context: VideoCodecContext) -> VideoCodecContext:
    """A decoder of grey levels in place of ``context`` where that is of 8-bit indices and there is no palette for them:
    programs that write gray images leave it out. Else ``context``."""
    extra = context.extradata or b""
    flipped = extra == _FLIPPED
    if context.name != "rawvideo" or context.pix_fmt != "pal8" or (extra and not flipped):
        return context
    gray = av.CodecContext.create("rawvideo", "r")
    assert isinstance(gray, VideoCodecContext)
    gray.width, gray.height, gray.pix_fmt = context.width, context.height, "gray"
    gray.extradata = extra or None
    return gray


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
