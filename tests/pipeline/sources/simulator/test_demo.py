from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from documents import ROOT

from clesr.engines.common.errors import EndOfSource, UsageError
from clesr.pipeline.frame import Frame
from clesr.pipeline.source import Source
from clesr.pipeline.sources.registry import SourceOptions
from clesr.pipeline.sources.simulator import demo
from clesr.pipeline.sources.simulator.demo import BUFFERS, DemoSource
from clesr.pipeline.sources.simulator.phantom import Phantom
from clesr.tools.data.degrade import degrade

SECOND = 1_000_000_000


class HandClock:
    """Time that moves by ``advance`` and by sleeping; ``on_sleep`` is called before."""

    def __init__(self) -> None:
        self.time_ns = 5 * SECOND
        self.on_sleep: Callable[[], None] | None = None

    def now_ns(self) -> int:
        return self.time_ns

    def sleep_until(self, time_ns: int) -> None:
        assert time_ns > self.time_ns
        if self.on_sleep is not None:
            self.on_sleep()
        self.time_ns = time_ns

    def advance(self, seconds: float) -> None:
        self.time_ns += round(seconds * SECOND)


@pytest.fixture(autouse=True)
def _drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources share their phantoms, which do not change and take long to draw."""
    monkeypatch.setattr(demo, "Phantom", shared_phantom)


@cache
def shared_phantom(size: int, seed: int, **options: float) -> Phantom:
    return Phantom(size, seed, **options)  # type: ignore[arg-type]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def small(clock: HandClock, options: str = "") -> DemoSource:
    return DemoSource("demo:?size=64" + (options and "&" + options), SourceOptions(clock=clock))


def take(source: DemoSource, timeout: float = 1.0) -> Frame:
    frame = source.read(timeout)
    assert frame is not None
    return frame


def numbers_to_the_end(source: DemoSource) -> list[int]:
    numbers = []
    while True:
        try:
            numbers.append(take(source).number)
        except EndOfSource:
            return numbers


def test_the_address_may_have_no_options(clock: HandClock) -> None:
    source: Source = DemoSource("demo:", SourceOptions(clock=clock))
    assert source.info.live
    assert source.info.fps == 12
    assert source.info.shape == (256, 256)
    assert source.info.frames is None
    frame = source.read(0.1)
    assert isinstance(frame, Frame)
    assert frame.image.shape == (256, 256)
    assert frame.image.dtype == np.uint8
    assert frame.pts is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("size=32", r"size is '32'; allowed is a whole number from 64 to 1024"),
        ("size=big", r"size is 'big'"),
        ("fps=0", r"fps is '0'; allowed is a rate from 0.1 to 1000"),
        ("fps=1/0", r"fps is '1/0'"),
        ("fps=nan", r"fps is 'nan'"),
        ("seed=-1", r"seed is '-1'; allowed is a whole number from 0 up"),
        ("drop=1", r"drop is '1'; allowed is a number from 0 to 0.9"),
        ("drop=nan", r"drop is 'nan'"),
        ("bits=12", r"bits is '12'; allowed is 8 or 16"),
        ("noise=-1", r"noise is '-1'; allowed is a number from 0 to 10"),
        ("fov=20", r"fov is '20'; allowed is a number from 100 to 600"),
        ("frames=0", r"frames is '0'; allowed is a whole number from 1 up"),
        ("pace=slow", r"pace is 'slow'; allowed is live or max"),
        ("seed=", r"seed is ''"),
        ("sise=64", r"no option 'sise'; there are size, fps, seed, drop, bits, noise, fov, frames, pace"),
        ("seed", r"'seed' is not of the form name=value"),
        ("seed=1&seed=2", r"'seed' is given more than once"),
    ],
)
def test_options_that_are_not_allowed_are_named(clock: HandClock, options: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        DemoSource(f"demo:?{options}", SourceOptions(clock=clock))
    assert "\n" not in str(caught.value)


def test_other_addresses_are_refused(clock: HandClock) -> None:
    with pytest.raises(UsageError, match="'demo:fast' is no demo address"):
        DemoSource("demo:fast", SourceOptions(clock=clock))


def test_frames_come_at_their_rate_with_their_times(clock: HandClock) -> None:
    source = small(clock, "fps=30000/1001")
    start = clock.time_ns
    for number in range(4):
        frame = take(source)
        assert frame.number == number
        assert frame.time_ns == start + number * 1001 * SECOND // 30000
        assert clock.time_ns == frame.time_ns


def test_read_gives_up_after_its_timeout(clock: HandClock) -> None:
    source = small(clock, "fps=0.5")
    take(source)
    start = clock.time_ns
    assert source.read(0.3) is None
    assert clock.time_ns == start + 3 * SECOND // 10
    assert take(source, 5.0).number == 1


def test_a_reader_that_keeps_up_on_average_loses_nothing(clock: HandClock) -> None:
    source = small(clock, "fps=10")
    numbers = []
    for pause in (0, 0.39, 0, 0, 0, 0.39, 0, 0, 0, 0.2, 0):
        clock.advance(pause)
        numbers.append(take(source).number)
    assert numbers == list(range(11))


def test_a_slow_reader_finds_the_buffers_and_then_a_gap(clock: HandClock) -> None:
    source = small(clock, "fps=10")
    start = clock.time_ns
    take(source)
    clock.advance(1.25)  # frames 1 to 12 come; the driver keeps the first of them
    frames = [take(source) for _ in range(BUFFERS + 2)]
    assert [frame.number for frame in frames] == [1, 2, 3, 4, 13, 14]
    assert [frame.time_ns for frame in frames] == [start + frame.number * SECOND // 10 for frame in frames]


@pytest.mark.parametrize("pace", ["live", "max"])
def test_the_end_comes_after_as_many_frames_as_asked(clock: HandClock, pace: str) -> None:
    source = small(clock, f"frames=5&pace={pace}")
    assert source.info.frames == 5
    assert numbers_to_the_end(source) == [0, 1, 2, 3, 4]
    with pytest.raises(EndOfSource):
        source.read(0.1)


@pytest.mark.parametrize("pace", ["live", "max"])
def test_dropped_frames_leave_gaps(clock: HandClock, pace: str) -> None:
    options = f"frames=200&drop=0.3&seed=4&noise=0&pace={pace}"
    numbers = numbers_to_the_end(small(clock, options))
    assert numbers[0] == 0
    assert numbers[-1] == 199
    assert all(b > a for a, b in pairwise(numbers))
    assert 0.57 < len(numbers) / 200 < 0.83
    assert numbers_to_the_end(small(clock, options)) == numbers


def test_at_most_pace_frames_wait_for_their_reader(clock: HandClock) -> None:
    source = small(clock, "pace=max&fps=12.5")
    assert not source.info.live
    for number in range(3):
        clock.advance(3.0)
        frame = take(source)
        assert (frame.number, frame.pts, frame.time_base) == (number, number, Fraction(2, 25))
        assert frame.time_ns == clock.time_ns


def test_16_bits(clock: HandClock) -> None:
    assert take(small(clock, "bits=16")).image.dtype == np.uint16


def test_options_reach_the_scene(clock: HandClock) -> None:
    plain = take(small(clock)).image
    for options in ("seed=1", "fov=150", "noise=3"):
        assert (take(small(clock, options)).image != plain).any()
    assert not (take(small(clock, "seed=0&fov=475&noise=1")).image != plain).any()


def test_a_waiting_read_ends_when_the_source_is_closed(clock: HandClock) -> None:
    source = small(clock, "fps=0.1")
    take(source)
    start = clock.time_ns
    clock.on_sleep = source.close
    assert source.read(60.0) is None
    assert clock.time_ns - start <= SECOND // 10
    source.close()
    assert source.read(60.0) is None


def test_the_truth_belongs_to_the_frame(clock: HandClock) -> None:
    source = small(clock, "noise=0&pace=max")
    take(source)
    frame = take(source)
    truth = source.truth(frame.number, 4)
    assert truth.shape == (256, 256)
    assert truth.dtype == np.uint8
    error = np.abs(degrade(truth.astype(np.uint8), 4).astype(int) - frame.image)
    assert error.mean() < 0.5
    other = np.abs(degrade(source.truth(40, 4).astype(np.uint8), 4).astype(int) - frame.image)
    assert other.mean() > 5


def test_the_page_has_every_option_with_its_default() -> None:
    rows = dict(
        re.findall(r"^\| `(\w+)` \| (\S+) \|", (ROOT / "docs" / "cameras.md").read_text(), re.MULTILINE)
    )
    shown = {name: rows[name].strip("`") for name in demo.OPTIONS}
    assert shown == {
        name: "endless"
        if option.default is None
        else f"{float(option.default):g}"
        if name != "pace"
        else "live"
        for name, option in demo.OPTIONS.items()
    }
