"""Which frames are exported."""

from __future__ import annotations

import numpy as np
import pytest

from clesr.tools.export.clip import Still
from clesr.tools.export.selection import thin

MS = 1_000_000
BLANK = np.zeros((2, 2), np.uint8)


def thinned(times_ms: list[float], seconds: float | None) -> list[float]:
    stills = [Still(number, round(time * MS), BLANK) for number, time in enumerate(times_ms)]
    return [still.time_ns / MS for still in thin(stills, seconds)]


@pytest.mark.parametrize(
    ("times_ms", "seconds", "kept"),
    [
        ([0, 40, 80, 120, 160, 200, 240], 0.1, [0, 120, 200]),
        ([7, 106.9, 107, 206.9, 207], 0.1, [7, 107, 207]),
        ([0, 350, 390, 400, 410, 1000], 0.1, [0, 350, 400, 1000]),  # a gap shifts nothing
        (
            [973.741823, 1073.741824, 1193.741824],
            0.1,
            [973.741823, 1073.741824, 1193.741824],
        ),  # across 2**30 ns
        ([0, 40, 80], None, [0, 40, 80]),
        ([0, 40, 80], 1e-12, [0, 40, 80]),
        ([0, 3_599_999.999, 3_600_000], 3600, [0, 3_600_000]),
    ],
)
def test_of_every_so_many_seconds_the_first(
    times_ms: list[float], seconds: float | None, kept: list[float]
) -> None:
    assert thinned(times_ms, seconds) == kept
