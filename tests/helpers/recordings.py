"""Writes the recordings that the tests of sources read."""

from __future__ import annotations

import multiprocessing
import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from waits import joined

from clesr.engines.common.errors import EndOfSource
from clesr.pipeline.frame import Corrupt, Frame, Image
from clesr.pipeline.source import Source

MS = Fraction(1, 1000)


def read_all(source: Source) -> tuple[list[Frame], list[Corrupt]]:
    """Everything to the end of ``source``, which is then closed."""
    frames: list[Frame] = []
    corrupt: list[Corrupt] = []
    try:
        while True:
            item = source.read(timeout=5)
            if isinstance(item, Frame):
                frames.append(item)
            elif isinstance(item, Corrupt):
                corrupt.append(item)
    except EndOfSource:
        return frames, corrupt
    finally:
        source.close()


def noise(
    count: int, shape: tuple[int, int], dtype: type[np.generic] = np.uint8, seed: int = 0
) -> list[Image]:
    """Independent random images over the full range."""
    info = np.iinfo(dtype)  # type: ignore[type-var]
    rng = np.random.default_rng(seed)
    return [rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True) for _ in range(count)]


def drifting(count: int, shape: tuple[int, int] = (96, 128), seed: int = 0) -> list[Image]:
    """A smooth scene that moves by a pixel a frame: what video codecs are made for."""
    rng = np.random.default_rng(seed)
    scene = cv2.GaussianBlur(rng.random((shape[0] + count, shape[1] + count)), (0, 0), 2)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return [np.ascontiguousarray(scene[i : i + shape[0], i : i + shape[1]]) for i in range(count)]


GREEDY = ("libsvtav1",)  # run by root it gives its whole process real-time priority


def write_video(
    path: Path,
    images: Sequence[NDArray[Any]],
    *,
    codec: str = "ffv1",
    pixel_format: str | None = None,
    fps: int = 25,
    times_ms: Sequence[int] | None = None,
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
) -> None:
    """Encode gray ``images``, as gray8 or gray16le where no pixel format is given."""
    if codec in GREEDY and multiprocessing.parent_process() is None:
        arguments = {"codec": codec, "pixel_format": pixel_format, "fps": fps, "options": options}
        context = multiprocessing.get_context("spawn")
        apart = context.Process(target=write_video, args=(path, images), kwargs=arguments)
        apart.start()
        joined(apart)
        assert apart.exitcode == 0
        return
    own = "gray" if images[0].dtype == np.uint8 else "gray16le"
    pixel_format = pixel_format or own
    with av.open(path, "w", options=dict(container_options or {})) as container:
        stream = container.add_stream(codec, rate=fps, options=dict(options or {}))
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = images[0].shape
        stream.pix_fmt = pixel_format
        stream.bit_rate = 8_000_000
        tick = MS if times_ms is not None else Fraction(1, fps)
        stream.codec_context.time_base = tick
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format=own)
            if pixel_format != own:
                frame = frame.reformat(format=pixel_format)
            frame.pts = times_ms[index] if times_ms is not None else index
            frame.time_base = tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def mkt_bytes(images: Sequence[NDArray[np.int16]], fps: float) -> bytes:
    """A Cellvizio recording, by the layout in the design."""
    header = bytearray(16)
    struct.pack_into(">f", header, 5, fps)
    struct.pack_into(">i", header, 10, images[0].nbytes)
    return bytes(header) + b"".join(image.astype("<i2").tobytes() + b"\xaa" * 32 for image in images)
