"""Image files: one PNG, or the pages of a TIFF."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import tifffile

from clesr.pipeline.errors import SinkError
from clesr.pipeline.frame import Image, Result
from clesr.pipeline.mailbox import Policy

SUFFIXES = (".png", ".tif", ".tiff")


class StillFile:
    """Results as pages of a TIFF (8 or 16 bit, no compression), or the only one as a PNG.

    Written to a hidden file and renamed by ``close`` if ``complete`` was called, else kept as
    ``NAME.partial.tif``. Raises SinkError where the folder cannot be written.
    """

    policy = Policy.ALL

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
        self._pages, self._complete, self._said = 0, False, ""
        self._shape: tuple[int, ...] = ()
        try:
            self._temporary.write_bytes(b"")
        except OSError as error:
            raise SinkError(f"{path} cannot be written: {error.strerror}; choose another folder") from error
        self._tiff = (
            None if path.suffix.lower() == ".png" else tifffile.TiffWriter(self._temporary, bigtiff=True)
        )

    def write(self, result: Result) -> None:
        try:
            self._write(result.image)
        except OSError as error:
            raise SinkError(f"{self.path} cannot be written: {error.strerror or error}") from error
        self._pages += 1
        self._shape = result.image.shape

    def complete(self) -> None:
        """The input has been processed to its end: ``close`` may give the file its name."""
        self._complete = True

    def close(self) -> str | None:
        if self._said:
            return self._said
        if self._tiff is not None:
            self._tiff.close()
        final = (
            self.path
            if self._complete
            else self.path.with_name(f"{self.path.stem}.partial{self.path.suffix}")
        )
        if not self._pages:
            self._temporary.unlink(missing_ok=True)
            self._said = f"{self.path}: nothing written, no frame came"
            return self._said
        os.replace(self._temporary, final)
        height, width = self._shape
        self._said = f"{final}: {self._pages} image{'s' * (self._pages > 1)} ({width}x{height})"
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
        self._temporary.write_bytes(data.tobytes())
