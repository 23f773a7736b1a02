"""Video that comes by network: RTSP, HTTP, UDP, TCP, RTP, SRT, RTMP, whatever FFmpeg receives."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from functools import partial

import av

from clesr.engines.common.clock import Clock
from clesr.engines.common.errors import SourceError, on_error
from clesr.pipeline.frame import Corrupt, Frame, Outage
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.source import Source, SourceInfo
from clesr.pipeline.sources.pacing import NAP_NS, PlaybackSchedule
from clesr.pipeline.sources.receiving import Receiver
from clesr.pipeline.sources.registry import DEFAULTS, SourceOptions
from clesr.pipeline.sources.video.file import VideoSource, frame_rate, frame_shape, open_decoder
from clesr.pipeline.sources.video.program import FORMAT, Received, ending, needs_program
from clesr.pipeline.sources.video.stream_times import LONG_NS, PERIODS, SECOND, PlacedPicture, StreamTimes
from clesr.pipeline.video.decode import FAULTS, Damage, DecodedImage, VideoDecoder, open_container
from clesr.pipeline.video.tracks import pixel_aspect, tell_tracks, video_track

# Frames kept for a reader that is late, by their size; older ones are dropped and show as a gap.
_FEWEST, _MOST, _BYTES = 8, 64, 32 << 20
_RETRY = 1.0  # seconds between two attempts to reconnect
_JOINING = 250  # packets passed over, at most, until the first key frame
_LOW_LATENCY = {"fflags": "nobuffer", "analyzeduration": "1000000"}  # what served to find the format is old
# Of containers, as FFmpeg calls them:
_SEGMENTED = {"hls", "dash"}  # a segment arrives at once
_RTP = {"rtsp", "rtp", "sdp"}
# A parser looks for the pictures' ends, and of these codecs sees them when the next one begins.
_PARSED = {*_RTP, "mpegts", "mpeg", "h264", "hevc", "m4v", "mpegvideo", "mjpeg"}
_JOINED = {"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "mjpeg", "vc1", "h263"}
_NO_TIMES = 0x80  # AVFMT_NOTIMESTAMPS
_COUNTED = ("pipe", "rawvideo", "gif")  # whose times FFmpeg makes of the pictures' count
_PROTOCOLS = "file,crypto,data,http,https,tcp,tls,udp,rtp,rtsp,srt,rtmp"


def open_stream(address: str, options: SourceOptions = DEFAULTS) -> Source:
    """A network stream; a finite video on a web server is a recorded source, all else is live.

    Raises SourceError where nothing answers within ``options.timeout`` seconds.
    """
    container = _connect(address, options.timeout)
    if address.startswith("http") and container.duration is not None:
        return VideoSource(address, options, container)
    return StreamSource(address, options, container=container)


def open_sdp(path: str, options: SourceOptions) -> Source:
    """The stream that a file describes."""
    return open_stream(f"file:{path}", options)


class StreamSource(Receiver[Frame | Corrupt]):
    """A live stream. A frame's time is when it was captured, as far as the stream's times tell, by ``options.clock``
    (stream_times.py); of a stream without times, when it arrived.

    Numbers count from 0 at the first key frame, and leave out what the times say is missing. A thread receives; it
    keeps the newest frames where the reader is late, and the gap in numbers shows what was dropped. After a loss, or
    ``options.timeout`` seconds without data, ``read`` returns None while the source connects again every ``retry``
    seconds; numbers go on after an Outage. What comes in segments is given by its own times.
    Raises SourceError where the first connection fails.
    """

    def __init__(
        self,
        address: str,
        options: SourceOptions = DEFAULTS,
        *,
        retry: float = _RETRY,
        container: av.container.InputContainer | None = None,
    ) -> None:
        first = container or _connect(address, options.timeout)
        stream = video_track(first, options.track, address)
        tell_tracks(first, stream, address)
        self.info = SourceInfo(
            address,
            live=True,
            fps=frame_rate(stream),
            shape=frame_shape(stream),
            pixel_aspect=pixel_aspect(stream),
        )
        height, width = self.info.shape or (1, 1)
        super().__init__(min(max(_FEWEST, _BYTES // (height * width)), _MOST), Policy.DROP_OLDEST)
        self._address, self._options, self._retry = address, options, retry
        self._number = 0
        self._outages: deque[tuple[int, Outage]] = deque()  # by the number of the frame after each
        self._came_ns: int | None = None  # when the last frame did
        self._away = False  # which the reader was told
        self._held: Frame | Corrupt | None = None  # the frame after an outage
        self.restarts = 0  # how often it was connected again
        self._lost = ""  # why the connection was, until a frame comes again
        self._start("clesr-stream", partial(self._receive, first))

    def read(self, timeout: float) -> Frame | Corrupt | Outage | None:
        held, self._held = self._held, None
        if held is not None:
            return held
        item = self._next(timeout)
        if item is None:
            return self._silence()
        outage = Outage("it sent nothing", known=True) if self._away else None
        while self._outages and self._outages[0][0] <= item.number:
            _, found = self._outages.popleft()
            outage = outage if outage is not None and not outage.known else found
        self._away = False
        if outage is not None:
            self._held = item
            return outage
        return item

    def _silence(self) -> Outage | None:
        """Once, where nothing has come for long."""
        limit_ns = max(LONG_NS, PERIODS * SECOND / (self.info.fps or PERIODS))
        if self._away or self._came_ns is None or self._options.clock.now_ns() - self._came_ns < limit_ns:
            return None
        self._away = True
        return Outage(self._lost or "it sends nothing", over=False)

    def _receive(self, container: av.container.InputContainer | None) -> None:
        while True:
            if container is not None:
                self._hand_over(container)
                self._lost = "the connection was lost"
            if self._closing.wait(self._retry):
                return
            container = None
            with suppress(SourceError):
                container = _connect(self._address, self._options.timeout)
                self.restarts += 1

    def _hand_over(self, container: av.container.InputContainer) -> None:
        """What comes, until the stream breaks or this source is closed."""
        with ending(container):
            stream = video_track(container, self._options.track, self._address)
            kinds = set(container.format.name.split(","))
            decoder = open_decoder(stream, self._options, prompt=True)
            times = _stream_times(container, stream, kinds)
            schedule = PlaybackSchedule() if kinds & _SEGMENTED else None
            time_base = stream.time_base or Fraction(1)
            for item in _pictures(container, stream, decoder, times, self._options.clock):
                if self._closing.is_set():
                    return
                placed = times.place(item.pts, self._options.clock.now_ns())
                if placed.counted and isinstance(item, Damage):
                    continue
                if isinstance(item, DecodedImage) and decoder.predicts and not item.key:
                    if placed.missing or placed.outage:
                        decoder.broken()
                    gap = placed.missing or placed.outage or placed.late
                    item = item._replace(damaged=item.damaged or bool(gap))
                if schedule is not None and item.pts is not None:
                    if placed.outage is not None:
                        schedule = PlaybackSchedule()
                    placed = self._when_due(schedule, round(item.pts * time_base * SECOND), placed)
                self._put(item, placed)

    def _when_due(self, schedule: PlaybackSchedule, media_ns: int, placed: PlacedPicture) -> PlacedPicture:
        """Wait: what is not read yet is kept by the sender, or by FFmpeg up to a segment."""
        clock = self._options.clock
        due_ns = schedule.at(media_ns, clock.now_ns())
        while (now_ns := clock.now_ns()) < due_ns and not self._closing.is_set():
            clock.sleep_until(min(due_ns, now_ns + NAP_NS))
        schedule.released(clock.now_ns())
        return placed._replace(time_ns=clock.now_ns())

    def _put(self, item: DecodedImage | Damage, placed: PlacedPicture) -> None:
        self._number += placed.missing
        outage = placed.outage
        if self._lost and self._came_ns is not None:
            outage = Outage(self._lost)
        if outage is not None:
            self._outages.append((self._number, outage))
        self._lost, self._came_ns = "", self._options.clock.now_ns()
        if isinstance(item, Damage):
            self._box.put(Corrupt(self._number, placed.time_ns, item.reason))
        else:
            self._box.put(Frame(item.image, self._number, placed.time_ns, damaged=item.damaged))
        self._number += 1


def _stream_times(
    container: av.container.InputContainer, stream: av.VideoStream, kinds: set[str]
) -> StreamTimes:
    """How times of ``stream``, in a container of these ``kinds``, are to be taken."""
    untimed = container.format.flags & _NO_TIMES or any(kind.endswith(_COUNTED) for kind in kinds)
    return StreamTimes(
        None if untimed else stream.time_base,
        frame_rate(stream),
        held=bool(kinds & _PARSED) and stream.codec_context.name in _JOINED,
        resyncs=bool(kinds & _RTP),
        pulled=bool(kinds & _SEGMENTED),
    )


def _pictures(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    decoder: VideoDecoder,
    times: StreamTimes,
    clock: Clock,
) -> Iterator[DecodedImage | Damage]:
    """From the first key frame on: who joins late cannot see what builds on an image sent before."""
    joining = _JOINING
    with suppress(*FAULTS):  # lost, or silent for too long: what was received is still shown
        for packet in container.demux(stream):
            if not packet.size:
                continue
            times.arrived(packet.pts, clock.now_ns())
            if packet.is_keyframe:
                joining = 0
            elif joining:
                joining -= 1
                decoder.broken()
            if not joining:
                yield from decoder.decode(packet)
    yield from decoder.flush()


def _connect(address: str, timeout: float) -> av.container.InputContainer:
    recorded = address.startswith("http")  # perhaps: then every packet counts
    options = {} if recorded else dict(_LOW_LATENCY)
    if address.startswith("rtsp"):
        options["rtsp_flags"] = "prefer_tcp"
    if address.endswith(".sdp"):
        options["protocol_whitelist"] = _PROTOCOLS
    if needs_program(address):
        received = Received(address, timeout)
        with on_error(received.close):
            return open_container(address, options=options, file=(received, FORMAT))
    return open_container(address, timeout=timeout, options=options)
