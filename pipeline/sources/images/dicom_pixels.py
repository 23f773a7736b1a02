"""Compressed frames of DICOM objects (PS3.5, annexes A.4 and G), unpacked by imagecodecs."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID, RLELossless

from clesr.engines.common.errors import MissingDependencyError, SourceError, told_as
from clesr.pipeline.sources.images.dicom_colour import jpeg2000_luma_first, jpeg_colour
from clesr.pipeline.sources.images.embedded import stated_shape
from clesr.pipeline.sources.images.unreadable import UnreadableImage

_JPEG = "1.2.840.10008.1.2.4."
# By the last number of the transfer syntax: the function of imagecodecs.
_DECODERS = {
    **dict.fromkeys(("50", "51", "57", "70"), "jpeg_decode"),
    **dict.fromkeys(("80", "81"), "jpegls_decode"),
    **dict.fromkeys(("90", "91", "92", "93", "201", "202", "203"), "jpeg2k_decode"),
    **dict.fromkeys(("110", "111", "112"), "jpegxl_decode"),
}
_VIDEO = {str(number) for number in range(100, 109)}


def is_video(syntax: UID) -> bool:
    """Whether ``syntax`` is one of MPEG-2, H.264 or HEVC."""
    return str(syntax).startswith(_JPEG) and str(syntax).removeprefix(_JPEG).partition(".")[0] in _VIDEO


def check_syntax(syntax: UID, name: str) -> None:
    """Raises SourceError where frames stored as ``syntax`` says are not read, MissingDependencyError where what unpacks
    them is not installed."""
    if not syntax.is_compressed or syntax.is_deflated:
        return
    if syntax == RLELossless:
        _decoder("packbits_decode", name)
        return
    kind = str(syntax).removeprefix(_JPEG)
    if is_video(syntax):
        raise SourceError(
            f"{name} holds a video ({syntax.name}), which is not read in a folder; give the file itself"
        )
    if kind not in _DECODERS:
        raise SourceError(
            f"{name} is compressed in a way that is not read ({syntax.name}); save it uncompressed"
        )
    _decoder(_DECODERS[kind], name)


def _decoder(function: str, name: str) -> Callable[..., Any]:
    needed = f"{name} is compressed, which needs imagecodecs; run: pip install imagecodecs"
    with told_as(MissingDependencyError, needed, ImportError):
        import imagecodecs
    found: Callable[..., Any] = getattr(imagecodecs, function)
    return found


class StoredFrame(NamedTuple):
    """``pixels`` (H, W) or (H, W, samples); of colour is the first sample its luma where ``luma_first`` says so, else
    it is RGB."""

    pixels: NDArray[Any]
    luma_first: bool


def decode_frame(
    data: bytes, syntax: UID, shape: tuple[int, int], samples: int, allocated: int, kind: str
) -> StoredFrame:
    """A compressed frame that must have ``shape``, of the photometric interpretation ``kind``. Raises UnreadableImage
    and what decoders raise."""
    luma_first = kind.startswith("YBR")
    if syntax == RLELossless:
        return StoredFrame(_rle(data, shape, samples, allocated // 8), luma_first)
    stated = stated_shape(data)
    if stated != shape:
        raise UnreadableImage(f"it states {stated[1]}x{stated[0]} pixels in place of {shape[1]}x{shape[0]}")
    function = _DECODERS[str(syntax).removeprefix(_JPEG)]
    decode = _decoder(function, "the frame")
    if function == "jpeg_decode":
        return _jpeg(decode, data, kind)
    if function == "jpeg2k_decode":
        luma_first = jpeg2000_luma_first(data, kind)
    elif function == "jpegxl_decode":
        luma_first = False
    return StoredFrame(np.asarray(decode(data)), luma_first)


def _jpeg(decode: Callable[..., Any], data: bytes, kind: str) -> StoredFrame:
    """The samples as they are coded: what they are is said outside of the stream, where that does not."""
    samples, luma_first = jpeg_colour(data, kind)
    if samples != 3:
        return StoredFrame(np.asarray(decode(data)), luma_first=False)
    space = "YCBCR" if luma_first else "RGB"
    return StoredFrame(np.asarray(decode(data, colorspace=space, outcolorspace=space)), luma_first)


def _rle(data: bytes, shape: tuple[int, int], samples: int, size: int) -> NDArray[Any]:
    """Segments of bytes, the most significant ones of each sample first (PS3.5, annex G)."""
    count, *offsets = struct.unpack_from("<16I", data)
    if count != samples * size or size not in (1, 2, 4):
        raise UnreadableImage(f"it has {count} segments of bytes in place of {samples * size}")
    pixels = shape[0] * shape[1]
    ends = [*offsets[1:count], len(data)]
    planes = [_unpacked(data[at:end], pixels) for at, end in zip(offsets[:count], ends, strict=True)]
    stacked = np.stack(planes).reshape(samples, size, pixels)
    numbers = np.ascontiguousarray(stacked.transpose(0, 2, 1)).view(f">u{size}").reshape(samples, *shape)
    image = numbers.astype(f"u{size}")
    return image[0] if samples == 1 else np.moveaxis(image, 0, -1)


def _unpacked(data: bytes, count: int) -> NDArray[np.uint8]:
    """``count`` bytes of PackBits."""
    made = _decoder("packbits_decode", "the frame")(data, out=count)
    if len(made) < count:
        raise UnreadableImage(f"it is cut: {len(made)} of {count} bytes of a segment are there")
    return np.frombuffer(made, np.uint8, count)
