"""What is drawn, as pixels, and where its words stand."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import window_scenes as scenes
from numpy.typing import NDArray
from support import ManualClock
from window_scenes import ACTIONS, LIVE, SCENES

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.pipeline.display import facts
from clesr.pipeline.display.compose import compose
from clesr.pipeline.display.layout import Box, lay_out
from clesr.pipeline.display.text import Pen
from clesr.pipeline.display.view_state import Mode, ViewState
from clesr.pipeline.frame import Result
from clesr.pipeline.sinks.window import banners, hud
from clesr.pipeline.sinks.window.help import DIM
from clesr.pipeline.sinks.window.scene import Drawn, Scene

MakeResult = Callable[..., Result]
Pixels = NDArray[np.uint8]
SIZES = [(480, 480), (480, 640), (360, 640), (720, 720), (1080, 1920), (1000, 500), (300, 300)]
OFF = ViewState(hud="off")


def border(canvas: Pixels) -> tuple[int, ...]:
    """The colour all around, or () where it is not one."""
    edge = np.concatenate([canvas[0], canvas[-1], canvas[:, 0], canvas[:, -1]])
    return tuple(int(v) for v in edge[0]) if (edge == edge[0]).all() else ()


class Written(Pen):
    """Keeps what was written."""

    made: list[Written]

    def __init__(self, canvas: Pixels) -> None:
        super().__init__(canvas)
        self.texts: list[str] = []
        self.colours: list[object] = []
        Written.made.append(self)

    def write(self, text: str, *arguments: object, **more: object) -> int:
        self.texts.append(text)
        self.colours.append(arguments[3])
        return super().write(text, *arguments, **more)  # type: ignore[arg-type]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Written]:
    """Draw a scene; its words."""
    monkeypatch.setattr(hud, "Pen", Written)

    def draw(scene: Scene, shape: tuple[int, int], clock: Clock = SYSTEM) -> Written:
        Written.made = []
        hud.draw(scene, shape, clock=clock)
        return Written.made[-1]

    return draw


def meet(one: Box, other: Box) -> bool:
    return (
        one.left < other.left + other.width
        and other.left < one.left + one.width
        and one.top < other.top + other.height
        and other.top < one.top + one.height
    )


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("name", list(SCENES))
def test_no_words_meet_and_none_leave_the_window(
    name: str, shape: tuple[int, int], written: Callable[[Scene, tuple[int, int]], Written]
) -> None:
    for side in (128, 512):
        boxes = written(SCENES[name](scenes.result(side)), shape).boxes
        assert boxes
        for box in boxes:
            assert box.left >= 0, box
            assert box.top >= 0, box
            assert box.left + box.width <= shape[1], box
            assert box.top + box.height <= shape[0], box
        for one, other in itertools.combinations(boxes, 2):
            assert not meet(one, other), (one, other)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3), (30, 40), (90, 160)])
@pytest.mark.parametrize("name", list(SCENES))
def test_a_window_may_be_as_small_as_anybody_makes_it(name: str, shape: tuple[int, int]) -> None:
    assert hud.draw(SCENES[name](scenes.result(128)), shape).canvas.shape == (*shape, 3)


def test_a_live_image_is_shown_as_it_is(make_result: MakeResult) -> None:
    image = np.random.default_rng(0).integers(0, 255, (400, 500)).astype(np.uint8)
    image.flags.writeable = False
    canvas = hud.draw(Scene(make_result(image), LIVE, OFF), (400, 500)).canvas
    assert canvas.shape == (400, 500, 3)
    assert canvas.dtype == np.uint8
    assert all(np.array_equal(canvas[..., channel], image) for channel in range(3)), (
        "hidden words hide nothing"
    )
    over = hud.draw(Scene(make_result(image), LIVE), (400, 500)).canvas
    assert all(np.array_equal(over[100:300, :, channel], image[100:300]) for channel in range(3))


def test_the_strips_cover_little_and_beside_the_image_nothing_is_covered() -> None:
    """At most a twelfth of the height at the top and less at the bottom; words beside the image are outside of it."""
    made = scenes.result(1024, level=200)
    over = hud.draw(Scene(made, LIVE), (1024, 1024)).canvas[:, 512]
    assert (over[86:-60] == 200).all()
    for shape in ((600, 900), (900, 600), (720, 720)):
        drawn = hud.draw(Scene(made, LIVE, ViewState(hud="beside")), shape)
        assert drawn.layout is not None
        place = drawn.layout.place
        assert (
            drawn.canvas[place.top : place.top + place.height, place.left : place.left + place.width] == 200
        ).all()
        assert place.width >= 0.6 * min(shape)


@pytest.mark.parametrize("zoom", [4.0, 16.0])
def test_at_high_zoom_pixels_are_squares_and_true(zoom: float) -> None:
    made = scenes.result(128)
    drawn = hud.draw(Scene(made, LIVE, replace(OFF, zoom=zoom)), (640, 640))
    assert drawn.layout is not None
    crop, place = drawn.layout.crop, drawn.layout.place
    side = 640 // crop.width
    part = made.image[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    middles = drawn.canvas[place.top + side // 2 :: side, place.left + side // 2 :: side, 0]
    assert np.array_equal(middles[: crop.height, : crop.width], part)


@pytest.mark.parametrize(("shape", "inside", "beside"), [
    ((400, 800), (200, 300), (200, 100)), ((800, 400), (300, 200), (160, 200)),
])  # fmt: skip
def test_proportions_are_kept(
    shape: tuple[int, int], inside: tuple[int, int], beside: tuple[int, int], make_result: MakeResult
) -> None:
    canvas = hud.draw(Scene(make_result(np.full((400, 400), 200, np.uint8)), LIVE), shape).canvas
    assert (canvas[inside] == 200).all()
    assert (canvas[beside] == hud.BACKGROUND).all()


@pytest.mark.parametrize("table", ["gray", "fire"])
def test_a_picture_that_leaves_the_window_is_painted_as_far_as_that_goes(table: str) -> None:
    scene = Scene(scenes.result(400), LIVE, replace(OFF, lookup_table=table))
    assert scene.result is not None
    place = lay_out((400, 400), Box(0, 0, 400, 400), OFF)
    for left, top in ((-3, 5), (7, -2)):
        whole, part = (np.zeros((side, side, 3), np.uint8) for side in (420, 400))
        moved = replace(place, place=Box(left, top, 400, 400))
        painted = hud._paint(part, scene, scene.result, moved)
        hud._paint(whole, scene, scene.result, replace(place, place=Box(left + 3, top + 2, 400, 400)))
        assert part.any()
        assert np.array_equal(part, whole[2:402, 3:403])
        assert np.shares_memory(painted, part)


def test_oblong_pixels_are_shown_oblong(make_result: MakeResult) -> None:
    """An image of 64x64 pixels, twice as wide as high, fills a window that is twice as wide as high."""
    made = make_result(np.full((64, 64), 0xB7, np.uint8))
    canvas = hud.draw(Scene(made, LIVE, aspect=2.0), (400, 800)).canvas
    assert (canvas[150:250, [0, -1]] == 0xB7).all()
    canvas = hud.draw(Scene(made, LIVE, aspect=2.0), (400, 400)).canvas
    assert (canvas[102:298:50, [10, 390]] == 0xB7).all()
    assert not (canvas[[95, 305]] == 0xB7).all(axis=-1).any()


FRAMES = {
    "waiting": facts.GRAY, "live": None, "recording": None, "stalled": facts.RED, "old": facts.RED,
    "frozen": facts.BLUE, "degraded": facts.AMBER, "damaged": facts.AMBER, "alarm": facts.RED, "asking": None,
}  # fmt: skip


@pytest.mark.parametrize("place", ["over", "beside", "off"])
@pytest.mark.parametrize("name", list(FRAMES))
def test_what_must_not_be_overlooked_has_a_frame_whatever_is_hidden(name: str, place: str) -> None:
    scene = SCENES[name](scenes.result(level=150))
    scene = replace(scene, view=replace(scene.view, hud=place))
    for shape in ((480, 480), (1080, 1920)):
        canvas = hud.draw(scene, shape).canvas
        seen = border(canvas)
        assert (seen == FRAMES[name]) if FRAMES[name] else (seen not in {facts.RED, facts.BLUE, facts.AMBER})


SAID = {
    "stalled": ["NO SIGNAL", "12.3 s"], "old": ["OLD IMAGE", "0.1 s"], "degraded": ["BICUBIC ONLY"],
    "frozen": ["FROZEN", "this image is 12.3 s old"], "damaged": ["DAMAGED"], "waiting": ["WAITING"],
    "frozen and stalled": ["NO SIGNAL", "FROZEN"], "alarm": [scenes.ALARM.alarm, "seen? press a, or click here"],
    "recording": ["REC 03:07", "3 files written to stills"], "raw": ["raw"], "bicubic": ["bicubic"],
    "unrecorded": ["NOT RECORDED"], "asking": ["a session is being recorded; end it? q again"],
}  # fmt: skip


@pytest.mark.parametrize("place", ["over", "beside", "off"])
@pytest.mark.parametrize("name", list(SAID))
def test_and_its_words(name: str, place: str, written: Callable[[Scene, tuple[int, int]], Written]) -> None:
    scene = SCENES[name](scenes.result())
    scene = replace(scene, view=replace(scene.view, hud=place))
    for shape in ((480, 480), (720, 1280)):
        texts = written(scene, shape).texts
        for words in SAID[name]:
            assert words in texts


def test_hidden_facts_are_hidden(written: Callable[[Scene, tuple[int, int]], Written]) -> None:
    assert "25.0 frames/s" in written(Scene(scenes.result(), LIVE), (480, 640)).texts
    assert written(Scene(scenes.result(), LIVE, OFF), (480, 640)).texts == []


@pytest.mark.parametrize(
    ("name", "gray"), [("live", False), ("stalled", True), ("old", True), ("frozen", False)]
)
def test_only_what_is_not_live_is_grey(name: str, gray: bool) -> None:
    """Also in colours; a frozen image is there to be looked at."""
    scene = SCENES[name](scenes.result(400, level=200))
    scene = replace(scene, view=replace(scene.view, hud="off", lookup_table="green", mode=Mode.SR))
    shown = hud.draw(scene, (400, 400)).canvas[380, 30]
    before = np.array([0, 200, 0])
    bright = round(0.587 * 200)
    pale = round(banners.PALE[0] * bright + banners.PALE[1])
    assert shown.tolist() == pytest.approx([pale] * 3 if gray else before.tolist(), abs=1)


@pytest.mark.parametrize("while_drawn", [False, True])
@pytest.mark.parametrize(("name", "said"), [("live", "OLD IMAGE"), ("frozen", "this image is 14.3 s old")])
def test_a_picture_that_is_drawn_late_says_how_old_it_is_by_then(
    name: str,
    said: str,
    while_drawn: bool,
    written: Callable[..., Written],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where only the drawing itself took so long, on a busy machine."""
    clock = ManualClock()
    scene = replace(SCENES[name](scenes.result(400, level=200)), time_ns=clock.now_ns())

    def late(*arguments: Any) -> Pixels:
        clock.advance(2.0)
        return np.asarray(compose(*arguments), np.uint8)

    if while_drawn:
        monkeypatch.setattr(hud, "compose", late)
    else:
        clock.advance(2.0)
    made = written(scene, (720, 720), clock)
    assert {"age 2041 ms", said} <= set(made.texts)
    assert (made.canvas[500, 30] < 150).all() == (name == "live"), (
        "grey where it is to be taken for no live one"
    )


def test_frozen_and_no_signal_cannot_be_taken_for_each_other() -> None:
    frozen, stalled = (
        hud.draw(SCENES[name](scenes.result()), (480, 640)).canvas for name in ("frozen", "stalled")
    )
    assert border(frozen) != border(stalled)
    both = hud.draw(SCENES["frozen and stalled"](scenes.result()), (480, 640)).canvas
    assert border(both) == facts.RED
    assert (both[240, 5] == facts.BLUE).all(), "and the other frame inside of it"


def test_the_alarm_stands_where_a_click_is_said_to_reach_it() -> None:
    drawn = hud.draw(SCENES["alarm"](scenes.result()), (480, 640))
    assert drawn.alarm is not None
    box = drawn.alarm
    inside = drawn.canvas[box.top : box.top + box.height, 20:-20]
    assert (inside == banners.ALARM).all(axis=-1).mean() > 0.6
    assert not (drawn.canvas[box.top + box.height + 1 :, 20:-20] == banners.ALARM).all(axis=-1).any()
    assert box.height > 40, "big"
    assert hud.draw(SCENES["live"](scenes.result()), (480, 640)).alarm is None


@pytest.mark.parametrize("shape", [(480, 640), (1080, 1920)])
def test_help_lists_every_key(
    shape: tuple[int, int], written: Callable[[Scene, tuple[int, int]], Written]
) -> None:
    texts = written(SCENES["help"](scenes.result()), shape).texts
    keys = {str(action["key"]) for action in ACTIONS if action["key"]}
    assert keys <= set(texts)
    assert {str(action["group"]) for action in ACTIONS} <= set(texts)
    assert "A note, for scripts" not in texts, "has no key"
    assert "Hold the image" in texts


@pytest.mark.parametrize("shape", [(480, 640), (1080, 1920)])
def test_help_says_why_a_key_can_do_nothing(
    shape: tuple[int, int], written: Callable[[Scene, tuple[int, int]], Written]
) -> None:
    """Under it, and that is dim; where it has no room for why, at least all keys."""
    made = written(SCENES["help"](scenes.result()), shape)
    at = made.texts.index("Keep the last seconds")
    assert scenes.LACKING.startswith(" ".join(made.texts[at + 1 : at + 3]).removesuffix("..."))
    assert made.colours[at - 1 : at + 3] == [DIM, DIM, facts.GRAY, facts.GRAY], "the key, too"
    assert not {DIM, facts.GRAY} & {*made.colours[at + 3 : at + 5]}
    small = written(SCENES["help"](scenes.result()), (380, 640)).texts
    assert {str(action["key"]) for action in ACTIONS if action["key"]} <= set(small)
    assert not any(scenes.LACKING.startswith(text) for text in small if len(text) > 9)


def test_the_edge_of_a_wipe_is_where_the_images_meet() -> None:
    made = scenes.result(400)
    made = replace(made, lr=np.full((100, 100), 40, np.uint8), image=np.full((400, 400), 200, np.uint8))
    for zoom, wipe, column in ((1.0, 0.25, 100), (2.0, 0.5, 200)):
        drawn = hud.draw(
            Scene(made, LIVE, ViewState(mode=Mode.WIPE, wipe=wipe, zoom=zoom, hud="off")), (400, 400)
        )
        row = drawn.canvas[350, :, 0].astype(int)
        assert (row[: column - 2] == 40).all()
        assert (row[column + 2 :] == 200).all()
        assert row[column] == 240, "a bright line"


def test_a_scale_bar_is_as_long_as_the_layout_says(make_result: MakeResult) -> None:
    status = replace(LIVE, pixel_um=2.0)
    made = scenes.result(400, level=0)
    canvas = hud.draw(Scene(made, status, ViewState(hud="off", scale_bar=True)), (400, 400)).canvas
    bright = (canvas == facts.WHITE).all(axis=-1)
    rows = bright.sum(axis=1)
    assert rows.max() == 100, "50 micrometres: 2 in a captured pixel, of which each is 4 pixels of the image"
    assert not (
        hud.draw(Scene(made, LIVE, ViewState(hud="off", scale_bar=True)), (400, 400)).canvas == 240
    ).any()


def tile_of(canvas: Pixels) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is amber below the words."""
    rows, columns = np.nonzero((canvas == facts.AMBER).all(axis=-1))
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


@pytest.mark.parametrize(("zoom", "wide"), [(1.0, 1), (2.0, 1), (1.0, 2)])
def test_the_tile_below_the_limit_has_corners(zoom: float, wide: int) -> None:
    """At its place, also zoomed and of oblong pixels; otherwise nothing is marked."""
    made = scenes.result(800, level=150, below=True)
    assert made.check is not None
    made = replace(made, check=replace(made.check, worst_at=(96, 80)))  # of 200x200
    view = replace(OFF, zoom=zoom)
    canvas = hud.draw(Scene(made, LIVE, view, aspect=float(wide)), (800, 800 * wide)).canvas
    left, top, right, bottom = (400 + (4 * n - 400) * zoom for n in (80, 96, 112, 128))
    left, right = left * wide, right * wide
    assert tile_of(canvas) == pytest.approx((left, top, right, bottom), abs=2)
    assert (canvas[round((top + bottom) / 2), round(left) + 4] == 150).all(), (
        "corners, not a frame that hides"
    )
    plain = hud.draw(Scene(scenes.result(800, level=150), LIVE, view), (800, 800)).canvas
    assert not (plain == facts.AMBER).all(axis=-1).any()


@pytest.mark.parametrize("mode", list(Mode))
def test_corners_stand_only_where_the_image_of_the_network_is_seen(mode: Mode) -> None:
    view = replace(OFF, mode=mode)
    canvas = hud.draw(Scene(scenes.result(800, level=150, below=True), LIVE, view), (800, 800)).canvas
    marked = bool((canvas == facts.AMBER).all(axis=-1).any())
    assert marked is (mode not in (Mode.RAW, Mode.BICUBIC))


@pytest.mark.parametrize("mode", [Mode.WIPE, Mode.SIDE, Mode.RAW_SIDE])
def test_what_the_network_did_not_make_is_not_called_sr(
    written: Callable[[Scene, tuple[int, int]], Written], mode: Mode
) -> None:
    made, view = scenes.result(800), replace(OFF, mode=mode)
    assert "SR" in written(Scene(made, LIVE, view), (800, 800)).texts
    shown = written(Scene(scenes.failed(made), LIVE, view), (800, 800)).texts
    assert "SR" not in shown
    assert "bicubic" in shown


def test_a_region_is_drawn_where_it_was_captured() -> None:
    made = replace(scenes.result(400, level=100), corner=(30, 20))
    canvas = hud.draw(Scene(made, LIVE, replace(OFF, region=(40, 45, 50, 25))), (400, 400)).canvas
    rows, columns = np.nonzero((canvas == facts.BLUE).all(axis=-1))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == pytest.approx((40, 100, 240, 200), abs=1)


def test_the_overlay_colours_where_images_differ_and_says_what_the_colours_mean(
    written: Callable[[Scene, tuple[int, int]], Written],
) -> None:
    made = scenes.result(400, level=200)
    assert made.check is not None
    reprojected = made.lr.copy()
    reprojected[54:66, 34:46] -= 20
    made = replace(made, check=replace(made.check, reprojected=reprojected))
    plain, coloured = (
        hud.draw(Scene(made, LIVE, ViewState(overlay=on)), (400, 400)).canvas for on in (False, True)
    )
    assert np.ptp(coloured[240, 160].astype(int)) > 60, "colour in the middle of the difference"
    assert np.array_equal(coloured[120:160, 200:], plain[120:160, 200:]), "none where there is none"
    assert coloured[240, 160].max() > 100, "the tissue shows through"
    for mode in Mode:
        texts = written(Scene(made, LIVE, ViewState(overlay=True, mode=mode)), (600, 600)).texts
        meant = mode not in (Mode.RAW, Mode.BICUBIC)  # the image of the network is there
        assert ("differs from the measured image by, grey levels" in " ".join(texts)) == meant


def test_text_is_readable(written: Callable[[Scene, tuple[int, int]], Written]) -> None:
    """Capitals of nine pixels at least, and letters with soft edges."""
    for shape in ((480, 480), (2160, 3840)):
        assert hud.text_size(shape) >= 9
    canvas = hud.draw(Scene(scenes.result(level=0), LIVE), (480, 640)).canvas
    strip = canvas[-40:].max(axis=-1)
    assert strip.max() >= 200
    assert ((strip > 80) & (strip < 150)).sum() > 50


def test_a_canvas_can_be_used_again() -> None:
    stalled, live = (SCENES[name](scenes.result()) for name in ("everything", "live"))
    canvas = hud.draw(stalled, (400, 800)).canvas
    again: Drawn = hud.draw(live, (400, 800), canvas)
    assert again.canvas is canvas
    assert np.array_equal(canvas, hud.draw(live, (400, 800)).canvas)
    assert hud.draw(live, (300, 300), canvas).canvas.shape == (300, 300, 3)


def test_what_is_being_opened_is_said() -> None:
    for shape in ((480, 640), (100, 100), (1080, 1920)):
        blank, said = (hud.draw_opening(lines, shape) for lines in ([""], ["opening /dev/video0", "a" * 500]))
        assert said.shape == (*shape, 3)
        assert (blank != said).any()


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("size", [(300, 160), (40, 900)])
def test_the_map_stands_beside_the_live_image(
    make_result: MakeResult, shape: tuple[int, int], size: tuple[int, int]
) -> None:
    result = scenes.result(400, level=200)
    alone = hud.draw(Scene(result, LIVE, OFF), shape)
    drawn = hud.draw(Scene(result, LIVE, OFF, map=np.full(size, 90, np.uint8)), shape)
    assert alone.layout is not None
    assert drawn.layout is not None
    live = drawn.layout.place
    assert live.width < alone.layout.place.width or live.width <= 0.6 * shape[1]
    seen = (drawn.canvas == 90).all(2)
    assert seen.any()
    assert not seen[:, : live.left + live.width].any()
