from __future__ import annotations

import math
import threading

import pytest
from waits import joined

from clesr.pipeline.frame_queue import Closed, FrameQueue, Policy


def test_newest_drops_the_oldest_and_returns_it() -> None:
    box: FrameQueue[int] = FrameQueue(2, Policy.DROP_OLDEST)
    assert [box.put(i) for i in range(4)] == [None, None, 0, 1]
    assert [box.get(0), box.get(0), box.get(0)] == [2, 3, None]


def test_all_makes_the_writer_wait_and_loses_nothing() -> None:
    box: FrameQueue[int] = FrameQueue(1, Policy.BLOCK)
    got: list[int] = []

    def read() -> None:
        while True:
            try:
                item = box.get()
            except Closed:
                return
            assert item is not None
            got.append(item)

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(500):
        assert box.put(i) is None
    box.close()
    joined(reader)
    assert got == list(range(500))


def test_close_hands_over_what_is_inside_then_ends() -> None:
    box: FrameQueue[str] = FrameQueue(3, Policy.BLOCK)
    box.put("last")
    box.close()
    with pytest.raises(Closed):
        box.put("late")
    assert box.get() == "last"
    with pytest.raises(Closed):
        box.get()


def test_close_wakes_a_waiting_writer() -> None:
    box: FrameQueue[int] = FrameQueue(1, Policy.BLOCK)
    box.put(1)
    outcome: list[str] = []

    def write() -> None:
        try:
            box.put(2)
        except Closed:
            outcome.append("closed")

    writer = threading.Thread(target=write)
    writer.start()
    box.close()
    joined(writer)
    assert outcome == ["closed"]


def test_before_anything_came_the_newest_always_has_room() -> None:
    assert FrameQueue[int](1, Policy.DROP_OLDEST).room == math.inf
    assert FrameQueue[int](3, Policy.BLOCK).room == 3


def test_a_box_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        FrameQueue[int](0, Policy.BLOCK)


def test_it_knows_its_room_and_whether_there_is_anything_to_take() -> None:
    """What the engine stage looks at before each turn, without taking the lock."""
    queue: FrameQueue[int] = FrameQueue(2, Policy.BLOCK)
    assert (queue.room, queue.ready) == (2, False)
    queue.put(1)
    assert (queue.room, queue.ready) == (1, True)
    queue.put(2)
    assert (queue.room, queue.ready) == (0, True)
    queue.get(0)
    queue.drain()
    assert (queue.room, queue.ready) == (2, False)
    queue.close()
    assert (queue.room, queue.ready) == (math.inf, True), "get and put raise at once"
    dropping: FrameQueue[int] = FrameQueue(1, Policy.DROP_OLDEST)
    dropping.put(1)
    assert (dropping.room, dropping.ready) == (math.inf, True)
