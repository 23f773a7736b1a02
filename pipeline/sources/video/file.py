"""Video files, in any format that FFmpeg reads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av

from clesr.engines.common.errors import EndOfSource, SourceError
from clesr.engines.common.numbers import rational_number
from clesr.pipeline.frame import Corrupt, Frame
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.sources.registry import DEFAULTS, SourceOptions
from clesr.pipeline.video.decode import (
    FAULTS,
    Damage,
    DecodedImage,
    VideoDecoder,
    open_container,
    stored_bytes,
)
from clesr.pipeline.video.hardware_decoding import reason

MIN_FPS, MAX_FPS = 0.001, 1000.0  # above it, a container states a tick and not a frame rate
_READ_ERRORS = 3  # failed reads in a row after which a file is given up
_JUMP = 1  # seconds that a time stamp may go back before it counts as a new time line


class VideoSource:
    """Every frame of a video file, numbered from 0, as fast as it is read.

    A frame that cannot be decoded is Corrupt and takes a number; so does the missing rest of a file that was
    cut: one Corrupt before the end, whose reason says how much is there. FFV1 frames are checked against their
    checksums. ``pts`` and ``time_base`` are the stream's; where time stamps are missing or fall back they are
    made to rise. ``options.count`` reads the packets of the file once, without decoding, so that ``info.frames`` is
    exact; else it is what the container states, or None. ``options.decode`` says by what.

    Raises SourceError where the file is missing, empty, not a video, or has no video in it.
    """

    def __init__(
        self,
        path: str | Path,
        options: SourceOptions = DEFAULTS,
        container: av.container.InputContainer | None = None,
    ) -> None:
        self._address, self._clock = str(path), options.clock
        self._container = container or open_container(file_address(self._address))
        stream = self._stream = self._container.streams.video[0]
        self._time_base = stream.time_base or Fraction(1, 90_000)
        self.codec = stream.codec_context.name
        self._decoder = VideoDecoder(stream, options.decode, stored=stored_bytes(self._address))
        self._packets = self._container.demux(stream)
        fps = frame_rate(stream)
        frames = count_frames(self._address) if options.count else max(0, stream.frames) or None
        self.info = SourceInfo(self._address, live=False, fps=fps, shape=frame_shape(stream), frames=frames)
        self._times = RisingTimes(self._time_base, fps)
        self._ready: deque[DecodedImage | Damage] = deque()
        self._number = self._errors = self._demuxed = 0
        self._reached: Fraction | None = None  # seconds to which packets go
        self._ended = False
        self._lock = threading.Lock()

    def read(self, timeout: float) -> Frame | Corrupt | None:
        """The next frame; ``timeout`` does not matter, a file never waits. Raises EndOfSource."""
        with self._lock:
            while not self._ready:
                if self._ended:
                    raise EndOfSource
                self._advance()
            item, number, time_ns = self._ready.popleft(), self._number, self._clock.now_ns()
            self._number += 1
            if isinstance(item, Damage):
                return Corrupt(number, time_ns, item.reason)
            return Frame(item.image, number, time_ns, self._times.rising(item.pts), self._time_base)

    def close(self) -> None:
        with self._lock:
            self._ended = True
            self._ready.clear()
            self._container.close()

    def scan(self, visit: Callable[[av.Packet[av.VideoStream]], None]) -> str | None:
        """Read every packet that has a picture, without decoding it, in place of the frames. What says that the
        file is damaged or was cut, in one line, or None."""
        with self._lock:
            self._ended = True
            try:
                for packet in self._packets:
                    if packet.size:
                        self._note(packet)
                        visit(packet)
            except FAULTS as error:
                return f"a part of it cannot be read ({reason(error)})"
            return self._shortfall()

    def _advance(self) -> None:
        """Read one packet."""
        try:
            packet = next(self._packets)
        except StopIteration:
            self._finish()
        except FAULTS as error:
            self._errors += 1
            if self._errors >= _READ_ERRORS:
                self._finish(f"the rest cannot be read ({reason(error)})")
            self._packets = self._container.demux(self._stream)
        else:
            self._errors = 0
            if packet.size:  # an empty one repeats the picture before (AVI), or marks the end
                self._note(packet)
                self._ready.extend(self._decoder.decode(packet))

    def _note(self, packet: av.Packet[av.VideoStream]) -> None:
        self._demuxed += 1
        pts = packet.pts if packet.pts is not None else packet.dts
        if pts is not None:
            end = (pts + (packet.duration or 0)) * self._time_base
            self._reached = end if self._reached is None else max(end, self._reached)

    def _finish(self, problem: str | None = None) -> None:
        self._ended = True
        self._ready.extend(self._decoder.flush())
        problem = problem or self._shortfall()
        if problem is not None:
            self._ready.append(Damage(problem))

    def _shortfall(self) -> str | None:
        """What says that the file was cut, where its container states what it should hold."""
        kind, stated = self._container.format.name, self._stream.frames
        size = stored_bytes(self._address) or 0
        if kind == "mpegts" and all(size % packet for packet in (188, 192, 204)):
            return "the file ends early: in the middle of a transport packet"
        if kind.startswith("mov") and self._demuxed < stated:
            return f"the file ends early: {self._demuxed} of the {stated} frames that it states are there"
        slack = max(2 / Fraction(self.info.fps or 25), Fraction(1, 10))  # headers round
        length: Fraction | None = None
        if kind == "avi":
            length = stated * self._time_base
        elif kind.startswith("matroska"):
            length = _matroska_length(self._container, self._stream)
        reached = self._reached or Fraction(0)
        if length is not None and reached + slack < length:
            return (
                f"the file ends early: at {float(reached):.2f} s of the {float(length):.2f} s that it states"
            )
        return None


class RisingTimes:
    """Makes time stamps rise that are missing, repeated or begin anew."""

    def __init__(self, time_base: Fraction, fps: float | None) -> None:
        self._period = max(1, round(1 / (Fraction(fps or 25) * time_base)))
        self._jump = _JUMP / time_base
        self._last: int | None = None
        self._shift = 0

    def rising(self, pts: int | None) -> int:
        """``pts``, or where it does not follow the one before, the nearest that does."""
        if self._last is None:
            self._last = pts if pts is not None else 0
            return self._last
        follows = self._last + self._period
        if pts is None:
            pts = follows
        else:
            if pts + self._shift < self._last - self._jump:
                self._shift = follows - pts
            pts = max(pts + self._shift, self._last + 1)
        self._last = pts
        return pts


def open_raw_recording(folder: str, options: SourceOptions) -> VideoSource:
    """What is left of a session whose session.json is gone."""
    return VideoSource(f"{folder}/raw.mkv", options)


def count_frames(path: str | Path) -> int:
    """Packets with a picture in the first video stream, without decoding; 0 where the file ends at once.

    Raises SourceError as VideoSource does. Bytes that cannot be read end the count.
    """
    with open_container(file_address(str(path))) as container:
        frames = 0
        try:
            for packet in container.demux(container.streams.video[0]):
                frames += packet.size > 0
        except FAULTS:
            return frames
        return frames


def frame_rate(stream: av.VideoStream) -> float | None:
    """Frames a second as the container states or FFmpeg guesses them; None where implausible."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate is not None and MIN_FPS <= rate <= MAX_FPS:
            return float(rate)
    return None


def frame_shape(stream: av.VideoStream) -> tuple[int, int] | None:
    """(H, W), or None where the header does not tell."""
    shape = stream.codec_context.height, stream.codec_context.width
    return shape if all(shape) else None


def file_address(address: str) -> str:
    """An address that FFmpeg takes for a file whatever its name is. Raises SourceError."""
    if "://" in address:
        return address
    path = Path(address)
    if not path.exists():
        raise SourceError(f"{path}: no such file; check the path")
    if path.is_file() and not path.stat().st_size:
        raise SourceError(f"{path} is empty (0 bytes); check how it was written or copied")
    return f"file:{path}"


def _matroska_length(container: av.container.InputContainer, stream: av.VideoStream) -> Fraction | None:
    stated = stream.metadata.get("DURATION", "").split(":")
    if len(stated) == 3:
        try:
            hours, minutes, seconds = (rational_number(part.strip()) for part in stated)
        except ValueError:
            return None
        return 3600 * hours + 60 * minutes + seconds
    only = len(container.streams) == 1 and container.duration is not None
    return Fraction(container.duration or 0, av.time_base) if only else None
