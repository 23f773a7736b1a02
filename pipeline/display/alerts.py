"""What nobody may overlook, whatever else is shown or hidden."""

from __future__ import annotations

from typing import NamedTuple

from clesr.pipeline.display.facts import AMBER, BLUE, GRAY, RED, figure_text
from clesr.pipeline.display.text import Colour
from clesr.pipeline.display.view_state import ViewState
from clesr.pipeline.frame import Outcome, Result
from clesr.pipeline.status import State, Status, is_old


class Alert(NamedTuple):
    """A mark that cannot be overlooked: words and a frame around the picture. ``figure`` is shown large."""

    text: str
    detail: str
    colour: Colour
    figure: str = ""


def alerts(
    result: Result | None, status: Status, view: ViewState, age_ns: int | None = None
) -> tuple[Alert, ...]:
    """All that apply, the gravest first; ``age_ns`` is the age of a frozen image."""
    found = (
        failed_alert(status),
        signal_alert(result, status),
        frozen_alert(view, age_ns),
        method_alert(result, status),
    )
    return tuple(alert for alert in found if alert is not None)


def failed_alert(status: Status) -> Alert | None:
    """That the run has failed; None where it has not."""
    if status.state is not State.FAILED:
        return None
    return Alert("FAILED", status.message or "the run has failed", RED)


def signal_alert(result: Result | None, status: Status) -> Alert | None:
    """Why the newest image must not be taken for a live one; None where it is live."""
    if result is None:
        return Alert(
            "NO SIGNAL" if status.stalled else "WAITING", "no image yet", RED if status.stalled else GRAY
        )
    if status.stalled:
        return Alert("NO SIGNAL", "since the last image", RED, figure_text(status.age_ns))
    if is_old(status):
        return Alert("OLD IMAGE", "behind", RED, figure_text(status.age_ns))
    return None


def frozen_alert(view: ViewState, age_ns: int | None) -> Alert | None:
    """That the operator holds an image, and how old that is."""
    if not view.frozen:
        return None
    return Alert("FROZEN", f"this image is {figure_text(age_ns)} old" if age_ns is not None else "", BLUE)


def method_alert(result: Result | None, status: Status) -> Alert | None:
    """Why the image on show is not super-resolved, or not to be trusted; None where it is."""
    if result is not None and result.outcome is Outcome.FAILED:
        return Alert("BICUBIC ONLY", result.reason or "the engine failed on this frame", AMBER)
    if result is not None and result.frame.damaged:
        return Alert("DAMAGED", "parts may be wrong: it builds on a damaged picture", AMBER)
    if status.state is State.DEGRADED:
        return Alert("DEGRADED", status.message or "the engine failed", AMBER)
    return None
