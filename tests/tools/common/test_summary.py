"""What a run says at its end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from heard import hear

from clesr.pipeline.frame import Outcome
from clesr.pipeline.status import State, Summary
from clesr.tools.common import summary

SUMMARY = Summary(
    source="demo:", captured=3, outcomes={outcome: 3 * (outcome is Outcome.UPSCALED) for outcome in Outcome},
    fps=25.0, latency_ms={}, engine="torch", model="fast", scale=2, state=State.STOPPED, seconds=1.0,
    outputs=("null: 3 results taken, nothing kept", "window: 3 results shown", "out.mkv: 3 frames"),
)  # fmt: skip


def test_only_files_and_messages_are_written() -> None:
    said = hear()
    summary.print_summary(SUMMARY)
    assert said == ["captured 3 frames: 3 upscaled", "window: 3 results shown", "wrote out.mkv: 3 frames"]


@pytest.mark.parametrize(
    ("fps", "says"),
    [
        (25.04, "25.0 frames/s by torch"),
        (0.0312, "0.031 frames/s by torch"),
        (0.0, "computed by torch"),  # of a single image there is no rate
    ],
)
def test_a_rate_is_never_nothing(fps: float, says: str) -> None:
    said = hear()
    summary.print_summary(replace(SUMMARY, fps=fps, latency_ms={"total": {"p50": 1.0}}))
    assert says in said
