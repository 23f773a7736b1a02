from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from clesr.engines.common.errors import UsageError
from clesr.engines.levels import USUAL
from clesr.engines.models.registry import LEVELS
from clesr.tools.data.compression import jpeg, mpeg
from clesr.tools.data.cores import find_bundle, hexagonal_bundle, sampling
from clesr.tools.data.degradations import (
    LIMITS,
    Degradation,
    Mix,
    add_noise,
    displace_lines,
    parse_choice,
    parse_degradations,
    parse_mix,
    reduce,
)
from clesr.tools.data.degrade import degrade
from clesr.tools.data.pairs import make_pair
from clesr.tools.training.patches import VARIANTS, Patches

Pixels = NDArray[np.uint8]
EVERY = [
    "clean", "bicubic", "area", "point", "gauss=0.4", "cores=1.4", "lines=0.3", "noise=5", "shot=0.3", "jpeg=50",
    "mpeg=8", "cores=1.4+noise=4+jpeg=60", "point+shot=0.2+lines=0.2+mpeg=4",
]  # fmt: skip


def texture(shape: tuple[int, int], seed: int = 0, width: float = 3.0) -> Pixels:
    field = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal(shape), (0, 0), width)
    return np.asarray(np.clip(120 + 40 * field / field.std(), 0, 255), np.uint8)


def one(text: str) -> Degradation:
    (found,) = parse_degradations(text)
    return found


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("text", EVERY)
def test_each_is_repeated_by_its_seed_and_has_the_shape_of_the_lr_image(text: str, scale: int) -> None:
    hr = texture((24 * scale, 20 * scale), width=1.5 * scale)
    degradation = one(text)
    lr = degradation(hr, scale, np.random.default_rng(3))
    assert lr.shape == (24, 20)
    assert lr.dtype == np.uint8
    np.testing.assert_array_equal(lr, degradation(hr, scale, np.random.default_rng(3)))
    random = any(part in text for part in ("noise", "shot", "lines"))
    assert np.array_equal(lr, degradation(hr, scale, np.random.default_rng(4))) is not random
    correlation = np.corrcoef(lr.ravel(), degrade(hr, scale).ravel())[0, 1]
    assert correlation > 0.8, "it is still the same image, at the same place"
    assert str(degradation) == text


def test_every_part_is_tried_above() -> None:
    assert {name for text in EVERY for name, _ in one(text).parts} == set(LIMITS)


def test_clean_is_the_reduction_of_the_paper() -> None:
    hr = texture((96, 64))
    for text in ("clean", "bicubic"):
        np.testing.assert_array_equal(one(text)(hr, 4, np.random.default_rng(0)), degrade(hr, 4))


@pytest.mark.parametrize("kernel", ["bicubic", "area", "point", "gauss"])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_no_kernel_moves_the_image(kernel: str, scale: int) -> None:
    """A ramp stays a ramp through the centres of the LR pixels."""
    ramp = np.tile(np.arange(32 * scale, dtype=np.float32), (16 * scale, 1))
    found = reduce(ramp, scale, kernel, 0.4)[4:-4, 6:-6]
    expected = np.tile((np.arange(32) + 0.5) * scale - 0.5, (16, 1))[4:-4, 6:-6]
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_cores_do_not_move_the_image() -> None:
    x = np.tile(np.arange(160, dtype=np.float32), (128, 1))
    for image, expected in ((x, (np.arange(40) + 0.5) * 4 - 0.5), (x[:, :128].T, None)):
        shape = image.shape[0] // 4, image.shape[1] // 4
        cores = sampling(shape, 4, 1.5)
        found = cores.interpolate(cores.gather(np.ascontiguousarray(image)))[3:-3, 3:-3]
        if expected is None:
            found, expected = found.T, (np.arange(32) + 0.5) * 4 - 0.5
        np.testing.assert_allclose(found, np.broadcast_to(expected[3:-3], found.shape), atol=0.05)


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    for level in (20.0, 180.0):
        flat = np.full((200, 200), level, np.float32)
        assert add_noise(flat, 5, 0, rng).std() == pytest.approx(5, rel=0.02)
        assert add_noise(flat, 3, 0.25, rng).std() == pytest.approx(np.sqrt(9 + 0.25 * level), rel=0.02)


def test_lines_are_displaced_as_wholes() -> None:
    image = texture((40, 200), width=6).astype(np.float32)
    moved = displace_lines(image, 4, 0.5, np.random.default_rng(1))
    shifts = []
    for line in range(10):
        rows = slice(4 * line, 4 * line + 4)
        errors = [
            float(np.abs(np.roll(image[rows], shift, 1)[:, 20:-20] - moved[rows, 20:-20]).mean())
            for shift in range(-8, 9)
        ]
        shifts.append(int(np.argmin(errors)) - 8)
        assert min(errors) < 2
    assert len(set(shifts)) > 3
    assert np.std(shifts) < 5


@pytest.mark.parametrize(("code", "fine", "coarse"), [(jpeg, 95, 30), (mpeg, 2, 20)])
def test_coarser_coding_loses_more(code: object, fine: int, coarse: int) -> None:
    assert callable(code)
    image = texture((45, 61), width=2)
    errors = [float(np.abs(code(image, quality).astype(float) - image).mean()) for quality in (fine, coarse)]
    assert 0 < errors[0] < 2
    assert errors[1] > 2 * errors[0]


def test_the_made_bundle_is_nearly_hexagonal() -> None:
    """In a lattice of spacing 1 there are 2 / sqrt(3) cores a unit of area."""
    bundle = hexagonal_bundle()
    density = len(bundle.points) / (bundle.extent[0] * bundle.extent[1])
    assert density == pytest.approx(2 / np.sqrt(3), rel=0.02)


def test_cores_are_found_in_a_raw_frame(tmp_path: Path) -> None:
    """A drawn bundle of known spacing: as many cores, and the spacing is one in its own unit."""
    lattice = [(y * 6 * np.sqrt(3) / 2 + 20, x * 6 + (y % 2) * 3 + 20) for y in range(60) for x in range(52)]
    frame = np.zeros((352, 356), np.float32)
    for y, x in lattice:
        frame[round(y), round(x)] = 5000
    shown = cv2.GaussianBlur(frame, (0, 0), 1.6) / 2 + 20
    cv2.imwrite(str(tmp_path / "bundle.png"), np.clip(shown, 0, 255).astype(np.uint8))
    bundle = find_bundle(str(tmp_path / "bundle.png"))
    distances = np.linalg.norm(bundle.points[:300, None] - bundle.points[None], axis=2)
    nearest = np.sort(distances, axis=1)[:, 1]
    assert np.median(nearest) == pytest.approx(1, abs=0.06)
    cv2.imwrite(str(tmp_path / "flat.png"), np.full((100, 100), 80, np.uint8))
    with pytest.raises(UsageError, match="shows 0 fibre cores; 200 are needed"):
        find_bundle(str(tmp_path / "flat.png"))


def test_real_bundles(data: Path) -> None:
    """Cores of a real bundle lie 0.8 to 1 spacing from the nearest: each was found once, and few were missed."""
    for name in ("data_FujikuraHD1.png", "data_bundle3.png"):
        bundle = find_bundle(str(data / "fibre_patterns" / name))
        some = bundle.points[:: max(1, len(bundle.points) // 100)]
        away = np.linalg.norm(some[:, None] - bundle.points[None], axis=2)
        nearest = np.partition(away, 1, axis=1)[:, 1]
        assert 0.8 < np.median(nearest) < 1.0
        assert np.percentile(nearest, 5) > 0.6


def test_a_bundle_smaller_than_the_image_is_mirrored() -> None:
    hr = texture((8, 1200), width=20)
    lr = Degradation((("cores", 1.0),))(hr, 2, np.random.default_rng(0))
    assert np.abs(lr[:, 300:].astype(float) - degrade(hr, 2)[:, 300:]).mean() < 3


@pytest.mark.parametrize("module", ["scipy.spatial", "threadpoolctl"])
def test_cores_without_what_they_need_are_refused_before_any_image(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    words = "cores need scipy and threadpoolctl: pip install 'clesr\\[train\\]'"
    for parse in (parse_degradations, lambda text: parse_mix([text])):
        with pytest.raises(UsageError, match=words):
            parse("noise=2+cores=1.5")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("blur=2", "'blur' is not one of clean, bicubic"),
        ("noise", "noise takes a value or range LOW..HIGH from 0 to 64"),
        ("noise=x", "noise takes a value or range"),
        ("noise=nan", "noise takes a value or range"),
        ("noise=8..2", "noise takes a value or range"),
        ("jpeg=0", "from 1 to 100"),
        ("jpeg=101", "from 1 to 100"),
        ("cores=0.2", "from 1 to 4"),
        ("point=3", "point takes no value"),
        ("point+area", "one of bicubic, area"),
        ("noise=1+noise=2", "a part may come once"),
        ("noise=1@0", "the weight '0' is not a positive number"),
        ("noise=1@nan", "the weight 'nan' is not a positive number"),
        ("noise=1@", "the weight '' is not a positive number"),
        ("", "'' is not one of clean"),
    ],
)
def test_what_is_not_understood_is_said(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_choice(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_list_has_neither_ranges_nor_weights() -> None:
    assert [str(one) for one in parse_degradations("clean,noise=5,noise=3+jpeg=80")] == [
        "clean",
        "noise=5",
        "noise=3+jpeg=80",
    ]
    for text in ("noise=1..2", "noise=1@2"):
        with pytest.raises(UsageError, match="is not one degradation"):
            parse_degradations(text)


def test_a_mix_is_drawn_by_weight_and_within_its_ranges() -> None:
    mix = parse_mix(["clean@3", "noise=2..6+jpeg=40..60"])
    assert mix is not None
    rng = np.random.default_rng(0)
    drawn = [mix.draw(rng) for _ in range(800)]
    dirty = [dict(one.parts) for one in drawn if str(one) != "clean"]
    assert len(dirty) == pytest.approx(200, abs=45)
    for name, low, high in (("noise", 2, 6), ("jpeg", 40, 60)):
        values = [one[name] for one in dirty]
        assert low <= min(values) < low + 0.2 * (high - low)
        assert high - 0.2 * (high - low) < max(values) <= high
    assert parse_mix([]) is None
    assert parse_mix(["clean", "bicubic@2"]) is None


def patches(mix: Mix | None, seed: int = 5, contrast: float = 1.0) -> Patches:
    pairs = [make_pair(str(i), texture((192, 160), i), 4, 64, 1.0) for i in range(2)]
    return Patches(pairs, scale=4, patch=64, seed=seed, shift=True, mix=mix, contrast=contrast)


def test_degraded_patches_depend_on_seed_step_and_number_alone() -> None:
    mix = parse_mix(["clean", "noise=1..9", "jpeg=30..90", "point+noise=3", "cores=1.2..2"])
    first, second = patches(mix), patches(mix)
    for step in range(3):
        first(step, range(8))
    ours, theirs = first(7, range(4)), second(7, range(2, 4))
    for whole, part in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(whole[2:], part)
    assert not np.array_equal(patches(mix, seed=6)(7, range(4)).lr, ours.lr)


@pytest.mark.parametrize("contrast", [1.0, 0.3])
def test_a_degraded_patch_lies_where_its_truth_lies(contrast: float) -> None:
    """It is taken out of a larger region, and is what a training without a mix has; dimmed as its truth is."""
    some = patches(Mix((parse_choice("noise=0"),)), contrast=contrast)
    batch = some(0, range(24))
    for lr, hr in zip(batch.lr[:, 0], batch.hr[:, 0], strict=True):
        again = degrade(np.rint(hr * 255).astype(np.uint8), 4)
        inner = np.s_[2:-2, 2:-2]  # the rest saw pixels beyond the patch
        assert np.abs(lr[inner] * 255 - again[inner]).max() <= 1.01


def test_patches_have_the_levels_of_their_whole_image() -> None:
    batch = patches(parse_mix(["noise=8"]))(0, range(16))
    assert batch.levels.shape == (16, len(LEVELS))
    assert batch.levels[:, 0] * USUAL[0] == pytest.approx(8, rel=0.4)
    assert len(np.unique(batch.levels[:, 0])) == 16, "no two patches are told quite the same"
    assert not patches(None)(0, range(4)).levels.any()


def test_images_are_dimmed_before_noise_comes_to_them() -> None:
    """Brightness and structure shrink by factors in the range that was asked for, all of them; the noise stays."""
    some = patches(parse_mix(["noise=6"]), contrast=0.25)
    factors, levels = zip(
        *((one.dimmed[200] / 200, one.levels[0]) for one in (some.variant(0, n) for n in range(VARIANTS))),
        strict=True,
    )
    assert 0.24 < min(factors) < 0.35
    assert 0.8 < max(factors) <= 1
    assert np.array(levels) * USUAL[0] == pytest.approx(6, rel=0.25)
    batch, plain = some(0, range(40)), patches(parse_mix(["noise=6"]))(0, range(40))
    assert batch.hr.mean() < 0.75 * plain.hr.mean()


def test_an_image_has_many_variants_and_each_is_drawn() -> None:
    some = patches(parse_mix(["noise=0.5..12"]))
    found = {str(some.variant(0, number).degradation) for number in range(VARIANTS)}
    assert len(found) == VARIANTS
