"""Image files: one PNG, or the pages of a TIFF."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import tifffile

from clesr.engines.common.errors import SinkError
from clesr.engines.common.files import NEW, NewFile, WriteRule, partial_name, split_suffix, writing
from clesr.engines.common.png import png_bytes
from clesr.pipeline.frame import Image, Result
from clesr.pipeline.frame_queue import Policy

SUFFIXES = (".png", ".tif", ".tiff")
OME_SUFFIXES = (".ome.tif", ".ome.tiff")


class StillFile:
    """Results as pages of a TIFF (8 or 16 bit, no compression), or the only one as a PNG. ``NAME.ome.tif`` also states
    their times; ``final`` is the name that it gets later, where that is another. A TIFF states the ``pixel_aspect``,
    the width of a pixel over its height, where that is not 1.

    Written to a hidden file and renamed by ``close`` if ``complete`` was called, else kept as
    ``NAME.partial.tif``. Raises SinkError where the folder cannot be written, or ``rule`` forbids it.
    """

    policy = Policy.BLOCK

    def __init__(
        self,
        path: Path,
        rule: WriteRule = NEW,
        final: Path | None = None,
        *,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        self._ome = split_suffix(final or path)[1].lower() in OME_SUFFIXES
        self.path, self.name, self._rule = path, str(path), rule
        self._pages, self._complete, self._said = 0, False, ""
        self._shape: tuple[int, ...] = ()
        self._type = "uint8"
        self._resolution = None if pixel_aspect == 1 else (float(1 / pixel_aspect), 1.0)
        self._seconds: list[float] = []  # of the frames that have times
        self._shapes: dict[tuple[int, ...], None] = {}  # in the order in which they came
        with writing(path):
            self._file = NewFile(path, rule)
        self._tiff = None if path.suffix.lower() == ".png" else _tiff_writer(self._file)

    def write(self, result: Result) -> None:
        with writing(self.path):
            self._write(result.image)
        self._pages += 1
        self._shape = result.image.shape
        self._shapes[self._shape] = None
        self._type = result.image.dtype.name
        if result.frame.pts is not None and result.frame.time_base is not None:
            self._seconds.append(float(result.frame.pts * result.frame.time_base))

    def complete(self) -> None:
        """The input has been processed to its end: ``close`` may give the file its name."""
        self._complete = True

    def close(self) -> str | None:
        if self._said:
            return self._said
        final = self.path if self._complete else partial_name(self.path, self._rule)
        with writing(final):
            try:
                if self._tiff is not None:
                    self._tiff.close()
                    self._describe()
                if self._pages:
                    self._file.publish(final)
            finally:
                self._file.discard()
        if not self._pages:
            self._said = f"{self.path}: nothing written, no frame came"
            return self._said
        sizes = ", ".join(f"{width}x{height}" for height, width in self._shapes)
        self._said = f"{final}: {self._pages} image{'s' * (self._pages > 1)} ({sizes})"
        return self._said

    def _describe(self) -> None:
        """OME-XML where the name promises it, and one description is true of all pages."""
        if self._ome and len(self._shapes) == 1:
            times = self._seconds if len(self._seconds) == self._pages else []
            document = _ome_document(self._pages, self._shape, self._type, times)
            tifffile.tiffcomment(self._file.path, document.encode())

    def _write(self, image: Image) -> None:
        if self._tiff is not None:
            self._tiff.write(
                image, photometric="minisblack", contiguous=self._shape == image.shape,
                resolution=self._resolution, resolutionunit="NONE",
            )  # fmt: skip
            return
        if self._pages:
            raise SinkError(
                f"{self.path} holds one image and the input has more; give a .tif, .mkv or .mp4 name"
            )
        self._file.path.write_bytes(png_bytes(image))


def _ome_document(pages: int, shape: tuple[int, ...], kind: str, seconds: Sequence[float]) -> str:
    """OME-XML (OME model 2016-06) of one image: ``pages`` times, each taken at one of ``seconds``, if any."""
    planes = "".join(
        f'<Plane TheZ="0" TheT="{number}" TheC="0" DeltaT="{time - seconds[0]:.6f}" DeltaTUnit="s"/>'
        for number, time in enumerate(seconds)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="{kind}" SizeX="{shape[1]}" SizeY="{shape[0]}" '
        f'SizeZ="1" SizeC="1" SizeT="{pages}"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
        f'<TiffData IFD="0" PlaneCount="{pages}"/>{planes}</Pixels></Image></OME>'
    )


def _tiff_writer(file: NewFile) -> tifffile.TiffWriter:
    try:  # the name alone, ``.ome.tif``, would make it write another format, which takes no page by itself
        return tifffile.TiffWriter(file.path, bigtiff=True, ome=False)
    except BaseException:
        file.discard()
        raise
