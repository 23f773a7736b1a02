"""Times and gaps of network streams, from times and arrivals that each test makes up."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import pytest

from clesr.pipeline.sources.video.stream_times import WRAP_BITS, PlacedPicture, PresentRate, StreamTimes

TICKS = 90_000
BASE = Fraction(1, TICKS)
FPS = 24
PERIOD_NS = 10**9 // FPS
START_NS = 5 * 10**12


def times(**options: bool) -> StreamTimes:
    return StreamTimes(BASE, FPS, **options)


def pts_of(number: float, fps: float = FPS) -> int:
    return round(TICKS * number / fps)


def place(
    stream: StreamTimes, number: float, arrival_s: float, *, fps: float = FPS, shift: int = 0
) -> PlacedPicture:
    """Picture ``number``, which arrives and is decoded at once."""
    now = START_NS + round(arrival_s * 1e9)
    pts = pts_of(number, fps) + shift
    stream.arrived(pts, now)
    return stream.place(pts, now)


def settled(stream: StreamTimes, numbers: Iterable[int], delay_s: float = 0.0) -> list[PlacedPicture]:
    """Pictures that come when they are due."""
    found = [place(stream, number, number / FPS + delay_s) for number in numbers]
    assert not any(placed.missing or placed.outage for placed in found)
    return found


@pytest.mark.parametrize("lost", [1, 2, 7, 23, 240, 1000])
@pytest.mark.parametrize("fps", [5.0, 24.0, 30000 / 1001, 60.0])
def test_what_is_missing_in_an_even_stream_is_counted(lost: int, fps: float) -> None:
    stream = StreamTimes(BASE, fps)
    for number in range(60):
        place(stream, number, number / fps, fps=fps)
    found = place(stream, 60 + lost, (60 + lost) / fps, fps=fps)
    assert found.missing == lost
    away = found.outage is not None and found.outage.known
    assert away == ((lost + 1) / fps >= 1.0)
    following = place(stream, 61 + lost, (61 + lost) / fps, fps=fps)
    assert (following.missing, following.outage) == (0, None)


def test_every_lost_picture_is_counted_once_at_every_rate_of_loss_and_jitter() -> None:
    rng = np.random.default_rng(3)
    for share in (0.01, 0.05, 0.2):
        stream, counted, came = times(), 0, 0
        kept = [n for n in range(3000) if n < 40 or n > 2980 or rng.random() > share]
        for number in kept:
            jitter = rng.uniform(-0.004, 0.004)
            found = place(stream, number + jitter * FPS, number / FPS + rng.uniform(0.01, 0.05))
            assert found.outage is None or found.outage.known
            counted, came = counted + found.missing, came + 1
        assert counted + came == kept[-1] + 1


def test_the_number_lost_in_an_uneven_stream_is_unknown() -> None:
    rng = np.random.default_rng(4)
    stream, at = times(), 0.0
    for _ in range(80):
        at += rng.uniform(0.03, 0.3)
        found = place(stream, at * FPS, at)
        assert (found.missing, found.outage) == (0, None), "pictures that come when they like are not missing"
    found = place(stream, (at + 10) * FPS, at + 10)
    assert found.outage is not None
    assert not found.outage.known


def test_a_long_outage_of_a_jittery_stream_is_not_counted_more_exactly_than_it_can_be() -> None:
    rng = np.random.default_rng(5)
    stream = times()
    for number in range(30):
        place(stream, number + rng.uniform(-0.15, 0.15), number / FPS + 0.02)
    found = place(stream, 30 + 3600 * FPS, 30 / FPS + 3600.02)
    assert found.outage is not None
    assert not found.outage.known


def test_a_picture_that_a_stall_holds_back_keeps_its_own_time() -> None:
    stream = times()
    settled(stream, range(50))
    for number in range(50, 170):  # five seconds of pictures, all at once
        found = place(stream, number, 55 / FPS + 5.0)
        assert (found.missing, found.outage) == (0, None)
        assert abs(found.time_ns - START_NS - number * PERIOD_NS) < 2_000_000
    (after,) = settled(stream, [170])
    assert abs(after.time_ns - START_NS - 170 * PERIOD_NS) < 2_000_000


def test_what_a_parser_holds_back_for_a_period_arrived_a_period_earlier() -> None:
    stream, aged = times(held=True), times()
    for number in range(20):
        found, other = place(stream, number, (number + 1) / FPS), place(aged, number, (number + 1) / FPS)
    assert abs(other.time_ns - found.time_ns - PERIOD_NS) < 1_000_000
    assert abs(found.time_ns - START_NS - 19 * PERIOD_NS) < 1_000_000
    held = place(stream, 20, 31.0)  # the last before a pause of the sender
    assert abs(held.time_ns - START_NS - 20 * PERIOD_NS) < 1_000_000


def test_a_picture_without_a_time_follows_the_one_before_it() -> None:
    stream = times(held=True)
    for number in range(30):
        place(stream, number, (number + 1) / FPS)
    stream.arrived(None, START_NS + 6 * 10**9)  # a parser waited in vain for the one after it
    found = stream.place(None, START_NS + 6 * 10**9)
    assert (found.missing, found.outage) == (0, None)
    assert abs(found.time_ns - START_NS - 30 * PERIOD_NS) < 2_000_000
    after = place(stream, 270, 271 / FPS)
    assert after.missing == 239
    assert after.outage is not None
    assert after.outage.known


def test_a_stream_may_begin_without_times() -> None:
    stream = times()
    for number in range(3):
        stream.arrived(None, START_NS + number * PERIOD_NS)
        found = stream.place(None, START_NS + number * PERIOD_NS)
        assert found == PlacedPicture(START_NS + number * PERIOD_NS)
    settled(stream, range(3, 40))


def test_times_never_fall_nor_lie_ahead_whatever_the_jitter() -> None:
    rng = np.random.default_rng(6)
    stream, last = times(), 0
    for number in range(500):
        now = number / FPS + rng.exponential(0.03)
        found = place(stream, number, now)
        assert last <= found.time_ns <= START_NS + round(now * 1e9)
        last = found.time_ns


@pytest.mark.parametrize("part", [-1e-3, -2e-4, 2e-4, 1e-3, 0.01, 0.04])
def test_clocks_that_part_do_not_make_a_picture_look_old(part: float) -> None:
    stream, ages = times(), []
    for number in range(FPS * 120):
        arrival = number / FPS * (1 + part)
        found = place(stream, number, arrival)
        assert (found.missing, found.outage) == (0, None)
        ages.append(START_NS / 1e9 + arrival - found.time_ns / 1e9)
    assert max(ages[-20 * FPS :]) < 0.125, "three periods, from which on an image is called old"


def test_times_go_on_where_a_counter_of_33_bits_begins_again() -> None:
    stream = times()
    whole = 1 << WRAP_BITS
    shift = whole - pts_of(30)
    for number in range(100):
        now = START_NS + number * PERIOD_NS
        pts = (pts_of(number) + shift) % whole
        stream.arrived(pts, now)
        found = stream.place(pts, now)
        assert (found.missing, found.outage) == (0, None)
    assert abs(found.time_ns - START_NS - 99 * PERIOD_NS) < 1_000_000


@pytest.mark.parametrize("jump_s", [-3600.0, -5.0, 20.0, 86400.0])
def test_times_that_jump_are_a_gap_of_unknown_number(jump_s: float) -> None:
    stream = times()
    settled(stream, range(60))
    found = place(stream, 60, 60 / FPS, shift=round(jump_s * TICKS))
    assert found.outage is not None
    assert not found.outage.known
    assert abs(found.time_ns - START_NS - 60 * PERIOD_NS) < 1_000_000, "it comes now, whatever it says"
    following = place(stream, 61, 61 / FPS, shift=round(jump_s * TICKS))
    assert (following.missing, following.outage) == (0, None)


def test_a_first_sender_report_that_sets_times_right_is_no_gap() -> None:
    stream = times(resyncs=True)
    settled(stream, range(30))
    found = place(stream, 30, 30 / FPS, shift=3 * TICKS)
    assert (found.missing, found.outage) == (0, None)
    silent = place(stream, 31, 31 / FPS + 4, shift=-300 * TICKS)
    assert silent.outage is not None


def test_a_late_damaged_picture_that_was_counted_as_missing_is_not_counted_again() -> None:
    stream = times()
    settled(stream, range(20))
    found = place(stream, 21, 21 / FPS)
    assert found.missing == 1
    late = stream.place(pts_of(20), START_NS + 22 * PERIOD_NS)
    assert late == PlacedPicture(found.time_ns, counted=True)


def test_without_times_a_silence_is_a_gap_of_unknown_number() -> None:
    stream = StreamTimes(None)
    for number in range(30):
        found = place(stream, number, number / FPS)
        assert found.time_ns == START_NS + round(number / FPS * 1e9)
        assert found.outage is None
    late = place(stream, 30, 30 / FPS + 0.3)
    assert late.outage is None, "a hiccup"
    found = place(stream, 31, 31 / FPS + 8)
    assert found.outage is not None
    assert not found.outage.known


def test_a_rate_that_falls_is_not_a_loss_for_long() -> None:
    stream, counted = times(), 0
    settled(stream, range(100))
    for number in range(102, 300, 2):
        found = place(stream, number, number / FPS)
        counted += found.missing
    assert counted <= 16
    found = place(stream, 300, 300 / FPS)
    assert found.missing == 0


@pytest.mark.parametrize("late_ms", [30, 42, 60, 200, 700])
def test_pictures_that_a_busy_sender_stamps_late_are_not_missing(late_ms: int) -> None:
    rng = np.random.default_rng(7)
    stream, counted = times(), 0
    for number in range(200):
        at = number / FPS + rng.uniform(0, 0.0005)
        if 0 <= number / FPS - 100 / FPS < late_ms / 1000:  # what was due meanwhile is sent at once
            at = max(at, 100 / FPS + late_ms / 1000 + 0.0002 * (number - 100))
        found = place(stream, at * FPS, at + 0.001)
        counted += found.missing
    assert counted == 0


def test_what_is_missing_in_times_read_from_a_clock_is_counted_one_picture_later() -> None:
    rng = np.random.default_rng(8)
    stream = times()
    for number in range(100):
        place(stream, number + rng.uniform(0, 0.02), number / FPS + 0.001)
    first, second = place(stream, 103, 103 / FPS), place(stream, 104, 104 / FPS)
    assert (first.missing, first.late) == (0, True)
    assert (second.missing, second.late) == (3, False)


def test_nothing_is_missing_before_the_rate_is_known() -> None:
    rate = PresentRate(None)
    assert rate.missing(200_000_000) == 0
    assert rate.missing(20_000_000_000) is None
