"""Whole pictures from interlaced ones: FFmpeg's bwdif filter, one picture for each."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import av.error
import av.filter

FILTER = "bwdif"


class Deinterlacer:
    """Makes each interlaced picture, two fields of different times, one of the time of its first field.

    ``first`` is the field shown first: ``top``, ``bottom``, or ``auto`` for what each picture says (top where it says
    nothing). ``time_base`` is that of pictures which state none. A picture comes out when the one after it is there:
    its neighbours tell what moves.
    """

    def __init__(self, first: str = "auto", time_base: Fraction | None = None) -> None:
        self._time_base = time_base or Fraction(1, 90_000)
        self._parity = {"top": "tff", "bottom": "bff"}.get(first, "auto")
        self._graph: av.filter.Graph | None = None
        self._kind: tuple[object, ...] = ()

    def push(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """What ``frame`` completes. Raises av.FFmpegError, ValueError."""
        if frame.time_base is None:  # as of the last ones that a decoder held
            frame.time_base = self._time_base
        kind = frame.width, frame.height, frame.format.name, frame.time_base
        if kind != self._kind:
            yield from self.flush()
            self._kind, self._graph = kind, self._made(frame)
        assert self._graph is not None
        self._graph.push(frame)
        yield from self._ready()

    def flush(self) -> Iterator[av.VideoFrame]:
        """What is held; the next picture begins anew."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._ready()
        self._graph, self._kind = None, ()

    def _made(self, frame: av.VideoFrame) -> av.filter.Graph:
        graph = av.filter.Graph()
        source = graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base,
        )
        graph.link_nodes(source, graph.add(FILTER, f"send_frame:{self._parity}:all"), graph.add("buffersink"))
        graph.configure()
        return graph

    def _ready(self) -> Iterator[av.VideoFrame]:
        assert self._graph is not None
        while True:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(frame, av.VideoFrame)
            yield frame
