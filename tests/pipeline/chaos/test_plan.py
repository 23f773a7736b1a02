"""Which fault happens when."""

from __future__ import annotations

import pytest
from support import ManualClock

from clesr.engines.common.errors import UsageError
from clesr.pipeline.chaos.plan import ENDING, FAULTS, FOR_GOOD, ONCE, parse_plan


def test_a_fault_that_lasts_is_there_from_its_second_to_its_end() -> None:
    clock = ManualClock()
    plan = parse_plan("engine-stall@10+3", clock)
    assert plan.present("source") == ("", 0.0)  # begins
    clock.advance(9.9)
    assert plan.present("engine") == ("", 0.0)
    clock.advance(0.6)
    kind, left = plan.present("engine")
    assert kind == "stall"
    assert left == pytest.approx(2.5)
    assert plan.present("source") == ("", 0.0)
    clock.advance(2.6)
    assert plan.present("engine") == ("", 0.0)


@pytest.mark.parametrize("kind", ONCE)
def test_what_happens_once_is_given_once_however_late(kind: str) -> None:
    place = next(place for place in FAULTS if kind in FAULTS[place])
    clock = ManualClock()
    plan = parse_plan(f"{place}-{kind}@1", clock)
    plan.present(place)
    clock.advance(1000)
    assert plan.present(place)[0] == kind
    assert plan.present(place)[0] == ""


@pytest.mark.parametrize("place", [place for place in FAULTS if FOR_GOOD in FAULTS[place]])
def test_what_is_full_stays_full(place: str) -> None:
    clock = ManualClock()
    plan = parse_plan(f"{place}-full@1", clock)
    plan.present(place)
    clock.advance(1e6)
    assert plan.present(place)[0] == plan.present(place)[0] == FOR_GOOD


def test_chance_is_the_same_for_the_same_seed_and_never_ends() -> None:
    def kinds(text: str) -> list[tuple[str, str]]:
        clock = ManualClock()
        found: list[tuple[str, str]] = []
        plan = parse_plan(text, clock)
        for _ in range(40_000):
            clock.advance(0.1)
            found += [(place, kind) for place in FAULTS if (kind := plan.present(place)[0])]
        return found

    one = kinds("every=20,seed=3")
    assert one == kinds("every=20,seed=3") != kinds("every=20,seed=4")
    assert {place for place, _ in one} == FAULTS.keys()
    assert not set(one) & set(ENDING)
    assert len(set(one)) == sum(map(len, FAULTS.values())) - len(ENDING)


@pytest.mark.parametrize(
    "text",
    ["", "engine", "engine-stall", "engine-stall@", "engine-stall@x", "engine-stall@1..2", "motor-stall@1",
     "engine-duplicate@1", "source-stall@1;engine-stall@2", "every=0", "every=-1,seed=2", "seed=x", "every=5,speed=2",
     "every=nan", "x" * 10_000],
)  # fmt: skip
def test_what_is_no_plan_is_one_line_with_what_is_allowed(text: str) -> None:
    with pytest.raises(UsageError, match="--chaos") as raised:
        parse_plan(text)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400
