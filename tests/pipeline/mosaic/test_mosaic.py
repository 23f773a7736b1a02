"""Maps of a moving probe: true to the way it went, begun anew where it jumped, bounded in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from heard import hear
from numpy.typing import NDArray
from probe import SIDE, Place, along, circle, disc, seen, tissue

from clesr.engines.common.image import Image
from clesr.engines.common.resample import quantise, resize
from clesr.engines.factory import open_engine
from clesr.engines.results import run_frame
from clesr.engines.view import field_of_view
from clesr.pipeline.mosaic import canvas
from clesr.pipeline.mosaic.mosaic import TOGETHER, Mosaic
from clesr.pipeline.mosaic.tissue_map import FRAME_BYTES, Placing, TissueMap
from clesr.pipeline.sources.simulator.phantom import Phantom

MB = 1 << 20


def run(
    images: Iterable[Image],
    *,
    limit_mb: float = 64,
    view: NDArray[np.bool_] | None = None,
    mosaic: Mosaic | None = None,
) -> list[TissueMap]:
    """The maps of ``images``, frames 0, 1 and so on."""
    ended: list[TissueMap] = []
    made = mosaic or Mosaic(ended.append, limit_mb=limit_mb)
    for number, image in enumerate(images):
        made.add(image, number, number / 12, disc() if view is None else view)
    made.end()
    return ended


def places(tissue_map: TissueMap) -> NDArray[np.float64]:
    found = [frame.placement for frame in tissue_map.frames]
    return np.array([(p.x, p.y) for p in found if p is not None])


def rms(found: NDArray[np.float64], true: Sequence[Place] | NDArray[np.float64]) -> float:
    """Of the error in place, seen from the first frame."""
    off = (found - found[0]) - (np.array(true) - true[0])
    return float(np.sqrt(np.square(off).sum(axis=1).mean()))


def numbers(maps: Iterable[TissueMap]) -> list[int]:
    return [frame.number for each in maps for frame in each.frames]


def test_errors_do_not_add_up_on_a_way_that_comes_back() -> None:
    way = circle(48)
    (made,) = run(along(tissue(), way))
    assert [frame.outcome for frame in made.frames] == [Placing.DRAWN] * len(way)
    assert rms(places(made), way) < 0.6
    assert np.abs(places(made)[-1] - places(made)[0]).max() < 0.5


def test_the_first_frame_of_a_fast_probe_leans_as_the_others_do() -> None:
    way = [(6.0 * n - 90, 2.0 * n - 30) for n in range(30)]
    (made,) = run(along(tissue(), way, noise=0))
    lean = np.array([(f.placement.lean_x, f.placement.lean_y) for f in made.frames if f.placement])[:-1]
    np.testing.assert_allclose(lean, np.tile([6 / SIDE, 2 / SIDE], (len(lean), 1)), atol=0.012)
    assert rms(places(made), way) < 1


def test_the_map_shows_the_tissue() -> None:
    scene, way = tissue(), circle(30, 25)
    (made,) = run(along(scene, way))
    truth = seen(scene, (-20, 10)).astype(np.float32)
    mean, weight = made.canvas.read(-20, 10, (SIDE, SIDE))
    both = weight > 0.2
    assert both.mean() > 0.85
    assert np.sqrt(np.square(mean - truth)[both].mean()) < 4.5  # the frames alone have noise of 6


def test_a_jump_begins_another_map_and_every_frame_is_of_one() -> None:
    scenes = [tissue(0), tissue(1)]
    images = [image for scene in scenes for image in along(scene, circle(12, 20))]
    maps = run(images)
    assert [frame.number for frame in maps[0].frames if frame.placement] == list(range(12))
    assert [frame.number for frame in maps[1].frames if frame.placement] == list(range(12, 24))
    assert numbers(maps) == list(range(24))


def test_a_map_is_found_again_after_frames_that_show_nothing_of_it() -> None:
    images = along(tissue(), circle(14, 20))
    images[6:6] = [seen(tissue(90 + n), (0, 0)) for n in range(5)]  # each other tissue
    maps = run(images)
    assert len(maps) == 1
    assert sorted(numbers(maps)) == list(range(len(images)))
    lost = [frame.number for frame in maps[0].frames if frame.outcome is Placing.ELSEWHERE]
    assert lost == list(range(6, 11))
    assert rms(places(maps[0]), circle(14, 20)) < 0.6


def test_fewer_frames_than_it_takes_begin_no_map() -> None:
    images = along(tissue(), circle(8, 10)) + along(tissue(1), circle(TOGETHER - 1, 10))
    maps = run(images)
    assert len(maps) == 1
    assert numbers(maps) == list(range(len(images)))
    assert maps[0].count == 8


def test_other_sizes_and_depths_begin_maps_of_their_own() -> None:
    plain = along(tissue(), circle(4, 8))
    deep = [image.astype(np.uint16) * 257 for image in plain]
    maps = run([*plain, *deep, deep[0][:96], deep[1][:96]], view=np.ones((8, 8), np.bool_))
    assert [(each.shape, each.dtype, each.count) for each in maps] == [
        ((SIDE, SIDE), np.dtype(np.uint8), 4),
        ((SIDE, SIDE), np.dtype(np.uint16), 4),
        ((96, SIDE), np.dtype(np.uint16), 2),
    ]
    low, high = (each.canvas.read(0, 0, (SIDE, SIDE))[0] for each in maps[:2])
    np.testing.assert_allclose(high / 257, low, atol=0.01)


def test_images_too_small_for_a_map_are_told_and_left_alone() -> None:
    said = hear()
    assert run([np.full((16, 16), 99, np.uint8)] * 3) == []
    assert [line for line in said if "too small" in line] == [
        "images of 16x16 pixels are too small for a map"
    ]


def test_memory_stays_bounded_however_far_the_probe_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canvas, "TILE", 64)
    monkeypatch.setattr(canvas, "BYTES", 8 * 64**2 + 16**2)
    said = hear()
    way = [(15.0 * n - 420, 0.0) for n in range(56)]
    maps = run(along(tissue(0, 1100)[400:700], way, noise=0), limit_mb=0.6)
    assert len(maps) > 2
    assert max(each.bytes for each in maps) <= 0.6 * MB
    assert numbers(maps) == list(range(len(way)))
    assert all(each.count > 5 for each in maps[:-1])
    assert len([line for line in said if "has reached 0.6 MB" in line]) == len(maps) - 1


def test_memory_stays_bounded_however_long_the_probe_stays_or_fails() -> None:
    ended: list[tuple[int, int]] = []
    mosaic = Mosaic(lambda each: ended.append((each.bytes, len(each.frames))), limit_mb=4.3)
    still = along(tissue(), [(0, 0)] * 6, noise=3)
    hours = int(4.3 * MB) // FRAME_BYTES + 2000
    for number in range(hours):
        if number % 1000 == 0:
            mosaic.add(still[number // 1000 % 6], number, number / 12, disc())
        else:
            mosaic.fail(number, number / 12)
    assert ended
    for taken, frames in ended:
        assert taken <= 4.3 * MB + FRAME_BYTES
        assert frames > hours / 3


def test_a_step_in_brightness_leaves_no_seam() -> None:
    way = [(5.0 * n - 60, 0.0) for n in range(24)]
    images = along(tissue(), way, noise=0)
    darker = [image if n < 12 else np.asarray(image * 0.7, np.uint8) for n, image in enumerate(images)]
    lines = []
    for given in (images, darker):
        (made,) = run(given)
        mean, weight = made.canvas.read(10, SIDE // 2 - 20, (40, 215))
        assert weight.min() > 0
        lines.append(mean.mean(axis=0))
    ratio = lines[1] / lines[0]
    assert ratio[0] == pytest.approx(1, abs=0.02)
    assert ratio[-1] < 0.95
    assert np.abs(ratio[8:] - ratio[:-8]).max() < 0.06


def phantom_error(size: int, scale: int, frames: int, seed: int, upscale: object) -> float:
    """The error in place, in SR pixels rms, of frames of the simulator whose way is known."""
    phantom = Phantom(size, seed, fps=12.0)
    ways = [phantom.motion.at(number / phantom.fps) for number in range(frames + 1)]
    middle = [(one + other) / 2 * scale * size / phantom.fov_um for one, other in pairwise(ways)]
    images = [phantom.measured(number) for number in range(frames)]
    (made,) = run([upscale(image) for image in images], view=field_of_view(images[0]))  # type: ignore[operator]
    assert made.count == frames
    return rms(places(made), np.array(middle))


def test_frames_of_the_simulator_lie_where_they_were_taken() -> None:
    def enlarged(image: Image) -> Image:
        return quantise(resize(image, 128, 128), image.dtype)

    assert phantom_error(64, 2, 20, 1, enlarged) < 0.3


@pytest.mark.slow
def test_a_hundred_frames_of_the_simulator_lie_where_they_were_taken() -> None:
    engine = open_engine("auto", "fast", 4, (256, 256), device="cpu")
    try:
        error = phantom_error(256, 4, 100, 3, lambda image: run_frame(engine, image))
    finally:
        engine.close()
    assert error < 1
