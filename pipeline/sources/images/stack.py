"""TIFF stacks and folders of images."""

from __future__ import annotations

import re
from pathlib import Path

from clesr.engines.common.errors import SourceError
from clesr.engines.common.parsing import one_line
from clesr.pipeline.sources.images.files import ImageFiles
from clesr.pipeline.sources.images.indexed import IndexedSource, Unreadable
from clesr.pipeline.sources.images.tiff import (
    PlaneStack,
    TiffPages,
    imagej_fps,
    open_file,
    planes_of_one_page,
)
from clesr.pipeline.sources.registry import DEFAULTS, IMAGE_SUFFIXES, SourceOptions


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
        return IndexedSource(pages, str(path), clock=options.clock, fps=imagej_fps(tiff), shape=pages.shape)
    except SourceError:
        tiff.close()
        raise
    except Exception as error:  # whatever tifffile meets in a damaged file
        tiff.close()
        raise SourceError(f"{path} is damaged: no page can be read ({one_line(error)})") from error


def open_images(path: str | Path, options: SourceOptions = DEFAULTS) -> IndexedSource:
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
        return IndexedSource(images, str(path), clock=options.clock)
    return IndexedSource(images, str(path), clock=options.clock, shape=(shape[0], shape[1]))


def natural_key(path: Path) -> list[str | int]:
    """Sorts names as people do: digits by their value, letters whatever their case."""
    parts = re.split(r"([0-9]+)", path.name)
    return [int(part) if index % 2 else part.lower() for index, part in enumerate(parts)]
