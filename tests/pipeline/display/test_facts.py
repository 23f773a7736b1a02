"""What is said of the image and the run, in words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import window_scenes as scenes
from window_scenes import DEGRADED, LIVE, OLD, STALLED

from clesr.engines.guidance import Guidance
from clesr.engines.levels import Levels
from clesr.pipeline.display import facts
from clesr.pipeline.display.alerts import alerts, frozen_alert, method_alert, signal_alert
from clesr.pipeline.display.facts import AMBER, GRAY, GREEN, RED, WHITE, Fact
from clesr.pipeline.display.text import Colour
from clesr.pipeline.display.view_state import Contrast, ViewState
from clesr.pipeline.frame import Told
from clesr.pipeline.status import OutageTotal, State, Status, is_old

VIEW = ViewState()
S = 1_000_000_000


def words(found: list[Fact]) -> list[str]:
    return [str(fact) for fact in found]


def below(status: Status) -> list[Fact]:
    return [fact for group in facts.facts(None, status, VIEW)[1] for fact in group]


@pytest.mark.parametrize(("age_ms", "old"), [(41, False), (120, False), (121, True), (5000, True)])
def test_an_image_is_old_after_three_periods(age_ms: int, old: bool) -> None:
    status = replace(LIVE, age_ns=age_ms * 1_000_000)
    alert = signal_alert(scenes.result(), status)
    assert (alert is not None) is old
    assert facts.run_facts(status)[2] == Fact("age", f"{age_ms} ms", RED if old else WHITE)


def test_an_age_without_a_known_period_is_no_alarm() -> None:
    assert signal_alert(scenes.result(), replace(LIVE, age_ns=10 * S, period_ns=None)) is None


@pytest.mark.parametrize(("ns", "text"), [
    (None, "-"), (0, "0.0 s"), (900_000_000, "0.9 s"), (99 * S, "99.0 s"), (100 * S, "01:40 min"),
    (3700 * S, "1:01:40 h"),
])  # fmt: skip
def test_large_figures_are_seconds_then_minutes(ns: int | None, text: str) -> None:
    assert facts.figure_text(ns) == text


def test_nothing_is_alarming_of_a_live_image() -> None:
    assert alerts(scenes.result(), LIVE, VIEW) == ()


def test_no_signal_says_for_how_long() -> None:
    alert = signal_alert(scenes.result(), STALLED)
    assert alert is not None
    assert (alert.text, alert.figure, alert.colour) == ("NO SIGNAL", "12.3 s", RED)


@pytest.mark.parametrize(("stalled", "text"), [(False, "WAITING"), (True, "NO SIGNAL")])
def test_before_the_first_image(stalled: bool, text: str) -> None:
    status = replace(LIVE, state=State.STARTING, engine="", age_ns=None, period_ns=None, stalled=stalled)
    alert = signal_alert(None, status)
    assert alert is not None
    assert alert.text == text
    assert facts.run_facts(status)[2].value == "-"
    assert facts.engine_facts(status)[0].value == "no engine yet, fast"


@pytest.mark.parametrize(
    ("failed", "status", "text"),
    [(True, LIVE, "BICUBIC ONLY"), (True, DEGRADED, "BICUBIC ONLY"), (False, DEGRADED, "DEGRADED")],
)
def test_what_the_network_did_not_make_is_marked(failed: bool, status: Status, text: str) -> None:
    made = scenes.failed(scenes.result()) if failed else scenes.result()
    alert = method_alert(made, status)
    assert alert is not None
    assert (alert.text, alert.colour) == (text, AMBER)
    assert alert.detail == ("the device is gone" if failed else status.message), "the reason of its own frame"


def test_all_that_is_wrong_is_said_the_gravest_first() -> None:
    frozen = ViewState(frozen=True)
    found = alerts(scenes.failed(scenes.result()), replace(STALLED, state=State.DEGRADED), frozen, 2 * S)
    assert [alert.text for alert in found] == ["NO SIGNAL", "FROZEN", "BICUBIC ONLY"]
    assert len({alert.colour for alert in found}) == 3
    ended = replace(LIVE, state=State.FAILED, message="the camera is gone")
    found = alerts(scenes.failed(scenes.result()), ended, frozen, 2 * S)
    assert [alert.text for alert in found] == ["FAILED", "FROZEN", "BICUBIC ONLY"]
    assert found[0].detail == "the camera is gone"


def test_a_frozen_image_has_its_own_age() -> None:
    """Not that of the newest one."""
    alert = frozen_alert(ViewState(frozen=True), 7 * S)
    assert alert is not None
    assert alert.detail == "this image is 7.0 s old"
    assert frozen_alert(VIEW, 7 * S) is None


def test_every_outcome_is_counted_and_trouble_stands_out() -> None:
    counts = below(LIVE)
    assert words(counts) == [
        "captured 92", "upscaled 90", "stale 0", "lost 2", "failed 0", "corrupt 0", "/dev/video0",
    ]  # fmt: skip
    assert counts[3].colour == AMBER
    assert counts[4].colour == GRAY


def test_damaged_frames_and_outages_are_told() -> None:
    made = scenes.damaged(scenes.result())
    alert = method_alert(made, LIVE)
    assert alert is not None
    assert (alert.text, alert.colour) == ("DAMAGED", AMBER)
    found = below(replace(LIVE, damaged=7, outages=OutageTotal(2, 1, 13.25)))
    amber = words([fact for fact in found if fact.colour == AMBER])
    assert amber == ["lost 2", "damaged 7", "2 outages of 13.2 s, 1 of unknown number"]


def test_rate_engine_and_model_are_named() -> None:
    status = replace(LIVE, engine="bicubic on CPU", model="densenet")
    assert words(facts.run_facts(status)) == ["RUNNING", "25.0 frames/s", "age 41 ms"]
    assert words(facts.engine_facts(status)) == ["bicubic on CPU, densenet"]
    assert words(facts.engine_facts(LIVE)) == [LIVE.engine], "the model is not said twice"


def test_a_switch_of_engine_and_one_that_came_to_nothing_are_said() -> None:
    switching = facts.engine_facts(replace(LIVE, switching="x8 fast: opening"))
    assert words(switching)[1:] == ["switching to x8 fast: opening"]
    broken = replace(LIVE, switch_error="x8 fast does not take over, x4 fast goes on: out of memory")
    assert facts.engine_facts(broken)[1] == Fact("switch", broken.switch_error, AMBER, plain=True)
    assert method_alert(scenes.result(), broken) is None, "the image on show is as good as before"


def test_a_stalled_run_shows_nothing_in_green() -> None:
    assert GREEN in {fact.colour for fact in facts.run_facts(LIVE)}
    assert GREEN not in {fact.colour for fact in facts.run_facts(STALLED)}
    assert is_old(OLD)


@pytest.mark.parametrize(
    ("seconds", "minutes", "said"),
    [
        (None, None, [("REC", RED)]),
        (7.9, None, [("REC 00:07", RED)]),
        (187.0, 44.4, [("REC 03:07", RED), ("disk 44 min left", GRAY)]),
        (3787.0, 9.9, [("REC 1:03:07", RED), ("disk 10 min left", AMBER)]),
        (0.0, 2.9, [("REC 00:00", RED), ("disk 3 min left", RED)]),
        (0.0, 0.2, [("REC 00:00", RED), ("disk under 1 min left", RED)]),
        (0.0, 6000.0, [("REC 00:00", RED), ("disk 100 h left", GRAY)]),
    ],
)
def test_a_recording_says_how_long_it_is_and_can_become(
    seconds: float | None, minutes: float | None, said: list[tuple[str, Colour]]
) -> None:
    status = replace(LIVE, recording=True, recording_s=seconds, disk_minutes=minutes)
    assert [(str(fact), fact.colour) for fact in facts.run_facts(status)[:-3]] == said
    assert words(facts.run_facts(replace(status, recording=False)))[0] == "RUNNING"


def test_the_fidelity_is_said_and_a_broken_limit_stands_out() -> None:
    made = scenes.result()
    assert made.check is not None
    said = words(facts.fidelity_facts(made))
    assert said == ["fidelity 46.2 dB", "worst tile 43.2 dB", "limit 41.0 dB", "rests on 3.4 frames"]
    broken = facts.fidelity_facts(scenes.result(below=True))
    assert words([fact for fact in broken if fact.colour == AMBER]) == [
        "worst tile 40.1 dB",
        "BELOW LIMIT 41.0 dB",
    ]
    corrected = replace(made, check=replace(made.check, before_db=44.0, limit_db=None), frames=None)
    assert words(facts.fidelity_facts(corrected)) == [
        "fidelity 46.2 dB", "before correction 44.0 dB", "worst tile 43.2 dB",
    ]  # fmt: skip
    assert facts.fidelity_facts(replace(made, check=None)) == facts.fidelity_facts(None) == []


@pytest.mark.parametrize(
    ("noise", "confidence", "said", "colour"),
    [
        (3.0, 1.0, "network on 80% of the image", GRAY),
        (30.0, 0.5, "network on 80% of the image (too noisy)", AMBER),
        (3.0, 0.5, "network on 80% of the image (no structure)", AMBER),
    ],
)
def test_what_the_network_was_told_is_said(
    noise: float, confidence: float, said: str, colour: Colour
) -> None:
    guidance = Guidance(np.zeros(2, np.float32), np.zeros((4, 4), np.uint8))
    told = Told(guidance, Levels(noise, 1.0, 0.0, 0.0, 1.0), 0.8, confidence)
    found = facts.fidelity_facts(replace(scenes.result(), told=told))
    assert Fact("noise", f"{noise:.1f}", colour) in found
    assert said in words(found)


def test_what_is_not_shown_as_it_is_says_so() -> None:
    def said(view: ViewState) -> list[str]:
        return words([fact for group in facts.facts(None, LIVE, view)[0][2:] for fact in group])

    assert said(VIEW) == []
    assert said(ViewState(zoom=2.5, contrast=Contrast.AUTO, lookup_table="fire")) == [
        "zoom 2.5x", "contrast auto", "colours fire",
    ]  # fmt: skip
    assert said(ViewState(contrast=Contrast.FIXED, levels=(12.0, 200.4))) == ["contrast 12 to 200"]
    assert said(ViewState(contrast=Contrast.CLAHE)) == ["contrast CLAHE"]
