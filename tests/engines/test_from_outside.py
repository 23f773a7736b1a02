"""A network and an engine of another package: one entry point each, and nothing of clesr is changed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from random_models import random_image

from clesr.engines.common.errors import EngineError, WeightsError
from clesr.engines.factory import ENGINES, engines, open_engine
from clesr.engines.models.registry import NETWORKS, build_model
from clesr.engines.models.weights import Descriptor, find_model, load_model, save_model
from clesr.engines.reference import reference_image

ENTRY_POINTS = """
[clesr.models]
brighter = clesr_other:Brighter
[clesr.engines]
other = clesr_other:candidates
broken = clesr_missing:candidates
"""
PACKAGE = """
from typing import Annotated

import msgspec
import torch

from clesr.engines.candidate import EngineCandidate
from clesr.engines.engine import EngineInfo
from clesr.engines.models.layers import BicubicUp
from clesr.engines.reference import reference_image
from clesr.engines.worker import WorkerEngine


class Brighter(torch.nn.Module):
    carries_image = True

    class Arguments(msgspec.Struct, forbid_unknown_fields=True):
        channels: Annotated[int, msgspec.Meta(ge=1, le=8)] = 2

    def __init__(self, scale, *, channels=2):
        super().__init__()
        self.scale, self.base = scale, BicubicUp(scale)
        self.more = torch.nn.Parameter(torch.full((channels,), 0.05))

    def forward(self, x):
        return torch.clamp(self.base(x) + self.more.sum(), 0, 1)


def candidates():
    return [EngineCandidate(name="other", kind="cpu", device="a device", precision="fp32", rank=1, open=start)]


def start(model, shape, threads):
    info = EngineInfo("other", "a device", "fp32", model.name, model.sha256, model.scale, shape)
    return WorkerEngine(info, lambda lr: reference_image(model.module, lr))
"""
SHAPE = (9, 12)


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "clesr_other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: clesr-other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "clesr_other.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    for registry in (ENGINES, NETWORKS):  # which look for other packages once
        monkeypatch.setattr(registry, "_foreign", None)
        monkeypatch.setattr(registry, "_loaded", {})
    monkeypatch.delitem(sys.modules, "clesr_other", raising=False)


def test_a_network_of_another_package_is_built_saved_loaded_and_run(tmp_path: Path) -> None:
    assert list(NETWORKS) == ["densenet", "srcnn", "fast", "brighter"]
    assert "clesr_other" not in sys.modules, "nothing is loaded to know its name"
    network, path = build_model("brighter", 2, {"channels": 4}), tmp_path / "brighter.safetensors"
    save_model(
        path, network, Descriptor(name="b", architecture="brighter", scale=2, arguments={"channels": 4})
    )
    engine, lr = open_engine("torch", str(path), 2, SHAPE, device="cpu"), random_image(SHAPE)
    engine.submit(lr)
    sr = engine.collect()
    engine.close()
    assert np.array_equal(sr, reference_image(network, lr))
    assert load_model(path).module.get_parameter("more").shape == (4,)
    with pytest.raises(WeightsError, match="channels is 9: expected `int` <= 8"):
        build_model("brighter", 2, {"channels": 9})
    with pytest.raises(WeightsError, match="scale 3 is not one of 2, 4, 8"):
        build_model("brighter", 3, {})


def test_an_engine_of_another_package_is_chosen_and_checked_as_any_other() -> None:
    model, lr = find_model("fast", 2), random_image(SHAPE)
    for name in ("auto", "other"):
        engine = open_engine(name, model, 2, SHAPE, device="cpu")
        engine.submit(lr)
        assert np.array_equal(engine.collect(), reference_image(model.module, lr))
        engine.close()
        assert engine.info.choice == "engine: other fp32 on a device, fast x2"


def test_a_package_that_cannot_be_loaded_is_passed_over() -> None:
    assert engines()[-1].reason == (
        "broken in clesr.engines of the package clesr-other (clesr_missing:candidates) does not load "
        "(ModuleNotFoundError: No module named 'clesr_missing')"
    )
    open_engine("auto", "fast", 2, SHAPE, device="cpu").close()
    with pytest.raises(EngineError, match=r"not broken fp32 on this machine \(broken in clesr\.engines"):
        open_engine("broken", "fast", 2, SHAPE)
