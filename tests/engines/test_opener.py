"""What an EngineOpener was asked for, and the same for something else."""

from __future__ import annotations

import pytest

from clesr.engines.common.errors import UsageError, WeightsError
from clesr.engines.models.weights import Model, shipped
from clesr.engines.opener import EngineOpener


def test_it_says_what_it_was_asked_for() -> None:
    asked = EngineOpener(4, "auto", "torch", threads=1).given
    assert asked == {
        "scale": 4, "model": "auto", "engine": "torch", "device": None, "precision": None, "threads": 1,
    }  # fmt: skip


def test_another_scale_and_model_keep_all_else() -> None:
    first = EngineOpener(4, "bicubic", "torch", fps=7.0, threads=1)
    second = first.switched(2, "fast")
    assert second.given == {**first.given, "scale": 2, "model": "fast"}
    assert second.fps == 7.0
    assert isinstance(second.model, Model)
    assert (second.model.name, second.model.scale) == ("fast", 2)
    assert second((9, 11)).info.sr_shape == (18, 22)
    assert (first.model, first.scale) == ("bicubic", 4)


def test_what_there_is_not_is_refused() -> None:
    opener = EngineOpener(4, "fast")
    with pytest.raises(UsageError, match="model 'slow' is unknown"):
        opener.switched(4, "slow")
    with pytest.raises(WeightsError, match="is for scale 4, not 8"):
        opener.switched(8, str(shipped()["fast", 4]))
