from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from clesr.engines.common.image import Floats, Image, Pixels
from clesr.engines.common.resample import quantise, resize
from clesr.engines.temporal.agreement import judged
from clesr.engines.temporal.fusion import GAP, TemporalFusion
from clesr.engines.temporal.registration import CELL, Positions, Registration, remapped

SCALE, SIZE = 2, 96
ROOM = 80  # HR pixels around a view
SR = SIZE * SCALE


def tissue(seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    side = SR + 2 * ROOM
    fields = [cv2.GaussianBlur(rng.standard_normal((side, side)), (0, 0), width) for width in (2.0, 6.0)]
    mixed = sum(field / field.std() for field in fields)
    return np.asarray(np.clip(120 + 25 * mixed, 20, 235), np.float32)


def view(scene: Floats, x: float, y: float) -> Floats:
    """What is seen with the probe moved by ``x`` and ``y`` HR pixels."""
    move = np.array([[1, 0, ROOM + x], [0, 1, ROOM + y]], np.float32)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(scene, move, (SR, SR), flags=flags), np.float32)


def path(count: int, step: float = 3.0) -> list[tuple[float, float]]:
    return [(step * 0.9 * i % 60, step * 0.43 * i % 60) for i in range(count)]


def reduced(truth: Floats, noise: float = 0.0, seed: int = 0) -> Pixels:
    lr = resize(truth, SIZE, SIZE)
    return quantise(
        lr + np.float32(noise) * np.random.default_rng(seed).standard_normal(lr.shape, np.float32),
        np.dtype(np.uint8),
    )


def enlarged(lr: Pixels) -> Pixels:
    """The engine of these tests."""
    return quantise(resize(lr, lr.shape[0] * SCALE, lr.shape[1] * SCALE), lr.dtype)


def everywhere(lr: Image) -> NDArray[np.bool_]:
    return np.ones(lr.shape, np.bool_)


def error(image: Image, truth: Floats, where: tuple[slice, slice] = np.s_[16:-16, 16:-16]) -> float:
    return float(np.sqrt(np.mean(np.square(image[where].astype(np.float32) - truth[where]))))


def run(frames: Sequence[Pixels], fusion: TemporalFusion | None = None) -> list[tuple[Image, float]]:
    fusion = fusion or TemporalFusion((SIZE, SIZE), SCALE)
    return [fusion(lr, enlarged(lr), number, everywhere(lr)) for number, lr in enumerate(frames)]


def moving(count: int, noise: float = 0.0, scene: Floats | None = None) -> tuple[list[Floats], list[Pixels]]:
    scene = tissue() if scene is None else scene
    truths = [view(scene, x, y) for x, y in path(count)]
    return truths, [reduced(truth, noise, number) for number, truth in enumerate(truths)]


@pytest.mark.parametrize("shift", [(0, 0), (3.3, -2.7), (-17, 9.5), (30, 30)])
@pytest.mark.parametrize("noise", [0.0, 8.0])
def test_a_shift_is_found_to_a_fraction_of_a_pixel(shift: tuple[float, float], noise: float) -> None:
    """By how much earlier content lies elsewhere: present(p) = earlier(p + field)."""
    present, earlier = reduced(view(tissue(), *shift), noise), reduced(view(tissue(), 0, 0), noise, 1)
    whole = np.ones(present.shape, np.float32)
    found, peak = Registration(present.shape)(
        present.astype(np.float32), earlier.astype(np.float32), whole, whole
    )
    middle = found[6:-6, 6:-6].mean((0, 1)) * CELL * SCALE
    np.testing.assert_allclose(middle, shift, atol=0.15 if noise == 0 else 0.5)
    assert peak > 6


def test_a_rim_that_stays_does_not_hold_the_tissue() -> None:
    y, x = np.ogrid[:SIZE, :SIZE]
    seen = ((y - SIZE / 2) ** 2 + (x - SIZE / 2) ** 2 < (SIZE / 2 - 2) ** 2).astype(np.float32)
    present, earlier = (reduced(view(tissue(), *shift)) * seen for shift in ((9.0, 5.0), (0.0, 0.0)))
    found, _ = Registration((SIZE, SIZE))(present, earlier, seen, seen)
    np.testing.assert_allclose(found[8:-8, 8:-8].mean((0, 1)) * CELL * SCALE, (9, 5), atol=0.3)


def test_other_tissue_has_no_peak() -> None:
    whole = np.ones((SIZE, SIZE), np.float32)
    register = Registration((SIZE, SIZE))
    peaks = [
        register(
            reduced(view(tissue(2 * i), 0, 0)).astype(np.float32),
            reduced(view(tissue(2 * i + 1), 0, 0)).astype(np.float32),
            whole,
            whole,
        )[1]
        for i in range(6)
    ]
    assert max(peaks) < 6


@pytest.mark.parametrize("shape", [(24, 40), (37, 61), (128, 131)])
def test_positions_without_shift_are_the_pixels_themselves(shape: tuple[int, int]) -> None:
    cells = -(-shape[0] // CELL), -(-shape[1] // CELL)
    at = Positions(cells, shape)(np.zeros((*cells, 2), np.float32))
    y, x = np.mgrid[: shape[0], : shape[1]]
    np.testing.assert_allclose(at, np.dstack([x, y]), atol=0.02)
    image = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    assert np.abs(remapped(image, at) - image).max() < 8


@pytest.mark.parametrize(("noise", "most"), [(4.0, 0.82), (10.0, 0.65)])
def test_noise_falls_while_tissue_stays_or_moves(noise: float, most: float) -> None:
    truths, moved = moving(10, noise)
    resting = [reduced(truths[0], noise, 50 + number) for number in range(10)]
    for expected, frames in ((truths[-1], moved), (truths[0], resting)):
        *_, (fused, count) = run(frames)
        assert error(fused, expected) < most * error(enlarged(frames[-1]), expected)
        assert count > 5


def test_clean_frames_gain_detail() -> None:
    truths, frames = moving(10)
    *_, (fused, _) = run(frames)
    assert error(fused, truths[-1]) < 0.95 * error(enlarged(frames[-1]), truths[-1])


@pytest.mark.parametrize("noise", [0.0, 5.0])
def test_the_frame_after_a_cut_stands_alone(noise: float) -> None:
    _, frames = moving(6, noise)
    _, others = moving(3, noise, tissue(9))
    found = run([*frames, *others])
    np.testing.assert_array_equal(found[6][0], enlarged(others[0]))
    assert found[6][1] == 1
    assert found[8][1] > 2


@pytest.mark.parametrize("number", [5, 4, 0, 6 + GAP + 2])
def test_numbers_that_do_not_follow_start_anew(number: int) -> None:
    _, frames = moving(6, 5.0)
    fusion = TemporalFusion((SIZE, SIZE), SCALE)
    run(frames, fusion)
    alone, count = fusion(frames[-1], enlarged(frames[-1]), number, everywhere(frames[-1]))
    np.testing.assert_array_equal(alone, enlarged(frames[-1]))
    assert count == 1


def test_a_short_gap_is_bridged_and_a_reset_forgets() -> None:
    _, frames = moving(7, 5.0)
    fusion = TemporalFusion((SIZE, SIZE), SCALE)
    run(frames[:5], fusion)
    assert fusion(frames[6], enlarged(frames[6]), 6, everywhere(frames[6]))[1] > 2
    fusion.reset()
    assert fusion(frames[6], enlarged(frames[6]), 7, everywhere(frames[6]))[1] == 1


@pytest.mark.parametrize("contrast", [40, -40])
@pytest.mark.parametrize("noise", [0.0, 4.0])
@pytest.mark.parametrize("side", [4, 12])
def test_what_appears_is_seen_at_once_and_leaves_no_ghost(contrast: int, noise: float, side: int) -> None:
    truths, frames = moving(10, noise)
    with_object = frames[7].astype(np.int16)
    lr = slice(SIZE // 2, SIZE // 2 + side)
    with_object[lr, lr] += contrast
    frames[7] = np.clip(with_object, 0, 255).astype(np.uint8)
    found = run(frames)
    where = (slice(lr.start * SCALE, lr.stop * SCALE),) * 2
    single = enlarged(frames[7])[where].astype(np.float32) - truths[7][where]
    shown = found[7][0][where].astype(np.float32) - truths[7][where]
    assert float((shown * single).sum() / np.square(single).sum()) == pytest.approx(1, abs=0.05)
    # In the next frame the tissue has moved by two or three pixels, and the engine alone has no ghost.
    ghost, none = (
        np.abs(image[where] - truths[8][where]).mean() for image in (found[8][0], enlarged(frames[8]))
    )
    assert ghost < none + 0.3


def test_text_that_stays_while_tissue_moves_leaves_no_trail() -> None:
    truths, frames = moving(10)
    for frame in frames:
        cv2.putText(frame, "20 um", (20, 60), cv2.FONT_HERSHEY_PLAIN, 1.0, 255, 1)
    *_, (fused, _) = run(frames)
    around = np.s_[90:132, 30:140]
    assert error(fused, enlarged(frames[-1]).astype(np.float32), around) < 6
    assert error(fused, truths[-1], np.s_[16:80, 16:-16]) < error(
        enlarged(frames[-1]), truths[-1], np.s_[16:80, 16:-16]
    )


def test_outside_the_field_of_view_the_image_is_that_of_the_engine() -> None:
    y, x = np.ogrid[:SIZE, :SIZE]
    seen = (y - SIZE / 2) ** 2 + (x - SIZE / 2) ** 2 < (SIZE / 2 - 4) ** 2
    _, frames = moving(6, 5.0)
    fusion = TemporalFusion((SIZE, SIZE), SCALE)
    for number, lr in enumerate(frames):
        lr[~seen] = 0
        fused, _ = fusion(lr, enlarged(lr), number, np.asarray(seen))
        outside = (
            cv2.erode((~seen).astype(np.uint8), np.ones((3, 3)), borderValue=1)
            .repeat(SCALE, 0)
            .repeat(SCALE, 1)
        )
        np.testing.assert_array_equal(fused[outside > 0], enlarged(lr)[outside > 0])


def test_brightness_may_change() -> None:
    truths, frames = moving(8, 4.0)
    frames = [quantise(np.float32(0.9**number) * lr, np.dtype(np.uint8)) for number, lr in enumerate(frames)]
    *_, (fused, count) = run(frames)
    assert count > 3
    darker = np.float32(0.9**7) * truths[-1]
    assert error(fused, darker) < error(enlarged(frames[-1]), darker)
    assert abs(float(fused.mean()) - float(enlarged(frames[-1]).mean())) < 0.5


@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_frames_without_structure_stay_as_they_are(level: int) -> None:
    frame = np.full((SIZE, SIZE), level, np.uint8)
    for fused, _ in run([frame] * 4):
        np.testing.assert_array_equal(fused, enlarged(frame))


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 5), (24, 24), (25, 33), (61, 38), (24, 200)])
@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_size_and_depth(shape: tuple[int, int], scale: int, dtype: type[np.uint8 | np.uint16]) -> None:
    rng = np.random.default_rng(0)
    fusion = TemporalFusion(shape, scale)
    smooth = cv2.GaussianBlur(rng.uniform(0, np.iinfo(dtype).max, shape), (0, 0), 1.0)
    for number in range(4):
        lr: Image = np.roll(smooth, number, 1).astype(dtype)
        sr: Image = quantise(resize(lr, shape[0] * scale, shape[1] * scale), np.dtype(dtype))
        fused, count = fusion(lr, sr, number, everywhere(lr))
        assert (fused.shape, fused.dtype) == (sr.shape, sr.dtype)
        assert count >= 1


def test_sixteen_bits_are_as_eight() -> None:
    _, frames = moving(6, 5.0)
    fusion = TemporalFusion((SIZE, SIZE), SCALE)
    for number, (lr, (eight, count)) in enumerate(zip(frames, run(frames), strict=True)):
        wide = lr.astype(np.uint16) * 257
        fused, wide_count = fusion(wide, enlarged(lr).astype(np.uint16) * 257, number, everywhere(lr))
        assert np.abs(fused / 257 - eight).max() <= 1
        assert wide_count == pytest.approx(count, rel=0.01)


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"made for \(96, 96\), not \(90, 96\)"):
        TemporalFusion((SIZE, SIZE), SCALE)(
            np.zeros((90, 96), np.uint8), np.zeros((180, 192), np.uint8), 0, np.ones((90, 96), np.bool_)
        )


def test_inputs_are_left_as_they_are_and_results_are_the_callers_to_keep() -> None:
    _, frames = moving(5, 5.0)
    for lr in frames:
        lr.setflags(write=False)
    found = run(frames)
    kept = [image.copy() for image, _ in found]
    fusion = TemporalFusion((SIZE, SIZE), SCALE)
    again = run(frames, fusion)
    run(frames, fusion)
    for (image, _), copy in zip(again, kept, strict=True):
        np.testing.assert_array_equal(image, copy)


def test_the_same_bits_for_any_number_of_threads() -> None:
    _, frames = moving(6, 5.0)
    usual = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        expected = run(frames)
        for threads in (2, 3, 8):
            cv2.setNumThreads(threads)
            for (fused, count), (image, counted) in zip(run(frames), expected, strict=True):
                np.testing.assert_array_equal(fused, image)
                assert count == counted
    finally:
        cv2.setNumThreads(usual)


def test_noise_alone_costs_a_prediction_little_and_a_fault_costs_it_where_it_is() -> None:
    present = reduced(view(tissue(), 0, 0)).astype(np.float32)
    whole, before = np.ones_like(present), np.full_like(present, 8)
    difference = 5 * np.random.default_rng(0).standard_normal(present.shape, np.float32)
    noise, _, counted = judged(present + difference, whole, difference, before)
    assert noise == pytest.approx(5, rel=0.2)
    assert counted.mean() > 6
    difference[40:50, 40:50] += 30
    _, excess, counted = judged(present + difference, whole, difference, before)
    assert counted[42:48, 42:48].max() < 0.5
    assert counted[:30].mean() > 6
    assert excess[44:46, 44:46].min() > 300


def test_where_most_is_at_fault_nothing_is_trusted() -> None:
    """Chance agreement of small parts, after a false registration, is worth nothing."""
    present = reduced(view(tissue(), 0, 0)).astype(np.float32)
    before = np.full_like(present, 8)
    difference = np.random.default_rng(0).standard_normal(present.shape, np.float32)
    difference[16:] += 40 * np.sin(np.arange(16, SIZE, dtype=np.float32) / 3)[:, None]
    _, _, counted = judged(present, np.ones_like(present), difference, before)
    assert not counted.any()


def test_how_images_lie_in_memory_makes_no_difference() -> None:
    scene = tissue()
    fusions = TemporalFusion((SIZE, SIZE), SCALE), TemporalFusion((SIZE, SIZE), SCALE)
    for number, place in enumerate(path(3)):
        lr = reduced(view(scene, *place), 4.0, number)
        rows, columns = (
            fusion(order(lr), order(enlarged(lr)), number, everywhere(lr))
            for fusion, order in zip(fusions, (np.ascontiguousarray, np.asfortranarray), strict=True)
        )
        assert rows[1] == columns[1]
        np.testing.assert_array_equal(rows[0], columns[0])
