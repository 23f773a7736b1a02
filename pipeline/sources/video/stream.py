"""Video that comes by network: RTSP, HTTP, UDP, TCP, RTP, SRT, RTMP, whatever FFmpeg receives."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import av

from clesr.engines.common.errors import EndOfSource, SourceError
from clesr.pipeline.frame import Corrupt, Frame
from clesr.pipeline.frame_queue import Closed, FrameQueue, Policy
from clesr.pipeline.messages import stream_thread
from clesr.pipeline.source import Source, SourceInfo
from clesr.pipeline.sources.registry import DEFAULTS, SourceOptions
from clesr.pipeline.sources.video.file import VideoSource, frame_rate, frame_shape
from clesr.pipeline.video.decode import FAULTS, Damage, DecodedImage, VideoDecoder, open_container

_BUFFERED = 8  # frames kept for a reader that is late; older ones are dropped and show as a gap
_RETRY = 1.0  # seconds between two attempts to reconnect
_JOINING = 250  # packets passed over, at most, until the first key frame
_LOW_LATENCY = {"fflags": "nobuffer", "analyzeduration": "1000000"}  # what served to find the format is old
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


class StreamSource:
    """A live stream. A frame's time is its arrival, after decoding, by ``options.clock``.

    Numbers count from 0 at the first key frame. A thread receives; it keeps the newest frames where the reader
    is late, and the gap in numbers shows what was dropped. After a loss, or ``options.timeout`` seconds without data,
    ``read`` returns None while the source connects again every ``retry`` seconds; numbers go on.
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
        self._address, self._options, self._retry = address, options, retry
        first = container or _connect(address, options.timeout)
        stream = first.streams.video[0]
        self.info = SourceInfo(address, live=True, fps=frame_rate(stream), shape=frame_shape(stream))
        self._box: FrameQueue[Frame | Corrupt] = FrameQueue(_BUFFERED, Policy.DROP_OLDEST)
        self._stop = threading.Event()
        self._fault: Exception | None = None
        self._number = 0
        self._thread = stream_thread("clesr-stream", self._run, first)
        self._thread.start()

    def read(self, timeout: float) -> Frame | Corrupt | None:
        try:
            return self._box.get(timeout)
        except Closed:
            if self._fault is not None:
                raise self._fault from None
            raise EndOfSource from None

    def close(self) -> None:
        """Stop. A connection that is waiting for data is given up after its time-out, by its own thread."""
        self._stop.set()
        self._box.close()
        self._thread.join(timeout=0.5)

    def _run(self, container: av.container.InputContainer | None) -> None:
        try:
            while not self._stop.is_set():
                if container is not None:
                    self._receive(container)
                    container = None
                elif not self._stop.wait(self._retry):
                    container = self._reconnected()
        except Closed:
            pass
        except Exception as error:  # noqa: BLE001 - raised again by read, in the reader's thread
            self._fault = error
        finally:
            if container is not None:
                container.close()
            self._box.close()

    def _reconnected(self) -> av.container.InputContainer | None:
        try:
            return _connect(self._address, self._options.timeout)
        except SourceError:
            return None

    def _receive(self, container: av.container.InputContainer) -> None:
        """Hand over what comes until the stream breaks."""
        with container:
            stream = container.streams.video[0]
            for item in _pictures(container, VideoDecoder(stream, self._options.decode)):
                time_ns = self._options.clock.now_ns()
                if isinstance(item, Damage):
                    self._box.put(Corrupt(self._number, time_ns, item.reason))
                else:
                    self._box.put(Frame(item.image, self._number, time_ns))
                self._number += 1
                if self._stop.is_set():
                    return


def _pictures(
    container: av.container.InputContainer, decoder: VideoDecoder
) -> Iterator[DecodedImage | Damage]:
    """From the first key frame on: who joins late cannot see what builds on an image sent before."""
    joining = _JOINING
    try:
        for packet in container.demux(container.streams.video[0]):
            joining = 0 if packet.is_keyframe else max(0, joining - 1)
            if packet.size and not joining:
                yield from decoder.decode(packet)
    except FAULTS:
        pass  # lost, or silent for too long: what was received is still shown
    yield from decoder.flush()


def _connect(address: str, timeout: float) -> av.container.InputContainer:
    recorded = address.startswith("http")  # perhaps: then every packet counts
    options = {} if recorded else dict(_LOW_LATENCY)
    if address.startswith("rtsp"):
        options["rtsp_flags"] = "prefer_tcp"
    if address.endswith(".sdp"):
        options["protocol_whitelist"] = _PROTOCOLS
    return open_container(address, timeout=timeout, options=options)
