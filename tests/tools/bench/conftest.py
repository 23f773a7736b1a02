"""A bench on a clock of its own, and results made with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from timed_engines import MODEL, SHAPE, Bench

from clesr.engines.candidate import EngineCandidate


@pytest.fixture
def fake() -> Bench:
    return Bench()


@pytest.fixture
def result(fake: Bench, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """A whole result, as `clesr bench` makes it, of the offers given."""
    from clesr.tools.bench import run

    def make(
        *candidates: EngineCandidate, peaks: dict[str, dict[str, float]] | None = None
    ) -> dict[str, Any]:
        monkeypatch.setattr(run, "find_model", lambda name, scale: MODEL)
        monkeypatch.setattr(run, "bandwidth", lambda kind: 3000.0)
        settings = run.BenchSettings(cases=(("fast", 2, SHAPE),), seconds=1.0)
        return run.bench(
            settings,
            candidates,
            plan=fake.plan,
            find_pair=lambda scale, shape: fake.pair,
            peaks={"cuda": {"fp16": 1000.0}} if peaks is None else peaks,
        )

    return make
