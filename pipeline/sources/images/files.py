"""Image files, read by OpenCV one at a time, and the folders that they are in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from clesr.engines.common.errors import WHY, SourceError, told_as
from clesr.engines.common.limits import max_side, size_problem
from clesr.engines.common.parsing import one_line
from clesr.pipeline.frame import Image
from clesr.pipeline.sources.images.header import BadHeader, picture_alone, read_header
from clesr.pipeline.sources.images.indexed import IndexedSource, UnreadableImage, gray
from clesr.pipeline.sources.registry import DEFAULTS, IMAGE_SUFFIXES, SourceOptions

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MOST_BYTES_A_PIXEL = 16  # of a file, beside what is no picture
_BESIDE = 64 << 20


def open_images(path: str | Path, options: SourceOptions = DEFAULTS) -> IndexedSource:
    """The images of a folder in natural order (``2.png`` before ``10.png``), or one image file.

    8 or 16 bit, gray or colour (luma). A file that cannot be read, or is cut, is Corrupt. Other files are
    passed over. Raises SourceError where there is no image.
    """
    path = Path(path)
    with told_as(SourceError, f"{path}: cannot be opened ({WHY}); check the path"):
        files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
    files = sorted((file for file in files if file.suffix.lower() in IMAGE_SUFFIXES), key=natural_key)
    if not files:
        raise SourceError(f"{path} has no images; looked for {', '.join(IMAGE_SUFFIXES)}")
    shape: tuple[int, int] | None = None
    try:
        height, width = read_image(files[0]).shape
        shape = height, width
    except (UnreadableImage, OSError) as error:
        if len(files) == 1:
            raise SourceError(f"{error}; check how it was written or copied") from error
    return IndexedSource(
        lambda index: read_image(files[index]), len(files), str(path), clock=options.clock, shape=shape
    )


def natural_key(path: Path) -> list[str | int]:
    """Sorts names as people do: digits by their value, letters whatever their case."""
    parts = re.split(r"([0-9]+)", path.name)
    return [int(part) if index % 2 else part.lower() for index, part in enumerate(parts)]


def read_image(file: Path) -> Image:
    """(H, W) uint8 or uint16 of an image file, of a TIFF its first page. Raises UnreadableImage and OSError."""
    size = file.stat().st_size
    if not size:
        raise UnreadableImage(f"{file} is empty (0 bytes)")
    if size > _MOST_BYTES_A_PIXEL * max_side() ** 2 + _BESIDE:
        raise UnreadableImage(f"{file} has {size >> 20} MB, more than an image of {max_side()} pixels a side")
    with file.open("rb") as opened:
        begin = opened.read(4)
        if begin in _TIFF:
            from clesr.pipeline.sources.images.tiff import first_page

            return first_page(file)
        data = begin + opened.read(size)
    if _cut(data):
        raise UnreadableImage(f"{file} is cut: its end is missing")
    try:
        shape, memory = read_header(data)
    except BadHeader as error:
        raise UnreadableImage(f"{file} {error}") from None
    if problem := size_problem(shape, decoded=memory, stored=len(data)):
        raise UnreadableImage(f"{file}: {problem}")
    return _decoded(picture_alone(data), file)


def _decoded(data: bytes, file: Path) -> Image:
    try:
        with quiet_opencv():
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is not None:
            return gray(pixels, blue_first=True)
    except (cv2.error, MemoryError) as error:
        raise UnreadableImage(f"{file} cannot be decoded ({one_line(error)})") from error
    raise UnreadableImage(f"{file} is not an image that OpenCV can read")


def _cut(data: bytes) -> bool:
    """PNG and JPEG whose end is missing: decoders fill the rest and do not tell."""
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data[-64:]
    return data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """OpenCV tells the terminal of each damaged file; the source reports them itself."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
