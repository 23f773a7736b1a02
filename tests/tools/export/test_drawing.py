"""What is blanked, drawn and written as a still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from clesr.engines.common.errors import UsageError
from clesr.pipeline.frame import Image
from clesr.pipeline.prepare import Roi
from clesr.pipeline.sources.masked import blank
from clesr.tools.export.burn_in import (
    DIM,
    Lettering,
    bar_length,
    burn_words,
    length_text,
    with_scale_bar,
    words_of,
    wrap,
)
from clesr.tools.export.clip import Clip, Still
from clesr.tools.export.run import MARGIN, blank_sr
from clesr.tools.export.stills import PngExporter

Save = Callable[..., list[str]]
MakeClip = Callable[..., Clip]
PHRASES = ("12.345 s", "x4 fast a2de0bda22cf", "not for diagnosis")


def flat(value: int, side: int, dtype: type = np.uint8) -> Image:
    image: Image = np.full((side, side), value, dtype)
    return image


def test_a_region_of_a_captured_image_is_black_and_nothing_else_changes() -> None:
    image = flat(100, 40)
    blanked = blank(image, [Roi(3, 5, 10, 2), Roi(30, 30, 10, 10)])
    assert (blanked[5:7, 3:13] == 0).all()
    assert (blanked[30:, 30:] == 0).all()
    assert (blanked == 100).sum() == 40 * 40 - 20 - 100
    assert (image == 100).all(), "the recording's own image is left alone"


def test_a_region_that_leaves_the_image_is_refused() -> None:
    with pytest.raises(UsageError, match="--mask 30,0,11,5 leaves the 40x40 frame"):
        blank(flat(100, 40), [Roi(30, 0, 11, 5)])


def test_a_region_is_black_in_the_sr_image_with_a_margin() -> None:
    """The region of interest begins at (10, 20) of the captured image."""
    blanked = blank_sr([Roi(15, 30, 6, 4)], 4, (10, 20))(Still(0, 0, flat(100, 160)))
    rows = slice(4 * (10 - MARGIN), 4 * (14 + MARGIN))
    columns = slice(4 * (5 - MARGIN), 4 * (11 + MARGIN))
    assert (blanked[rows, columns] == 0).all()
    assert (blanked == 0).sum() == 4 * (4 + 2 * MARGIN) * 4 * (6 + 2 * MARGIN)


@pytest.mark.parametrize("region", [Roi(0, 0, 4, 4), Roi(60, 0, 20, 100)])
def test_a_region_outside_what_was_super_resolved_blanks_nothing(region: Roi) -> None:
    blanked = blank_sr([region], 4, (10, 20))(Still(0, 0, flat(100, 160)))
    assert (blanked == 100).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("side", [256, 1024])
def test_words_stand_on_a_dimmed_strip_and_the_rest_is_untouched(side: int, dtype: type) -> None:
    white = np.iinfo(dtype).max
    image = flat(white // 2, side, dtype)
    burnt = burn_words(image, PHRASES, 0.5)
    assert burnt.dtype == dtype
    changed = np.flatnonzero((burnt != image).any(axis=1))
    assert changed[0] > side // 2
    assert changed[-1] == side - 1
    strip = burnt[changed[0] :]
    assert (strip == round(white // 2 * DIM)).mean() > 0.6, "dimmed"
    assert 0.01 < (strip == white).mean() < 0.3, "words"
    assert (image == white // 2).all()


def test_each_line_of_words_has_a_place_of_its_own() -> None:
    letters = Lettering(512)
    phrases = [25 * "M"] * 3
    assert wrap(phrases, letters) == phrases
    burnt = burn_words(flat(0, 512), phrases)
    written = np.flatnonzero((burnt > 0).any(axis=1)).tolist()
    begins = [row for row in written if row - 1 not in written]
    assert np.diff(begins).tolist() == [letters.line] * 2
    strip = 512 - (3 * letters.line + letters.height // 2)
    assert begins[0] - strip == pytest.approx(letters.height * 0.6, abs=2), "below the strip's edge"


def test_words_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="--burn-in does not fit into images of 64x64 pixels; leave it out"):
        burn_words(flat(0, 64), PHRASES)


def test_lines_are_broken_between_phrases() -> None:
    assert wrap(PHRASES, Lettering(1024)) == ["12.345 s   x4 fast a2de0bda22cf   not for diagnosis"]
    assert wrap(PHRASES, Lettering(256))[-1] == "not for diagnosis"


def test_the_words_are_time_scale_model_and_warning(make_clip: MakeClip, images: list[Image]) -> None:
    clip = make_clip(images, sr=True)
    still = Still(3, 4_000_000_123_000_000, images[0])
    assert words_of(clip, still) == ("4000000.123 s", "x4 fast a2de0bda22cf", "not for diagnosis")
    failed = replace(still, bicubic=True)
    assert words_of(clip, failed)[1] == "BICUBIC ONLY: the engine failed"
    assert words_of(make_clip(images), still)[1] == "as captured"


@pytest.mark.parametrize(
    ("width", "pixel_um", "length", "words"),
    [
        (1024, 0.2, 50.0, "50 um"), (576, 0.83, 100.0, "100 um"), (100, 0.001, 0.02, "20 nm"),
        (100, 400.0, 10_000.0, "10 mm"), (400, 0.8, 50.0, "50 um"), (400, 1.0, 100.0, "100 um"),
    ],
)  # fmt: skip
def test_a_scale_bar_has_a_round_length(width: int, pixel_um: float, length: float, words: str) -> None:
    assert bar_length(width, pixel_um) == pytest.approx(length)
    assert length_text(bar_length(width, pixel_um)) == words


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_scale_bar_is_as_long_as_it_says_and_below_the_image(dtype: type) -> None:
    image = flat(7, 400, dtype)
    marked = with_scale_bar(image, 0.5)  # 50 um, so 100 pixels
    np.testing.assert_array_equal(marked[:400], image)
    strip = marked[400:]
    white = np.iinfo(dtype).max
    runs = [int((row[:112] == white).sum()) for row in strip]
    assert max(runs) == 100
    assert marked.dtype == dtype


def test_stills_are_named_by_frame_and_lossless(
    make_clip: MakeClip, save: Save, deep_images: list[Image], tmp_path: Path
) -> None:
    clip = make_clip(deep_images[:2], numbers=[7, 12], sr=True, bicubic=[12])
    said = save(PngExporter, clip, tmp_path / "a.png", every=1.0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.000007.png", "a.000012.png"]
    read = cv2.imread(str(tmp_path / "a.000012.png"), cv2.IMREAD_UNCHANGED)
    assert read is not None
    np.testing.assert_array_equal(read, deep_images[1])
    assert said[1].endswith("frame 12 at 0.040 s, bicubic only")
