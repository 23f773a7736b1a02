"""Which plug of a frame grabber is captured, and which signal it is to expect: input, standard, DV timings."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

from linuxpy.ioctl import ioctl  # type: ignore[import-untyped]
from linuxpy.video import device as v4l2  # type: ignore[import-untyped]

from clesr.engines.common.errors import WHY, SourceError, UsageError, told_as

AUTO = "auto"  # timings: those of the signal that is there


def choose_input(device: v4l2.Device, wanted: str) -> None:
    """Take the input called ``wanted``, or of that number. Raises UsageError where there is none."""
    names = input_names(device)
    found = [index for index, name in names.items() if wanted.lower() in (name.lower(), str(index))]
    if not found:
        offered = ", ".join(f"{name} ({index})" for index, name in names.items()) or "none"
        raise UsageError(f"{device.filename} has no input {wanted!r}; it has: {offered}")
    v4l2.set_input(device, found[0])


def choose_standard(device: v4l2.Device, wanted: str) -> None:
    """Set the analogue standard called ``wanted``. Raises UsageError where the input has none of that name."""
    standards = standard_names(device)
    found = [code for name, code in standards.items() if name.lower() == wanted.lower()]
    if not found:
        offered = ", ".join(standards) or "none"
        raise UsageError(f"{device.filename} has no standard {wanted!r} at this input; it has: {offered}")
    ioctl(device, v4l2.IOC.S_STD, ctypes.c_uint64(found[0]))


def choose_timings(device: v4l2.Device, wanted: str) -> None:
    """Set the digital timings ``wanted``, such as 1920x1080p60, or with ``auto`` those of the signal.

    Raises UsageError where they are not offered, SourceError where there is no signal."""
    if wanted.lower() == AUTO:
        timings = v4l2.raw.v4l2_dv_timings()
        advice = "connect one, or state its timings, as timings=1920x1080p60"
        with told_as(SourceError, f"{device.filename} finds no signal at this input ({WHY}); {advice}"):
            ioctl(device, v4l2.IOC.QUERY_DV_TIMINGS, timings)
    else:
        offered = timings_offered(device)
        if wanted.lower() not in offered:
            names = ", ".join(offered) or "none"
            raise UsageError(f"{device.filename} has no timings {wanted!r}; it has: {names}, {AUTO}")
        timings = offered[wanted.lower()]
    ioctl(device, v4l2.IOC.S_DV_TIMINGS, timings)


def input_names(device: v4l2.Device) -> dict[int, str]:
    """The names of the inputs by their numbers."""
    entries = _entries(device, v4l2.IOC.ENUMINPUT, v4l2.raw.v4l2_input)
    return {entry.index: _text(entry.name) for entry in entries}


def standard_names(device: v4l2.Device) -> dict[str, int]:
    """The codes of the standards that the present input takes, by name."""
    entries = _entries(device, v4l2.IOC.ENUMSTD, v4l2.raw.v4l2_standard)
    return {_text(entry.name): entry.id for entry in entries}


def timings_offered(device: v4l2.Device) -> dict[str, Any]:
    """The digital timings that the present input takes, by name."""
    entries = _entries(device, v4l2.IOC.ENUM_DV_TIMINGS, v4l2.raw.v4l2_enum_dv_timings)
    return {timings_name(entry.timings): entry.timings for entry in entries}


def timings_name(timings: Any) -> str:
    """Width, height, p or i, and frames or fields a second, as 1920x1080p60."""
    bt = timings.bt
    across = bt.width + bt.hfrontporch + bt.hsync + bt.hbackporch
    down = bt.height + bt.vfrontporch + bt.vsync + bt.vbackporch
    if bt.interlaced:
        down = (down + bt.il_vfrontporch + bt.il_vsync + bt.il_vbackporch) / 2
    rate = bt.pixelclock / (across * down) if across and down else 0.0
    return f"{bt.width}x{bt.height}{'i' if bt.interlaced else 'p'}{round(rate, 2):g}"


def _entries(device: v4l2.Device, request: Any, kind: Any) -> Iterator[Any]:
    """What the device lists; nothing where it does not know the question."""
    for index in range(128):
        entry = kind(index=index)
        try:
            ioctl(device, request, entry)
        except OSError:
            return
        yield entry


def _text(name: bytes) -> str:
    return name.decode(errors="replace")
