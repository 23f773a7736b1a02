from __future__ import annotations

from support import ManualClock

from clesr.pipeline.rate_limiter import RateLimiter


def test_many_of_a_kind_are_few_lines_and_none_is_forgotten() -> None:
    said: list[str] = []
    clock = ManualClock()
    limiter = RateLimiter(said.append, clock)
    for n in range(1000):
        limiter(f"frame {n}")
        clock.advance(0.04)
    limiter.rest()
    assert said[0] == "frame 0"
    assert said[1] == "frame 25 (and 24 more like that)"
    assert len(said) == 7, "after 1, 3, 7, 15 and 31 s, and at the end"
    assert said[-1].startswith("frame 999 (and ")
    more = sum(int(line.split("(and ")[1].split()[0]) for line in said if "(and" in line)
    assert len(said) + more == 1000


def test_after_a_minute_of_silence_it_begins_anew() -> None:
    said: list[str] = []
    clock = ManualClock()
    limiter = RateLimiter(said.append, clock)
    for name in "abc":
        limiter(name)
    clock.advance(61)
    limiter("d")
    limiter.rest()
    assert said == ["a", "d (and 2 more like that)"]
