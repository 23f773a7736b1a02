"""Video decoding on a graphics card, never trusted alone: the processor's decoder is the truth.

The processor decodes too until the card has given the same pictures, bit for bit; then the card goes on alone. Where it
fails later, the processor decodes again from the last key frames, so that no picture is lost or given twice.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias

import av
import av.error
import numpy as np
from av.codec.hwaccel import HWAccel

from clesr.pipeline.frame import Image
from clesr.pipeline.messages import SafeLogger
from clesr.pipeline.video.luma import fetched_luma, luma

log = SafeLogger(logging.getLogger(__name__))
BY_HARDWARE = "decoding on a graphics card by"  # how the line begins that says so
LARGE = 1280 * 720  # pixels from which "auto" takes hardware: smaller pictures cost the processor little
SAME = 2  # pictures that must agree before the card goes on alone
_EXACT = ("h264", "hevc", "vp8", "vp9", "av1")  # codecs whose standard fixes every bit of the picture
_SOFTWARE = re.compile(r"(gray|yuvj?420p)(9|10|12)?(le)?")  # what hardware decodes to 4:2:0 of the same bits
_KEPT_PACKETS, _KEPT_BYTES = 1024, 1 << 26  # since the last key frame but one, to begin again from
_REMEMBERED = 4096  # times of pictures already given
_LATE = 64  # pictures by which a card may be later than the processor


VideoPacket: TypeAlias = "av.Packet[av.VideoStream]"
Decoded = tuple[av.VideoFrame, Image | None]


class Context(Protocol):
    """What decodes: a codec context of PyAV."""

    def decode(self, packet: VideoPacket | None) -> Sequence[av.VideoFrame]:
        """Raises av.FFmpegError, EOFError after the last picture of a flush."""


OpenContext = Callable[[av.VideoCodecContext], Context]


def _accelerated(device: str, suffix: str = "", options: Mapping[str, str] | None = None) -> OpenContext:
    """Decoders by name: FFmpeg's own with ``device`` behind them, or those whose names end in ``suffix``. Opening one
    raises av.FFmpegError, NotImplementedError or ValueError where this machine or PyAV lacks it."""

    def create(context: av.VideoCodecContext) -> Context:
        # Not what decodes now: it may be a library that has no hardware behind it (libdav1d).
        codec = av.Codec(context.codec.canonical_name + suffix, "r")
        opened = av.CodecContext.create(codec, "r", HWAccel(device, allow_software_fallback=False))
        if not opened.is_hwaccel:  # PyAV passes over what FFmpeg lacks
            raise NotImplementedError(f"no device, or no {codec.name} for it in PyAV")
        assert isinstance(opened, av.VideoCodecContext)
        opened.options = dict(options or {})
        if context.extradata:
            opened.extradata = context.extradata
        opened.open()
        return opened

    return create


BACKENDS: dict[str, OpenContext] = {
    "NVIDIA NVDEC": _accelerated("cuda"),
    "VAAPI": _accelerated("vaapi"),
    "Intel Quick Sync": _accelerated("qsv", "_qsv", {"async_depth": "1"}),
}


def open_backend(context: av.VideoCodecContext) -> tuple[str, Context] | str:
    """The name of the first of BACKENDS that opens for the stream of ``context``, and its decoder; or why none."""
    codec, pixels = context.codec.canonical_name, context.pix_fmt or "unknown"
    if codec not in _EXACT:
        return f"{codec} does not decode to the same bits everywhere"
    if _SOFTWARE.fullmatch(pixels) is None:
        return f"cards do not decode {pixels} pictures unchanged"
    reasons = []
    for name, open_one in BACKENDS.items():
        try:
            return name, open_one(context)
        except (av.error.FFmpegError, NotImplementedError, ValueError) as error:
            reasons.append(f"not {name}: {reason(error)}")
    return "; ".join(reasons)


def hardware_decoder(
    context: av.VideoCodecContext, choice: str, levels: str = "auto"
) -> HardwareDecoder | None:
    """What decodes in place of ``context``; None where the processor does. ``choice`` is ``cpu`` for that, ``gpu`` for
    a graphics card where one gives the same pictures, ``auto`` for such a card where pictures are large; ``levels`` is
    that of ``luma``."""
    small = context.width * context.height < LARGE
    if choice == "cpu" or (choice == "auto" and small):
        return None
    opened = open_backend(context)
    if isinstance(opened, str):
        log.info(f"decoding by the processor ({opened})")
        return None
    return HardwareDecoder(context, *opened, levels)


class HardwareDecoder:
    """The decoder of a stream, with a card that takes over once its pictures have proved the same.

    ``pictures`` gives each picture, with its luma where the card decoded it: the processor's luma bit for bit.
    """

    def __init__(
        self, context: av.VideoCodecContext, name: str, backend: Context, levels: str = "auto"
    ) -> None:
        self._processor, self._name, self._backend, self._levels = context, name, backend, levels
        self._software = context.pix_fmt or ""
        self._by: Callable[[VideoPacket | None], Iterator[Decoded]] = self._by_both
        self._seen: dict[int, tuple[av.VideoFrame, Image]] = {}  # by the card, not yet by the processor
        self._expected: dict[int, Image] = {}  # by the processor, not yet by the card
        self._same = 0
        self._groups: deque[list[VideoPacket]] = deque(maxlen=2)  # packets, each list from a key frame on
        self._given: deque[int] = deque(maxlen=_REMEMBERED)  # times of pictures
        self._skip: set[int] = set()  # of pictures that one decoder gave and the other still has

    def pictures(self, packet: VideoPacket | None) -> Iterator[Decoded]:
        """What ``packet`` completes, None for the rest.

        Raises av.FFmpegError where the processor's decoder does, EOFError after the rest.
        """
        if packet is not None and self._by != self._by_processor:
            self._keep(packet)
        for frame, image in self._by(packet):
            if frame.pts in self._skip:
                self._skip.discard(frame.pts)
                continue
            if frame.pts is not None:
                self._given.append(frame.pts)
            yield frame, image

    def _by_processor(self, packet: VideoPacket | None) -> Iterator[Decoded]:
        for frame in self._processor.decode(packet):
            yield frame, None

    def _by_both(self, packet: VideoPacket | None) -> Iterator[Decoded]:
        try:
            frames = self._processor.decode(packet)
        except av.error.FFmpegError:
            self._give_up("the stream is damaged where it would be tried")
            raise
        yield from ((frame, None) for frame in frames)
        try:
            self._expected |= {self._time(frame): luma(frame, self._levels) for frame in frames}
            if packet is not None:
                self._seen |= {self._time(frame): (frame, image) for frame, image in self._made(packet)}
            self._compare()
        except (av.error.FFmpegError, ValueError) as error:
            self._give_up(reason(error))
        if self._same >= SAME:
            log.info(f"{BY_HARDWARE} {self._name}: its first pictures equal the processor's")
            ahead = list(self._seen.values())
            self._skip = set(self._expected)
            self._begin(self._by_hardware)
            yield from ahead

    def _by_hardware(self, packet: VideoPacket | None) -> Iterator[Decoded]:
        try:
            if packet is not None and packet.is_corrupt:
                raise ValueError("a damaged packet, and cards do not say which pictures are made up")
            made = self._made(packet)
        except EOFError:
            raise
        except (av.error.FFmpegError, ValueError) as error:
            yield from self._again(packet, reason(error))
        else:
            yield from made

    def _again(self, packet: VideoPacket | None, why: str) -> Iterator[Decoded]:
        """Decode from the kept key frames on; what was given is skipped."""
        kept = [*itertools.chain.from_iterable(self._groups)]
        self._skip = set(self._given)
        self._give_up(why)
        self._processor.flush_buffers()
        for earlier in kept:
            try:
                yield from self._by_processor(earlier)
            except av.error.FFmpegError:
                if earlier is packet:
                    raise
        if packet is None:
            yield from self._by_processor(None)

    def _made(self, packet: VideoPacket | None) -> list[tuple[av.VideoFrame, Image]]:
        """The card's pictures. Raises ValueError where they are not of the form that was tried."""
        made = []
        for frame in self._backend.decode(packet):
            self._time(frame)
            made.append((frame, fetched_luma(frame, self._software, self._levels)))
        return made

    def _compare(self) -> None:
        """Raises ValueError where a picture is not the same."""
        for pts in sorted(self._seen.keys() & self._expected.keys()):
            if not np.array_equal(self._seen.pop(pts)[1], self._expected.pop(pts)):
                raise ValueError("its pictures differ")
            self._same += 1
        if len(self._expected) > _LATE:
            raise ValueError("it gives no pictures")

    def _give_up(self, why: str) -> None:
        log.info(f"decoding by the processor; not by {self._name} ({why})")
        self._same = 0
        self._groups.clear()
        self._begin(self._by_processor)

    def _begin(self, by: Callable[[VideoPacket | None], Iterator[Decoded]]) -> None:
        self._seen.clear()
        self._expected.clear()
        self._by = by

    def _keep(self, packet: VideoPacket) -> None:
        if packet.is_keyframe or not self._groups:
            self._groups.append([])
        self._groups[-1].append(packet)
        kept = sum(len(group) for group in self._groups)
        size = 0 if kept % 64 else sum(packet.size for group in self._groups for packet in group)
        if kept > _KEPT_PACKETS or size > _KEPT_BYTES:
            self._groups.popleft()

    @staticmethod
    def _time(frame: av.VideoFrame) -> int:
        if frame.pts is None:
            raise ValueError("its pictures have no times")
        return frame.pts


def reason(error: Exception) -> str:
    """``error`` in a few words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
