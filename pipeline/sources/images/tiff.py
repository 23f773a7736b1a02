"""TIFF stacks: their pages, and the planes that one page describes."""

from __future__ import annotations

import contextlib
import logging
import lzma
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from clesr.engines.common.errors import SourceError
from clesr.engines.common.limits import size_problem
from clesr.engines.common.parsing import one_line
from clesr.pipeline.frame import Image
from clesr.pipeline.sources.images.files import quiet_opencv
from clesr.pipeline.sources.images.header import jpeg_shape
from clesr.pipeline.sources.images.indexed import IndexedSource, UnreadableImage, gray
from clesr.pipeline.sources.registry import DEFAULTS, SourceOptions

MOST_PAGES = 1_000_000
_LEAST_PAGE = 64  # bytes of a page that has what it must have
# tifffile raises whatever its code meets in a damaged file, so every Exception is taken for damage where it is
# called. It logs the same as well, which is silenced: the source reports it.
logging.getLogger("tifffile").addHandler(logging.NullHandler())
_NONE, _CCITT, _LZW, _JPEG, _PACKBITS = 1, (2, 3, 4), 5, 7, 32773
_DEFLATE, _LZMA = (8, 32946), 34925
_COMPRESSIONS = (_NONE, *_CCITT, _LZW, _JPEG, _PACKBITS, *_DEFLATE, _LZMA)
_INFLATED_AT_ONCE = 1 << 20
# Kinds of files whose descriptions tifffile does not read: they name other files, which it would open, and sizes, for
# which it would take memory. Their pages are read all the same.
_UNREAD = (
    "avs", "bif", "eer", "fluoview", "indica", "mdgel", "mmstack", "ndpi", "ndtiff", "nih", "ome", "philips", "qpi",
    "scanimage", "scn", "sis", "svs",
)  # fmt: skip


def open_tiff(path: str | Path, options: SourceOptions = DEFAULTS) -> IndexedSource:
    """The pages of a TIFF file, one at a time: 8 or 16 bit, gray or colour (luma); one-page ImageJ stacks too.

    Signed integers get half their range added. ``info.fps`` comes from ImageJ's metadata where they have it.
    A page that cannot be read is Corrupt. Raises SourceError where the file is no TIFF stack of this kind.
    """
    path = Path(path)
    tiff = open_file(path)
    try:
        planes = planes_of_one_page(tiff)
        pages = PlaneStack(tiff, planes, path) if planes > 1 else TiffPages(tiff, path)
        return IndexedSource(
            pages.image,
            len(pages),
            str(path),
            release=tiff.close,
            clock=options.clock,
            fps=imagej_fps(tiff),
            shape=pages.shape,
        )
    except Exception as error:
        tiff.close()
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{path} is damaged: no page can be read ({one_line(error)})") from error


def open_file(path: Path) -> tifffile.TiffFile:
    """Raises SourceError where ``path`` is no TIFF file."""
    try:
        unread: dict[str, Any] = {f"is_{kind}": False for kind in _UNREAD}
        return tifffile.TiffFile(path, _multifile=False, **unread)
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file; check the path") from error
    except Exception as error:
        raise SourceError(f"{path} is not a TIFF file that can be read ({one_line(error)})") from error


def first_page(path: Path) -> Image:
    """The first image of a TIFF file. Raises UnreadableImage."""
    try:
        with open_file(path) as tiff:
            return TiffPages(tiff, path, most=1).image(0)
    except SourceError as error:
        raise UnreadableImage(str(error)) from error
    except UnreadableImage as error:
        raise UnreadableImage(f"{path}: {error}") from error
    except Exception as error:
        raise UnreadableImage(f"{path} is damaged ({one_line(error)})") from error


class TiffPages:
    """The full-size pages of an open TIFF file."""

    def __init__(self, tiff: tifffile.TiffFile, path: Path, *, most: int = MOST_PAGES) -> None:
        self._tiff, self._path = tiff, path
        self._indices, self._cut = _page_list(tiff, most)
        if not self._indices:
            raise SourceError(f"{path} has no image in it")
        page = _page(tiff, self._indices[0])
        _check_dtype(page.dtype, path)
        shape = (page.imagelength, page.imagewidth)
        problem = size_problem(shape)
        if problem is not None and len(self) == 1:
            raise SourceError(f"{path}: {problem}")
        self.shape: tuple[int, int] | None = None if problem else shape

    def __len__(self) -> int:
        return len(self._indices) + self._cut

    def image(self, index: int) -> Image:
        if index >= len(self._indices):
            raise UnreadableImage("the file ends early: its list of pages is cut")
        number = self._indices[index]
        try:
            return self._decoded(number)
        except Exception as error:
            raise UnreadableImage(f"page {number} cannot be read ({one_line(error)})") from error

    def _decoded(self, number: int) -> Image:
        page = _page(self._tiff, number)
        _check_page(page, self._path.stat().st_size)
        try:
            pixels = page.asarray()
        except ValueError as error:  # a compression that tifffile leaves to an optional package
            if "imagecodecs" not in str(error):
                raise
            with quiet_opencv():
                ok, pages = cv2.imreadmulti(str(self._path), number, 1, flags=cv2.IMREAD_UNCHANGED)
            if not ok:
                raise UnreadableImage(page.compression.name) from error
            return gray(pages[0], blue_first=True)
        if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and page.samplesperpixel > 1:
            pixels = np.moveaxis(pixels, 0, -1)
        return _photometric(pixels, page)


class PlaneStack:
    """Planes that one page describes: ImageJ's large stacks, and stacks whose end is cut. What the file cannot hold of
    ``stated`` planes is one image that cannot be read."""

    def __init__(self, tiff: tifffile.TiffFile, stated: int, path: Path) -> None:
        page = self._page = _page(tiff, 0)
        _check_dtype(page.dtype, path)
        self.shape: tuple[int, int] = (page.imagelength, page.imagewidth)
        if problem := size_problem(self.shape):
            raise SourceError(f"{path}: {problem}")
        self._tiff, self._start = tiff, page.dataoffsets[0]
        self._dtype = page.dtype.newbyteorder(tiff.byteorder)
        self._bytes: int = math.prod(self.shape) * self._dtype.itemsize
        self._stated = stated
        self._whole: int = min(stated, max(0, path.stat().st_size - self._start) // self._bytes)

    def __len__(self) -> int:
        return self._whole + (self._whole < self._stated)

    def image(self, index: int) -> Image:
        if index >= self._whole:
            raise UnreadableImage(
                f"the file ends before the end of image {index}: {self._whole} of the {self._stated} images that it "
                f"states are there"
            )
        self._tiff.filehandle.seek(self._start + index * self._bytes)
        data = self._tiff.filehandle.read(self._bytes)
        if len(data) < self._bytes:
            raise UnreadableImage(f"the file ends before the end of image {index}")
        return _photometric(np.frombuffer(data, self._dtype).reshape(self.shape), self._page)


def planes_of_one_page(tiff: tifffile.TiffFile) -> int:
    """How many gray images follow each other where one page describes them all; 1 for other files."""
    page = _page(tiff, 0)
    if page.samplesperpixel != 1 or not page.is_contiguous:
        return 1
    with contextlib.suppress(IndexError):
        _page(tiff, 1)
        return 1
    pixels = math.prod(tiff.series[0].shape) // (page.imagelength * page.imagewidth) if tiff.series else 1
    stated = (tiff.imagej_metadata or {}).get("images", 1)
    return max(pixels, stated if isinstance(stated, int) else 1)


def imagej_fps(tiff: tifffile.TiffFile) -> float | None:
    """Frames a second by ImageJ's metadata, None where they have none."""
    try:
        metadata = tiff.imagej_metadata or {}
    except Exception:  # noqa: BLE001
        return None
    rate, interval = metadata.get("fps"), metadata.get("finterval")
    if not rate and isinstance(interval, int | float) and interval > 0:
        rate = 1 / interval
    return float(rate) if isinstance(rate, int | float) and 0.001 <= rate <= 1000 else None


def _page(tiff: tifffile.TiffFile, number: int) -> Any:
    return tiff.pages[number]


def _page_list(tiff: tifffile.TiffFile, most: int) -> tuple[list[int], bool]:
    """Indices of the first ``most`` full-size pages, and whether the chain of pages breaks off."""
    indices: list[int] = []
    page, number = None, 0
    begun: set[int] = set()
    possible = tiff.filehandle.size // _LEAST_PAGE + 1
    while len(indices) < most:
        try:
            page = _page(tiff, number)
        except IndexError:
            return indices, page is not None and _chain_is_cut(tiff, page)
        except Exception:  # noqa: BLE001
            return indices, True
        if page.offset in begun or number > possible:  # a chain that leads back, or whose links overlap
            return indices, True
        begun.add(page.offset)
        if not page.is_reduced:
            indices.append(number)
        number += 1
    return indices, False


def _chain_is_cut(tiff: tifffile.TiffFile, page: Any) -> bool:
    """Whether the last ``page`` that can be read says that another follows."""
    form, file = tiff.tiff, tiff.filehandle
    file.seek(page.offset)
    (tags,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    file.seek(page.offset + form.tagnosize + tags * form.tagsize)
    after = file.read(form.offsetsize)
    return len(after) < form.offsetsize or struct.unpack(form.offsetformat, after)[0] != 0


def _check_dtype(dtype: np.dtype[Any] | None, path: Path) -> None:
    if dtype is None or dtype.kind not in "uib" or dtype.itemsize > 2:
        raise SourceError(f"{path} has {dtype} pixels; convert them to 8 or 16 bit integers first")


def _check_page(page: Any, stored: int) -> None:
    """Raises UnreadableImage where a page would take more memory than is allowed: as a whole, or by a strip or tile."""
    if page.compression not in _COMPRESSIONS:
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
    if page.compression != _NONE:
        _check_segments(page, math.prod(page.chunks) * page.dtype.itemsize)


def _check_segments(page: Any, size: int) -> None:
    """Raises UnreadableImage where a strip or tile unpacks to more than its ``size`` in bytes."""
    file = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        file.seek(offset)
        data = file.read(count) if page.compression in (*_DEFLATE, _LZMA, _JPEG) else b""
        if page.compression == _JPEG:
            if data and (problem := size_problem(jpeg_shape(data))):
                raise UnreadableImage(problem)
        elif data and not _unpacks_to(data, size, page.compression):
            raise UnreadableImage(f"a part of it unpacks to more than the {size} bytes of its pixels")


def _unpacks_to(data: bytes, size: int, compression: int) -> bool:
    """Whether ``data`` unpacks to at most ``size`` bytes, and a remainder of a thousandth."""
    unpacker = lzma.LZMADecompressor(memlimit=1 << 28) if compression == _LZMA else zlib.decompressobj()
    left = size + size // 1000 + 64
    while left >= 0 and not unpacker.eof:
        part = unpacker.decompress(data, _INFLATED_AT_ONCE)
        data = unpacker.unconsumed_tail if hasattr(unpacker, "unconsumed_tail") else b""
        left -= len(part)
        if not part and not data:
            break
    return left >= 0


def _photometric(pixels: NDArray[Any], page: Any) -> Image:
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
        colours = np.moveaxis(page.colormap, 0, -1)  # 16 bit in the file, whatever the image's depth is
        colours = (colours >> 8).astype(np.uint8) if pixels.dtype.itemsize == 1 else colours
        return gray(colours[pixels], blue_first=False)
    image = gray(pixels, blue_first=False)
    depth = page.bitspersample
    if image.dtype == np.uint16 and 8 < depth < 16:
        image = (image << (16 - depth)).astype(np.uint16)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        image = np.invert(image)
    return image
