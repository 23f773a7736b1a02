"""Cameras by address: ``/dev/video0?size=640x480&fps=30&format=GREY&gain=4``."""

from __future__ import annotations

import re

from clesr.engines.common.addresses import split_options
from clesr.engines.common.errors import WHY, SourceError, UsageError, told_as
from clesr.engines.common.numbers import decimal_number, shortened
from clesr.engines.common.parsing import one_line
from clesr.pipeline.source import Source
from clesr.pipeline.sources.registry import SourceOptions

SIGNAL = ("input", "standard", "timings")  # of a frame grabber


def open_camera(address: str, options: SourceOptions) -> Source:
    """The camera at ``address``; what is not size, fps, format, input, standard or timings in it is a control of
    the camera.

    Raises UsageError for options that cannot work, SourceError where there is no such camera.
    """
    device, controls = split_options(address)
    size = _size(address, controls.pop("size", None))
    fps = _fps(address, controls.pop("fps", None))
    pixel_format = controls.pop("format", None)
    signal = {name: controls.pop(name) for name in SIGNAL if name in controls}
    needed = f"{device}: cameras need linuxpy, which is for Linux only ({WHY})"
    with told_as(SourceError, needed, ImportError):
        from clesr.pipeline.sources.v4l2.camera import CameraSource
    return CameraSource(
        device,
        size=size,
        fps=fps,
        pixel_format=pixel_format,
        controls=controls,
        clock=options.clock,
        signal=signal,
        levels=options.levels,
        deinterlace=options.deinterlace,
    )


def _size(address: str, size: str | None) -> tuple[int, int] | None:
    if size is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", size, re.ASCII)
    if match is None:
        raise UsageError(
            f"{one_line(address)}: size is {shortened(size)}; write width x height in pixels, as size=640x480"
        )
    return int(match[1]), int(match[2])


def _fps(address: str, fps: str | None) -> float | None:
    if fps is None:
        return None
    try:
        rate = decimal_number(fps)
    except ValueError:
        rate = 0.0
    if not 0.001 <= rate <= 1000:
        raise UsageError(
            f"{one_line(address)}: fps is {shortened(fps)}; allowed is a number of frames a second up to 1000"
        )
    return rate
