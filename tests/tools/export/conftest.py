"""Clips for the tests of the formats."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import noise

from clesr.pipeline.frame import Image
from clesr.tools.export.clip import Clip, Derivation, Still
from clesr.tools.export.files import all_or_none
from clesr.tools.export.registry import Exporter

DERIVATION = Derivation(4, "fast", "a2de0bda22cf" + "0" * 52, "openvino")
TIMES_NS = (0, 40_000_000, 80_123_000, 520_000_000, 560_000_456)  # uneven, with a gap where frames were lost


@pytest.fixture
def make_clip() -> Callable[..., Clip]:
    """A clip from its images; all else by keyword. ``sr=True`` for super-resolved ones."""

    def make(
        images: Sequence[Image],
        times_ns: Sequence[int] = TIMES_NS,
        *,
        sr: bool = False,
        numbers: Sequence[int] = (),
        bicubic: Sequence[int] = (),
        **about: Any,
    ) -> Clip:
        triples = zip(numbers or range(len(images)), times_ns, images, strict=False)
        stills = [Still(number, time, image, number in bicubic) for number, time, image in triples]
        known = {"fps": 25.0, "total": len(stills), "derivation": DERIVATION if sr else None}
        return Clip(kind="sr" if sr else "raw", stills=stills, **(known | about))

    return make


@pytest.fixture
def images() -> list[Image]:
    return noise(5, (31, 42), np.uint8)


@pytest.fixture
def deep_images() -> list[Image]:
    """All 16 bits used."""
    return noise(5, (31, 42), np.uint16)


@pytest.fixture
def program() -> Callable[[str, str], str]:
    """The path of somebody else's program, by its name and Debian package; skips where it is not installed."""

    def find(name: str, package: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{name} is missing: apt-get install {package}")
        return path

    return find


@pytest.fixture
def save() -> Callable[..., list[str]]:
    """What the command does around an exporter: ``save(exporter, clip, path, ...)``."""

    def run(exporter: Callable[..., Exporter], clip: Clip, path: Path, **options: Any) -> list[str]:
        with all_or_none() as files:
            return exporter(**options).write(clip, path, files)

    return run
