"""Multi-frame DICOM objects: raw images, and the SR images derived from them, in one study."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from clesr.engines.common.errors import MissingDependencyError
from clesr.pipeline.frame import Image
from clesr.tools.export.clip import Clip, Still, runs, to_files
from clesr.tools.export.files import Files
from clesr.tools.export.patient import Patient

log = logging.getLogger(__name__)
MOST_BYTES = 2**31 - 2**20  # of pixels in one object: many readers fail above 2 GiB, the format ends at 4
MOST_FRAMES = 4000  # whose times, at up to 16 characters each, fit the 65534 bytes of a Frame Time Vector
NO_PIXELS = np.empty((0, 0), np.uint8)


class DicomExporter:
    """All clips of an export as objects of one study; SR objects refer to the raw ones that come before them.

    8-bit images of a live source become (VL or Video) Endoscopic objects where ``region``, one of REGIONS, says what
    was looked at; all others multi-frame secondary captures, byte or word. A clip is several objects where its images
    change their size or are too many for one. Pixels are stored as they are, without compression. Without ``patient``
    the objects are anonymous and bear no date. ``text_free`` states that nobody's name stands in the images.

    Raises MissingDependencyError where pydicom is not installed.
    """

    what, named_by_frame = "both", False

    def __init__(
        self, *, patient: Patient | None = None, region: str | None = None, text_free: bool = False
    ) -> None:
        try:
            from clesr.tools.export.dicom_header import Study
        except ImportError as error:
            raise MissingDependencyError(
                f"DICOM needs pydicom ({error}); run: pip install 'clesr[dicom]'"
            ) from error
        self._study = Study(patient, region=region, text_free=text_free)
        self._series = 0

    def write(self, clip: Clip, path: Path, files: Files) -> list[str]:
        if clip.kind == "sr" and not self._series:
            log.warning(
                "the captured images are not exported with them, so the SR object names no source images (--what both)"
            )
        self._series += 1
        parts = to_files((part for run in runs(clip.stills) for part in _parts(run)), path)
        return [
            self._write_part(clip, part, final, files, number)
            for number, (final, part) in enumerate(parts, 1)
        ]

    def _write_part(self, clip: Clip, part: Iterator[Still], final: Path, files: Files, number: int) -> str:
        """One object: the pixels are spooled first, because the header states how many there are and when."""
        spool = files.spool(final)
        shown: list[Still] = []
        image: Image | None = None
        with spool.open("wb") as pixels:
            for still in part:
                image = still.image
                pixels.write(np.ascontiguousarray(image, image.dtype.newbyteorder("<")).data)
                shown.append(replace(still, image=NO_PIXELS))
            if pixels.tell() % 2:
                pixels.write(b"\0")  # a DICOM value has an even length
        assert image is not None
        dataset = self._study.describe(clip, image, shown, (self._series, number))
        with spool.open("rb") as pixels:
            dataset.PixelData = pixels
            dataset["PixelData"].VR = "OW" if image.dtype == np.uint16 else "OB"
            dataset.save_as(files.begin(final), enforce_file_format=True)
        height, width = image.shape
        name = dataset.SOPClassUID.name.removesuffix(" Storage")
        return f"{final}: {len(shown)} frames, {width}x{height}, {8 * image.itemsize} bit, {name}"


def _parts(run: Iterator[Still]) -> Iterator[Iterator[Still]]:
    """``run`` in parts that fit one object each, each to be read to its end before the next is asked for."""
    for first in run:
        most = max(1, min(MOST_FRAMES, MOST_BYTES // first.image.nbytes))
        yield itertools.chain([first], itertools.islice(run, most - 1))
