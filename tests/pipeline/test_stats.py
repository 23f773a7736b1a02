from __future__ import annotations

import numpy as np
import pytest

from clesr.pipeline.frame import Frame, Outcome, Result, Times
from clesr.pipeline.stats import Latency, Ledger, Rate


def result(captured_ns: int, *spans_ms: float) -> Result:
    image = np.zeros((2, 2), np.uint8)
    stamps = captured_ns + np.cumsum(np.array(spans_ms) * 1e6).astype(int)
    times = Times(captured_ns, *(int(t) for t in stamps))
    return Result(Frame(image, 0, captured_ns), image, image, Outcome.UPSCALED, 1, times, "m")


def test_ledger_balances_only_when_every_frame_has_one_outcome() -> None:
    ledger = Ledger()
    ledger.capture(3)
    ledger.record(Outcome.UPSCALED, 2)
    with pytest.raises(RuntimeError, match="3 captured, 2 outcomes"):
        ledger.check()
    ledger.record(Outcome.STALE)
    ledger.check()
    assert ledger.outcomes[Outcome.STALE] == 1


def test_latency_percentiles_by_stage() -> None:
    latency = Latency()
    assert latency.percentiles() == {}
    for i in range(1, 101):
        latency.add(result(0, 1, 2, i))
    table = latency.percentiles()
    assert table["prepare"]["p50"] == pytest.approx(1, abs=1e-3)
    assert table["wait"]["p99"] == pytest.approx(2, abs=1e-3)
    assert table["engine"]["p50"] == pytest.approx(50.5, abs=0.1)
    assert table["total"]["p99.9"] == pytest.approx(3 + np.percentile(np.arange(1, 101), 99.9), abs=0.1)


def test_latency_keeps_the_newest() -> None:
    latency = Latency(kept=4)
    for ms in (100, 1, 2, 3, 4):
        latency.add(result(0, 0, 0, ms))
    assert latency.percentiles()["total"]["p99.9"] < 5


def test_rate() -> None:
    rate = Rate()
    assert rate.recent() == rate.overall() == 0
    for i in range(101):
        rate.add(i * 40_000_000)
    assert rate.recent() == pytest.approx(25)
    assert rate.overall() == pytest.approx(25)
