"""Every weights file in the package: whole, small, as described, and right on every engine here."""

from __future__ import annotations

import numpy as np
import pytest

from clesr.engines.factory import engines, open_engine
from clesr.engines.models.registry import NETWORKS, carries_image
from clesr.engines.models.weights import load_model, shipped
from clesr.engines.reference import reference_image
from clesr.engines.selftest import probe_image

SHAPE = 15, 22  # LR pixels
SHIPPED = [f"{name}-x{scale}" for name, scale in shipped()]


def test_the_promised_models_are_shipped() -> None:
    assert {("fast", 2), ("fast", 4), ("fast", 8), ("densenet", 4)} <= set(shipped())


@pytest.mark.parametrize("stem", SHIPPED)
def test_shipped_weights(stem: str) -> None:
    name, _, scale = stem.rpartition("-x")
    path = shipped()[name, int(scale)]
    assert path.stat().st_size < 12e6
    model = load_model(path)
    descriptor = model.descriptor
    assert (descriptor.name, descriptor.scale) == (name, int(scale))
    assert descriptor.architecture in NETWORKS
    assert descriptor.licence
    assert descriptor.training["steps"] > 0
    assert descriptor.metrics["test_gain_db"] > 0


@pytest.mark.parametrize(
    "stem", [pytest.param(stem, marks=[pytest.mark.slow] * stem.startswith("densenet")) for stem in SHIPPED]
)
def test_every_engine_computes_what_the_reference_does(stem: str) -> None:
    name, _, scale = stem.rpartition("-x")
    model = load_model(shipped()[name, int(scale)])
    lr = probe_image(*SHAPE)
    reference = reference_image(model.module, lr)
    for candidate in engines():
        if not candidate.available or (candidate.precision == "bf16" and not carries_image(model.module)):
            continue
        engine = open_engine(
            candidate.name, model, model.scale, SHAPE, device=candidate.kind, precision=candidate.precision
        )
        engine.submit(lr)
        difference = np.abs(engine.collect().astype(int) - reference)
        engine.close()
        assert difference.mean() <= 1
        assert difference.max() <= 4
