"""Luma of decoded pictures, over the full range of their dtype."""

from __future__ import annotations

import re
from functools import cache

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.pipeline.frame import Image

_MPEG_RANGE, _JPEG_RANGE = 1, 2  # AVCOL_RANGE_MPEG: limited range, AVCOL_RANGE_JPEG: full
_LUMA_PLANE = re.compile(
    r"gray(9|10|12|14|16)?(le|be)?|yuv[aj]?4[0-4]{2}p(9|10|12|14|16)?(le|be)?|nv(12|21|16|24|42|20le|20be)"
)
_TOP_ALIGNED = re.compile(r"p[024]1[026](le|be)")
_PACKED = {"yuyv422": 0, "yvyu422": 0, "uyvy422": 1, "ya8": 0}  # 2 bytes a pixel: where luma is


def luma(frame: av.VideoFrame, levels: str = "auto") -> Image:
    """(H, W) luma of ``frame`` in memory of its own: uint8 of up to 8 bits a sample, else uint16.

    Limited-range YUV (16 to 235 in 8 bits, ITU-R BT.601 and BT.709) is expanded to the full range, full-range
    YUV and gray are taken as they are; gray counts as full-range whatever its tag, as in FFmpeg. RGB becomes
    BT.601 luma. Samples of 9 to 15 bits are shifted to the top, so that gray passes without loss. ``levels`` takes
    YUV and gray for ``full`` or ``limited`` range, whatever is said of them.
    """
    name, bits = frame.format.name, max(component.bits for component in frame.format.components)
    if frame.planes[0].line_size < 0:  # stored bottom-up: the buffer begins at the last row
        return _converted(frame, bits, levels)
    top_aligned = _TOP_ALIGNED.fullmatch(name) is not None
    if top_aligned or _LUMA_PLANE.fullmatch(name):
        return _expanded(_plane(frame, bits), bits, limited=_limited(frame, levels), top_aligned=top_aligned)
    if name in _PACKED:
        samples = _plane(frame, 8, width=2 * frame.width)[:, _PACKED[name] :: 2]
        return _expanded(samples, 8, limited=_limited(frame, levels), top_aligned=False)
    return _converted(frame, bits, levels)


def fetched_luma(frame: av.VideoFrame, software: str, levels: str = "auto") -> Image:
    """Luma of a picture that a graphics card decoded and that was fetched from it, bit for bit as ``luma`` of the same
    picture in pixel format ``software``, that of FFmpeg's own decoder (gray or 4:2:0).

    Raises ValueError for another form than cards give: nv12 for 8 bits, p010 to p016 for more.
    """
    bits = av.VideoFormat(software).components[0].bits
    name = frame.format.name
    if not (name == "nv12" if bits <= 8 else _TOP_ALIGNED.fullmatch(name)):
        raise ValueError(f"it gives {name} pictures for {software}")
    limited = _limited(frame, levels, software)
    return _expanded(_plane(frame, 8 if bits <= 8 else 16), bits, limited=limited, top_aligned=bits > 8)


def _limited(frame: av.VideoFrame, levels: str, name: str = "") -> bool:
    if levels != "auto":
        return levels == "limited"
    name = name or frame.format.name
    return not name.startswith(("gray", "ya", "yuvj")) and frame.color_range != _JPEG_RANGE


def _plane(frame: av.VideoFrame, bits: int, *, width: int | None = None) -> Image:
    """A view of the first plane's samples."""
    plane = frame.planes[0]
    dtype = np.dtype(np.uint8 if bits <= 8 else ">u2" if frame.format.is_big_endian else "<u2")
    size = plane.line_size * frame.height
    rows = np.frombuffer(memoryview(plane), np.uint8, count=size).reshape(frame.height, -1)
    samples: Image = rows[:, : (width or frame.width) * dtype.itemsize].view(dtype)
    return samples


def _expanded(samples: Image, bits: int, *, limited: bool, top_aligned: bool) -> Image:
    if bits <= 8:
        return _owned(cv2.LUT(samples, _table(8))) if limited else _owned(samples)
    shift = 16 - bits
    if limited:
        index = samples >> shift if top_aligned else samples
        return _owned(np.take(_table(bits), index, mode="clip"))
    return _owned(samples if top_aligned or not shift else samples << shift)


def full_range(image: Image, bits: int = 8) -> Image:
    """``image``, whose samples of ``bits`` in limited range stand at the top of its dtype, over the full range."""
    return _expanded(image, bits, limited=True, top_aligned=bits > 8)


@cache
def _table(bits: int) -> Image:
    """Limited range to full range for samples of ``bits``; the result is shifted to the top of its dtype."""
    container = 8 if bits <= 8 else 16
    code = np.arange(1 << bits, dtype=np.float64)
    level = (code / (1 << (bits - 8)) - 16) / 219
    full = np.rint(np.clip(level, 0, 1) * (((1 << bits) - 1) << (container - bits)))
    return full.astype(np.uint8) if container == 8 else full.astype(np.uint16)


def _converted(frame: av.VideoFrame, bits: int, levels: str) -> Image:
    """By FFmpeg's own converter: the formats that are neither planar luma nor simply packed."""
    form = frame.format
    if form.is_rgb or form.has_palette:
        image = frame.reformat(format="rgb24" if bits <= 8 else "rgb48le").to_ndarray()
        return _owned(cv2.cvtColor(_owned(image), cv2.COLOR_RGB2GRAY))
    if levels != "auto":
        frame.color_range = _JPEG_RANGE if levels == "full" else _MPEG_RANGE
    image = frame.reformat(format="gray" if bits <= 8 else "gray16le").to_ndarray()
    if levels == "limited" and form.name.startswith(("gray", "ya")):  # which FFmpeg takes for full range
        return _expanded(_owned(image), 8 if bits <= 8 else 16, limited=True, top_aligned=False)
    return _owned(image)


def _owned(image: NDArray[np.generic]) -> Image:
    """C-contiguous, native byte order, and never a view of memory that FFmpeg owns."""
    dtype = np.uint8 if image.dtype.itemsize == 1 else np.uint16
    return np.array(image, dtype=dtype, order="C", copy=image.base is not None or None)
