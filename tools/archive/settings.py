"""What decides the pixels of an archive's results, and what its workers need to know."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clesr.engines.common.errors import SourceError
from clesr.pipeline.cores.calibration import CoreCalibration, load_cores
from clesr.pipeline.prepare import IntensityWindow
from clesr.pipeline.settings import NO_CORES, UpscaleSettings, recorded_options
from clesr.pipeline.sources.registry import SourceOptions

if TYPE_CHECKING:
    from clesr.tools.archive.tree import InputFile

FOLDER = ".archive"  # in the output folder: the lock, and what is half-made
WORK = (FOLDER, "work")
# What decides results beside the options that sessions keep.
OWN = ("scale", "codec", "piece", "frames", "model_sha256", "cores_sha256")
# Settings that journals of before may lack: with the values of ``DEFAULTS`` they say nothing.
FIRST = (
    "model", "engine", "device", "precision", "window", "roi", "denoise", "temporal", "consistent", *OWN[:-1],
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(UpscaleSettings):
    """``model_sha256`` is the identity of the model (empty without weights), ``cores_sha256`` that of the calibration
    by which fibre cores are removed. ``piece`` frames of a video are a segment, which begins with a key frame, so that
    any worker can make it. ``threads`` changes no pixel, and neither does ``overwrite``: whether results take the place
    of files that no run made. Processors decode and encode, so that all workers give the same."""

    output: str = ""
    codec: str = "ffv1"
    decode: str = "cpu"
    encode: str = "cpu"
    model_sha256: str = ""
    cores_sha256: str = ""

    def recorded(self) -> dict[str, Any]:
        """As the journal has it: results made with the same are the same."""
        said = asdict(self) | {"model": Path(self.model).name}
        names = (name for name in (*OWN, *recorded_options(Settings)) if name != "threads")
        changed = (name for name in names if name in FIRST or getattr(self, name) != getattr(DEFAULTS, name))
        return {name: said[name] for name in changed}

    def of(self, file: InputFile) -> Settings:
        """As ``file`` is up-scaled: the window and the calibration that a session states hold where none is given."""
        found = self
        if self.window.mode == "auto" and file.window is not None:
            found = replace(found, window=IntensityWindow("fixed", *file.window))
        if self.cores is None and file.cores is not None:
            path, sha256 = file.cores
            found = replace(found, cores=str(path), cores_sha256=sha256)
        return found

    def stated(self, file: InputFile) -> str:
        """What of ``of`` is the file's own, as the journal has it."""
        own = self.of(file)
        window = [f"window {own.window}"] if own.window != self.window else []
        return " ".join([*window, *([f"cores {own.cores_sha256}"] if own.cores != self.cores else [])])

    def calibration(self) -> CoreCalibration | None:
        """That of the fibre cores. Raises SourceError where its file is another one now."""
        found = None if self.cores in (None, NO_CORES) else load_cores(self.cores)
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


DEFAULTS = Settings()
