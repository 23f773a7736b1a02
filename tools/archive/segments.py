"""Segments of a video on their way to one file: written by whoever computes them, joined without touching a pixel."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from clesr.engines.common.clock import ASSUMED_FPS
from clesr.engines.common.errors import EngineError, SinkError
from clesr.engines.common.files import sync
from clesr.engines.common.folders import check_part, put_part, read_part
from clesr.engines.common.parsing import Count, parse_json
from clesr.pipeline.frame import Frame, Outcome, Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.session.format import TICK
from clesr.pipeline.sink import Sink
from clesr.pipeline.video.encoding import VideoWriter, choose_encoding
from clesr.pipeline.video.matroska import MatroskaOutput, leave_room
from clesr.pipeline.video.tracks import pixel_aspect

LONGEST_NOTE = 1 << 16  # bytes
# Bit-exact: otherwise Matroska files carry random numbers, and no two are the same.
CONTAINER = {"fflags": "bitexact", "cluster_time_limit": "1000"}


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """What is known of a finished segment: how many ``frames`` it has, how many the input lost, what computed it,
    and what was said of the first frame lost."""

    frames: Count
    missing: Count
    shape: tuple[Count, Count]
    engine: str
    note: str = ""


class SegmentFile:
    """A sink that writes one segment as .mkv, its times counted from the frame at ``origin`` (``pts``; None: from the
    first frame that comes). Raises SinkError where the frame size changes."""

    policy = Policy.BLOCK

    def __init__(
        self,
        path: Path,
        *,
        codec: str,
        fps: float | None,
        origin: int | None,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        self.path, self.name = path, str(path)
        self._aspect = pixel_aspect
        self._codec, self._fps, self._origin = codec, fps or ASSUMED_FPS, origin
        self._writer: VideoWriter | None = None
        self._kind: tuple[tuple[int, ...], np.dtype[np.generic]] | None = None
        self._last = -1

    def write(self, result: Result) -> None:
        image = result.image
        kind = (image.shape, image.dtype)
        if self._writer is None:
            encoding = choose_encoding(self._codec, ".mkv", image.dtype, image.shape)
            self._writer = VideoWriter(
                self.path, encoding, image.shape, tick=TICK, fps=self._fps, pixel_aspect=self._aspect
            )
            self._kind = kind
        if kind != self._kind:
            raise SinkError(
                f"the frame size or depth changes at frame {result.frame.number}; `clesr upscale FILE -o OUT.mkv` "
                "makes a file of each part"
            )
        self._last = max(self._ticks(result.frame), self._last + 1)
        self._writer.write(image, self._last)

    def close(self) -> str | None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()
        return None

    def _ticks(self, frame: Frame) -> int:
        if frame.pts is None or frame.time_base is None:
            return round(frame.number / Fraction(self._fps) / TICK)
        if self._origin is None:
            self._origin = frame.pts
        return round((frame.pts - self._origin) * frame.time_base / TICK)


class FailFastSink:
    """A ``sink`` that takes no substitute: where the engine failed on a frame, ``write`` raises EngineError."""

    policy = Policy.BLOCK

    def __init__(self, sink: Sink) -> None:
        self.name, self._sink = sink.name, sink
        self.shape = (0, 0)

    def write(self, result: Result) -> None:
        if result.outcome is Outcome.FAILED:
            raise EngineError(f"the engine failed on frame {result.frame.number} ({result.reason})")
        self.shape = (result.lr.shape[0], result.lr.shape[1])
        self._sink.write(result)

    def close(self) -> str | None:
        return self._sink.close()


def seal(temporary: Path, final: Path, info: SegmentInfo) -> None:
    """Give a segment its name, with what is known of it beside it: from then on it is never computed again."""
    put_part(final.with_suffix(".json"), json.dumps(asdict(info)).encode(), wait=False)
    sync(temporary)
    os.replace(temporary, final)


def sealed(path: Path) -> SegmentInfo | None:
    """What is known of the segment ``path``, where it is finished."""
    try:
        check_part(path)
        if not path.stat().st_size:
            return None
        return parse_json(read_part(path.with_suffix(".json"), LONGEST_NOTE), SegmentInfo)
    except (OSError, ValueError):
        return None


def join(segments: Sequence[Path], target: Path) -> int:
    """Copy the packets of ``segments`` in order into ``target`` (.mkv); how many. The bytes depend on these alone.

    Raises SinkError where the segments were encoded differently, av.FFmpegError where one cannot be read.
    """
    count, last, header = 0, -1, b""
    with av.open(str(segments[0])) as source:
        first = pixel_aspect(source.streams.video[0])
    with (
        MatroskaOutput(target, first) as file,
        av.open(file, "w", format="matroska", options=CONTAINER) as output,
    ):
        stream: av.VideoStream | None = None
        for segment in segments:
            with av.open(str(segment)) as source:
                template = source.streams.video[0]
                if stream is None:
                    stream = output.add_stream_from_template(template)
                    stream.time_base = TICK
                    leave_room(stream)
                    header = template.codec_context.extradata or b""
                elif (template.codec_context.extradata or b"") != header:
                    raise SinkError(
                        f"{segment} was encoded by another version than the segments before it; run again"
                    )
                for packet in source.demux(template):
                    if packet.size and packet.pts is not None:
                        last = max(packet.pts, last + 1)
                        packet.stream, packet.pts, packet.dts = stream, last, last
                        output.mux(packet)
                        count += 1
    sync(target)
    return count
