"""The mean of a flat field; what is none is refused in one line."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import DrawnBundle, draw_bundle

from clesr.engines.common.errors import UsageError
from clesr.pipeline.cores.flat_field import FlatField
from clesr.pipeline.frame import Image

BUNDLE = draw_bundle((200, 200), 8.0)


def flat_field(images: list[Image]) -> FlatField:
    flat = FlatField()
    for image in images:
        flat.add(image)
    return flat


def moving(bundle: DrawnBundle, frames: int) -> list[Image]:
    """Tissue that is drawn past the probe."""
    x, y = bundle.places.T
    return [
        bundle.show(90 + 60 * np.sin((x + 5 * n) / 12) * np.cos(y / 15), noise=2, seed=n)
        for n in range(frames)
    ]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_mean_of_noisy_frames_is_the_flat_field(dtype: type) -> None:
    frames = [BUNDLE.show(100.0 * light, dtype, noise=6, seed=n) for n, light in enumerate((1, 0.9, 1.1, 1))]
    found = flat_field(frames).calibration(name="a")
    assert (found.facts.frames, found.name) == (4, "a")
    assert len(found.places) == pytest.approx(len(BUNDLE.places), rel=0.02)
    alone = flat_field([BUNDLE.show(100.0, dtype)]).calibration()
    assert np.median(found.flat) == pytest.approx(np.median(alone.flat), rel=0.04)


def test_what_moves_is_no_flat_field() -> None:
    with pytest.raises(UsageError, match=r"what is seen changes by \d+ %; hold the probe still"):
        flat_field(moving(BUNDLE, 4)).calibration()


def test_what_is_too_bright_says_nothing() -> None:
    white = BUNDLE.show(700.0)
    with pytest.raises(UsageError, match=r"\d+ % of the pixels are white; lower light, gain or exposure"):
        flat_field([white]).calibration()
    with pytest.raises(UsageError, match=r"\d+ of \d+ cores are white; lower light"):
        flat_field([BUNDLE.show(265.0)]).calibration()


def test_frames_of_two_kinds_make_none() -> None:
    flat = flat_field([BUNDLE.show()])
    for other in (BUNDLE.show(dtype=np.uint16), np.zeros((200, 199), np.uint8)):
        with pytest.raises(UsageError, match="change their size or depth"):
            flat.add(other)
    with pytest.raises(UsageError, match="no frames"):
        FlatField().calibration()
