"""Image files, and the folders that they are in: each file has one image or many."""

from __future__ import annotations

import logging
import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Protocol

from clesr.engines.common.errors import WHY, ClesrError, SourceError, UsageError, told_as
from clesr.pipeline.frame import Image
from clesr.pipeline.sources.images.animation import Animation, is_animation
from clesr.pipeline.sources.images.gray import TOP, windowed
from clesr.pipeline.sources.images.indexed import (
    FrameTimes,
    IndexedSource,
    Note,
    UnreadableImage,
    ValueRange,
    first_stated,
    tell,
    timed,
)
from clesr.pipeline.sources.images.still import PnmImages, StillImage
from clesr.pipeline.sources.registry import (
    DEFAULTS,
    DICOM_SUFFIXES,
    IMAGE_SUFFIXES,
    TIFF_BEGINS,
    SourceOptions,
)

OPEN_PARTS = 4  # files of a folder that stay open
_LEFT = ("Thumbs.db", "desktop.ini")  # by systems
_NAMED = 3  # files that are passed over


class Images(Protocol):
    """The images of one file."""

    @property
    def times(self) -> FrameTimes | None: ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image:
        """(H, W) uint8 or uint16. Raises UnreadableImage, and whatever a library meets."""

    def close(self) -> None: ...


def open_images(path: str | Path, options: SourceOptions = DEFAULTS) -> IndexedSource:
    """The images of a folder in natural order (``2.png`` before ``10.png``), every one of files that have many, or
    those of one file.

    A file that cannot be read, or is cut, is Corrupt. Files that are no images are passed over, and hidden ones. Raises
    SourceError where there is no image.
    """
    path = Path(path)
    with told_as(SourceError, f"{path}: cannot be opened ({WHY}); check the path"):
        files = [path] if path.is_file() else image_files_of(path)
    if not files:
        raise SourceError(f"{path} has no images; looked for {', '.join(IMAGE_SUFFIXES)}")
    if path.is_dir():
        tell(str(path), _others(path, files), options)
    folder = ImageFolder(files, options)
    shape = folder.look(single=len(files) == 1)
    times = timed(folder.times, len(folder), str(path), options)
    return IndexedSource(
        folder.image, len(folder), str(path), release=folder.close, clock=options.clock, times=times,
        shape=shape, window=folder.window, pixel_aspect=folder.pixel_aspect or Fraction(1),
    )  # fmt: skip


def image_files_of(folder: Path) -> list[Path]:
    """The image files in ``folder`` in natural order, DICOM files in that of their series; not the hidden ones that
    systems leave there. Raises OSError."""
    found = sorted(
        (file for file in folder.iterdir() if not file.name.startswith(".") and _is_image(file)),
        key=natural_key,
    )
    if not any(is_dicom(file) for file in found):
        return found
    from clesr.pipeline.sources.images.dicom_file import in_series

    return in_series(found)


def _others(folder: Path, images: Sequence[Path]) -> list[Note]:
    """Which files of ``folder`` are passed over, but for those that systems leave there."""
    taken = {file.name for file in images}
    names = [
        file.name
        for file in sorted(folder.iterdir(), key=natural_key)
        if not (file.name in taken or file.name.startswith(".") or file.name in _LEFT) and file.is_file()
    ]
    if not names:
        return []
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    said = f"passes over what is no image that it can read: {', '.join(names[:_NAMED])}{more}"
    return [Note(logging.INFO, said)]


def is_dicom(file: Path) -> bool:
    """Whether ``file`` is one by its name or, where that says nothing, by its begin. Raises OSError."""
    suffix = file.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return suffix in DICOM_SUFFIXES
    with file.open("rb") as opened:
        return opened.read(132)[128:] == b"DICM"


def _is_image(file: Path) -> bool:
    suffix = file.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return file.is_file()
    if suffix and not suffix[1:].isdigit():  # archives name objects by their number, or their identifier
        return False
    with suppress(OSError):
        return file.is_file() and is_dicom(file)
    return False


def natural_key(path: Path) -> list[str | int]:
    """Sorts names as people do: digits by their value, letters whatever their case."""
    parts = re.split(r"([0-9]+)", path.name)
    return [int(part) if index % 2 else part.lower() for index, part in enumerate(parts)]


def open_images_of(file: Path, options: SourceOptions) -> Images:
    """The images of ``file``, whatever its name says. Raises SourceError, UnreadableImage and OSError."""
    with file.open("rb") as opened:
        begin = opened.read(4)
    if begin in TIFF_BEGINS:
        from clesr.pipeline.sources.images.tiff import TiffStack

        return TiffStack(file, options)
    if is_dicom(file):
        from clesr.pipeline.sources.images.dicom import DicomImages

        return DicomImages(file, options)
    if begin[:1] == b"P" and begin[1:2] in b"123456":
        return PnmImages(file, options.window)
    return Animation(file) if begin == b"GIF8" or is_animation(file) else StillImage(file, options.window)


@dataclass(frozen=True, slots=True)
class _Part:
    """A file of a folder: how many images it has, when they are to be seen, and why none can be read. ``window`` is the
    grey levels that the user's window is in it, or that which it states; ``stated`` what its images state in its own
    unit, one for all or one each; ``unit`` the grey levels of the values 0 and 1 of that."""

    file: Path
    count: int
    times: FrameTimes | None = None
    problem: str = ""
    window: ValueRange | None = None
    stated: Sequence[ValueRange | None] = (None,)
    unit: ValueRange | None = None


class ImageFolder:
    """The images of ``files``, one file after the other. Files that belong to a stack of several are read with it. What
    each file has is looked at now. Raises UsageError for a channel or plane that one lacks."""

    def __init__(self, files: Sequence[Path], options: SourceOptions) -> None:
        self._options = options
        self._open: OrderedDict[int, Images] = OrderedDict()
        self._parts: list[_Part] = []
        self.first_error: ClesrError | None = None
        self.pixel_aspect: Fraction | None = None
        self._told: set[Note] = set()
        taken: set[str] = set()
        for file in files:
            if file.name in taken:
                continue
            part, members = self._look(file)
            taken |= members
            self._parts.append(part)
        self._ends = list(accumulate(part.count for part in self._parts))
        self._each = False
        self.window = self._find_window([part for part in self._parts if not part.problem])

    def _find_window(self, parts: Sequence[_Part]) -> ValueRange | None:
        """The grey levels that become black and white in all images. Where the user's window is other ones in each
        file, the images are stretched by it here."""
        if not parts:
            return None
        if self._options.window is None:
            return self._stated_window(parts)
        windows = {part.window for part in parts}
        if len(windows) == 1:
            return windows.pop()
        self._each = True
        text = "has files of different units or depths: --window is in that of each, and stretches them to 16 bit"
        tell(str(parts[0].file.parent), [Note(logging.INFO, text)], self._options)
        return 0.0, float(TOP)

    def _stated_window(self, parts: Sequence[_Part]) -> ValueRange | None:
        """That of the first file which states one, for all: brightness stays the same."""
        first = next((part for part in parts if any(part.stated)), None)
        if first is None:
            return None
        one_unit = first.unit is not None and len({part.unit for part in parts}) == 1
        stated = [
            window
            for part in parts
            for window in (part.stated if len(part.stated) > 1 else list(part.stated) * part.count)
        ]
        taken, notes = first_stated(stated, what="images", one_unit=one_unit)
        tell(str(first.file), notes, self._options)
        return None if taken is None else first.window

    def _look(self, file: Path) -> tuple[_Part, set[str]]:
        """What ``file`` has, and the names of the files that belong to it."""
        try:
            images = open_images_of(file, self._options)
        except UsageError:
            raise
        except ClesrError as error:
            self.first_error = self.first_error or error
            return _Part(file, 1, problem=str(error)), set()
        except (UnreadableImage, OSError) as error:
            return _Part(file, 1, problem=str(error)), set()
        try:
            self.pixel_aspect = self.pixel_aspect or getattr(images, "pixel_aspect", None)
            notes = [note for note in getattr(images, "notes", ()) if note not in self._told]
            self._told.update(notes)  # each once: a folder may have thousands of the same
            tell(str(file), notes, self._options)
            part = _Part(
                file,
                len(images),
                images.times,
                window=getattr(images, "window", None) or self._options.window,
                stated=getattr(images, "stated_windows", (None,)),
                unit=getattr(images, "unit", None),
            )
            return part, getattr(images, "files", set())
        finally:
            images.close()

    def __len__(self) -> int:
        return self._ends[-1]

    def look(self, *, single: bool) -> tuple[int, int] | None:
        """(H, W) of the first image, None where it cannot be read. Raises SourceError where no file can be read."""
        if self.first_error is not None and all(part.problem for part in self._parts):
            raise self.first_error
        try:
            shape = self.image(0).shape
        except Exception as error:
            if single and len(self) == 1:
                raise SourceError(f"{error}; check how it was written or copied") from error
            return None
        return shape[0], shape[1]

    @property
    def times(self) -> FrameTimes | None:
        """Those of the files one after the other, where all of them have some."""
        if len(self._parts) == 1:
            return self._parts[0].times
        seconds = []
        begin = 0.0
        for part in self._parts:
            if part.times is None:
                return None
            own = [float(pts * part.times.base) for pts in part.times.pts]
            seconds += [begin + time for time in own]
            begin += part.times.seconds or own[-1] + (own[-1] - own[0]) / max(1, len(own) - 1)
        return FrameTimes.listed(seconds)

    def image(self, index: int) -> Image:
        """(H, W) uint8 or uint16. Raises UnreadableImage, and whatever a library meets."""
        number = bisect_right(self._ends, index)
        part = self._parts[number]
        if part.problem:
            raise UnreadableImage(part.problem)
        image = self._images(number).image(index - (self._ends[number] - part.count))
        return windowed(image, *part.window) if self._each and part.window is not None else image

    def _images(self, number: int) -> Images:
        if number not in self._open:
            with told_as(UnreadableImage, WHY, ClesrError):
                self._open[number] = open_images_of(self._parts[number].file, self._options)
            if len(self._open) > OPEN_PARTS:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(number)
        return self._open[number]

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()
