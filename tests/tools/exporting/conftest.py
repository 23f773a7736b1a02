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
from clesr.tools.exporting.clip import Clip, Derivation, Still
from clesr.tools.exporting.files import Files, all_or_none

MakeClip = Callable[..., Clip]
DERIVATION = Derivation(4, "fast", "a2de0bda22cf" + "0" * 52, "openvino")
TIMES_NS = [0, 40_000_000, 80_123_000, 520_000_000, 560_000_456]
"""Uneven, with a gap where frames were lost."""


@pytest.fixture
def make_clip() -> MakeClip:
    """A clip from its images; all else by keyword. ``sr=True`` for super-resolved ones."""

    def make(
        images: Sequence[Image],
        times_ns: Sequence[int] = TIMES_NS,
        *,
        sr: bool = False,
        numbers: Sequence[int] | None = None,
        bicubic: Sequence[int] = (),
        **about: Any,
    ) -> Clip:
        numbers = numbers or range(len(images))
        triples = zip(numbers, times_ns, images, strict=False)
        stills = [Still(number, time, image, number in bicubic) for number, time, image in triples]
        about = {"fps": 25.0, "total": len(stills), "derivation": DERIVATION if sr else None} | about
        return Clip(kind="sr" if sr else "raw", stills=stills, **about)

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
    """The path of a program of another maker; skips where it is not installed."""

    def find(name: str, package: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{name} is missing: apt-get install {package}")
        return path

    return find


def export(write: Callable[..., list[str]], clip: Clip, path: Path, **options: Any) -> list[str]:
    """What the command does around a writer."""
    with all_or_none() as files:
        assert isinstance(files, Files)
        return write(clip, path, files, **options)
