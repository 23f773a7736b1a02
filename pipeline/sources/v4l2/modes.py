"""What a V4L2 camera offers, and the best of it: pixel formats, sizes, frame rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from linuxpy.video import device as v4l2  # type: ignore[import-untyped]

from clesr.engines.common.errors import SourceError, UsageError
from clesr.pipeline.sources.v4l2.pixels import FORMATS, PixelFormat

CAPTURE, MULTIPLANAR = v4l2.BufferType.VIDEO_CAPTURE, v4l2.BufferType.VIDEO_CAPTURE_MPLANE
ENOUGH_FPS = 30.0  # a rate above this does not speak for a pixel format
FPS_TOLERANCE = 0.01  # 29.97 is given for 30

Size = tuple[int, int]  # width, height


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked of the camera; None leaves it as it is. ``size`` is (width, height) in pixels; ``input``,
    ``standard`` and ``timings`` say which signal of a frame grabber is captured, ``levels`` how its grey levels are
    meant."""

    size: Size | None = None
    fps: float | None = None
    pixel_format: PixelFormat | None = None
    controls: Mapping[str, str] = field(default_factory=dict)
    input: str | None = None
    standard: str | None = None
    timings: str | None = None
    levels: str = "auto"


def buffer_type(device: v4l2.Device) -> v4l2.BufferType | None:
    """How the opened ``device`` hands pictures over: in one plane, or in several; None where it captures none."""
    kinds = device.info.device_capabilities or device.info.capabilities
    if kinds & v4l2.Capability.VIDEO_CAPTURE:
        return CAPTURE
    return MULTIPLANAR if kinds & v4l2.Capability.VIDEO_CAPTURE_MPLANE else None


def choose_format(device: v4l2.Device, wanted: Wanted, size: Size) -> PixelFormat:
    """The best pixel format that gives ``size`` and the rate asked for: the most gray levels, then the rate.

    Raises UsageError with what there is where none does, SourceError where clesr can read none at all.
    """
    offered = offered_formats(device)
    if not offered:
        names = ", ".join(known.name for known in FORMATS)
        raise SourceError(
            f"{device.filename} offers no pixel format that clesr reads ({names}); use another camera"
        )
    if wanted.pixel_format is not None:
        if wanted.pixel_format not in offered:
            names = ", ".join(known.name for known in offered)
            raise UsageError(
                f"{device.filename} does not offer {wanted.pixel_format.name}; it offers: {names}"
            )
        offered = [wanted.pixel_format]
    fitting = [known for known in offered if _has_size(device, known, size)]
    if not fitting and wanted.size is not None:
        raise wrong_size(device, offered, wanted.size)
    rates = {known: offered_rates(device, known, size) for known in fitting or offered}
    timely = [known for known in rates if wanted.fps is None or _has_rate(rates[known], wanted.fps)]
    if not timely:
        assert wanted.fps is not None
        raise wrong_rate(device, list(rates), size, wanted.fps)
    return min(timely, key=lambda known: _rank(known, rates[known]))


def offered_formats(device: v4l2.Device) -> list[PixelFormat]:
    """The formats of the camera that clesr can read, best first."""
    entry = v4l2.raw.v4l2_fmtdesc(type=buffer_type(device))
    codes = {item.pixelformat for item in v4l2.iter_read(device, v4l2.IOC.ENUM_FMT, entry)}
    return [known for known in FORMATS if known.code in codes]


def offered_rates(device: v4l2.Device, pixel_format: PixelFormat, size: Size) -> list[tuple[float, float]]:
    """The frame rates as ranges (lowest, highest); none where the driver does not tell."""
    entries = v4l2.iter_read_frame_intervals(device, pixel_format.code, *size)
    ranges = {tuple(sorted((float(entry.min_fps), float(entry.max_fps)))) for entry in entries}
    return sorted((low, high) for low, high in ranges if high > 0)


def offered_sizes(device: v4l2.Device, pixel_format: PixelFormat) -> list[tuple[str, Size | None]]:
    """The sizes in words, each with itself where it is a single one; none where the driver does not tell."""
    entries = list(v4l2.iter_read_frame_sizes(device, pixel_format.code))
    single = v4l2.FrameSizeType.DISCRETE
    return [
        (_size_text(entry), (entry.info.width, entry.info.height) if entry.type == single else None)
        for entry in entries
    ]


def same_rate(given: float, asked: float) -> bool:
    return abs(given - asked) <= FPS_TOLERANCE * asked


def wrong_size(device: v4l2.Device, formats: Iterable[PixelFormat], size: Size) -> UsageError:
    """The error that says which sizes there are."""
    entries = [entry for known in formats for entry in v4l2.iter_read_frame_sizes(device, known.code)]
    sizes = dict.fromkeys(_size_text(entry) for entry in entries)
    names = "/".join(known.name for known in formats)
    return UsageError(
        f"{device.filename} does not give {size[0]}x{size[1]} in {names}; "
        f"it offers: {', '.join(sizes) or 'what it does not tell'}"
    )


def wrong_rate(device: v4l2.Device, formats: Iterable[PixelFormat], size: Size, fps: float) -> UsageError:
    """The error that says which frame rates there are."""
    ranges = {pair for known in formats for pair in offered_rates(device, known, size)}
    texts = [f"{low:g}" if low == high else f"{low:g} to {high:g}" for low, high in sorted(ranges)]
    names = "/".join(known.name for known in formats)
    return UsageError(
        f"{device.filename} does not give {fps:g} frames/s at {size[0]}x{size[1]} in {names}; "
        f"it offers: {', '.join(texts) or 'its own rate alone'}"
    )


def _rank(pixel_format: PixelFormat, rates: list[tuple[float, float]]) -> tuple[int, float, int]:
    fastest = max((high for _, high in rates), default=0.0)
    return -pixel_format.bits, -min(fastest, ENOUGH_FPS), FORMATS.index(pixel_format)


def _has_rate(rates: list[tuple[float, float]], fps: float) -> bool:
    return not rates or any(low <= fps <= high or same_rate(low, fps) for low, high in rates)


def _has_size(device: v4l2.Device, pixel_format: PixelFormat, size: Size) -> bool:
    entries = list(v4l2.iter_read_frame_sizes(device, pixel_format.code))
    return not entries or any(_fits(entry, size) for entry in entries)


def _fits(entry: v4l2.FrameSize, size: Size) -> bool:
    info = entry.info
    if entry.type == v4l2.FrameSizeType.DISCRETE:
        return bool(size == (info.width, info.height))
    spans = (
        (info.min_width, info.max_width, info.step_width),
        (info.min_height, info.max_height, info.step_height),
    )
    return all(
        low <= length <= high and not (length - low) % max(step, 1)
        for length, (low, high, step) in zip(size, spans, strict=True)
    )


def _size_text(entry: v4l2.FrameSize) -> str:
    info = entry.info
    if entry.type == v4l2.FrameSizeType.DISCRETE:
        return f"{info.width}x{info.height}"
    return f"{info.min_width}x{info.min_height} to {info.max_width}x{info.max_height}"
