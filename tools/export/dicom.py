"""Multi-frame DICOM objects: raw images, and the SR images derived from them, in one study."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clesr.engines.common.errors import MissingDependencyError
from clesr.engines.common.files import numbered
from clesr.pipeline.frame import Image
from clesr.tools.export.clip import Clip, Still, runs
from clesr.tools.export.files import Files
from clesr.tools.export.patient import Patient

if TYPE_CHECKING:
    from clesr.tools.export.dicom_header import Study

MOST_BYTES = 2**31 - 2**20  # of pixels in one object: many readers fail above 2 GiB, the format ends at 4
MOST_FRAMES = 4000  # whose times, at up to 16 characters each, fit the 65534 bytes of a Frame Time Vector
NO_PIXELS = np.empty((0, 0), np.uint8)


@dataclass(frozen=True, slots=True)
class FrameReference:
    """A frame in an object that was written."""

    sop_class: str
    sop_instance: str
    frame: int  # from 1


@dataclass(slots=True)
class Written:
    """What an export has written so far: the raw frames by their number, and a line for each file."""

    frames: dict[int, FrameReference] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


def write_dicom(
    clips: list[tuple[Clip, Path]],
    files: Files,
    *,
    patient: Patient | None = None,
    region: str | None = None,
    text_free: bool = False,
) -> list[str]:
    """Write each clip to its path, ``NAME.2.dcm`` and so on where its images change their size or are too many for one
    object. All belong to one study; SR objects refer to the raw ones that come before them. What was written, in words.

    8-bit images of a live source become (VL or Video) Endoscopic objects where ``region``, one of REGIONS, says what
    was looked at; all others multi-frame secondary captures,
    byte or word. Pixels are stored as they are, without compression. Without ``patient`` the objects are anonymous
    and bear no date. ``text_free`` states that nobody's name stands in the images.

    Raises MissingDependencyError where pydicom is not installed.
    """
    study = open_study(patient, region=region, text_free=text_free)
    written = Written()
    for series, (clip, path) in enumerate(clips, 1):
        number = 0
        for run in runs(clip.stills):
            for part in _parts(run):
                number += 1
                final = path if number == 1 else numbered(path, number)
                _write_part(clip, part, final, files, study, (series, number), written)
    return written.said


def open_study(patient: Patient | None, *, region: str | None, text_free: bool) -> Study:
    """A new study. Raises MissingDependencyError."""
    try:
        from clesr.tools.export.dicom_header import Study
    except ImportError as error:
        raise MissingDependencyError(
            f"DICOM needs pydicom ({error}); run: pip install 'clesr[dicom]'"
        ) from error
    return Study(patient, region=region, text_free=text_free)


def _parts(run: Iterator[Still]) -> Iterator[Iterator[Still]]:
    """``run`` in pieces that fit one object each, each to be read to its end before the next is asked for."""
    for first in run:
        most = max(1, min(MOST_FRAMES, MOST_BYTES // first.image.nbytes))
        yield itertools.chain([first], itertools.islice(run, most - 1))


def _write_part(
    clip: Clip,
    part: Iterator[Still],
    final: Path,
    files: Files,
    study: Study,
    place: tuple[int, int],
    written: Written,
) -> None:
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
    dataset = study.describe(clip, image, shown, place, written.frames)
    with spool.open("rb") as pixels:
        dataset.PixelData = pixels
        dataset["PixelData"].VR = "OW" if image.dtype == np.uint16 else "OB"
        dataset.save_as(files.begin(final), enforce_file_format=True)
    if clip.kind == "raw":
        for index, still in enumerate(shown, 1):
            written.frames[still.number] = FrameReference(dataset.SOPClassUID, dataset.SOPInstanceUID, index)
    height, width = image.shape
    name = dataset.SOPClassUID.name.removesuffix(" Storage")
    written.said.append(f"{final}: {len(shown)} frames, {width}x{height}, {8 * image.itemsize} bit, {name}")
