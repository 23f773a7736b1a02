"""The loop of the process that draws."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_void_p

import numpy as np
import pytest
import window_scenes as scenes
from support import ManualClock, until

from clesr.engines.common import processor
from clesr.engines.common.processor import seconds_used
from clesr.engines.common.shared_message import SharedMessage
from clesr.engines.common.waiting import ready
from clesr.pipeline.sinks.placement import WindowPlacement
from clesr.pipeline.sinks.window import process
from clesr.pipeline.sinks.window.connection import WindowProgress
from clesr.pipeline.sinks.window.scene import Drawn, Scene
from clesr.pipeline.sinks.window.x_events import SHIFT, PressedKey, XEvents, _Press


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
    monkeypatch: pytest.MonkeyPatch, screen: type[FakeScreen], message: SharedMessage | None = None
) -> Iterator[tuple[list[float], socket.socket]]:
    """How long each look of a process waited at most that has ``screen``, and its parent's socket."""
    waits: list[float] = []

    def wait(descriptors: list[int], seconds: float) -> set[int]:
        waits.append(seconds)
        return ready(descriptors, seconds)

    monkeypatch.setattr(process, "Screen", screen)
    monkeypatch.setattr(process, "ready", wait)
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    message = message or SharedMessage()
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


def test_it_gives_way_to_the_engine_once_the_first_image_is_on_the_screen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before that a busy machine would keep the window away for seconds."""
    done: list[str] = []
    message = SharedMessage()

    class Screen(FakeScreen):
        def show(self, scene: Scene) -> Drawn:
            done.append("image" if scene.result is not None else "nothing")
            return Drawn(np.zeros((4, 4, 3), np.uint8), None, None)

        def pressed(self) -> PressedKey | None:
            done.append("looks")
            return None

    monkeypatch.setattr(process, "give_way", lambda: done.append("gives way"))
    with serving(monkeypatch, Screen, message) as (waits, ours):
        for result in (None, scenes.result(8), scenes.result(8)):
            ours.send(json.dumps(message.put(Scene(result, scenes.LIVE))).encode())
            until(lambda: bool(ready([ours.fileno()], 0.0)))
            while "shape" not in json.loads(ours.recv(1000)):
                pass
        looked = len(waits)
        until(lambda: len(waits) > looked + 3)
    first = done.index("image")
    assert done[first : first + 3] == ["image", "looks", "gives way"]
    assert done.count("nothing") == done.count("gives way") == 1, "not before it, and once"


def test_giving_way_leaves_the_window_a_tenth_of_a_core_that_others_want(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that a drawing of 60 ms takes less than a second there. By sched(7) each step of nice is a factor of 1.25."""
    nice: list[int] = []
    policies: list[str] = []
    monkeypatch.setattr(os, "nice", nice.append)
    monkeypatch.setattr(processor, "schedule", policies.append)
    processor.give_way()
    weight = 1.25 ** -min(sum(nice), 19)
    assert 0.05 < weight / (1 + weight) < 0.2
    assert policies == ["SCHED_BATCH"]


@pytest.mark.parametrize(
    ("share", "given_up_s"), [(0.0, 10), (0.014, None), (0.1, None), (0.5, 20), (1.0, 10)]
)  # of a core that it gets
def test_only_a_process_that_gets_nothing_done_hangs(share: float, given_up_s: int | None) -> None:
    """On a busy machine one drawing may take long; one that has used ten seconds of a core for it will not end."""
    clock = ManualClock()
    begun_ns = clock.now_ns()
    progress = WindowProgress(lambda: 5.0 + share * (clock.now_ns() - begun_ns) / 1e9)
    progress.begin(begun_ns)
    for second in range(1, 61):
        clock.advance(1.0)
        if progress.hangs(clock.now_ns(), 10.0):
            assert second == pytest.approx(given_up_s, abs=3)
            return
    assert given_up_s is None


def test_the_time_that_a_process_has_used_is_that_of_its_own() -> None:
    """A sleeping one, here, uses none."""
    before = seconds_used(os.getpid())
    until(lambda: sum(range(100_000)) > 0 and seconds_used(os.getpid()) > before + 0.05)
    sleeping = subprocess.Popen(["sleep", "60"])
    try:
        assert seconds_used(sleeping.pid) < 0.05
    finally:
        sleeping.kill()
        sleeping.wait(60)
    assert seconds_used(sleeping.pid) == 0, "there is none"


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


def test_a_key_that_opencv_tells_of_late_is_the_one_that_was_pressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It told of Shift, and of the letter at its next look only, where a machine was busy: a small one was heard."""
    monkeypatch.delenv("DISPLAY", raising=False)
    shift, a, b = 50, 38, 56
    keyboard, codes = XEvents(), {0xFFE1: {shift}, ord("a"): {a}, ord("b"): {b}}
    monkeypatch.setattr(keyboard, "_connection", c_void_p(1))
    monkeypatch.setattr(keyboard, "_codes_of", codes.__getitem__)
    monkeypatch.setattr(keyboard, "_listen", lambda: None)

    def press(code: int, modifiers: int = 0, *, repeated: bool = False) -> None:
        keyboard._keys.append(_Press(code, modifiers, repeated))

    press(shift)
    press(a, SHIFT)
    assert keyboard.pressed(0xFFE1).code == 0xFFE1
    assert keyboard.pressed(ord("a")) == PressedKey(ord("A"), False)
    assert keyboard.pressed(ord("a")) == PressedKey(ord("a"), None), "of which nothing is known"
    press(a, SHIFT)
    press(b)
    press(a, repeated=True)
    press(b, repeated=True)
    assert keyboard.pressed(ord("a")) == PressedKey(ord("a"), False), "it tells of the last alone"
    assert keyboard.pressed(ord("b")) == PressedKey(ord("b"), True)
