"""One opened V4L2 device that streams into mapped buffers."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import select
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linuxpy.video import device as v4l2  # type: ignore[import-untyped]

from clesr.engines.common.errors import SourceError, on_error
from clesr.pipeline.frame import Image
from clesr.pipeline.sources.v4l2.controls import set_controls
from clesr.pipeline.sources.v4l2.modes import (
    CAPTURE,
    Wanted,
    choose_format,
    same_rate,
    wrong_rate,
    wrong_size,
)
from clesr.pipeline.sources.v4l2.pixels import BufferDecoder, Damaged

BUFFERS = 4
MMAP = v4l2.Memory.MMAP
FOLDER = Path("/dev")


@dataclass(frozen=True, slots=True, eq=False)
class Captured:
    """What a buffer held. ``sequence`` counts modulo 2**32; ``stamp_ns`` is the driver's monotonic time, or
    None where it gives none; ``reason`` says why there is no image."""

    sequence: int
    stamp_ns: int | None
    image: Image | None
    reason: str = ""


class Capture:
    """Streams from the moment it is made until ``close``.

    Raises UsageError for what the camera does not offer, SourceError where it cannot be used. From then on
    OSError from ``wait`` or ``take`` means that the camera is gone.
    """

    def __init__(self, address: str, wanted: Wanted) -> None:
        self.address = address
        self._maps: list[mmap.mmap] = []
        self._poller = select.poll()
        self._device = v4l2.Device(address)
        with on_error(self.close), explained(address):
            self._device.open()
            self._check_kind()
            self._set_format(wanted)
            self.fps = self._set_fps(wanted.fps)
            set_controls(self._device, wanted.controls)
            self._start()
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
        try:
            buffer = v4l2.dequeue_buffer(self._device, CAPTURE, MMAP)
        except BlockingIOError:
            return None
        flags, stamp = buffer.flags, buffer.timestamp
        monotonic = flags & v4l2.BufferFlag.TIMESTAMP_MASK == v4l2.BufferFlag.TIMESTAMP_MONOTONIC
        stamp_ns = stamp.secs * 1_000_000_000 + stamp.usecs * 1000 if monotonic else 0
        image, reason = self._copy(buffer)
        v4l2.enqueue_buffer_raw(self._device, buffer)
        return Captured(buffer.sequence, stamp_ns or None, image, reason)

    def close(self) -> None:
        """Give everything back, whatever state the device is in."""
        if self._device.closed:
            return
        with contextlib.suppress(OSError):
            v4l2.stream_off(self._device, CAPTURE)
        while self._maps:
            self._maps.pop().close()
        with contextlib.suppress(OSError):
            v4l2.free_buffers(self._device, CAPTURE, MMAP)
        with contextlib.suppress(OSError):
            self._device.close()

    def _check_kind(self) -> None:
        kinds = self._device.info.device_capabilities or self._device.info.capabilities
        if not kinds & v4l2.Capability.VIDEO_CAPTURE:
            what = "a multi-planar camera" if kinds & v4l2.Capability.VIDEO_CAPTURE_MPLANE else "no camera"
            raise SourceError(f"{self.address} is {what}, which clesr cannot read; {cameras_here()}")
        if not kinds & v4l2.Capability.STREAMING:
            raise SourceError(
                f"{self.address} cannot stream into mapped buffers; use another camera or driver"
            )

    def _set_format(self, wanted: Wanted) -> None:
        now = v4l2.get_raw_format(self._device, CAPTURE).fmt.pix
        size = wanted.size or (now.width, now.height)
        chosen = choose_format(self._device, wanted, size)
        given = v4l2.set_format(self._device, CAPTURE, *size, chosen.fourcc).fmt.pix
        if given.pixelformat != chosen.code:
            raise SourceError(
                f"{self.address} offers {chosen.name} but does not switch to it; choose another format"
            )
        self.size = (given.width, given.height)
        if wanted.size is not None and self.size != wanted.size:
            raise wrong_size(self._device, [chosen], wanted.size)
        self.pixel_format = chosen
        self._decoder = BufferDecoder(chosen, self.size, given.bytesperline)

    def _set_fps(self, fps: float | None) -> float | None:
        if fps is not None:
            with contextlib.suppress(OSError):  # what came of it is read back
                v4l2.set_fps(self._device, CAPTURE, fps)
        try:
            given = float(v4l2.get_fps(self._device, CAPTURE))
        except (OSError, ZeroDivisionError):
            given = 0.0
        if fps is not None and not same_rate(given, fps):
            raise wrong_rate(self._device, [self.pixel_format], self.size, fps)
        return given or None

    def _start(self) -> None:
        granted = v4l2.request_buffers(self._device, CAPTURE, MMAP, BUFFERS).count
        for index in range(granted):
            buffer = v4l2.query_buffer(self._device, CAPTURE, MMAP, index)
            self._maps.append(v4l2.mmap_from_buffer(self._device, buffer))
            v4l2.enqueue_buffer(self._device, CAPTURE, MMAP, 0, index)
        v4l2.stream_on(self._device, CAPTURE)

    def _copy(self, buffer: Any) -> tuple[Image | None, str]:
        if buffer.flags & v4l2.BufferFlag.ERROR:
            return None, "the driver marked the frame as damaged"
        with memoryview(self._maps[buffer.index]) as mapped, mapped[: buffer.bytesused] as data:
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
            if info.device_caps & v4l2.Capability.VIDEO_CAPTURE:
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
