"""Multi-frame DICOM objects: raw images, and the SR images derived from them, in one study."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clesr.engines.common.errors import MissingDependencyError, UsageError
from clesr.engines.common.files import token
from clesr.pipeline.frame import Image
from clesr.tools.export.clip import Clip, Still, runs, to_files
from clesr.tools.export.dicom_video import CODECS, NO_PIXELS, Form, encode
from clesr.tools.export.files import Files
from clesr.tools.export.options import SOP_CLASSES
from clesr.tools.export.patient import Patient

log = logging.getLogger(__name__)
MOST_BYTES = 2**31 - 2**20  # of pixels in one object: many readers fail above 2 GiB, the format ends at 4
MOST_FRAMES = 4000  # whose times, at up to 16 characters each, fit the 65534 bytes of a Frame Time Vector
VL, VIDEO = SOP_CLASSES[1:]


class DicomExporter:
    """All clips of an export as objects of one study; SR objects refer to the raw ones that come before them.

    ``sop_class``, one of SOP_CLASSES, says what they are: multi-frame secondary captures, byte or word (without it);
    VL Endoscopic, one object for each 8-bit image; or Video Endoscopic, encoded by ``codec`` (h264 or hevc, what has
    room for the images without it) at ``crf``. The last two need ``region``, one of REGIONS: what was looked at.
    A clip is several objects where its images change their size or are too many for one. Pixels of all but videos are
    stored as they are. Without ``patient`` the objects are anonymous and bear no date. ``text_free`` states that no
    name stands in the images. With ``stable`` the same clips give the same identifiers again. ``frame`` and ``every``
    have chosen the images.

    Raises UsageError for options that do not fit, MissingDependencyError where pydicom is not installed.
    """

    what, named_by_frame = "both", False

    def __init__(
        self,
        *,
        patient: Patient | None = None,
        region: str | None = None,
        text_free: bool = False,
        stable: bool = False,
        sop_class: str | None = None,
        codec: str | None = None,
        crf: int | None = None,
        frame: Collection[int] = (),
        every: float | None = None,
    ) -> None:
        self._kind, self._codec, self._crf = sop_class or SOP_CLASSES[0], codec, crf
        _check(self._kind, codec, crf, region)
        try:
            from clesr.tools.export.dicom_header import Study
        except ImportError as error:
            raise MissingDependencyError(
                f"DICOM needs pydicom ({error}); run: pip install 'clesr[dicom]'"
            ) from error
        self._study = Study(patient, self._kind, region=region, text_free=text_free, stable=stable)
        self._series = 0

    def write(self, clip: Clip, path: Path, files: Files) -> list[str]:
        if clip.kind == "sr" and not self._series:
            log.warning(
                "the captured images are not exported with them, so the SR object names no source images (--what both)"
            )
        self._series += 1
        write = self._write_video if self._kind == VIDEO else self._write_part
        cut = (lambda run: [run]) if self._kind == VIDEO else partial(_parts, single=self._kind == VL)
        parts = to_files((part for run in runs(clip.stills) for part in cut(run)), path)
        return [write(clip, part, final, files, number) for number, (final, part) in enumerate(parts, 1)]

    def _write_video(self, clip: Clip, part: Iterator[Still], final: Path, files: Files, number: int) -> str:
        from pydicom.encaps import encapsulate_buffer

        spool = files.spool(final.with_name(f"{token()}.mp4"))
        encoded, shown = encode(clip, part, spool, self._codec, self._crf)
        with spool.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            form, place = Form(encoded.shape, 1, encoded), (self._series, number)
            dataset = self._study.describe(clip, form, shown, place, digest)
            dataset.PixelData = encapsulate_buffer([stream])
            dataset["PixelData"].VR = "OB"
            dataset["PixelData"].is_undefined_length = True
            dataset.save_as(files.begin(final), enforce_file_format=True)
        height, width = encoded.shape
        return f"{final}: {len(shown)} frames, {width}x{height}, {encoded.syntax.codec}, {_named(dataset)}"

    def _write_part(self, clip: Clip, part: Iterator[Still], final: Path, files: Files, number: int) -> str:
        """One object: the pixels are spooled first, because the header states how many there are and when."""
        spool = files.spool(final)
        shown: list[Still] = []
        image: Image | None = None
        digest = hashlib.sha256()
        with spool.open("wb") as pixels:
            for still in part:
                image = still.image
                if self._kind == VL and image.itemsize > 1:
                    raise UsageError(
                        f"vl-endoscopic holds 8 bits, and the images have {8 * image.itemsize}; choose --sop-class "
                        "secondary-capture, which keeps them all"
                    )
                little = np.ascontiguousarray(image, image.dtype.newbyteorder("<"))
                digest.update(little.data)
                pixels.write(little.data)
                shown.append(replace(still, image=NO_PIXELS))
            if pixels.tell() % 2:
                pixels.write(b"\0")  # a DICOM value has an even length
        assert image is not None
        form = Form((image.shape[0], image.shape[1]), image.itemsize)
        dataset = self._study.describe(clip, form, shown, (self._series, number), digest.hexdigest())
        with spool.open("rb") as pixels:
            dataset.PixelData = pixels
            dataset["PixelData"].VR = "OW" if image.dtype == np.uint16 else "OB"
            dataset.save_as(files.begin(final), enforce_file_format=True)
        height, width = image.shape
        return f"{final}: {len(shown)} frames, {width}x{height}, {8 * image.itemsize} bit, {_named(dataset)}"


def _check(kind: str, codec: str | None, crf: int | None, region: str | None) -> None:
    """Raises UsageError for options that do not fit ``kind``."""
    if kind != SOP_CLASSES[0] and not region:
        raise UsageError(f"--sop-class {kind} has to say what was looked at; give --region")
    if kind != VIDEO and (codec or crf is not None):
        raise UsageError(
            f"--codec and --crf are for --sop-class {VIDEO}; {kind} keeps the pixels as they are"
        )
    if codec not in (None, *CODECS):
        raise UsageError(f"--codec {codec} is not one that DICOM knows: {', '.join(CODECS)}")


def _named(dataset: Any) -> str:
    return str(dataset.SOPClassUID.name.removesuffix(" Storage"))


def _parts(run: Iterator[Still], *, single: bool = False) -> Iterator[Iterator[Still]]:
    """``run`` in parts that fit one object each, or of a ``single`` image each, each to be read to its end before the
    next is asked for."""
    for first in run:
        most = 1 if single else max(1, min(MOST_FRAMES, MOST_BYTES // first.image.nbytes))
        yield itertools.chain([first], itertools.islice(run, most - 1))
