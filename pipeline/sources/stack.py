"""TIFF stacks and folders of images."""

from __future__ import annotations

import logging
import math
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from clesr.pipeline.clock import SYSTEM, Clock
from clesr.pipeline.errors import SourceError
from clesr.pipeline.frame import Image
from clesr.pipeline.sources import IMAGE_SUFFIXES
from clesr.pipeline.sources.indexed import IndexedSource, Unreadable
from clesr.pipeline.sources.luma import gray_of_colour

# What tifffile raises for damaged files. It logs the same as well, which is silenced: the source reports it.
_TIFF_ERRORS = (
    tifffile.TiffFileError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    RuntimeError,
    OSError,
    struct.error,
    zlib.error,
)
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def open_tiff(path: str | Path, *, clock: Clock = SYSTEM) -> IndexedSource:
    """The pages of a TIFF file, one at a time: 8 or 16 bit, gray or colour (luma); one-page ImageJ stacks too.

    Signed integers get half their range added. ``info.fps`` comes from ImageJ's metadata where they have it.
    A page that cannot be read is Corrupt. Raises SourceError where the file is no TIFF stack of this kind.
    """
    path = Path(path)
    try:
        tiff = tifffile.TiffFile(path)
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file; check the path") from error
    except _TIFF_ERRORS as error:
        raise SourceError(f"{path} is not a TIFF file that can be read ({_line(error)})") from error
    try:
        planes = _planes_of_one_page(tiff)
        pages = PlaneStack(tiff, planes, path) if planes > 1 else TiffPages(tiff, path)
    except _TIFF_ERRORS as error:
        tiff.close()
        raise SourceError(f"{path} is damaged: no page can be read ({_line(error)})") from error
    except SourceError:
        tiff.close()
        raise
    return IndexedSource(pages, str(path), clock=clock, fps=_imagej_fps(tiff), shape=pages.shape)


def open_images(path: str | Path, *, clock: Clock = SYSTEM) -> IndexedSource:
    """The images of a folder in natural order (``2.png`` before ``10.png``), or one image file.

    8 or 16 bit, gray or colour (luma). A file that cannot be read, or is cut, is Corrupt. Other files are
    passed over. Raises SourceError where there is no image.
    """
    path = Path(path)
    try:
        files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
    except OSError as error:
        raise SourceError(f"{path}: cannot be opened ({error.strerror}); check the path") from error
    files = sorted((file for file in files if file.suffix.lower() in IMAGE_SUFFIXES), key=natural_key)
    if not files:
        raise SourceError(f"{path} has no images; looked for {', '.join(IMAGE_SUFFIXES)}")
    images = ImageFiles(files)
    try:
        shape = images.image(0).shape
    except (Unreadable, OSError) as error:
        if len(files) == 1:
            raise SourceError(f"{error}; check how it was written or copied") from error
        return IndexedSource(images, str(path), clock=clock)
    return IndexedSource(images, str(path), clock=clock, shape=(shape[0], shape[1]))


def natural_key(path: Path) -> list[str | int]:
    """Sorts names as people do: digits by their value, letters whatever their case."""
    parts = re.split(r"([0-9]+)", path.name)
    return [int(part) if index % 2 else part.lower() for index, part in enumerate(parts)]


class TiffPages:
    """The full-size pages of an open TIFF file."""

    def __init__(self, tiff: tifffile.TiffFile, path: Path) -> None:
        self._tiff, self._path = tiff, path
        self._indices, self._cut = _page_list(tiff)
        if not self._indices:
            raise SourceError(f"{path} has no image in it")
        page = _page(tiff, self._indices[0])
        _check_dtype(page.dtype, path)
        self.shape: tuple[int, int] = (page.imagelength, page.imagewidth)

    def __len__(self) -> int:
        return len(self._indices) + self._cut

    def image(self, index: int) -> Image:
        if index >= len(self._indices):
            raise Unreadable("the file ends early: its list of pages is cut")
        number = self._indices[index]
        try:
            return self._decoded(number)
        except _TIFF_ERRORS as error:
            raise Unreadable(f"page {number} cannot be read ({_line(error)})") from error

    def _decoded(self, number: int) -> Image:
        page = _page(self._tiff, number)
        try:
            pixels = page.asarray()
        except ValueError as error:  # a compression that tifffile leaves to an optional package
            if "imagecodecs" not in str(error):
                raise
            with _quiet_opencv():
                flags = cv2.IMREAD_UNCHANGED
                ok, pages = cv2.imreadmulti(str(self._path), start=number, count=1, flags=flags)
            if not ok:
                raise Unreadable(f"page {number} cannot be read ({page.compression.name})") from error
            return _gray(pages[0], blue_first=True)
        if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and page.samplesperpixel > 1:
            pixels = np.moveaxis(pixels, 0, -1)
        return _photometric(pixels, page)

    def close(self) -> None:
        self._tiff.close()


class PlaneStack:
    """Planes that one page describes: ImageJ's large stacks, and stacks whose end is cut."""

    def __init__(self, tiff: tifffile.TiffFile, count: int, path: Path) -> None:
        page = self._page = _page(tiff, 0)
        _check_dtype(page.dtype, path)
        self._tiff, self._count, self._start = tiff, count, page.dataoffsets[0]
        self._dtype = page.dtype.newbyteorder(tiff.byteorder)
        self.shape: tuple[int, int] = (page.imagelength, page.imagewidth)

    def __len__(self) -> int:
        return self._count

    def image(self, index: int) -> Image:
        size = math.prod(self.shape) * self._dtype.itemsize
        self._tiff.filehandle.seek(self._start + index * size)
        data = self._tiff.filehandle.read(size)
        if len(data) < size:
            raise Unreadable(f"the file ends before the end of image {index}")
        return _photometric(np.frombuffer(data, self._dtype).reshape(self.shape), self._page)

    def close(self) -> None:
        self._tiff.close()


class ImageFiles:
    """Image files, read by OpenCV one at a time."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def image(self, index: int) -> Image:
        file = self._files[index]
        data = file.read_bytes()
        if not data:
            raise Unreadable(f"{file} is empty (0 bytes)")
        if _cut(data):
            raise Unreadable(f"{file} is cut: its end is missing")
        with _quiet_opencv():
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise Unreadable(f"{file} is not an image that OpenCV can read")
        return _gray(pixels, blue_first=True)

    def close(self) -> None:
        self._files = ()


def _cut(data: bytes) -> bool:
    """PNG and JPEG whose end is missing: decoders fill the rest and do not tell."""
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data[-64:]
    return data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")


def _page(tiff: tifffile.TiffFile, number: int) -> Any:
    return tiff.pages[number]


def _page_list(tiff: tifffile.TiffFile) -> tuple[list[int], bool]:
    """Indices of the full-size pages, and whether the chain of pages breaks off."""
    indices: list[int] = []
    page, number = None, 0
    while True:
        try:
            page = _page(tiff, number)
        except IndexError:
            return indices, page is not None and _chain_is_cut(tiff, page)
        except _TIFF_ERRORS:
            return indices, True
        if not page.is_reduced:
            indices.append(number)
        number += 1


def _chain_is_cut(tiff: tifffile.TiffFile, page: Any) -> bool:
    """Whether the last ``page`` that can be read says that another follows."""
    form, file = tiff.tiff, tiff.filehandle
    file.seek(page.offset)
    (tags,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    file.seek(page.offset + form.tagnosize + tags * form.tagsize)
    after = file.read(form.offsetsize)
    return len(after) < form.offsetsize or struct.unpack(form.offsetformat, after)[0] != 0


def _planes_of_one_page(tiff: tifffile.TiffFile) -> int:
    """How many gray images follow each other where one page describes them all; 1 for other files."""
    if len(tiff.pages) != 1:
        return 1
    page = _page(tiff, 0)
    if page.samplesperpixel != 1 or not page.is_contiguous:
        return 1
    pixels = math.prod(tiff.series[0].shape) // (page.imagelength * page.imagewidth) if tiff.series else 1
    stated = (tiff.imagej_metadata or {}).get("images", 1)
    return max(pixels, stated if isinstance(stated, int) else 1)


def _check_dtype(dtype: np.dtype[Any] | None, path: Path) -> None:
    if dtype is None or dtype.kind not in "uib" or dtype.itemsize > 2:
        raise SourceError(f"{path} has {dtype} pixels; convert them to 8 or 16 bit integers first")


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """OpenCV tells the terminal of each damaged file; the source reports them itself."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _imagej_fps(tiff: tifffile.TiffFile) -> float | None:
    metadata = tiff.imagej_metadata or {}
    interval = metadata.get("finterval")
    rate = metadata.get("fps") or (
        1 / interval if isinstance(interval, int | float) and interval > 0 else None
    )
    return float(rate) if isinstance(rate, int | float) and 0 < rate <= 1000 else None


def _photometric(pixels: NDArray[Any], page: Any) -> Image:
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
        colours = np.moveaxis(page.colormap, 0, -1)  # 16 bit in the file, whatever the image's depth is
        colours = (colours >> 8).astype(np.uint8) if pixels.dtype.itemsize == 1 else colours
        return _gray(colours[pixels], blue_first=False)
    image = _gray(pixels, blue_first=False)
    depth = page.bitspersample
    if image.dtype == np.uint16 and 8 < depth < 16:
        image = (image << (16 - depth)).astype(np.uint16)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        image = np.invert(image)
    return image


def _gray(pixels: NDArray[Any], *, blue_first: bool) -> Image:
    """(H, W) of what a reader gave: (H, W), (H, W, 1), or (H, W, 3 or 4) colour, alpha left out."""
    if pixels.ndim == 3 and pixels.shape[2] in (1, 2):
        pixels = pixels[..., 0]
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        colour = _unsigned(pixels[..., :3])
        return gray_of_colour(np.ascontiguousarray(colour[..., ::-1]) if blue_first else colour)
    if pixels.ndim != 2:
        raise Unreadable(f"its pixels have the form {pixels.shape}, not that of an image")
    return _unsigned(pixels)


def _unsigned(pixels: NDArray[Any]) -> Image:
    """The same order of values, as uint8 or uint16 over the full range, C-contiguous."""
    if pixels.dtype == np.bool_:
        return np.ascontiguousarray(pixels).astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind not in "ui" or pixels.dtype.itemsize > 2:
        raise Unreadable(f"it has {pixels.dtype} pixels; convert them to 8 or 16 bit integers first")
    bits = 8 * pixels.dtype.itemsize
    unsigned = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))
    image: Image = unsigned.view(np.uint8 if bits == 8 else np.uint16)
    return image ^ image.dtype.type(1 << (bits - 1)) if pixels.dtype.kind == "i" else image


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
