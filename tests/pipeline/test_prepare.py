from __future__ import annotations

import math

import numpy as np
import pytest

from clesr.engines.common.errors import UsageError
from clesr.pipeline.frame import Frame, Image
from clesr.pipeline.prepare import IntensityWindow, Prepare, Roi, steady_window, stretch


def frame(image: Image, time_s: float = 0.0) -> Frame:
    return Frame(np.ascontiguousarray(image), 0, int(time_s * 1e9))


def ramp(dtype: type, low: int, high: int) -> Image:
    return np.linspace(low, high, 64 * 64).reshape(64, 64).astype(dtype)


def test_eight_bit_frames_pass_untouched_by_default() -> None:
    image = ramp(np.uint8, 10, 200)
    given = frame(image)
    assert Prepare()(given) is given.image
    assert given.image.ctypes.data == image.ctypes.data, "nothing is copied"


def test_roi_cuts_what_it_names() -> None:
    image = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)
    prepare = Prepare(roi=Roi.parse("3,4,10,8"), window=IntensityWindow.parse("full"))
    assert prepare.shape((20, 30)) == (8, 10)
    lr = prepare(frame(image))
    np.testing.assert_array_equal(lr, image[4:12, 3:13])
    assert lr.flags.c_contiguous


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "-1,0,5,5", "0,0,0,5", ""])
def test_roi_refuses_what_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="roi"):
        Roi.parse(text)


def test_roi_outside_names_the_frame() -> None:
    with pytest.raises(UsageError, match="30x20"):
        Prepare(roi=Roi(25, 0, 10, 10)).shape((20, 30))


@pytest.mark.parametrize("text", ["5", "9,3", "x,y", "automatic"])
def test_window_refuses_what_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="window"):
        IntensityWindow.parse(text)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_fixed_window_maps_its_ends_to_black_and_white(dtype: type) -> None:
    top = np.iinfo(dtype).max
    image: Image = np.array([[0, 50, 100, 150, 250]], dtype)
    lr = Prepare(window=IntensityWindow.parse("50,150"))(frame(image))
    np.testing.assert_allclose(lr, [[0, 0, top / 2, top, top]], atol=0.5)
    assert lr.dtype == dtype


def test_sixteen_bit_frames_are_stretched_by_percentiles() -> None:
    lr = Prepare()(frame(ramp(np.uint16, 1000, 5000)))
    assert lr.dtype == np.uint16
    assert lr[0, 0] == 0
    assert lr[-1, -1] == 65535
    assert abs(int(lr[32, 0]) - 32768) < 700


def test_percentile_window_does_not_flicker() -> None:
    prepare = Prepare(window=IntensityWindow("percentile"))
    steady = ramp(np.uint16, 1000, 5000)
    first = prepare(frame(steady, 0.0))
    bright = prepare(frame(steady + np.uint16(400), 0.04))
    shift = float(np.mean(bright.astype(float) - first))
    unsmoothed = 65535 * 400 / 4000
    assert shift == pytest.approx(unsmoothed, rel=0.1), "one bright frame hardly moves the window"
    for i in range(2, 250):
        settled = prepare(frame(steady + np.uint16(400), i * 0.04))
    assert abs(float(np.mean(settled.astype(float) - first))) < 0.02 * unsmoothed


def test_percentile_window_ignores_black_corners() -> None:
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    inside = x**2 + y**2 < 0.99
    image = np.where(inside, 20000 + 10000 * x, 0).astype(np.uint16)
    lr = Prepare()(frame(image))
    assert int(lr[64, 64]) == pytest.approx(32768, abs=800)


def test_a_change_of_size_starts_the_window_anew() -> None:
    prepare = Prepare(window=IntensityWindow("percentile"))
    prepare(frame(ramp(np.uint16, 0, 60000)))
    lr = prepare(frame(ramp(np.uint16, 100, 200)[:32], 0.01))
    assert lr.max() == 65535


def test_a_flat_frame_does_not_divide_by_zero() -> None:
    assert Prepare(window=IntensityWindow("percentile"))(frame(np.full((8, 8), 7, np.uint16))).max() == 0
    assert stretch(np.array([[7]], np.uint8), 6, 7)[0, 0] == 255


@pytest.mark.parametrize("roi", [Roi(0, 5, 4, 6), Roi(7, 0, 4, 6), Roi(0, 0, 11, 1), Roi(0, 0, 1, 11)])
def test_a_roi_may_touch_each_edge_and_not_cross_it(roi: Roi) -> None:
    with pytest.raises(UsageError, match="leaves the 10x10 frame"):
        roi.check((10, 10))
    roi.check((roi.y + roi.height, roi.x + roi.width))


def test_one_pixel_is_a_region_and_a_negative_corner_is_none() -> None:
    assert Roi.parse("0,0,1,1") == Roi(0, 0, 1, 1)
    for text in ("0,-1,5,5", "-1,0,5,5", "0,0,5,0"):
        with pytest.raises(UsageError, match="roi"):
            Roi.parse(text)


def test_a_window_has_a_width_and_says_what_it_is() -> None:
    with pytest.raises(UsageError, match="LOW must be below HIGH"):
        IntensityWindow.parse("5,5")
    for text in ("auto", "full", "percentile", "200,5000", "-3,0.5"):
        assert str(IntensityWindow.parse(text)) == text


def test_the_percentile_window_has_followed_two_thirds_of_a_step_after_a_second() -> None:
    prepare = Prepare(window=IntensityWindow("percentile"))
    prepare(frame(np.full((64, 64), 10_000, np.uint16)))
    prepare(frame(np.full((64, 64), 20_000, np.uint16), 1.0))
    assert prepare.levels is not None
    assert prepare.levels[0] == pytest.approx(10_000 + 10_000 * (1 - 1 / math.e), rel=1e-3)


def test_a_frame_that_claims_to_be_earlier_moves_no_window() -> None:
    prepare = Prepare(window=IntensityWindow("percentile"))
    prepare(frame(np.full((64, 64), 10_000, np.uint16), 5.0))
    prepare(frame(np.full((64, 64), 20_000, np.uint16), 4.0))
    assert prepare.levels == (10_000.0, 10_001.0)


def test_one_window_for_a_whole_recording() -> None:
    """Measured in the ellipse of images that are wider than high; of flat ones a level wide."""
    wide = np.zeros((40, 120), np.uint16)
    wide[18:22, 50:70] = 9_000
    window = steady_window([wide, wide])
    assert (window.mode, window.low) == ("fixed", 0.0)
    assert window.high > 1_000
    assert steady_window([np.full((40, 120), 77, np.uint16)]) == IntensityWindow("fixed", 77.0, 78.0)
