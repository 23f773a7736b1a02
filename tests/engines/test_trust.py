"""Where an image stays bicubic, and what its field of view is."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from clesr.engines.common.image import Pixels
from clesr.engines.levels import Levels
from clesr.engines.models.weights import load_model, shipped
from clesr.engines.reference import reference_image
from clesr.engines.trust import CONTRAST, NOISE_KNOWN, NOISE_LOST, confidence, trust_map
from clesr.engines.view import field_of_view
from clesr.tools.data.images import read_gray

SHAPE = (120, 110)


def tissue(seed: int = 1, shape: tuple[int, int] = SHAPE) -> Pixels:
    field = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal(shape), (0, 0), 2.5)
    return np.asarray(np.clip(110 + 30 * field / field.std(), 20, 235), np.uint8)


def disc(radius: float = 54, flat: int = 0, shape: tuple[int, int] = SHAPE) -> NDArray[np.bool_]:
    """A disc in the middle, whose ``flat`` upper rows are cut off."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    round_ = (y - (shape[0] - 1) / 2) ** 2 + (x - (shape[1] - 1) / 2) ** 2 <= radius**2
    return np.asarray(round_ & (y >= (shape[0] - 1) / 2 - radius + flat))


def seen(mask: NDArray[np.bool_], image: Pixels | None = None) -> Pixels:
    return np.where(mask, tissue() if image is None else image, 0).astype(np.uint8)


def write(image: Pixels, at: tuple[int, int], text: str = "20 um") -> NDArray[np.bool_]:
    """Burn ``text`` into ``image``; where it stands."""
    drawn = cv2.putText(np.zeros(image.shape, np.uint8), text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1, 1)
    image[drawn > 0] = 255
    return np.asarray(drawn > 0)


@pytest.mark.parametrize("flat", [0, 12, 30])
@pytest.mark.parametrize("logo", [False, True])
def test_a_round_view_is_found_cut_off_or_written_beside(flat: int, logo: bool) -> None:
    mask = disc(flat=flat)
    image = seen(mask)
    if logo:
        write(image, (1, 9), "ab")
        write(image, (92, 118), "1")
    found = field_of_view(image)
    assert not (found & ~mask).any()
    smaller = disc(0.96 * 54, flat=flat + 2)
    assert (found & smaller).sum() > 0.985 * smaller.sum()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_dark_tissue_inside_belongs_to_the_view(seed: int) -> None:
    image = seen(disc())
    y, x = np.random.default_rng(seed).integers(30, 80, 2)
    cv2.circle(image, (int(x), int(y)), 14, 3, -1)
    assert field_of_view(image)[y, x]


@pytest.mark.parametrize("image", [tissue(), np.zeros(SHAPE, np.uint8), np.full(SHAPE, 255, np.uint8)])
def test_without_a_disc_the_whole_image_counts(image: Pixels) -> None:
    assert field_of_view(image).all()
    assert (trust_map(image) == 255).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (1, 9), (2, 3), (5, 5), (3, 200)])
def test_tiny_images_are_seen_wholly(shape: tuple[int, int]) -> None:
    for level in (0, 100, 255):
        assert field_of_view(np.full(shape, level, np.uint8)).all()
        assert trust_map(np.full(shape, level, np.uint8)).shape == shape


def test_nothing_is_added_outside_the_view_nor_at_its_rim() -> None:
    mask = disc()
    found = trust_map(seen(mask))
    away = cv2.erode(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    beyond = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0
    assert (found[beyond] == 0).all()
    assert found[~mask].max() < 128
    assert (found[away] == 255).all()
    assert 0 < found[mask & ~away].mean() < 255


@pytest.mark.parametrize("at", [(30, 60), (40, 80), (25, 45)])
def test_nothing_is_added_on_text_that_is_burnt_in(at: tuple[int, int]) -> None:
    image = np.asarray(tissue() // 2, np.uint8)
    where = write(image, at)
    found = trust_map(image)
    assert (found[where] == 0).all()
    far = cv2.dilate(where.astype(np.uint8), np.ones((13, 13), np.uint8)) == 0
    assert (found[far] == 255).all()


def test_bright_tissue_is_no_text() -> None:
    image = tissue()
    cv2.circle(image, (50, 60), 12, 255, -1)
    blurred = np.asarray(cv2.GaussianBlur(image, (0, 0), 1.2), np.uint8)  # as any lens does
    assert (trust_map(blurred) == 255).all()
    edge = tissue()
    edge[:, 60:] = 255  # saturated, wider than a stroke
    assert (trust_map(edge) == 255).all()
    line = np.full(SHAPE, 240 - CONTRAST + 1, np.uint8)
    line[50] = 240  # thin, but not so much brighter
    assert (trust_map(line) == 255).all()


def test_sixteen_bits_have_the_same_map() -> None:
    image = seen(disc())
    write(image, (40, 60))
    np.testing.assert_array_equal(trust_map(image.astype(np.uint16) * 257), trust_map(image))


def test_stills_are_trusted_on_all_but_a_little_of_their_tissue(data: Path) -> None:
    for path in sorted((data / "train").glob("cle_*")):
        image = read_gray(path)
        assert trust_map(image)[field_of_view(image)].mean() > 0.97 * 255, path.name


def test_the_network_fades_beyond_the_noise_that_it_knows() -> None:
    of = [confidence(Levels(noise, noise + 1, 0, 0, noise)) for noise in np.arange(0.0, 60.0)]
    assert of == sorted(of, reverse=True)
    assert of[0] == of[int(NOISE_KNOWN)] == 1
    assert of[int(NOISE_LOST)] == of[-1] == 0
    assert 0.4 < of[round((NOISE_KNOWN + NOISE_LOST) / 2)] < 0.6


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("value", [20, 90, 200, 240])
def test_an_image_without_structure_stays_as_it_is(value: int, scale: int) -> None:
    flat = np.full((40, 48), value, np.uint8)
    found = reference_image(load_model(shipped()["fast", scale]).module, flat)
    assert (found == value).all()
