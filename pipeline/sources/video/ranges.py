"""Parts of a recording by themselves: frames ``start`` to ``stop`` as a sequential read would give them."""

from __future__ import annotations

import bisect
import itertools
from array import array
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import av

from clesr.engines.common.errors import WHY, EndOfSource, on_error, told_as
from clesr.pipeline.frame import Corrupt, Frame
from clesr.pipeline.sources.registry import DEFAULTS, SourceOptions
from clesr.pipeline.sources.video.file import HIDDEN, VideoSource, file_address
from clesr.pipeline.video.decode import open_container
from clesr.pipeline.video.tracks import video_track

LEAD = 2  # key frames before a part from which reading begins: pictures after an open group build on the one before


class NotApart(Exception):
    """A part does not decode by itself as it does in sequence: read the recording as a whole."""


@dataclass(frozen=True, slots=True)
class FrameRange:
    """Frames ``start`` to ``stop`` (exclusive). Of a video also where reading begins (``seek``, None: at the file's
    beginning), and the ``pts`` of its first and last frame; of other recordings those are None."""

    start: int
    stop: int
    seek: int | None = None
    first: int | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class VideoIndex:
    """What a scan of a video's packets tells without decoding: ``pts`` of its frames in the order shown, and of its
    key frames the pair (``pts``, where to seek). ``problem`` says in one line why it cannot be read in parts."""

    pts: Sequence[int]
    keys: Sequence[tuple[int, int]]
    problem: str | None

    @property
    def frames(self) -> int:
        return len(self.pts)


def index_video(path: Path, options: SourceOptions = DEFAULTS) -> VideoIndex:
    """Read the packets of ``path`` once. Raises SourceError where it is no video."""
    source = VideoSource(path, options)
    codec = source.codec
    times, keys, problems = array("q"), [], [f"{codec} has hidden packets"] if codec in HIDDEN else []

    def visit(packet: av.Packet[av.VideoStream]) -> None:
        if packet.is_discard:
            problems.append("an edit list leaves frames out")
            return
        if packet.pts is None or packet.is_corrupt:
            problems.append("a packet has no time or is marked as damaged")
            times.append(times[-1] + 1 if times else 0)
            return
        times.append(packet.pts)
        if packet.is_keyframe:
            seek = packet.pts if packet.dts is None else min(packet.pts, packet.dts)
            keys.append((packet.pts, seek))

    with closing(source):
        cut = source.scan(visit)
    ordered = sorted(times)
    if any(a == b for a, b in itertools.pairwise(ordered)):
        problems.append("two frames have the same time")
    keys.sort()
    if not keys or (ordered and keys[0][0] > ordered[0]):
        problems.append("it does not begin with a key frame")
    return VideoIndex(array("q", ordered), keys, cut or (problems[0] if problems else None))


def split_video(index: VideoIndex, frames: int, length: int) -> tuple[FrameRange, ...]:
    """The first ``frames`` of a video in parts of ``length`` frames; empty where they are too few, or where reading
    in parts would decode more than it spares (``length`` frames from a part's key frame to its begin)."""
    if index.problem is not None or frames <= length:
        return ()
    key_times = [pts for pts, _ in index.keys]
    spans = []
    for start in range(0, frames, length):
        stop = min(start + length, frames)
        key = bisect.bisect_right(key_times, index.pts[start]) - LEAD
        seek = index.keys[key] if key > 0 else None
        begins = bisect.bisect_left(index.pts, seek[0]) if seek else 0
        if start - begins > length:
            return ()
        spans.append(
            FrameRange(start, stop, seek[1] if seek else None, index.pts[start], index.pts[stop - 1])
        )
    return tuple(spans)


def split_images(frames: int, length: int) -> tuple[FrameRange, ...]:
    """The same for recordings whose images are had by number."""
    if frames <= length:
        return ()
    return tuple(FrameRange(start, min(start + length, frames)) for start in range(0, frames, length))


class VideoRange:
    """The frames of ``span``, numbered as in the whole video. ``read`` raises NotApart where they are not exactly
    those that the scan promised, or one is damaged: what a sequential read makes of that is what counts."""

    def __init__(self, path: Path, span: FrameRange, options: SourceOptions = DEFAULTS) -> None:
        self._span, self._number = span, span.start
        self._source = _open_at(path, span, options)
        self.info = replace(self._source.info, frames=span.stop - span.start)

    def read(self, timeout: float) -> Frame | Corrupt | None:
        span = self._span
        assert span.first is not None
        assert span.last is not None
        if self._number == span.stop:
            raise EndOfSource
        while True:
            with told_as(NotApart, f"the video ends before frame {self._number}", EndOfSource):
                item = self._source.read(timeout)
            if isinstance(item, Frame) and item.pts is not None and item.pts >= span.first:
                break
            if isinstance(item, Corrupt) and self._number > span.start:
                raise NotApart(f"frame {self._number} is damaged: {item.reason}")
        number, self._number = self._number, self._number + 1
        wrong_first = number == span.start and item.pts != span.first
        wrong_last = self._number == span.stop and item.pts != span.last
        if wrong_first or wrong_last:
            raise NotApart(f"frame {number} is not where the scan saw it")
        return replace(item, number=number)

    def close(self) -> None:
        self._source.close()


def _open_at(path: Path, span: FrameRange, options: SourceOptions) -> VideoSource:
    """A source that begins at the key frame of ``span`` or before; raises NotApart where it lands behind it."""
    if span.seek is None:
        return VideoSource(path, options)
    container = open_container(file_address(str(path)))
    seeking = told_as(NotApart, f"cannot be read from {span.seek} on ({WHY})", av.FFmpegError)
    with on_error(container.close), seeking:
        stream = video_track(container, options.track, str(path))
        container.seek(span.seek, stream=stream, backward=True)
        landed = next((packet for packet in container.demux(stream) if packet.size), None)
        when = None if landed is None else landed.pts if landed.dts is None else landed.dts
        if when is None or when > span.seek:
            raise NotApart(f"the file cannot be read from {span.seek} on")
        container.seek(span.seek, stream=stream, backward=True)
    return VideoSource(path, options, container)
