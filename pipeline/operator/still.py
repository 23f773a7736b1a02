"""A still: the raw, the up-scaled and the bicubic image of one frame as 16-bit PNGs, and what is known of them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from clesr.engines.common.errors import SinkError
from clesr.engines.common.files import make_parents, write_file, write_json
from clesr.engines.common.packages import versions_of
from clesr.engines.common.png import png_bytes
from clesr.engines.common.resample import quantise, resize
from clesr.pipeline.frame import Image, Result
from clesr.pipeline.operator.plain import plain
from clesr.pipeline.session.format import hash_bytes

VERSION = 1
MOST = 1000  # stills of one name


@dataclass(frozen=True, slots=True)
class Still16:
    """``result`` as it is written, with what is ``known`` of it as JSON."""

    result: Result
    known: Mapping[str, Any]

    def write(self, stem: Path, more: Callable[[Path], list[Path]] = lambda _stem: []) -> list[Path]:
        """``STEM.raw.png``, ``STEM.sr.png``, ``STEM.bicubic.png``, what ``more`` writes, and, when they are there,
        ``STEM.json``; where one of the names is taken ``STEM-2...`` and so on. The files. Raises SinkError, and what
        ``more`` raises when the others are there."""
        images = {"raw": self.result.frame.image, "sr": self.result.image, "bicubic": bicubic(self.result)}
        make_parents(stem)
        stem = free_stem(stem)
        files, stated = [], {}
        for kind, image in images.items():
            data = sixteen_bit_png(image)
            files.append(_beside(stem, f".{kind}.png"))
            write_file(files[-1], data)
            stated[kind] = {"file": files[-1].name, "bytes": len(data), "digest": hash_bytes(data)}
        added: list[Path] = []
        try:
            added = more(stem)
        finally:
            stated |= {path.name.removeprefix(f"{stem.name}."): {"file": path.name} for path in added}
            facts = plain({"version": VERSION, **self.known, "files": stated})
            write_json(_beside(stem, ".json"), facts)
        return [*files, *added, _beside(stem, ".json")]


def bicubic(result: Result) -> Image:
    """The LR image of ``result``, enlarged as much as its SR image."""
    height, width = result.image.shape
    return quantise(resize(result.lr, height, width), result.lr.dtype)


def sixteen_bit_png(image: Image) -> bytes:
    """``image`` (H, W) as a PNG of 16 bits. 8-bit levels are multiplied by 257: white stays white, and the levels can
    be had back exactly."""
    wide = image if image.dtype == np.uint16 else image.astype(np.uint16) * 257
    return png_bytes(wide)


def free_stem(stem: Path) -> Path:
    """``stem``, or ``STEM-2`` and so on, where no file begins so."""
    taken = set(os.listdir(stem.parent))
    for number in itertools.count(1):
        name = stem.name if number == 1 else f"{stem.name}-{number}"
        if number > MOST:
            raise SinkError(
                f"there are {MOST} stills named {stem.name} in {stem.parent}; choose another folder"
            )
        if not any(other.startswith(f"{name}.") for other in taken):
            return stem.with_name(name)
    raise AssertionError


def known_of(result: Result, now_ns: int) -> dict[str, Any]:
    """What ``result`` says of itself, as JSON, at ``now_ns`` of its clock."""
    taken = datetime.now().astimezone() - timedelta(microseconds=(now_ns - result.frame.time_ns) / 1e3)
    told, check = result.told, result.check
    return {
        "number": result.frame.number,
        "captured": taken.isoformat(timespec="milliseconds"),
        "time_ns": result.frame.time_ns,
        "damaged": result.frame.damaged,
        "dtype": result.image.dtype.name,
        "outcome": str(result.outcome),
        "scale": result.scale,
        "model": result.model,
        "engine": result.engine,
        "fidelity_db": result.fidelity,
        "worst_tile_db": check.worst_db if check is not None else None,
        "limit_db": check.limit_db if check is not None else None,
        "frames": result.frames,
        "levels": result.levels,
        "noise": told.levels if told is not None else None,
        "trusted": told.trusted if told is not None else None,
        "versions": versions_of(("clesr",)),
    }


def _beside(stem: Path, end: str) -> Path:
    return stem.with_name(stem.name + end)
