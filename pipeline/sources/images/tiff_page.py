"""One page of a TIFF file as a gray image."""

from __future__ import annotations

import lzma
import math
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from tifffile import COMPRESSION, PHOTOMETRIC

from clesr.engines.common.errors import MissingDependencyError
from clesr.engines.common.limits import size_problem
from clesr.pipeline.frame import Image
from clesr.pipeline.sources.images.embedded import stated_shape
from clesr.pipeline.sources.images.gray import Values, from_cmyk, luma_of_colour, turned, unsigned
from clesr.pipeline.sources.images.tiff_file import page_orientation
from clesr.pipeline.sources.images.unreadable import UnreadableImage

# Each strip or tile unpacks into memory for its pixels, or fails.
_PACKED = {
    COMPRESSION.CCITTRLE, COMPRESSION.CCITT_T4, COMPRESSION.CCITT_T6, COMPRESSION.LZW, COMPRESSION.PACKBITS,
    COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE, COMPRESSION.LZMA, COMPRESSION.ZSTD, COMPRESSION.ZSTD_DEPRECATED,
}  # fmt: skip
# Each strip or tile is an image file of its own, which states a size of its own.
_FILES = {
    COMPRESSION.JPEG, COMPRESSION.APERIO_JP2000_YCBC, COMPRESSION.APERIO_JP2000_RGB, COMPRESSION.JPEG2000,
    COMPRESSION.JPEG_2000_LOSSY, COMPRESSION.JPEGXR, COMPRESSION.JPEGXR_NDPI, COMPRESSION.PNG, COMPRESSION.WEBP,
    COMPRESSION.LERC, COMPRESSION.JPEGXL, COMPRESSION.JPEGXL_DNG,
}  # fmt: skip
_COLOUR = {PHOTOMETRIC.RGB, PHOTOMETRIC.SEPARATED, PHOTOMETRIC.PALETTE, PHOTOMETRIC.YCBCR}
_GRAY_FIRST = {PHOTOMETRIC.CIELAB, PHOTOMETRIC.ICCLAB, PHOTOMETRIC.ITULAB}
_ALPHA = (1, 2)  # of ExtraSamples
_LZMA_MEMORY = 1 << 28


def channels_of(page: Any) -> int:
    """How many gray images lie in the samples of ``page``: one of colour, or of gray with its alpha."""
    if page.photometric in _COLOUR or page.photometric in _GRAY_FIRST or page.samplesperpixel == 1:
        return 1
    extra = tuple(page.extrasamples or ())
    return int(page.samplesperpixel) - sum(kind in _ALPHA for kind in extra)


def values_of(page: Any, window: tuple[float, float] | None) -> Values:
    """What the numbers of ``page`` mean."""
    bits = page.bitspersample
    inverted = page.photometric == PHOTOMETRIC.MINISWHITE
    return Values(page.dtype, bits if isinstance(bits, int) else 8 * page.dtype.itemsize, inverted, window)


def read_page(
    page: Any, stored: int, *, sample: int, window: tuple[float, float] | None, lying: int = 1
) -> Image:
    """(H, W) of ``page`` of a file of ``stored`` bytes; ``sample`` is taken of one that has several gray ones, and it
    lies as it says itself, else as ``lying``. Raises UnreadableImage and whatever tifffile meets."""
    check_page(page, stored)
    pixels = page.asarray()
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and page.samplesperpixel > 1:
        pixels = np.moveaxis(pixels, 0, -1)
    return turned(image_of(pixels, page, sample=sample, window=window), page_orientation(page, lying))


def check_decoders(page: Any, name: str) -> None:
    """Raises MissingDependencyError where ``page`` cannot be unpacked because imagecodecs is not installed."""
    packed = page.compression != COMPRESSION.NONE or page.fillorder == 2
    if packed or page.bitspersample not in (1, 8, 16, 32, 64):
        try:
            import imagecodecs  # noqa: F401
        except ImportError as error:
            kind = getattr(page.compression, "name", page.compression)
            raise MissingDependencyError(
                f"{name} is packed ({kind}, {page.bitspersample} bit), which needs imagecodecs; run: "
                "pip install imagecodecs"
            ) from error


def check_page(page: Any, stored: int) -> None:
    """Raises UnreadableImage where a page would take more memory than is allowed, as a whole or by a strip or tile, or
    has parts that nobody wrote."""
    if page.compression != COMPRESSION.NONE and page.compression not in _PACKED | _FILES:
        raise UnreadableImage(
            f"its compression {page.compression!r} is not read; save it uncompressed or with deflate"
        )
    if page.imagedepth != 1 or page.dtype is None:
        raise UnreadableImage("it is a volume or has no pixels; save its planes as pages")
    sample = page.samplesperpixel * page.dtype.itemsize
    shapes = [(page.imagelength, page.imagewidth)]
    if page.is_tiled:
        shapes.append((page.tilelength, page.tilewidth))
    for shape in shapes:
        if problem := size_problem(shape, decoded=math.prod(shape) * sample, stored=stored):
            raise UnreadableImage(problem)
    if sum(page.databytecounts) > stored + math.prod(shapes[0]) * sample:
        raise UnreadableImage("its strips or tiles lie over one another")
    if math.prod(page.chunked) > max(len(page.dataoffsets), page.imagelength):
        raise UnreadableImage("it states more tiles than it has")
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if len(segments) < math.prod(page.chunked) or not all(offset and count for offset, count in segments):
        raise UnreadableImage("parts of it were never written")
    if page.compression in _FILES or page.compression == COMPRESSION.LZMA:
        _check_segments(page, segments)


def _check_segments(page: Any, segments: list[tuple[int, int]]) -> None:
    """Raises UnreadableImage where a strip or tile states more than it may take."""
    file = page.parent.filehandle
    size = math.prod(page.chunks) * page.dtype.itemsize
    for offset, count in segments:
        file.seek(offset)
        data = file.read(count)
        if page.compression == COMPRESSION.LZMA:
            _check_lzma(data, size)
        elif data:
            shape = stated_shape(data)
            most = (
                (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
            )
            if problem := size_problem(shape):
                raise UnreadableImage(problem)
            if math.prod(shape) > 4 * math.prod(most) + 4096:
                raise UnreadableImage(
                    f"a part of it states {shape[1]}x{shape[0]} pixels, more than it is to have"
                )


def _check_lzma(data: bytes, size: int) -> None:
    """A stream of LZMA may ask for a dictionary of gigabytes."""
    unpacker = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)
    if len(unpacker.decompress(data, size + 1)) > size:
        raise UnreadableImage(f"a part of it unpacks to more than the {size} bytes of its pixels")


def image_of(
    pixels: NDArray[Any], page: Any, *, sample: int = 0, window: tuple[float, float] | None = None
) -> Image:
    """(H, W) of the ``pixels`` of ``page``, (H, W) or (H, W, samples), as they lie in it. Raises UnreadableImage."""
    kind = page.photometric
    if kind == PHOTOMETRIC.PALETTE and page.colormap is not None:
        return _of_palette(pixels, page.colormap)
    if pixels.ndim == 2:
        return values_of(page, window).image(pixels)
    if pixels.ndim != 3:
        raise UnreadableImage(f"its pixels have the form {pixels.shape}, not that of an image")
    if kind == PHOTOMETRIC.SEPARATED and pixels.shape[2] >= 4:
        return luma_of_colour(from_cmyk(unsigned(pixels)), blue_first=False)
    if kind in (PHOTOMETRIC.RGB, PHOTOMETRIC.SEPARATED, PHOTOMETRIC.YCBCR) and pixels.shape[2] >= 3:
        return _of_colour(pixels, page, window)
    return values_of(page, window).image(pixels[..., min(sample, pixels.shape[2] - 1)])


def _of_colour(pixels: NDArray[Any], page: Any, window: tuple[float, float] | None) -> Image:
    if page.photometric == PHOTOMETRIC.YCBCR and page.compression not in _FILES:
        return values_of(page, window).image(pixels[..., 0])  # Y is gray
    values = values_of(page, window)
    planes = np.stack([values.image(pixels[..., sample]) for sample in range(3)], -1)
    image = luma_of_colour(planes, blue_first=False)
    return np.invert(image) if page.photometric == PHOTOMETRIC.SEPARATED else image


def _of_palette(pixels: NDArray[Any], colormap: NDArray[Any]) -> Image:
    colours = np.moveaxis(colormap, 0, -1)  # 16 bit in the file, whatever the image's depth is
    if colours.max(initial=0) < 256:  # by writers that took it for 8 bit
        colours = colours * np.uint16(257)
    if pixels.dtype.kind not in "ub" or pixels.ndim != 2:
        raise UnreadableImage(f"its palette has {pixels.dtype} pixels of the form {pixels.shape}")
    if int(pixels.max(initial=0)) >= len(colours):
        raise UnreadableImage(f"its palette has {len(colours)} colours, and its pixels want more")
    colours = (colours >> 8).astype(np.uint8) if pixels.dtype.itemsize == 1 else colours
    return luma_of_colour(colours[pixels.astype(np.intp)], blue_first=False)
