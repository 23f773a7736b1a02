"""What decides the pixels of an archive's results, and what its workers need to know."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clesr.pipeline.prepare import Roi, Window
from clesr.pipeline.settings import PIECE

FOLDER = ".archive"  # in the output folder: the lock, and what is half-made
WORK = (FOLDER, "work")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``model`` is a name or file, ``model_sha256`` its identity (empty without weights). ``engine``, ``device`` and
    ``precision`` are what was asked for. ``piece`` frames of a video are a segment, which begins with a key frame,
    so that any worker can make it. ``frames``: only the first so many of each input. ``consistent`` corrects
    images by what was measured. ``threads`` changes no pixel, and neither does ``overwrite``: whether results take the
    place of files that no run made."""

    scale: int
    model: str
    model_sha256: str
    engine: str = "auto"
    device: str | None = None
    precision: str | None = None
    roi: Roi | None = None
    window: Window = Window()
    codec: str = "ffv1"
    piece: int = PIECE
    frames: int | None = None
    denoise: float | None = None
    temporal: str = "auto"
    consistent: bool = False
    threads: int | None = None
    overwrite: bool = False

    def recorded(self) -> dict[str, Any]:
        """As the journal has it: results made with the same are the same."""
        settings: dict[str, Any] = asdict(self) | {"model": Path(self.model).name}
        del settings["threads"], settings["overwrite"]
        return settings

    @property
    def identity(self) -> str:
        """What the journal knows these settings by."""
        return _short_hash(self.recorded())

    def key(self, input_sha256: str, name: str) -> str:
        """A name for the work on one input, the same in every run that would do the same."""
        return _short_hash([input_sha256, name, self.recorded()])


def _short_hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
