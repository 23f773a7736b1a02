"""What of a result is seen, before anything is written on it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import cv2
import numpy as np
import pytest

from clesr.engines.common.resample import quantise, resize
from clesr.engines.view import eight_bits
from clesr.pipeline.display.compose import colours, compose, levels_of, worst_tile
from clesr.pipeline.display.layout import visible
from clesr.pipeline.display.view_state import LOOKUP_TABLES, Contrast, Mode, ViewState
from clesr.pipeline.frame import Fidelity, Frame, Image, Outcome, Result, Times


def some_result(dtype: type = np.uint8, *, roi: bool = False) -> Result:
    """An image of 40x60, enlarged four times to something that is not its bicubic image; captured in 50x80."""
    top = int(np.iinfo(dtype).max)
    rng = np.random.default_rng(1)
    smooth = cv2.GaussianBlur(rng.random((50, 80)), (0, 0), 2)
    captured = ((0.2 + 0.6 * (smooth - smooth.min()) / np.ptp(smooth)) * top).astype(dtype)
    lr = np.ascontiguousarray(captured[5:45, 10:70]) if roi else captured[:40, :60].copy()
    sr: Image = (resize(lr, 160, 240) * 0.9).astype(dtype)
    check = Fidelity(
        40.0, None, None, None, 41.0, np.minimum(lr.astype(np.int64) + top // 10, top).astype(dtype)
    )
    frame = Frame(captured if roi else lr, 3, 0)
    return Result(
        frame,
        lr,
        sr,
        Outcome.UPSCALED,
        4,
        Times(0, 0, 0, 0),
        "fast",
        40.0,
        check,
        corner=(10, 5) if roi else (0, 0),
    )


def bicubic(result: Result) -> Image:
    return eight_bits(quantise(resize(result.lr, 160, 240), result.lr.dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_each_mode_shows_what_it_says(dtype: type) -> None:
    result = some_result(dtype, roi=True)
    sr, other = eight_bits(result.image), bicubic(result)
    raw = np.repeat(np.repeat(eight_bits(result.lr), 4, 0), 4, 1)
    expected = {
        Mode.SR: sr,
        Mode.BICUBIC: other,
        Mode.SIDE: np.hstack((other, sr)),
        Mode.WIPE: np.hstack((other[:, :72], sr[:, 72:])),
        Mode.RAW: eight_bits(result.frame.image),
        Mode.RAW_SIDE: np.hstack((raw, sr)),
    }
    assert expected.keys() == set(Mode)
    for mode, image in expected.items():
        found = compose(result, ViewState(mode=mode, wipe=0.3))
        assert found.dtype == np.uint8
        assert np.array_equal(found, image), mode


@pytest.mark.parametrize("wipe", [-1.0, 0.0, 1.0, 7.0])
def test_a_wipe_ends_at_the_edges(wipe: float) -> None:
    result = some_result()
    whole = compose(result, ViewState(mode=Mode.WIPE, wipe=wipe))
    assert np.array_equal(whole, result.image if wipe <= 0 else bicubic(result))


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("contrast", [Contrast.AS_IS, Contrast.CLAHE, Contrast.AUTO])
def test_a_zoom_is_a_part_of_the_whole(mode: Mode, contrast: Contrast) -> None:
    """Pixel by pixel, whatever else is done to it."""
    result = some_result()
    view = ViewState(mode=mode, contrast=contrast, overlay=True, lookup_table="fire")
    whole = compose(result, view)
    zoomed = replace(view, zoom=3.0, centre=(0.3, 0.9))
    count = 2 if mode in (Mode.SIDE, Mode.RAW_SIDE) else 1
    height, width = whole.shape[0], whole.shape[1] // count
    box = visible((height, width), zoomed)
    parts = [
        whole[box.top : box.top + box.height, pane * width + box.left : pane * width + box.left + box.width]
        for pane in range(count)
    ]
    assert np.array_equal(compose(result, zoomed), np.hstack(parts))


def test_fixed_levels_become_black_and_white() -> None:
    result = some_result()
    shown = compose(result, ViewState(contrast=Contrast.FIXED, levels=(80.0, 120.0)))
    assert (shown[result.image <= 80] == 0).all()
    assert (shown[result.image >= 120] == 255).all()
    assert (shown[result.image == 100] == 128).all()
    for levels in ((100.0, 100.0), (200.0, 100.0)):
        assert compose(result, ViewState(contrast=Contrast.FIXED, levels=levels)).shape == shown.shape


def test_automatic_levels_are_those_of_the_field_of_view() -> None:
    """The black around a round one, and a few bright pixels, count for nothing."""
    y, x = np.ogrid[:200, :200]
    inside = np.hypot(y - 99.5, x - 99.5) < 98
    lr = np.where(inside, 100 + (x + 0 * y) % 50, 0).astype(np.uint8)
    lr[100, 100:110] = 255
    result = replace(some_result(), frame=Frame(lr, 0, 0), lr=lr, image=lr)
    low, high = levels_of(result, ViewState(contrast=Contrast.AUTO)) or (0, 0)
    assert low == pytest.approx(100, abs=1)
    assert high == pytest.approx(149, abs=1)
    shown = compose(result, ViewState(contrast=Contrast.AUTO))
    assert shown[100, 50] == pytest.approx((lr[100, 50] - low) / (high - low) * 255, abs=1)


def test_automatic_levels_of_a_flat_or_black_image_divide_by_nothing() -> None:
    for level in (0, 77):
        lr = np.full((40, 60), level, np.uint8)
        flat = replace(
            some_result(), frame=Frame(lr, 0, 0), lr=lr, image=np.full((160, 240), level, np.uint8)
        )
        assert compose(flat, ViewState(contrast=Contrast.AUTO)).shape == (160, 240)


@pytest.mark.parametrize("name", LOOKUP_TABLES)
def test_look_up_tables_go_from_dark_to_bright(name: str) -> None:
    table = colours(name).reshape(256, 3).astype(int)
    brightness = table @ [0.114, 0.587, 0.299]
    assert brightness[0] < 35
    assert brightness[-1] > 140
    assert (np.diff(brightness) >= -1).all()
    assert len({tuple(row) for row in table}) > 200, "levels can be told apart"
    shown = compose(some_result(), ViewState(lookup_table=name))
    assert shown.ndim == (2 if name == "gray" else 3)


def test_clahe_is_alike_on_both_sides_of_the_edge_of_a_wipe() -> None:
    result = some_result()
    result = replace(result, image=bicubic(result).copy())  # nothing tells the sides apart
    at = [compose(result, ViewState(mode=Mode.WIPE, wipe=w, contrast=Contrast.CLAHE)) for w in (0.2, 0.8)]
    assert np.array_equal(at[0], at[1])
    assert not np.array_equal(at[0], result.image)


@pytest.mark.parametrize(("mode", "coloured"), [
    (Mode.SR, [True, True]), (Mode.WIPE, [False, True]), (Mode.SIDE, [False, True]),
    (Mode.RAW_SIDE, [False, True]), (Mode.BICUBIC, [False, False]), (Mode.RAW, [False, False]),
])  # fmt: skip
def test_the_overlay_is_over_sr_images_alone(mode: Mode, coloured: list[bool]) -> None:
    shown = compose(some_result(), ViewState(mode=mode, overlay=True))
    gray = shown if shown.ndim == 3 else np.repeat(shown[..., None], 3, 2)
    halves = np.array_split(gray.astype(int), 2, axis=1)
    assert [bool((np.ptp(half, axis=-1) > 20).mean() > 0.5) for half in halves] == coloured
    assert compose(replace(some_result(), check=None), ViewState(mode=mode, overlay=True)).ndim == 2


def test_a_tile_is_doubted_where_the_image_of_the_network_is_seen_and_below_its_limit() -> None:
    result = some_result()
    assert result.check is not None
    doubted = replace(result, check=replace(result.check, worst_db=30.0, worst_at=(4, 15), limit_db=36.0))
    for mode in Mode:
        seen = worst_tile(doubted, ViewState(mode=mode))
        none = mode in (Mode.RAW, Mode.BICUBIC)
        assert seen == (None if none else pytest.approx((15 / 60, 4 / 40, 47 / 60, 36 / 40)))
    assert worst_tile(replace(doubted, outcome=Outcome.FAILED), ViewState()) is None
    assert worst_tile(replace(doubted, check=replace(result.check, worst_db=36.5)), ViewState()) is None
    assert worst_tile(replace(doubted, check=None), ViewState()) is None


def test_nothing_of_a_result_is_changed() -> None:
    """What is recorded is what was made, whatever is shown."""
    result = some_result()
    arrays = [result.frame.image, result.lr, result.image]
    before = [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays]
    for mode in Mode:
        for contrast in Contrast:
            view = ViewState(mode=mode, contrast=contrast, overlay=True, lookup_table="viridis", zoom=2.0)
            shown = compose(result, view)
            if shown.flags.writeable:
                shown[:] = 0
    assert [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays] == before
