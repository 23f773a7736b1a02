"""Alarms that wait with another stream."""

from __future__ import annotations

from heard import hear
from session_runs import CLOCK

from clesr.pipeline.alarms import ALARMS, HANDED, Alarms, RecordingAlarms


def of(*texts: str) -> Alarms:
    alarms = Alarms()
    for text in texts:
        alarms.add(text)
    return alarms


def test_they_are_moved_and_so_is_what_comes_later() -> None:
    ended, living = of("seen", "first", "second"), of("own")
    ended.acknowledge("seen")
    ended.hand_over(living, "right")
    ended.add("third")
    assert ended.waiting == ()
    assert ended.acknowledged == ("seen",)
    assert living.waiting == ("right: third", "right: second", "right: first", "own")
    assert living.acknowledge() == "right: third"
    assert living.acknowledge("right: first") == "right: first"
    assert ended.acknowledge() == ""
    assert [living.acknowledge() for _ in range(2)] == ["right: second", "own"]


def test_many_leave_those_of_the_living_stream_in_sight() -> None:
    """Also those that come later, and those of several streams: they are counted."""
    own = [f"own {number}" for number in range(ALARMS - HANDED)]
    living, first, second = of(*own), of(*(f"alarm {number}" for number in range(100))), of("one", "two")
    first.hand_over(living, "first")
    newest = ("first: alarm 99", "first: alarm 98", "first: alarm 97")
    counted = "EARLIER ALARMS: {} more, which stand among the messages"
    assert living.waiting == (*newest, *reversed(own), counted.format(97))
    for number in range(100, 110):
        first.add(f"alarm {number}")
    second.hand_over(living, "second")
    newest = ("second: two", "second: one", "first: alarm 109")
    assert living.waiting == (*newest, *reversed(own), counted.format(109))
    third = Alarms()
    living.hand_over(third, "living")
    assert third.waiting == (*newest, counted.format(109 + len(own)))
    for waiting in third.waiting:
        assert third.acknowledge(waiting) == waiting
    assert not third.waiting


def test_they_keep_the_name_of_their_stream_from_one_to_the_next() -> None:
    first, second, third = of("of the first"), of("of the second"), Alarms()
    first.hand_over(second, "one")
    second.hand_over(third, "two")
    first.add("later")
    assert third.waiting == ("one: later", "one: of the first", "two: of the second")


def test_they_come_back_where_only_the_first_is_left() -> None:
    """The window of the one broke, then the other ended. What comes again stands there once."""
    blind, other = of("of the blind"), of("of the other")
    blind.hand_over(other, "blind")
    other.hand_over(blind, "other")
    blind.add("new")
    other.add("newer")
    blind.add("of the blind")
    third = of("of the third")
    third.hand_over(other, "third")  # and so where its own wait
    assert blind.waiting == (
        "third: of the third",
        "of the blind",
        "other: newer",
        "new",
        "other: of the other",
    )
    assert other.waiting == ()


def test_long_ones_and_ones_of_the_same_words_are_acknowledged() -> None:
    ended, living = of("x" * 5000, "same"), of("right: same")
    ended.hand_over(living, "right")
    assert living.waiting == ("right: same", ("right: " + "x" * 5000)[:1000])
    for waiting in living.waiting:
        assert living.acknowledge(waiting) == waiting
    assert not living.waiting


def test_what_waits_elsewhere_is_not_said_again_and_again() -> None:
    said, ended, between, living = hear(), RecordingAlarms(CLOCK), Alarms(), Alarms()
    ended.hand_over(between, "right")
    between.hand_over(living, "between")
    for _ in range(5):
        ended.silent(3.0)
    assert len([line for line in said if "no image has come" in line]) == 1
    assert living.waiting == ("right: NOTHING IS RECORDED: no image has come for more than 3 s",)
