"""Overload, as benchmarks/overload.py measures it for minutes, in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import overload
import pytest


@pytest.mark.slow
def test_three_times_too_many_frames_leave_images_young_and_raw_complete(tmp_path: Path) -> None:
    """The median alone: time that a busy machine did not give is no fault of the pipeline."""
    row = overload.overload(overload.fixed(), 6, tmp_path / "s")
    assert row["age_ms"]["p50"] < row["limit_ms"]
    assert row["unaccounted"] == 0
    assert row["complete"]
    assert row["outcomes"]["stale"] > row["shown"]
    assert np.isclose(row["shown"] + row["outcomes"]["stale"], row["captured"])
