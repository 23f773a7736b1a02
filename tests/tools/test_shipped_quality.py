"""What the shipped weights gain on real CLE images of other patients (true PSNR inside the field of view)."""

from __future__ import annotations

from pathlib import Path

import pytest

from clesr.engines.weights import load_model, shipped
from clesr.tools.training.data import load_pairs
from clesr.tools.training.validate import gain_over_bicubic


def gain(data: Path, name: str, scale: int) -> float:
    pairs = load_pairs(str(data / "test" / "cle_*"), scale)
    assert len(pairs) == 5
    return gain_over_bicubic(load_model(shipped()[name, scale]).module, pairs)


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "least"), [(2, 2.0), (4, 1.3), (8, 0.9)])
def test_fast_gains_over_bicubic(data: Path, scale: int, least: float) -> None:
    found = gain(data, "fast", scale)
    assert found >= least
    stated = load_model(shipped()["fast", scale]).descriptor.metrics["test_gain_db"]
    assert found == pytest.approx(stated, abs=0.02)


@pytest.mark.slow
def test_densenet_is_at_least_as_good_as_fast(data: Path) -> None:
    assert gain(data, "densenet", 4) >= gain(data, "fast", 4)
