"""How old an image is by the clock of a page: never less than it is, and hardly more."""

from __future__ import annotations

from random import Random

import pytest

from clesr.pipeline.sinks.browser.page_clock import SPAN_NS, PageClock

HOUR_NS = 3600 * 10**9
QUARTER_NS = 250_000_000  # between two words of a page


def test_an_age_is_never_too_small_and_too_large_by_the_quickest_way_alone() -> None:
    rng, clock = Random(3), PageClock()
    assert not clock.known
    for count in range(2000):
        now = HOUR_NS + count * QUARTER_NS
        way_ns = 2_000_000 if count % 20 == 7 else rng.randrange(2_000_000, 3_000_000_000)
        clock.hear((now - way_ns) / 1e6 - 77, now)  # our clock is 77 ms ahead, besides the way
        assert clock.known
        late_ms = (now / 1e6 - 77) - clock.page_ms(now)
        assert late_ms >= -1e-6
        if count > 7:
            assert late_ms == pytest.approx(2, abs=1e-3)


@pytest.mark.parametrize("drift", [1e-4, -1e-4])
def test_clocks_may_drift_apart_for_hours(drift: float) -> None:
    clock = PageClock()
    for count in range(4 * 3600 * 3):
        now = count * QUARTER_NS
        clock.hear(now * (1 + drift) / 1e6, now)
        assert abs(clock.page_ms(now) - now * (1 + drift) / 1e6) <= abs(drift) * 2 * SPAN_NS / 1e6 + 1e-3
