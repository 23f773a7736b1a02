"""Video files, in any format that FFmpeg reads."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av

from clesr.engines.common.errors import EndOfSource, SourceError
from clesr.pipeline.frame import Corrupt, Frame
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.sources.registry import DEFAULTS, SourceOptions
from clesr.pipeline.sources.video.length import Length, matroska_length, stated_frames
from clesr.pipeline.video.decode import (
    FAULTS,
    Damage,
    DecodedImage,
    VideoDecoder,
    open_container,
    stored_bytes,
)
from clesr.pipeline.video.hardware_decoding import reason
from clesr.pipeline.video.tracks import field_order, pixel_aspect, tell_tracks, video_track

log = logging.getLogger(__name__)
MIN_FPS, MAX_FPS = 0.001, 1000.0  # above it, a container states a tick and not a frame rate
HIDDEN = ("vp8",)  # codecs with packets that show nothing: their packets do not number the frames
_BY_FIELDS = ("h264", "hevc", "mpeg2video", "vc1")  # whose interlaced frames may be two packets
_JUMP = 1  # seconds that a time stamp may go back before it counts as a new time line
_KNOWN = 12  # steps from frame to frame after which a file is known to be regular
_EVEN = 1.5  # times the shortest step that the longest has in a regular file
_FAR = 2.5  # times the longest step from which on a step is a hole
_TOLD = 3  # holes that are told
_READ_ERRORS = 3  # failed reads in a row after which a file is given up


class VideoSource:
    """Every frame of a video file, numbered from 0, as fast as it is read.

    A frame that cannot be decoded is Corrupt and takes a number; so does the missing rest of a file that was
    cut: one Corrupt before the end, whose reason says how much is there. FFV1 frames are checked against their
    checksums. ``pts`` and ``time_base`` are the stream's; where time stamps are missing or fall back they are
    made to rise. ``options.count`` reads the packets of the file once, so that ``info.frames`` and ``info.seconds`` are
    exact; else the first is what the container states, or None. ``options.track`` says which video is read,
    ``decode``, ``levels`` and ``deinterlace`` how (``VideoDecoder``).

    Opening it decodes the first image, which tells size and turn. ``name`` is what the file is called to the user, its
    path where that is None. Raises SourceError where the file is missing, empty, not a video, or has no video in it,
    UsageError where it lacks the track.
    """

    def __init__(
        self,
        path: str | Path,
        options: SourceOptions = DEFAULTS,
        container: av.container.InputContainer | None = None,
        name: str | None = None,
    ) -> None:
        self._address, self._clock = str(path), options.clock
        self._name = name or self._address
        self._container = container or open_container(file_address(self._address))
        stream = self._stream = video_track(self._container, options.track, self._name)
        self._time_base = stream.time_base or Fraction(1, 90_000)
        self.codec = stream.codec_context.name
        fps = frame_rate(stream)
        self._rate = fps
        self._decoder = open_decoder(stream, options, stored_bytes(self._address))
        self._packets = self._container.demux(stream)
        self._times = RisingTimes(self._time_base, fps)
        self._regular = RegularTimes(self._name, self._time_base, tell=options.tell)
        self._ready: deque[DecodedImage | Damage] = deque()
        self._early: list[av.Packet[av.VideoStream]] | None = []  # that the first image took, for ``scan``
        self._number = self._errors = self._demuxed = 0
        self._reached: Fraction | None = None  # seconds to which packets go
        self._ended = False
        self._lock = threading.Lock()
        while not self._ready and not self._ended:
            self._advance()
        self.info = self._describe(options)
        if options.track is None:
            tell_tracks(self._container, stream, self._name)

    def _describe(self, options: SourceOptions) -> SourceInfo:
        first = next((item.image for item in self._ready if isinstance(item, DecodedImage)), None)
        shape = frame_shape(self._stream) if first is None else (first.shape[0], first.shape[1])
        aspect = pixel_aspect(self._stream)
        length = Length(stated_frames(self._container, self._stream), None)
        if options.count:
            with open_container(file_address(self._address)) as container:
                length = measure(container, self._name, options.track)
        return SourceInfo(
            self._name,
            live=False,
            fps=self._rate,
            shape=shape,
            frames=length.frames if options.count else length.frames or None,
            seconds=length.seconds,
            pixel_aspect=1 / aspect if self._decoder.turned.transposed else aspect,
        )

    def read(self, timeout: float) -> Frame | Corrupt | None:
        """The next frame; ``timeout`` does not matter, a file never waits. Raises EndOfSource."""
        with self._lock:
            self._early = None
            while not self._ready:
                if self._ended:
                    raise EndOfSource
                self._advance()
            item, number, time_ns = self._ready.popleft(), self._number, self._clock.now_ns()
            self._number += 1
            if isinstance(item, Damage):
                return Corrupt(number, time_ns, item.reason)
            pts = self._times.rising(item.pts)
            self._regular.note(pts)
            return Frame(item.image, number, time_ns, pts, self._time_base, item.damaged)

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
            early, self._early = self._early or [], None
            try:
                for packet in early:
                    visit(packet)
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
                if self._early is not None:
                    self._early.append(packet)
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
        slack = max(2 / Fraction(self._rate or 25), Fraction(1, 10))  # headers round
        length: Fraction | None = None
        if kind == "avi":
            length = stated * self._time_base
        elif kind.startswith("matroska"):
            length = matroska_length(self._container, self._stream)
        reached = self._reached or Fraction(0)
        if length is not None and reached + slack < length:
            return (
                f"the file ends early: at {float(reached):.2f} s of the {float(length):.2f} s that it states"
            )
        return None


def open_raw_recording(folder: str, options: SourceOptions) -> VideoSource:
    """What is left of a session whose session.json is gone."""
    return VideoSource(f"{folder}/raw.mkv", options)


def open_decoder(
    stream: av.VideoStream, options: SourceOptions, stored: int | None = None, *, prompt: bool = False
) -> VideoDecoder:
    """The decoder of ``stream`` as ``options`` say."""
    return VideoDecoder(
        stream,
        options.decode,
        stored=stored,
        levels=options.levels,
        deinterlace=options.deinterlace,
        prompt=prompt,
        quiet=not options.tell,
    )


def measure(container: av.container.InputContainer, address: str, track: int | None = None) -> Length:
    """Read all of ``container``. What lies outside the edit list is not shown. Bytes that cannot be read end it."""
    stream = video_track(container, track, address)
    hidden = stream.codec_context.name in HIDDEN
    fielded = stream.codec_context.name in _BY_FIELDS and field_order(stream) is not None
    decoder = VideoDecoder(stream, quiet=True) if hidden or fielded else None
    frames, first, last, end = 0, None, None, None
    anew, before = False, None  # whether times begin anew: then they do not tell how long it is
    try:
        for packet in container.demux(stream):
            if decoder is not None:
                frames += sum(1 for _ in decoder.decode(packet)) if packet.size else 0
            if not packet.size or packet.is_discard:
                continue
            if packet.dts is not None:
                anew, before = anew or (before is not None and packet.dts < before), packet.dts
            frames += decoder is None
            if packet.pts is not None:
                first = packet.pts if first is None else min(first, packet.pts)
                if last is None or packet.pts >= last:
                    last, end = packet.pts, packet.pts + (packet.duration or 0)
    except FAULTS:
        pass
    if decoder is not None:
        frames += sum(1 for _ in decoder.flush())
    if anew or first is None or last is None or end is None or stream.time_base is None:
        return Length(frames, None)
    if end == last and frames > 1:  # the last one's length is not stated
        end += round(Fraction(last - first, frames - 1))
    return Length(frames, float((end - first) * stream.time_base) or None)


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


class RegularTimes:
    """Looks at the times of the frames of the file ``name``, in units of ``base`` seconds, and tells jumps in them."""

    def __init__(self, name: str, base: Fraction, *, tell: bool = True) -> None:
        self._name, self._base, self._tell = name, base, tell
        self._last: int | None = None
        self._shortest = self._longest = self._steps = self.jumps = 0

    def note(self, pts: int) -> None:
        """The next frame is for ``pts``."""
        last, self._last = self._last, pts
        if last is None:
            return
        step = pts - last
        if self._is_jump(step):
            self.jumps += 1
            if self._tell and self.jumps <= _TOLD:
                self._say(last, step)
            return
        self._shortest = min(step, self._shortest) if self._steps else step
        self._longest = max(step, self._longest)
        self._steps += 1

    def _is_jump(self, step: int) -> bool:
        regular = self._steps >= _KNOWN and self._longest <= _EVEN * self._shortest
        return regular and step > _FAR * self._longest

    def _say(self, last: int, step: int) -> None:
        missing = round(step / self._longest) - 1
        seconds, begin = (float(ticks * self._base) for ticks in (step, last))
        log.warning(
            f"{self._name}: no frame for {seconds:.2f} s from {begin:.2f} s on; about {missing} may be missing in the "
            "file, or its recording paused"
        )
