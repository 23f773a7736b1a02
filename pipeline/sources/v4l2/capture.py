"""One opened V4L2 device that streams into mapped buffers."""

from __future__ import annotations

import contextlib
import errno
import os
import select
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from linuxpy.ioctl import ioctl  # type: ignore[import-untyped]
from linuxpy.video import device as v4l2  # type: ignore[import-untyped]

from clesr.engines.common.errors import SourceError, on_error
from clesr.pipeline.frame import Image
from clesr.pipeline.sources.v4l2.buffers import Buffers
from clesr.pipeline.sources.v4l2.controls import control_names, no_control, set_controls
from clesr.pipeline.sources.v4l2.fields import Captured, Fields
from clesr.pipeline.sources.v4l2.inputs import choose_input, choose_standard, choose_timings
from clesr.pipeline.sources.v4l2.jpeg import Damaged
from clesr.pipeline.sources.v4l2.modes import (
    CAPTURE,
    Wanted,
    buffer_type,
    choose_format,
    same_rate,
    wrong_rate,
    wrong_size,
)
from clesr.pipeline.sources.v4l2.pixels import BufferDecoder, stated_levels

BUFFERS = 4
FOLDER = Path("/dev")


class Capture:
    """Streams from the moment it is made until ``close``.

    Raises UsageError for what the camera does not offer, SourceError where it cannot be used. From then on
    OSError from ``wait`` or ``take`` means that the camera is gone.
    """

    def __init__(self, address: str, wanted: Wanted) -> None:
        self.address = address
        self._buffers: Buffers | None = None
        self._poller = select.poll()
        self._device = v4l2.Device(address)
        with on_error(self.close), explained(address):
            self._device.open()
            self._check_kind()
            self._buffers = Buffers(self._device)
            self._choose_signal(wanted)
            self._set_format(wanted)
            self.fps = self._set_fps(wanted.fps)
            set_controls(self._device, wanted.controls)
            self._controls = control_names(self._device)
            self._buffers.start(BUFFERS)
            self._poller.register(self._device.fileno(), select.POLLIN)

    def wait(self, timeout: float, wake: int) -> bool:
        """True when a buffer is ready within ``timeout`` seconds; False at once when ``wake`` is readable."""
        self._poller.register(wake, select.POLLIN)
        ready = dict(self._poller.poll(max(timeout, 0.0) * 1000))
        if wake in ready:
            return False
        events = ready.get(self._device.fileno(), 0)
        if events & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), self.address)
        if not events and not os.path.exists(self.address):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), self.address)
        return bool(events)

    def take(self) -> Captured | None:
        """The oldest filled buffer, copied out and queued again; None where there is none."""
        assert self._buffers is not None
        try:
            buffer = self._buffers.take()
        except BlockingIOError:
            return None
        flags, stamp = buffer.flags, buffer.timestamp
        monotonic = flags & v4l2.BufferFlag.TIMESTAMP_MASK == v4l2.BufferFlag.TIMESTAMP_MONOTONIC
        stamp_ns = stamp.secs * 1_000_000_000 + stamp.usecs * 1000 if monotonic else 0
        image, reason = self._copy(buffer)
        self._buffers.give_back(buffer)
        return self.fields.put(Captured(buffer.sequence, stamp_ns or None, image, reason), buffer.field)

    def adjust(self, controls: Mapping[str, str]) -> None:
        """Set ``controls`` while it streams. Raises as ``set_controls``."""
        set_controls(self._device, controls)

    def lacks(self, name: str) -> str:
        """Why the control ``name`` cannot be set; nothing where it can."""
        return "" if name in self._controls else no_control(self.address, name, self._controls)

    def close(self) -> None:
        """Give everything back, whatever state the device is in."""
        if self._device.closed:
            return
        if self._buffers is not None:
            self._buffers.close()
        with contextlib.suppress(OSError):
            self._device.close()

    def _check_kind(self) -> None:
        kinds = self._device.info.device_capabilities or self._device.info.capabilities
        if buffer_type(self._device) is None:
            raise SourceError(f"{self.address} is no camera, which clesr cannot read; {cameras_here()}")
        if not kinds & v4l2.Capability.STREAMING:
            raise SourceError(
                f"{self.address} cannot stream into mapped buffers; use another camera or driver"
            )

    def _choose_signal(self, wanted: Wanted) -> None:
        for choose, what in (
            (choose_input, wanted.input),
            (choose_standard, wanted.standard),
            (choose_timings, wanted.timings),
        ):
            if what is not None:
                choose(self._device, what)

    def _set_format(self, wanted: Wanted) -> None:
        asked = v4l2.get_raw_format(self._device, buffer_type(self._device))
        now = self._pixels(asked)
        size = wanted.size or (now.width, now.height)
        chosen = choose_format(self._device, wanted, size)
        now.width, now.height = size
        now.pixelformat, now.field = chosen.code, v4l2.Field.ANY
        if buffer_type(self._device) == CAPTURE:
            now.bytesperline = now.sizeimage = 0
        else:
            for plane in now.plane_fmt:
                plane.bytesperline = plane.sizeimage = 0
        given = self._pixels(v4l2.set_raw_format(self._device, asked))
        if given.pixelformat != chosen.code:
            raise SourceError(
                f"{self.address} offers {chosen.name} but does not switch to it; choose another format"
            )
        self.fields = Fields(given.field, given.height)  # how whole images come of what the device sends
        self.size = (given.width, self.fields.lines)
        if wanted.size is not None and wanted.size not in (self.size, (given.width, given.height)):
            raise wrong_size(self._device, [chosen], wanted.size)
        self.pixel_format = chosen
        lines = given if buffer_type(self._device) == CAPTURE else given.plane_fmt[0]
        levels = stated_levels(given.quantization, wanted.levels)
        self._decoder = BufferDecoder(chosen, (given.width, given.height), lines.bytesperline, levels)

    def _pixels(self, form: Any) -> Any:
        return form.fmt.pix if buffer_type(self._device) == CAPTURE else form.fmt.pix_mp

    def _set_fps(self, fps: float | None) -> float | None:
        if fps is not None:
            with contextlib.suppress(OSError):  # what came of it is read back
                self._ask_rate(fps)
        try:
            period = v4l2.get_parm(self._device, buffer_type(self._device)).parm.capture.timeperframe
            given = period.denominator / period.numerator
        except (OSError, ZeroDivisionError):
            given = 0.0
        if fps is not None and not same_rate(given, fps):
            raise wrong_rate(self._device, [self.pixel_format], self.size, fps)
        return given or None

    def _ask_rate(self, fps: float) -> None:
        rate = Fraction(fps).limit_denominator(1001)
        parm = v4l2.raw.v4l2_streamparm(type=buffer_type(self._device))
        period = parm.parm.capture.timeperframe
        period.numerator, period.denominator = rate.denominator, rate.numerator
        ioctl(self._device, v4l2.IOC.S_PARM, parm)

    def _copy(self, buffer: Any) -> tuple[Image | None, str]:
        if buffer.flags & v4l2.BufferFlag.ERROR:
            return None, "the driver marked the frame as damaged"
        assert self._buffers is not None
        with self._buffers.data(buffer) as data:
            try:
                return self._decoder.decode(data), ""
            except Damaged as error:
                return None, str(error)


@contextlib.contextmanager
def explained(address: str) -> Iterator[None]:
    """Turns what the system says on opening into a SourceError that says what to do."""
    try:
        yield
    except OSError as error:
        raise SourceError(f"{address} {_advice(error, address)}") from error


def cameras_here() -> str:
    """The capture devices of this machine, for an error's last words."""
    found = []
    for path in sorted(FOLDER.glob("video*")):
        with contextlib.suppress(OSError), v4l2.IO.open(path, True) as file:
            info = v4l2.read_capabilities(file)
            if info.device_caps & (v4l2.Capability.VIDEO_CAPTURE | v4l2.Capability.VIDEO_CAPTURE_MPLANE):
                found.append(f"{path} ({info.card.decode(errors='replace')})")
    return f"cameras found: {', '.join(found)}" if found else "no camera was found; is it plugged in?"


def _advice(error: OSError, address: str) -> str:
    match error.errno:
        case errno.ENOENT:
            return f"does not exist; {cameras_here()}"
        case errno.ENODEV | errno.ENXIO:
            return f"has no camera behind it any more; {cameras_here()}"
        case errno.ENOTTY | errno.EISDIR:
            return f"is not a video device; {cameras_here()}"
        case errno.EACCES | errno.EPERM:
            return "may not be opened by you; join its group (sudo usermod -aG video $USER) and log in again"
        case errno.EBUSY:
            return f"is in use by another program; close that first (fuser -v {address} names it)"
        case errno.ENOSPC:
            return "gets too little USB bandwidth; ask for a smaller size or rate, or use another USB port"
    return f"cannot be used: {error.strerror or error}; unplug it and plug it in again"
