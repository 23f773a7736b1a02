"""The picture that grows: what was drawn is read again, wherever it lies, and only what was drawn takes memory."""

from __future__ import annotations

import numpy as np
import pytest

from clesr.pipeline.mosaic.canvas import BYTES, MOST_WEIGHT, REDUCED, TILE, MapBox, TileCanvas

ONES = np.ones((40, 60), np.float32)


@pytest.mark.parametrize(
    ("left", "top"), [(0, 0), (-30, -20), (TILE - 30, 5), (-5 * TILE - 7, 9 * TILE - 11)]
)
def test_what_was_drawn_is_read_and_the_rest_is_unknown(left: int, top: int) -> None:
    canvas = TileCanvas()
    values = np.random.default_rng(0).uniform(0, 255, (40, 60)).astype(np.float32)
    canvas.draw(left, top, values, ONES, 255.0)
    mean, weight = canvas.read(left - 2, top - 3, (45, 66))
    np.testing.assert_allclose(mean[3:43, 2:62], values, rtol=1e-6)
    assert canvas.box == MapBox(left, top, left + 60, top + 40)
    assert weight.sum() == ONES.sum() == weight[3:43, 2:62].sum()
    assert mean.sum() == pytest.approx(values.sum(), rel=1e-5)


def test_frames_are_averaged_by_their_weights() -> None:
    canvas = TileCanvas()
    canvas.draw(-20, -20, 100 * ONES, 0.25 * ONES, 255.0)
    canvas.draw(-10, -20, 200 * ONES, 0.75 * ONES, 255.0)
    mean, _ = canvas.read(-20, -20, (40, 70))
    np.testing.assert_allclose(mean[:, :10], 100)
    np.testing.assert_allclose(mean[:, 10:60], 175)
    np.testing.assert_allclose(mean[:, 60:], 200)


def test_the_map_follows_tissue_that_changes_however_long_it_was_seen() -> None:
    canvas = TileCanvas()
    for _ in range(500):
        canvas.draw(0, 0, 50 * ONES, ONES, 255.0)
    for _ in range(30):
        canvas.draw(0, 0, 250 * ONES, ONES, 255.0)
    mean, weight = canvas.read(0, 0, ONES.shape)
    assert weight.max() == MOST_WEIGHT
    assert mean.min() > 240


def test_memory_is_taken_where_something_was_drawn() -> None:
    canvas = TileCanvas()
    far = MapBox(100 * TILE, 0, 100 * TILE + 60, 40)
    canvas.draw(0, 0, ONES, ONES, 255.0)
    assert canvas.bytes == BYTES
    assert canvas.bytes_with(far) == 2 * BYTES
    canvas.draw(*far[:2], ONES, ONES, 255.0)
    canvas.draw(1, 1, ONES, ONES, 255.0)
    canvas.draw(-70, -70, ONES, 0 * ONES, 255.0)
    assert canvas.bytes == 2 * BYTES
    assert canvas.read(50 * TILE, 0, (9, 9))[1].sum() == 0


@pytest.mark.parametrize("white", [255.0, 65535.0])
def test_the_overview_is_the_picture_in_small(white: float) -> None:
    canvas = TileCanvas()
    canvas.draw(-TILE, 8, 0.4 * white * ONES, ONES, white)
    canvas.draw(TILE, 8, 2 * white * ONES, ONES, white)  # brighter than white
    overview, left, top = canvas.overview()
    assert (left, top) == (-TILE, 0)
    assert overview.shape == (TILE // REDUCED, 3 * TILE // REDUCED)
    part = overview[8 // REDUCED : 48 // REDUCED]
    assert set(part[:, : 60 // REDUCED].ravel().tolist()) == {102}
    assert set(part[:, 2 * TILE // REDUCED :][:, : 60 // REDUCED].ravel().tolist()) == {255}
    assert overview.sum() == part.sum()
