"""What is sent to an archive, and how archives of all kinds are spoken to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydicom import dcmread

from clesr.engines.common.errors import SinkError


class Unreachable(SinkError):
    """The archive does not answer, or is busy: the same may work later."""


@dataclass(frozen=True, slots=True)
class DicomObject:
    """A DICOM file and its identity."""

    path: Path
    sop_class: str
    instance: str
    series: str
    study: str
    transfer_syntax: str
    words: str

    @staticmethod
    def of(path: Path) -> DicomObject:
        """The object in the file ``path``, whose pixels are not read."""
        header = dcmread(path, stop_before_pixels=True)
        frames, name = int(header.get("NumberOfFrames", 1)), header.SOPClassUID.name.removesuffix(" Storage")
        return DicomObject(
            path,
            str(header.SOPClassUID),
            str(header.SOPInstanceUID),
            str(header.SeriesInstanceUID),
            str(header.StudyInstanceUID),
            str(header.file_meta.TransferSyntaxUID),
            f"{frames} frame{'s' * (frames != 1)}, {name}, {header.SOPInstanceUID}",
        )


class Archive(Protocol):
    """A place that keeps DICOM objects. Methods raise Unreachable where trying again may help, else SinkError."""

    name: str
    """As it may be shown."""

    def holds(self, item: DicomObject) -> bool | None:
        """Whether ``item`` is stored there; None where the archive does not tell."""

    def store(self, item: DicomObject) -> str:
        """Have ``item`` stored; what the archive remarks, or empty."""

    def confirm(self, items: Sequence[DicomObject]) -> str:
        """Have the archive promise that it keeps ``items``; what it said in words, empty where it offers nothing."""
