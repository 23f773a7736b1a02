"""The loop of the process that draws."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support import ManualClock, until

from clesr.engines.common.shared_message import SharedMessage
from clesr.engines.common.waiting import ready
from clesr.pipeline.sinks.placement import WindowPlacement
from clesr.pipeline.sinks.window import process
from clesr.pipeline.sinks.window.x_events import PressedKey, XEvents


class FakeScreen:
    """A screen on which ``f`` is pressed at the looks 10 and 20."""

    is_closed, looks = False, 0
    descriptor: int | None = None

    def __init__(self, _place: WindowPlacement) -> None: ...

    def show_opening(self, lines: list[str]) -> None: ...

    def pressed(self) -> PressedKey | None:
        self.looks += 1
        return PressedKey(ord("f"), None) if self.looks in (10, 20) else None

    def pointed(self) -> list[tuple[int, int, int, int]]:
        return []


@contextmanager
def serving(
    monkeypatch: pytest.MonkeyPatch, screen: type[FakeScreen]
) -> Iterator[tuple[list[float], socket.socket]]:
    """How long each look of a process waited at most that has ``screen``, and its parent's socket."""
    waits: list[float] = []

    def wait(descriptors: list[int], seconds: float) -> set[int]:
        waits.append(seconds)
        return ready(descriptors, seconds)

    monkeypatch.setattr(process, "Screen", screen)
    monkeypatch.setattr(process, "ready", wait)
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    message = SharedMessage()
    thread = threading.Thread(target=process.serve, args=(its, message, WindowPlacement()), daemon=True)
    thread.start()
    yield waits, ours
    ours.close()
    thread.join(20)
    assert not thread.is_alive(), "it ends when nobody is there"
    message.close()
    its.close()


def test_keys_are_looked_for_many_times_a_second_while_no_image_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However slow the machine: no wait between two looks is long."""
    with serving(monkeypatch, FakeScreen) as (waits, ours):
        until(lambda: len(waits) >= 30)
        said = [json.loads(ours.recv(1000)) for _ in range(3)]
    assert max(waits) <= 0.05
    assert said[:2] == [{"ready": True}, {"key": ord("f"), "repeated": False}]
    assert said[2]["key"] == ord("f")


def test_a_window_that_nobody_uses_takes_no_time_from_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at often from the moment on that the X server says that it is used."""
    server, events = socket.socketpair()

    class Screen(FakeScreen):
        descriptor = events.fileno()

        def pointed(self) -> list[tuple[int, int, int, int]]:
            if ready([events.fileno()], 0.0):
                events.recv(100)
            return []

    monkeypatch.setattr(process, "USED_NS", 200_000_000)
    with serving(monkeypatch, Screen) as (waits, _ours):
        until(lambda: waits[-3:] == [process.RESTING_S] * 3)
        rested = len(waits)
        server.send(b"a key")
        until(lambda: len(waits) > rested + 5)
        assert waits[rested + 1 : rested + 5].count(process.LOOK_S) >= 3
        until(lambda: waits[-3:] == [process.RESTING_S] * 3)
    server.close()
    events.close()


def test_without_word_of_the_x_server_a_key_that_comes_again_soon_is_held() -> None:
    """The first repetition comes after up to a second, those after it follow quickly. Another key is another."""
    clock = ManualClock()
    held = process.HeldKey(clock)

    def comes(after_s: float, key: str, told: bool | None = None) -> bool:
        clock.advance(after_s)
        return held.repeats(PressedKey(ord(key), told))

    assert not comes(5.0, "q")
    assert comes(1.0, "q"), "the longest wait of common systems"
    assert all(comes(0.03, "q") for _ in range(100))
    assert not comes(0.03, "r")
    assert not comes(0.03, "q")
    assert not comes(2.0, "q"), "it was let go of"
    assert not comes(0.03, "q", told=False), "where the server knows, that counts"
    assert comes(5.0, "q", told=True)


def test_where_there_is_no_x_server_nobody_knows_whether_a_key_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    assert XEvents().pressed(ord("q")) == PressedKey(ord("q"), None)
