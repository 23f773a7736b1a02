"""Image files: one PNG, or the pages of a TIFF."""

from __future__ import annotations

from pathlib import Path

import cv2
import tifffile

from clesr.engines.common.errors import SinkError
from clesr.engines.common.files import NEW, NewFile, WriteRule, partial_name, writing
from clesr.pipeline.frame import Image, Result
from clesr.pipeline.frame_queue import Policy

SUFFIXES = (".png", ".tif", ".tiff")


class StillFile:
    """Results as pages of a TIFF (8 or 16 bit, no compression), or the only one as a PNG.

    Written to a hidden file and renamed by ``close`` if ``complete`` was called, else kept as
    ``NAME.partial.tif``. Raises SinkError where the folder cannot be written, or ``rule`` forbids it.
    """

    policy = Policy.BLOCK

    def __init__(self, path: Path, rule: WriteRule = NEW) -> None:
        self.path, self.name, self._rule = path, str(path), rule
        self._pages, self._complete, self._said = 0, False, ""
        self._shape: tuple[int, ...] = ()
        self._shapes: dict[tuple[int, ...], None] = {}  # in the order in which they came
        with writing(path):
            self._file = NewFile(path, rule)
        self._tiff = (
            None if path.suffix.lower() == ".png" else tifffile.TiffWriter(self._file.path, bigtiff=True)
        )

    def write(self, result: Result) -> None:
        with writing(self.path):
            self._write(result.image)
        self._pages += 1
        self._shape = result.image.shape
        self._shapes[self._shape] = None

    def complete(self) -> None:
        """The input has been processed to its end: ``close`` may give the file its name."""
        self._complete = True

    def close(self) -> str | None:
        if self._said:
            return self._said
        if self._tiff is not None:
            self._tiff.close()
        if not self._pages:
            self._file.discard()
            self._said = f"{self.path}: nothing written, no frame came"
            return self._said
        final = self.path if self._complete else partial_name(self.path, self._rule)
        with writing(final):
            try:
                self._file.publish(final)
            finally:
                self._file.discard()
        sizes = ", ".join(f"{width}x{height}" for height, width in self._shapes)
        self._said = f"{final}: {self._pages} image{'s' * (self._pages > 1)} ({sizes})"
        return self._said

    def _write(self, image: Image) -> None:
        if self._tiff is not None:
            self._tiff.write(image, photometric="minisblack", contiguous=self._shape == image.shape)
            return
        if self._pages:
            raise SinkError(
                f"{self.path} holds one image and the input has more; give a .tif, .mkv or .mp4 name"
            )
        ok, data = cv2.imencode(".png", image)
        if not ok:
            raise SinkError(f"{self.path}: the image {image.shape} {image.dtype} cannot be encoded as PNG")
        self._file.path.write_bytes(data.tobytes())
