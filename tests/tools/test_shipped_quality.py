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


LEAST = {
    ("densenet", 2): 2.6, ("densenet", 4): 1.7, ("densenet", 8): 1.2,
    ("fast", 2): 2.0, ("fast", 4): 1.3, ("fast", 8): 0.9,
    ("densenet-paper", 4): 1.0,
    ("srcnn", 2): 1.5, ("srcnn", 4): 0.9, ("srcnn", 8): 0.4,
}  # fmt: skip


def test_every_network_ships_at_every_scale_with_its_fidelity_limit() -> None:
    assert set(shipped()) == set(LEAST)
    for path in shipped().values():
        assert path.stat().st_size < 12e6
        assert load_model(path).descriptor.fidelity is not None


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_shipped_weights_gain_over_bicubic(data: Path, scale: int) -> None:
    found = {name: gain(data, name, scale) for name, its_scale in LEAST if its_scale == scale}
    for name, reached in found.items():
        assert reached >= LEAST[name, scale]
        stated = load_model(shipped()[name, scale]).descriptor.metrics["test_gain_db"]
        assert reached == pytest.approx(stated, abs=0.02)
    assert found["srcnn"] < found["fast"] <= found["densenet"] <= found["fast"] + 0.15
