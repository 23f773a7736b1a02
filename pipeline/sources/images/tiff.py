"""TIFF stacks: their pages, the planes that one page describes, and the files that belong together."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from clesr.engines.common.errors import ClesrError, SourceError, on_error
from clesr.engines.common.limits import size_problem
from clesr.engines.common.parsing import one_line
from clesr.pipeline.frame import Image
from clesr.pipeline.sources.images.gray import NEEDS_WINDOW, turned, turned_shape
from clesr.pipeline.sources.images.indexed import IndexedSource, Note, tell, timed
from clesr.pipeline.sources.images.ome import PageOfFile
from clesr.pipeline.sources.images.planes import choose_planes
from clesr.pipeline.sources.images.tiff_axes import find_planes
from clesr.pipeline.sources.images.tiff_file import (
    aspect_stated,
    open_file,
    page_of,
    page_orientation,
    pages_of,
)
from clesr.pipeline.sources.images.tiff_page import (
    channels_of,
    check_decoders,
    image_of,
    read_page,
    values_of,
)
from clesr.pipeline.sources.images.unreadable import UnreadableImage
from clesr.pipeline.sources.registry import DEFAULTS, SourceOptions

OPEN_FILES = 8  # of a stack of many, kept open


def open_tiff(path: str | Path, options: SourceOptions = DEFAULTS) -> IndexedSource:
    """The images of a TIFF file, one at a time: of the channel and plane that ``options`` say, with the times that the
    file states (OME, ImageJ, ScanImage). An OME-TIFF of several files is one stack, whichever of them is given.

    Integers of up to 16 bits, gray or colour (luma); floats and deeper integers with ``options.window``. Signed ones
    get half their range added. A page that cannot be read is Corrupt. Raises SourceError where the file is no TIFF
    stack of this kind, UsageError for a channel or plane that it lacks.
    """
    stack = TiffStack(Path(path), options)
    with on_error(stack.close):
        tell(str(path), stack.notes, options)
        times = timed(stack.times, len(stack), str(path), options)
    return IndexedSource(
        stack.image, len(stack), str(path), release=stack.close, clock=options.clock, times=times,
        shape=stack.shape, window=stack.window, pixel_aspect=stack.pixel_aspect,
    )  # fmt: skip


class TiffStack:
    """The images of a TIFF file, or of the files that its OME-XML names: ``files``. ``shape`` (H, W) is that of the
    first, None where that cannot be read; ``window`` the grey levels that the user's window became,
    ``pixel_aspect`` the width of a pixel over its height, ``notes`` what is to be told."""

    def __init__(self, path: Path, options: SourceOptions) -> None:
        self._path, self._user_window = path, options.window
        self._tiff = open_file(path)
        self._others: OrderedDict[str, tifffile.TiffFile] = OrderedDict()
        try:
            self._open(options)
        except Exception as error:
            self.close()
            if isinstance(error, ClesrError):
                raise
            raise SourceError(f"{path} is damaged: no page can be read ({one_line(error)})") from error

    def _open(self, options: SourceOptions) -> None:
        path, tiff = self._path, self._tiff
        pages = pages_of(tiff)
        if not pages.images:
            raise SourceError(f"{path} has no image in it")
        first = page_of(tiff, pages.images[0])
        self._read: Callable[[PageOfFile], Image] = self._read_page
        numbers: Sequence[int] = pages.images
        self._missing = "the file ends early: its list of pages is cut" if pages.cut else ""
        total, stack = pages.total, None
        if (stated := planes_of_one_page(tiff, pages.total)) > 1:
            stack = _PlaneStack(tiff, first, stated, path, options.window)
            self._read, self._missing = stack.image, stack.missing
            numbers, total = range(stack.whole), stack.whole
        self._lying = page_orientation(first)
        self._check(first, pages.total)
        planes = find_planes(tiff, numbers, total, path, options)
        shown = choose_planes(planes, channels_of(first), options, str(path))
        self._places = [planes.places[position] for position in shown.positions]
        if not self._places and not self._missing:
            raise SourceError(f"{path} has no image of that channel and plane")
        self._sample, self.times = shown.sample, shown.times
        if stack is not None:
            stack.sample = shown.sample
        aspect = planes.pixel_aspect or aspect_stated(first) or Fraction(1)
        self.pixel_aspect = 1 / aspect if self._lying > 4 else aspect  # 5 to 8 are turned by a quarter
        self.notes = planes.notes
        if pages.aside and stated == 1:
            text = f"has {pages.aside} page{'s' * (pages.aside > 1)} of another size or depth, passed over"
            self.notes.append(Note(logging.WARNING, text))
        self.files = {path.name, *(place.file for place in planes.places if place.file)}
        self.window = None if options.window is None else values_of(first, None).levels(*options.window)

    def _check(self, page: Any, total: int) -> None:
        """Raises ClesrError where no page can be read because of what the first is."""
        if page.dtype is None or page.dtype.kind not in "uibf":
            raise SourceError(
                f"{self._path} has pixels of a kind that is not read; save them as integers or floats"
            )
        if self._user_window is None and not values_of(page, None).ranged:
            raise SourceError(f"{self._path} has {page.dtype} pixels; {NEEDS_WINDOW}")
        check_decoders(page, str(self._path))
        shape = (page.imagelength, page.imagewidth)
        problem = size_problem(shape)
        if problem is not None and total == 1:
            raise SourceError(f"{self._path}: {problem}")
        self.shape = None if problem else turned_shape(shape, self._lying)

    def __len__(self) -> int:
        return len(self._places) + bool(self._missing)

    def image(self, index: int) -> Image:
        """(H, W) uint8 or uint16. Raises UnreadableImage."""
        if index >= len(self._places):
            raise UnreadableImage(self._missing)
        return self._read(self._places[index])

    def close(self) -> None:
        self._tiff.close()
        for tiff in self._others.values():
            tiff.close()
        self._others.clear()

    def _read_page(self, place: PageOfFile) -> Image:
        name = f"page {place.ifd}" + (f" of {place.file}" if place.file else "")
        try:
            tiff = self._file(place.file)
            page = page_of(tiff, place.ifd)
            return read_page(
                page, tiff.filehandle.size, sample=self._sample, window=self._user_window, lying=self._lying
            )
        except Exception as error:
            raise UnreadableImage(f"{name} cannot be read ({one_line(error)})") from error

    def _file(self, name: str) -> tifffile.TiffFile:
        if not name:
            return self._tiff
        if name not in self._others:
            self._others[name] = open_file(self._path.parent / name)
            if len(self._others) > OPEN_FILES:
                self._others.popitem(last=False)[1].close()
        self._others.move_to_end(name)
        return self._others[name]


class _PlaneStack:
    """Planes that one page describes: ImageJ's large stacks, and stacks whose end is cut. ``whole`` of the ``stated``
    are in the file; ``missing`` says so where that is fewer."""

    def __init__(
        self, tiff: tifffile.TiffFile, page: Any, stated: int, path: Path, window: tuple[float, float] | None
    ) -> None:
        self._tiff, self._start = tiff, page.dataoffsets[0]
        shape, samples = (page.imagelength, page.imagewidth), page.samplesperpixel
        self._dtype = page.dtype.newbyteorder(tiff.byteorder)
        if problem := size_problem(shape):
            raise SourceError(f"{path}: {problem}")
        self._planar = samples > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
        self._shape = (samples, *shape) if self._planar else (*shape, samples) if samples > 1 else shape
        self._page, self._window = page, window
        self.sample = 0  # that is shown, of those that are no colours
        self._bytes: int = math.prod(self._shape) * self._dtype.itemsize
        self.whole: int = min(stated, max(0, tiff.filehandle.size - self._start) // self._bytes)
        self.missing = ""
        if self.whole < stated:
            self.missing = (
                f"the file ends before the end of image {self.whole}: {self.whole} of the {stated} images that it "
                "states are there"
            )

    def image(self, place: PageOfFile) -> Image:
        self._tiff.filehandle.seek(self._start + place.ifd * self._bytes)
        data = self._tiff.filehandle.read(self._bytes)
        if len(data) < self._bytes:
            raise UnreadableImage(f"the file ends before the end of image {place.ifd}")
        pixels = np.frombuffer(data, self._dtype).reshape(self._shape)
        pixels = np.moveaxis(pixels, 0, -1) if self._planar else pixels
        image = image_of(pixels, self._page, sample=self.sample, window=self._window)
        return turned(image, page_orientation(self._page))


def planes_of_one_page(tiff: tifffile.TiffFile, pages: int) -> int:
    """How many images follow each other where one page describes them all; 1 for other files."""
    page = page_of(tiff, 0)
    if pages > 1 or not page.is_contiguous or page.bitspersample % 8:
        return 1
    with suppress(Exception):  # whatever tifffile meets in a damaged description
        stated = (tiff.imagej_metadata or {}).get("images", 1)
        if isinstance(stated, int) and stated > 1:
            return stated
        described = (tiff.shaped_metadata or ({},))[0]
        if described.get("truncated"):
            pixels = page.imagelength * page.imagewidth * page.samplesperpixel
            return int(math.prod(described["shape"]) // max(1, pixels))
    return 1
