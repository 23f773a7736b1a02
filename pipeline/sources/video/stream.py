"""Video that comes by network: RTSP, HTTP, UDP, TCP, RTP, SRT, RTMP, whatever FFmpeg receives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import av

from clesr.engines.common.errors import SourceError
from clesr.pipeline.frame import Corrupt, Frame
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.source import Source, SourceInfo
from clesr.pipeline.sources.receiving import ReceivingSource
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


class StreamSource(ReceivingSource):
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
        super().__init__(_BUFFERED, Policy.DROP_OLDEST)
        self._address, self._options, self._retry = address, options, retry
        first = container or _connect(address, options.timeout)
        stream = first.streams.video[0]
        self.info = SourceInfo(address, live=True, fps=frame_rate(stream), shape=frame_shape(stream))
        self._number = 0
        self._start("clesr-stream", partial(self._receive, first))

    def _receive(self, container: av.container.InputContainer | None) -> None:
        while True:
            if container is not None:
                self._hand_over(container)
            if self._closing.wait(self._retry):
                return
            container = None
            with suppress(SourceError):
                container = _connect(self._address, self._options.timeout)

    def _hand_over(self, container: av.container.InputContainer) -> None:
        """What comes, until the stream breaks or this source is closed."""
        with container:
            pictures = _pictures(container, VideoDecoder(container.streams.video[0], self._options.decode))
            while not self._closing.is_set() and (item := next(pictures, None)):
                time_ns = self._options.clock.now_ns()
                if isinstance(item, Damage):
                    self._box.put(Corrupt(self._number, time_ns, item.reason))
                else:
                    self._box.put(Frame(item.image, self._number, time_ns))
                self._number += 1


def _pictures(
    container: av.container.InputContainer, decoder: VideoDecoder
) -> Iterator[DecodedImage | Damage]:
    """From the first key frame on: who joins late cannot see what builds on an image sent before."""
    joining = _JOINING
    with suppress(*FAULTS):  # lost, or silent for too long: what was received is still shown
        for packet in container.demux(container.streams.video[0]):
            joining = 0 if packet.is_keyframe else max(0, joining - 1)
            if packet.size and not joining:
                yield from decoder.decode(packet)
    yield from decoder.flush()


def _connect(address: str, timeout: float) -> av.container.InputContainer:
    recorded = address.startswith("http")  # perhaps: then every packet counts
    options = {} if recorded else dict(_LOW_LATENCY)
    if address.startswith("rtsp"):
        options["rtsp_flags"] = "prefer_tcp"
    if address.endswith(".sdp"):
        options["protocol_whitelist"] = _PROTOCOLS
    return open_container(address, timeout=timeout, options=options)
