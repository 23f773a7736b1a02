"""The mapped buffers of a V4L2 device, of one plane or of several."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from typing import Any

from linuxpy.ioctl import ioctl  # type: ignore[import-untyped]
from linuxpy.video import device as v4l2  # type: ignore[import-untyped]

from clesr.pipeline.sources.v4l2.modes import MULTIPLANAR, buffer_type

MMAP = v4l2.Memory.MMAP
_MOST_PLANES = 8  # VIDEO_MAX_PLANES


class Buffers:
    """Buffers of the opened ``device``, which ``start`` asks for, maps and queues. All methods raise OSError."""

    def __init__(self, device: v4l2.Device) -> None:
        self._device, self._type = device, buffer_type(device)
        self._maps: list[mmap.mmap] = []

    def start(self, count: int) -> None:
        """Ask for ``count`` buffers, and let the device stream into those that it gives."""
        granted = v4l2.request_buffers(self._device, self._type, MMAP, count).count
        for index in range(granted):
            buffer = self._blank(index)
            ioctl(self._device, v4l2.IOC.QUERYBUF, buffer)
            first = buffer.m.planes[0] if self._planar else buffer
            offset = first.m.mem_offset if self._planar else first.m.offset
            self._maps.append(v4l2.mem_map(self._device, first.length, offset))
            ioctl(self._device, v4l2.IOC.QBUF, buffer)
        v4l2.stream_on(self._device, self._type)

    def take(self) -> Any:
        """The oldest filled buffer, a v4l2_buffer; raises BlockingIOError where there is none."""
        buffer = self._blank(0)
        ioctl(self._device, v4l2.IOC.DQBUF, buffer)
        return buffer

    def data(self, buffer: Any) -> memoryview:
        """The first plane, in which luma lies, or all of a picture that has one."""
        begin, end = 0, buffer.bytesused
        if self._planar:
            begin, end = buffer.m.planes[0].data_offset, buffer.m.planes[0].bytesused
        return memoryview(self._maps[buffer.index])[begin:end]

    def give_back(self, buffer: Any) -> None:
        ioctl(self._device, v4l2.IOC.QBUF, buffer)

    def close(self) -> None:
        """Stop and give everything back, whatever state the device is in."""
        with contextlib.suppress(OSError):
            v4l2.stream_off(self._device, self._type)
        while self._maps:
            self._maps.pop().close()
        with contextlib.suppress(OSError):
            v4l2.free_buffers(self._device, self._type, MMAP)

    @property
    def _planar(self) -> bool:
        return bool(self._type == MULTIPLANAR)

    def _blank(self, index: int) -> Any:
        buffer = v4l2.raw.v4l2_buffer(index=index, type=self._type, memory=MMAP)
        if self._planar:
            planes = (v4l2.raw.v4l2_plane * _MOST_PLANES)()
            buffer.m.planes = ctypes.cast(planes, ctypes.POINTER(v4l2.raw.v4l2_plane))
            buffer.length = _MOST_PLANES
        return buffer
