"""What decides the pixels of an archive's results, and what its workers need to know."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from clesr.engines.common.errors import SourceError
from clesr.pipeline.cores.calibration import CoreCalibration, load_cores
from clesr.pipeline.prepare import Roi
from clesr.pipeline.settings import PIECE, ReadingSettings
from clesr.pipeline.sources.registry import SourceOptions

FOLDER = ".archive"  # in the output folder: the lock, and what is half-made
WORK = (FOLDER, "work")
# Settings that journals of before do not have: with these values they say nothing.
LATER: dict[str, Any] = {each.name: each.default for each in fields(ReadingSettings) if each.name != "window"}
LATER["cores_sha256"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ReadingSettings):
    """``model`` is a name or file, ``model_sha256`` its identity (empty without weights). ``engine``, ``device`` and
    ``precision`` are what was asked for. ``piece`` frames of a video are a segment, which begins with a key frame,
    so that any worker can make it. ``frames``: only the first so many of each input. ``consistent`` corrects
    images by what was measured. ``cores`` is the file of a calibration by which fibre cores are removed,
    ``cores_sha256`` its identity. ``threads`` changes no pixel, and neither does ``overwrite``: whether results take
    the place of files that no run made."""

    scale: int
    model: str
    model_sha256: str
    engine: str = "auto"
    device: str | None = None
    precision: str | None = None
    roi: Roi | None = None
    codec: str = "ffv1"
    piece: int = PIECE
    frames: int | None = None
    denoise: float | None = None
    temporal: str = "auto"
    consistent: bool = False
    threads: int | None = None
    overwrite: bool = False
    cores: str | None = None
    cores_sha256: str = ""

    def recorded(self) -> dict[str, Any]:
        """As the journal has it: results made with the same are the same."""
        settings: dict[str, Any] = asdict(self) | {"model": Path(self.model).name}
        del settings["threads"], settings["overwrite"], settings["cores"]
        return {name: value for name, value in settings.items() if LATER.get(name, ...) != value}

    def calibration(self) -> CoreCalibration | None:
        """That of the fibre cores. Raises SourceError where its file is another one now."""
        found = None if self.cores is None else load_cores(self.cores)
        if found is not None and found.sha256 != self.cores_sha256:
            raise SourceError(f"{self.cores} is not the calibration that the run began with; start it again")
        return found

    def source_options(self, *, tell: bool = False) -> SourceOptions:
        """How inputs are read, each file by itself."""
        return SourceOptions(**self.reading(), tell=tell, alone=True)

    @property
    def identity(self) -> str:
        """What the journal knows these settings by."""
        return _short_hash(self.recorded())

    def key(self, input_sha256: str, name: str) -> str:
        """A name for the work on one input, the same in every run that would do the same."""
        return _short_hash([input_sha256, name, self.recorded()])


def _short_hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
