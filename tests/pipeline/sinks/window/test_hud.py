from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from clesr.pipeline.frame import Fidelity, Frame, Outcome, Result, Times
from clesr.pipeline.sinks.window import hud
from clesr.pipeline.status import State, Status

MakeResult = Callable[..., Result]
COUNTS: Mapping[Outcome, int] = dict.fromkeys(Outcome, 0) | {Outcome.UPSCALED: 90, Outcome.LOST: 2}
LIVE = Status(
    state=State.RUNNING,
    source="/dev/video0",
    engine="openvino bf16 on a processor, fast x4",
    model="fast",
    captured=92,
    outcomes=COUNTS,
    fps=25.0,
    age_ns=41_000_000,
    period_ns=40_000_000,
    stalled=False,
)
STALLED = replace(LIVE, stalled=True, age_ns=900_000_000)
OLD = replace(LIVE, age_ns=121_000_000)
DEGRADED = replace(LIVE, state=State.DEGRADED, message="openvino raised: out of memory")


def flat(make_result: MakeResult, value: int = 200, outcome: Outcome = Outcome.UPSCALED) -> Result:
    return make_result(np.full((400, 400), value, np.uint8), outcome=outcome)


def border(canvas: NDArray[np.uint8]) -> tuple[int, ...]:
    """The colour all around, or () where it is not one."""
    edge = np.concatenate([canvas[0], canvas[-1], canvas[:, 0], canvas[:, -1]])
    return tuple(int(v) for v in edge[0]) if (edge == edge[0]).all() else ()


def test_a_live_image_is_shown_as_it_is(make_result: MakeResult) -> None:
    image = np.random.default_rng(0).integers(0, 255, (400, 500)).astype(np.uint8)
    image.flags.writeable = False
    canvas = hud.draw(make_result(image), LIVE, (400, 500))
    assert canvas.shape == (400, 500, 3)
    assert canvas.dtype == np.uint8
    middle = canvas[100:300]
    assert all(np.array_equal(middle[..., channel], image[100:300]) for channel in range(3))
    assert hud.signal_alert(make_result(image), LIVE) is None
    assert hud.method_alert(make_result(image), LIVE) is None


def test_sixteen_bits_are_shown_by_their_top_eight(make_result: MakeResult) -> None:
    image = np.full((400, 400), 0xB7FF, np.uint16)
    assert (hud.draw(make_result(image), LIVE, (400, 400))[150:250] == 0xB7).all()


@pytest.mark.parametrize(("shape", "inside", "beside"), [
    ((400, 800), (200, 300), (200, 100)), ((800, 400), (300, 200), (160, 200)),
])  # fmt: skip
def test_proportions_are_kept(
    shape: tuple[int, int], inside: tuple[int, int], beside: tuple[int, int], make_result: MakeResult
) -> None:
    canvas = hud.draw(flat(make_result), LIVE, shape)
    assert (canvas[inside] == 200).all()
    assert (canvas[beside] == hud.BACKGROUND).all()


def test_a_stalled_source_is_marked_and_its_last_image_dimmed(make_result: MakeResult) -> None:
    alert = hud.signal_alert(flat(make_result), STALLED)
    assert alert is not None
    assert (alert.text, alert.detail) == ("NO SIGNAL", "the last image is 900 ms old")
    canvas = hud.draw(flat(make_result), STALLED, (400, 400))
    assert border(canvas) == hud.RED
    assert (canvas[110, 50:350] == round(200 * hud.DIMMED)).all()
    banner = canvas[150:250]
    assert (banner == hud.RED).all(axis=-1).sum() > 100, "the words are there"


@pytest.mark.parametrize(("age_ms", "old"), [(41, False), (120, False), (121, True), (5000, True)])
def test_an_image_is_old_after_three_periods(age_ms: int, old: bool, make_result: MakeResult) -> None:
    status = replace(LIVE, age_ns=age_ms * 1_000_000)
    alert = hud.signal_alert(flat(make_result), status)
    assert (alert is not None) is old
    assert hud.top_lines(status)[0][2] == hud.Words(f"age {age_ms} ms", hud.RED if old else hud.WHITE)
    canvas = hud.draw(flat(make_result), status, (400, 400))
    assert (border(canvas) == hud.RED) is old
    assert (canvas[110, 50:350] == 200).all(), "an old image stays visible"


def test_an_age_without_a_known_period_is_no_alarm(make_result: MakeResult) -> None:
    assert hud.signal_alert(flat(make_result), replace(LIVE, age_ns=10**10, period_ns=None)) is None


@pytest.mark.parametrize(
    ("outcome", "status", "text"),
    [(Outcome.FAILED, LIVE, "BICUBIC ONLY"), (Outcome.FAILED, DEGRADED, "BICUBIC ONLY"),
     (Outcome.UPSCALED, DEGRADED, "DEGRADED")],
)  # fmt: skip
def test_what_the_network_did_not_make_is_marked(
    outcome: Outcome, status: Status, text: str, make_result: MakeResult
) -> None:
    result = flat(make_result, outcome=outcome)
    alert = hud.method_alert(result, status)
    assert alert is not None
    assert alert.text == text
    assert alert.detail == (status.message or "the engine failed on this frame")
    assert border(hud.draw(result, status, (400, 400))) == hud.AMBER


def test_no_signal_outranks_bicubic_but_both_are_said(make_result: MakeResult) -> None:
    result = flat(make_result, outcome=Outcome.FAILED)
    canvas = hud.draw(result, replace(STALLED, state=State.DEGRADED), (400, 400))
    assert border(canvas) == hud.RED
    assert (canvas[20:150] == hud.AMBER).all(axis=-1).sum() > 50


@pytest.mark.parametrize(("stalled", "text"), [(False, "WAITING"), (True, "NO SIGNAL")])
def test_before_the_first_image(stalled: bool, text: str) -> None:
    status = replace(LIVE, state=State.STARTING, engine="", age_ns=None, period_ns=None, stalled=stalled)
    alert = hud.signal_alert(None, status)
    assert alert is not None
    assert alert.text == text
    assert hud.draw(None, status, (480, 640)).shape == (480, 640, 3)
    assert hud.top_lines(status)[0][2].text == "age -"


def test_every_outcome_is_counted_and_trouble_stands_out() -> None:
    counts, source = hud.bottom_lines(LIVE)
    assert [word.text for word in counts] == [
        "captured 92", "upscaled 90", "stale 0", "lost 2", "failed 0", "corrupt 0",
    ]  # fmt: skip
    assert counts[3].colour == hud.AMBER
    assert counts[4].colour == hud.GRAY
    assert source[0].text == "/dev/video0"


def test_rate_engine_and_model_are_named() -> None:
    first, second = hud.top_lines(replace(LIVE, engine="bicubic on CPU", model="densenet"))
    assert [word.text for word in first] == ["RUNNING", "25.0 frames/s", "age 41 ms"]
    assert second[0].text == "bicubic on CPU, densenet"
    assert hud.top_lines(LIVE)[1][0].text == LIVE.engine, "the model is not said twice"


def test_a_stalled_run_shows_nothing_in_green() -> None:
    assert hud.GREEN in {word.colour for word in hud.top_lines(LIVE)[0]}
    assert hud.GREEN not in {word.colour for word in hud.top_lines(STALLED)[0]}


@pytest.mark.parametrize("width", [480, 512, 1024, 2048, 3840])
def test_text_is_readable_and_stays_inside(width: int, make_result: MakeResult) -> None:
    """Capitals of at least nine pixels and a hundredth of the width, up to 26; ends of long paths kept."""
    size = hud.text_size(width)
    assert size >= min(max(9, width / 100), 26)
    status = replace(LIVE, source="rtsp://" + "very-long-name/" * 40 + "end.mkv", captured=10**9)
    canvas = hud.draw(make_result(np.full((64, 64), 255, np.uint8)), status, (width, width))
    strip = canvas[-4 * size :]
    assert strip[:, : size // 2].max() < 70, "dark on the left edge, over a white image"
    assert strip[:, -size // 2 :].max() < 70, "and on the right one"
    written = strip[:, size:-size].max(axis=-1)
    assert written.max() >= 160
    between = ((written > 80) & (written < 150)).sum()
    assert between > 50, "the letters have soft edges"


def test_a_path_is_cut_in_the_middle() -> None:
    cut = hud._cut("/media/disk/" + "x" * 500 + "/end.mkv", 0.6, 1, 300)
    assert cut.startswith("/media/")
    assert cut.endswith("/end.mkv")
    assert "..." in cut
    assert cv2.getTextSize(cut, hud.FONT, 0.6, 1)[0][0] <= 300


def test_a_canvas_can_be_used_again(make_result: MakeResult) -> None:
    canvas = hud.draw(flat(make_result, outcome=Outcome.FAILED), STALLED, (400, 800))
    reprojected = hud.draw(flat(make_result), LIVE, (400, 800), out=canvas)
    assert reprojected is canvas
    assert np.array_equal(reprojected, hud.draw(flat(make_result), LIVE, (400, 800)))
    assert hud.draw(flat(make_result), LIVE, (300, 300), out=canvas).shape == (300, 300, 3)


def checked(
    *, limit_db: float | None = 41.0, worst_db: float | None = 43.2, corrected: bool = False
) -> Result:
    """A flat image of 400x400 from an LR image of 100x100, which differs in a square around (60, 40)."""
    lr = np.full((100, 100), 200, np.uint8)
    reprojected = lr.copy()
    reprojected[54:66, 34:46] -= 20
    check = Fidelity(
        46.25, 44.0 if corrected else None, worst_db, (48, 32) if worst_db else None, limit_db, reprojected
    )
    image = np.full((400, 400), 200, np.uint8)
    times = Times(0, 0, 0, 0)
    return Result(Frame(lr, 0, 0), lr, image, Outcome.UPSCALED, 4, times, "fast", check.db, check)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (checked(), ["fidelity 46.2 dB", "worst tile 43.2", "limit 41.0"]),
        (checked(worst_db=40.9), ["fidelity 46.2 dB", "worst tile 40.9", "BELOW LIMIT 41.0"]),
        (checked(limit_db=None), ["fidelity 46.2 dB", "worst tile 43.2"]),
        (checked(worst_db=None), ["fidelity 46.2 dB", "limit 41.0"]),
        (
            checked(corrected=True),
            ["fidelity 46.2 dB", "before correction 44.0", "worst tile 43.2", "limit 41.0"],
        ),
    ],
)
def test_the_fidelity_is_said_and_a_broken_limit_stands_out(result: Result, words: list[str]) -> None:
    (line,) = hud.fidelity_lines(result)
    assert [word.text for word in line] == words
    amber = [word.text for word in line if word.colour == hud.AMBER]
    assert amber == (words[1:] if "BELOW" in words[-1] else [])


def test_the_tile_below_the_limit_has_corners(make_result: MakeResult) -> None:
    """At its place in the window, here twice as large and beside a margin; otherwise nothing is marked."""
    usual = hud.draw(checked(), LIVE, (800, 1000))
    marked = hud.draw(checked(worst_db=40.0), LIVE, (800, 1000))
    rows, columns = np.nonzero((marked != usual)[130:].any(-1))  # below the words
    top, left, side = 48 * 8, 100 + 32 * 8, 32 * 8
    assert abs(rows.min() + 130 - top) <= 4
    assert abs(rows.max() + 130 - top - side) <= 4
    assert abs(columns.min() - left) <= 4
    assert abs(columns.max() - left - side) <= 4
    assert (marked[top, left] == hud.AMBER).all()
    assert (marked[top + side // 2, left] == 200).all(), "corners, not a frame that hides"


def test_the_overlay_colours_where_images_differ_and_says_what_the_colours_mean() -> None:
    plain = hud.draw(checked(), LIVE, (400, 400))
    coloured = hud.draw(checked(), LIVE, (400, 400), overlay=True)
    assert np.ptp(coloured[240, 160].astype(int)) > 60, "colour in the middle of the difference"
    assert np.array_equal(coloured[120:160, 200:], plain[120:160, 200:]), "none where there is none"
    assert coloured[240, 160].max() > 100, "the tissue shows through"
    text = (coloured != plain)[300:, :200].any()
    assert text, "the legend"


def test_without_a_check_the_overlay_changes_nothing(make_result: MakeResult) -> None:
    result = flat(make_result)
    assert hud.fidelity_lines(result) == hud.fidelity_lines(None) == []
    assert np.array_equal(
        hud.draw(result, LIVE, (400, 400), overlay=True), hud.draw(result, LIVE, (400, 400))
    )


def test_a_recording_shows() -> None:
    assert "REC" not in [words.text for words in hud.top_lines(LIVE)[0]]
    assert hud.top_lines(replace(LIVE, recording=True))[0][0] == ("REC", hud.RED)
