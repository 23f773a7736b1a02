"""What a view says of the image and the run, in words: the same beside an image, over it and on a page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from clesr.engines.trust import NOISE_KNOWN
from clesr.pipeline.display.text import Colour
from clesr.pipeline.display.view_state import Contrast, ViewState
from clesr.pipeline.frame import Outcome, Result, Told
from clesr.pipeline.status import State, Status, is_old

WHITE: Colour = (240, 240, 240)
GRAY: Colour = (170, 170, 170)
GREEN: Colour = (120, 220, 120)
AMBER: Colour = (40, 180, 255)
RED: Colour = (70, 70, 255)
BLUE: Colour = (255, 190, 90)
DISK_LOW, DISK_OUT = 10, 3  # minutes until the disk is full: amber, red
TROUBLES = (Outcome.LOST, Outcome.FAILED, Outcome.CORRUPT)


class Fact(NamedTuple):
    """``value`` under ``label``; a ``plain`` one says all without its label."""

    label: str
    value: str
    colour: Colour = WHITE
    plain: bool = False

    def __str__(self) -> str:
        return self.value if self.plain else f"{self.label} {self.value}"


def facts(
    result: Result | None, status: Status, view: ViewState
) -> tuple[list[list[Fact]], list[list[Fact]]]:
    """What is said of the run and its image, in groups: what is above the image, what below."""
    above = [run_facts(status), engine_facts(status, result), fidelity_facts(result), list(_view_facts(view))]
    below = [list(_frame_facts(status)), list(_source_facts(status))]
    return [line for line in above if line], [line for line in below if line]


def age_text(age_ns: int | None) -> str:
    """Milliseconds, from ten seconds on seconds."""
    if age_ns is None:
        return "-"
    return f"{age_ns / 1e6:.0f} ms" if age_ns < 10e9 else f"{age_ns / 1e9:.0f} s"


def figure_text(age_ns: int | None) -> str:
    """For large figures: tenths of a second, from a hundred seconds on minutes and seconds, and hours."""
    if age_ns is None:
        return "-"
    if age_ns < 100e9:
        return f"{age_ns / 1e9:.1f} s"
    return f"{clock_text(age_ns / 1e9)} {'min' if age_ns < 3600e9 else 'h'}"


def clock_text(seconds: float) -> str:
    """Minutes and seconds, from an hour on with hours: 03:07, 1:03:07."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def recording_fact(status: Status) -> Fact | None:
    """That a session is being recorded, and for how long; None where it is not."""
    if not status.recording:
        return None
    lasted = "" if status.recording_s is None else f" {clock_text(status.recording_s)}"
    return Fact("recording", f"REC{lasted}", RED, plain=True)


def disk_fact(status: Status) -> Fact | None:
    """For how long the disk will do; None where that is not known."""
    left = status.disk_minutes
    if not status.recording or left is None:
        return None
    colour = RED if left < DISK_OUT else AMBER if left < DISK_LOW else GRAY
    amount = f"{left / 60:.0f} h" if left >= 600 else f"{left:.0f} min" if left >= 1 else "under 1 min"
    return Fact("disk", f"{amount} left", colour)


def run_facts(status: Status) -> list[Fact]:
    """Recording, state, rate and age. Green and white are for what is live."""
    colours = {State.RUNNING: GREEN, State.DEGRADED: AMBER, State.FAILED: RED}
    colour = GRAY if status.stalled and status.state is State.RUNNING else colours.get(status.state, WHITE)
    recording = [fact for fact in (recording_fact(status), disk_fact(status)) if fact is not None]
    return [
        *recording,
        Fact("state", str(status.state).upper(), colour, plain=True),
        Fact("rate", f"{status.fps:.1f} frames/s", GRAY if status.stalled else WHITE, plain=True),
        Fact("age", age_text(status.age_ns), RED if is_old(status) else WHITE),
    ]


def engine_facts(status: Status, result: Result | None = None) -> list[Fact]:
    """Engine and model, those that made ``result`` where it says so, and what is being switched to, or was not."""
    made_by = result.engine if result is not None else None
    engine, name = (
        (str(made_by), made_by.model) if made_by else (status.engine or "no engine yet", status.model)
    )
    model = "" if name in engine else f", {name}"
    found = [Fact("engine", engine + model, GRAY, plain=True)]
    if status.switching:
        found.append(Fact("switching to", status.switching))
    if status.switch_error:
        found.append(Fact("switch", status.switch_error, AMBER, plain=True))
    return found


def fidelity_facts(result: Result | None) -> list[Fact]:
    """How well the image agrees with what was measured, and what the network was told; nothing where that is not
    known."""
    if result is None or result.check is None:
        return []
    check = result.check
    found = [Fact("fidelity", f"{check.db:.1f} dB")]
    if check.before_db is not None:
        found.append(Fact("before correction", f"{check.before_db:.1f} dB"))
    if check.worst_db is not None:
        found.append(Fact("worst tile", f"{check.worst_db:.1f} dB", AMBER if check.below_limit else WHITE))
    if check.limit_db is not None:
        below = check.below_limit
        label = "BELOW LIMIT" if below else "limit"
        found.append(Fact(label, f"{check.limit_db:.1f} dB", AMBER if below else GRAY))
    if result.told is not None:
        found += _told_facts(result.told)
    if result.frames is not None:
        found.append(Fact("rests on", f"{result.frames:.1f} frames", GRAY))
    return found


def _told_facts(told: Told) -> list[Fact]:
    """The noise of the frame, and how much of the image is more than bicubic."""
    colour = AMBER if told.confidence < 1 else GRAY
    why = "too noisy" if told.levels.noise > NOISE_KNOWN else "no structure"
    fading = f" ({why})" if told.confidence < 1 else ""
    return [
        Fact("noise", f"{told.levels.noise:.1f}", colour),
        Fact("network on", f"{told.trusted:.0%} of the image{fading}", colour),
    ]


def _view_facts(view: ViewState) -> Iterator[Fact]:
    """What is not shown as it is."""
    if view.zoom > 1:
        yield Fact("zoom", f"{view.zoom:.1f}x", BLUE)
    if view.contrast is Contrast.FIXED:
        yield Fact("contrast", f"{view.levels[0]:.0f} to {view.levels[1]:.0f}", BLUE)
    elif view.contrast is not Contrast.AS_IS:
        yield Fact("contrast", "CLAHE" if view.contrast is Contrast.CLAHE else str(view.contrast), BLUE)
    if view.lookup_table != "gray":
        yield Fact("colours", view.lookup_table, BLUE)


def _frame_facts(status: Status) -> Iterator[Fact]:
    """What became of the frames."""
    yield Fact("captured", str(status.captured))
    for outcome in Outcome:
        count = status.outcomes.get(outcome, 0)
        colour = AMBER if count and outcome in TROUBLES else WHITE if count else GRAY
        yield Fact("lost" if outcome is Outcome.LOST else str(outcome), str(count), colour)
    if status.damaged:
        yield Fact("damaged", str(status.damaged), AMBER)


def _source_facts(status: Status) -> Iterator[Fact]:
    """Where frames come from, and when none came."""
    if status.outages.count:
        yield Fact("away", str(status.outages), AMBER, plain=True)
    yield Fact("source", status.source, GRAY, plain=True)
