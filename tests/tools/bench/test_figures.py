"""Percentiles, ratios and streams."""

from __future__ import annotations

import pytest

from clesr.tools.bench.figures import latency, percentiles, ratios, streams


def test_a_percentile_needs_a_frame_beyond_it() -> None:
    seconds = [i / 1000 for i in range(1, 1001)]
    assert percentiles(seconds) == {"p50": 500.5, "p95": 950.05, "p99": 990.01, "p99.9": 999.001}
    assert percentiles(seconds[:999])["p99.9"] is None
    assert percentiles(seconds[:100])["p99"] == pytest.approx(99.01)
    assert percentiles(seconds[:99])["p99"] is None
    assert percentiles(seconds[:3]) == {"p50": 2.0, "p95": None, "p99": None, "p99.9": None}
    assert set(percentiles([]).values()) == {None}


def test_latency_says_the_longest_and_of_how_many() -> None:
    assert latency([0.002, 0.001, 0.009]) == {
        "p50": 2.0, "p95": None, "p99": None, "p99.9": None, "max": 9.0, "frames": 3
    }  # fmt: skip


def test_ratios_are_taken_turn_by_turn() -> None:
    """The third turn met another load: the median of the ratios is not the ratio of any mean."""
    assert ratios({"a": [20.0, 20.0, 2.0], "b": [10.0, 10.0, 1.0]}) == {"a": {"b": 2.0}, "b": {"a": 0.5}}
    assert ratios({"alone": [1.0]}) == {"alone": {}}


def test_streams_are_whole() -> None:
    assert [streams(rate) for rate in (0.0, 29.9, 30.0, 89.99, 90.0)] == [0, 0, 1, 2, 3]
