"""One image of one file: PNG, JPEG, BMP, PNM, WebP, JPEG 2000."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from clesr.engines.common.errors import WHY, told_as
from clesr.engines.common.limits import max_side, size_problem
from clesr.engines.common.parsing import one_line
from clesr.pipeline.frame import Image
from clesr.pipeline.sources.images.chunks import PNG_BEGINS, BadHeader, image_end
from clesr.pipeline.sources.images.gray import Values, gray, turned
from clesr.pipeline.sources.images.header import JPEG2000_BEGINS, jpeg2000_bits, picture_alone, read_header
from clesr.pipeline.sources.images.orientation import stated_orientation
from clesr.pipeline.sources.images.pnm import read_pnm, read_pnm_header
from clesr.pipeline.sources.images.unreadable import UnreadableImage

_MOST_BYTES_A_PIXEL = 16  # of a file, beside what is no picture
_BESIDE = 64 << 20
_PNM_HEAD = 4096  # bytes in which the header of a PNM image is looked for
_LOOKED_AT = 1 << 16  # bytes for what the values of a file are


class StillImage:
    """The image of the file ``path``: 8 or 16 bit, gray or colour (luma), as it is to be seen. What follows its end is
    passed over. ``window`` is the grey levels that the user's ``window`` in values of the file became."""

    times: None = None

    def __init__(self, path: Path, window: tuple[float, float] | None = None) -> None:
        self._path = path
        gain = 1.0 if window is None else _gain(path)
        self.window = None if window is None else (gain * window[0], gain * window[1])

    def __len__(self) -> int:
        return 1

    def image(self, index: int) -> Image:
        """(H, W) uint8 or uint16. Raises UnreadableImage and OSError."""
        return read_still(self._path)

    def close(self) -> None:
        pass


class PnmImages(StillImage):
    """The images of a PNM file, of which there may be one after the other, as ``StillImage``."""

    def __init__(self, path: Path, window: tuple[float, float] | None = None) -> None:
        super().__init__(path, window)
        with path.open("rb") as file:
            self._places = list(_pnm_places(file, path.stat().st_size))

    def __len__(self) -> int:
        return max(1, len(self._places))

    def image(self, index: int) -> Image:
        """(H, W) uint8 or uint16. Raises UnreadableImage and OSError."""
        if len(self._places) < 2:
            return super().image(index)
        begin, length = self._places[index]
        with self._path.open("rb") as file:
            file.seek(begin)
            data = file.read(min(length, _most_bytes()))
        return _read_still(data, f"{self._path}, image {index},")


def _pnm_places(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Where each image begins in the ``file`` of ``size`` bytes, and how many it takes."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(_PNM_HEAD)
        try:
            length = read_pnm_header(head).stored_bytes or size - at
        except UnreadableImage:
            if at:  # what follows the last image is passed over
                return
            length = size
        yield at, length
        at += length


def is_pnm_sequence(path: Path) -> bool:
    """Whether ``path`` is a PNM file of several images. Raises OSError."""
    with path.open("rb") as file:
        if file.read(2) not in (b"P4", b"P5", b"P6"):
            return False
    return len(PnmImages(path)) > 1


def read_still(file: Path) -> Image:
    """(H, W) uint8 or uint16 of an image file. Raises UnreadableImage and OSError."""
    return _read_still(_bounded(file), str(file))


def _read_still(data: bytes, file: str) -> Image:
    end = image_end(data)
    if end is None:
        raise UnreadableImage(f"{file} is cut: its end is missing")
    with told_as(UnreadableImage, f"{file} {WHY}", BadHeader):
        shape, memory = read_header(data)
    if problem := size_problem(shape, decoded=memory, stored=len(data)):
        raise UnreadableImage(f"{file}: {problem}")
    if data[:1] == b"P":
        with told_as(UnreadableImage, f"{file} {WHY}", UnreadableImage):
            return read_pnm(data)
    image = _decoded(picture_alone(data[:end]), file)
    return turned(image, stated_orientation(data[:end]))


def _gain(file: Path) -> float:
    """The grey levels of the image that one step of the values in ``file`` is; 1 where that cannot be read."""
    with suppress(UnreadableImage, BadHeader, OSError), file.open("rb") as opened:
        data = opened.read(_LOOKED_AT)
        if data[:1] == b"P":
            return read_pnm_header(data).gain
        if data.startswith(PNG_BEGINS) and len(data) > 25 and data[25] == 0:
            return 255 / ((1 << data[24]) - 1) if data[24] < 8 else 1.0
        if data.startswith(JPEG2000_BEGINS):
            return _deep(jpeg2000_bits(data)).levels(0, 1)[1]
    return 1.0


def _deep(bits: int) -> Values:
    return Values(np.dtype(np.uint16 if bits > 8 else np.uint8), bits)


def _most_bytes() -> int:
    """Of a file with one image."""
    return _MOST_BYTES_A_PIXEL * max_side() ** 2 + _BESIDE


def _bounded(file: Path) -> bytes:
    size = file.stat().st_size
    if not size:
        raise UnreadableImage(f"{file} is empty (0 bytes)")
    if size > _most_bytes():
        raise UnreadableImage(f"{file} has {size >> 20} MB, more than an image of {max_side()} pixels a side")
    return file.read_bytes()


def _decoded(data: bytes, file: str) -> Image:
    try:
        with quiet_opencv():
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is not None:
            image = gray(pixels, blue_first=True)
            deep = data.startswith(JPEG2000_BEGINS) and image.dtype == np.uint16
            return _deep(jpeg2000_bits(data)).image(image) if deep else image
    except (cv2.error, MemoryError) as error:
        raise UnreadableImage(f"{file} cannot be decoded ({one_line(error)})") from error
    raise UnreadableImage(f"{file} is not an image that OpenCV can read")


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """OpenCV tells the terminal of each damaged file; the source reports them itself."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
