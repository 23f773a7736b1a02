"""Cellvizio recordings (``.mkt``)."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from clesr.engines.common.errors import WHY, SourceError, on_error, told_as
from clesr.engines.common.limits import size_problem
from clesr.pipeline.frame import Image
from clesr.pipeline.sources.images.gray import Values
from clesr.pipeline.sources.images.indexed import FrameTimes, IndexedSource, UnreadableImage
from clesr.pipeline.sources.registry import DEFAULTS, SourceOptions

# 16-byte header: frame rate, big-endian float32, at byte 5; frame size in bytes, big-endian int32, at byte 10.
# Then frames of little-endian int16 with 32 bytes after each.
HEADER = 16
GAP = 32
_RATE_AND_SIZE = ">5xfxi"
_EVEN_WIDTH, _WIDTH = 576, 512  # the first where the height is even
_MIN_FPS, _MAX_FPS, _MAX_HEIGHT = 0.01, 1000.0, 4096


def open_mkt(path: str | Path, options: SourceOptions = DEFAULTS) -> IndexedSource:
    """The frames of a Cellvizio recording, uint16: value + 32768, so that negative values keep their order.

    ``info.fps`` is the header's and gives ``pts``. A frame that the end of the file cuts is Corrupt.
    Raises SourceError where the file cannot be read or its header is implausible.
    """
    path = Path(path)
    with told_as(SourceError, f"{path}: cannot be opened ({WHY}); check the path"):
        file = path.open("rb")
    with on_error(file.close):
        fps, shape = parse_mkt_header(file.read(HEADER), str(path))
        size = 2 * math.prod(shape)
        whole, rest = divmod(path.stat().st_size - HEADER + GAP, size + GAP)
        if not whole:
            raise SourceError(f"{path} holds no whole frame of {shape[1]}x{shape[0]} pixels; is it complete?")

    def image(index: int) -> Image:
        file.seek(HEADER + index * (size + GAP))
        data = file.read(size)
        if len(data) < size:
            raise UnreadableImage(f"the file ends in this frame: {len(data)} of its {size} bytes are there")
        # Flipping the top bit of a two's-complement number adds 32768 to it, unsigned.
        return (np.frombuffer(data, "<u2").reshape(shape) ^ 0x8000).astype(np.uint16, copy=False)

    count = whole + (rest > GAP)  # with the one that the end of the file cuts
    times = FrameTimes.constant(options.fps or fps, count)
    values = Values(np.dtype(np.int16), 16)
    return IndexedSource(
        image,
        count,
        str(path),
        release=file.close,
        clock=options.clock,
        times=times,
        shape=shape,
        window=None if options.window is None else values.levels(*options.window),
    )


def parse_mkt_header(header: bytes, name: str) -> tuple[float, tuple[int, int]]:
    """Frames a second and (H, W). Raises SourceError where they are not those of a recording."""
    if len(header) < HEADER:
        raise SourceError(f"{name} has {len(header)} bytes, less than the {HEADER} of a Cellvizio header")
    fps, size = struct.unpack_from(_RATE_AND_SIZE, header)
    if not (math.isfinite(fps) and _MIN_FPS <= fps <= _MAX_FPS):
        raise SourceError(
            f"{name} is no Cellvizio recording: frame rate {fps:g}, not in {_MIN_FPS:g} to {_MAX_FPS:g}"
        )
    width = _EVEN_WIDTH if size % (4 * _EVEN_WIDTH) == 0 else _WIDTH
    height, rest = divmod(size, 2 * width)
    if rest or not 0 < height <= _MAX_HEIGHT:
        raise SourceError(
            f"{name} is no Cellvizio recording: frames of {size} bytes, not rows of 576 or 512 pixels of 2 bytes"
        )
    if problem := size_problem((height, width)):
        raise SourceError(f"{name}: {problem}")
    return fps, (height, width)
