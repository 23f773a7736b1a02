"""One recording of an archive: what it holds, how it is split, and its frames part by part."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from clesr.engines.common.errors import SourceError
from clesr.pipeline.cores.removal import CoreRemoval
from clesr.pipeline.frame import Frame, Image
from clesr.pipeline.prepare import IntensityWindow, Prepare, steady_window
from clesr.pipeline.source import Source
from clesr.pipeline.sources.images.files import open_images
from clesr.pipeline.sources.images.indexed import IndexedSource
from clesr.pipeline.sources.images.mkt import open_mkt
from clesr.pipeline.sources.registry import DEFAULTS, IMAGE_SUFFIXES, SourceOptions
from clesr.pipeline.sources.video.file import VideoSource
from clesr.pipeline.sources.video.ranges import (
    FrameRange,
    NotApart,
    VideoRange,
    index_video,
    split_images,
    split_video,
)
from clesr.tools.archive.settings import Settings
from clesr.tools.data.images import frames_of

SAMPLES = 16  # frames from which the grey levels of a 16-bit recording are measured


@dataclass(frozen=True, slots=True)
class Scan:
    """What a first look gives: ``frames`` stated (0: none), LR ``shape`` (H, W), rate, ``origin`` (``pts`` of frame
    0, None where it does not matter), ``spans`` (empty: to be read as a whole), the window for its grey levels, and
    the width of a pixel over its height."""

    frames: int
    shape: tuple[int, int]
    fps: float | None
    origin: int | None
    spans: tuple[FrameRange, ...]
    window: IntensityWindow
    pixel_aspect: Fraction = Fraction(1)


def scan(path: Path, asked: Settings) -> Scan:
    """Look at ``path`` as ``asked``. Raises SourceError, and UsageError for a region that leaves the frame, a
    calibration of another size, or a track, channel or plane that is not there."""
    reading, cores, roi = asked.source_options(tell=True), asked.calibration(), asked.roi
    limit, window = asked.frames, asked.window
    samples: tuple[FrameRange, ...] = ()
    spans: tuple[FrameRange, ...] = ()
    origin: int | None = None
    numbered = open_numbered(path, reading)
    if numbered is None:
        index = index_video(path, reading)
        frames = min(index.frames, limit or index.frames)
        if reading.deinterlace:  # which looks over the ends of parts
            index = replace(index, problem="it is deinterlaced")
        spans = split_video(index, frames, asked.piece)
        samples = split_video(index, frames, max(1, frames // SAMPLES))
        origin = index.pts[0] if spans else None
    else:
        frames = min(numbered.info.frames or 0, limit or numbered.info.frames or 0)
        window = window.or_stated(numbered.info.window)
        numbered.close()
        samples = split_images(frames, max(1, frames // SAMPLES))
        if path.suffix.lower() not in IMAGE_SUFFIXES:  # a TIFF is written by one worker
            spans = split_images(frames, asked.piece)
    quiet = replace(reading, tell=False)
    with closing(open_range(path, None, quiet)) as source:
        first, info = _frame(source), source.info
    shape = Prepare(roi=roi, cores=cores).shape((first.image.shape[0], first.image.shape[1]))
    deep = first.image.dtype == np.uint16
    if window.mode == "percentile" or (window.mode == "auto" and deep):
        images = _samples(path, samples, frames, quiet)
        if cores is not None:
            images = list(map(CoreRemoval(cores), images))
        window = steady_window([image if roi is None else roi.cut(image) for image in images])
    return Scan(frames, shape, info.fps, origin, spans, window, info.pixel_aspect)


def open_range(path: Path, span: FrameRange | None, reading: SourceOptions = DEFAULTS) -> Source:
    """A source of the frames of ``span``, or of all."""
    images = open_numbered(path, reading)
    if images is None:
        if span is None:
            return VideoSource(path, replace(reading, tell=True))
        return VideoRange(path, span, reading)
    if span is not None:
        images.restrict(span.start, span.stop)
    return images


def open_numbered(path: Path, reading: SourceOptions = DEFAULTS) -> IndexedSource | None:
    """The recording where its images are had by number, None where it is a video."""
    suffix = path.suffix.lower()
    if suffix == ".mkt":
        return open_mkt(path, reading)
    return open_images(path, reading) if suffix in IMAGE_SUFFIXES else None


def _samples(path: Path, spans: tuple[FrameRange, ...], frames: int, reading: SourceOptions) -> list[Image]:
    """Images spread evenly over the recording."""
    with suppress(NotApart):
        images = []
        for span in spans:
            with closing(open_range(path, span, reading)) as source:
                images.append(_frame(source).image)
        if images:
            return images
    step = max(1, frames // SAMPLES)
    with closing(open_range(path, None, reading)) as source:
        return [frame.image for frame in frames_of(source) if frame.number % step == 0]


def _frame(source: Source) -> Frame:
    """The next frame that can be decoded. Raises SourceError where there is none."""
    frame = next(frames_of(source), None)
    if frame is None:
        raise SourceError(f"{source.info.address}: no frame in it can be decoded")
    return frame
