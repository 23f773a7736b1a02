"""The loop of the process that draws."""

from __future__ import annotations

import json
import socket
import threading

import pytest
from support import ManualClock

from clesr.engines.common.shared_message import SharedMessage
from clesr.engines.common.waiting import readable
from clesr.pipeline.sinks.placement import WindowPlacement
from clesr.pipeline.sinks.window import process
from clesr.pipeline.sinks.window.x_events import PressedKey, XEvents


def test_keys_are_looked_for_many_times_a_second_while_no_image_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However slow the machine: no wait between two looks is long."""
    waits: list[float] = []
    enough = threading.Event()

    class Screen:
        is_closed = False

        def __init__(self, _place: WindowPlacement) -> None: ...

        def show_opening(self, lines: list[str]) -> None: ...

        def pressed(self) -> PressedKey | None:
            return PressedKey(ord("f"), None) if len(waits) in (10, 20) else None

        def pointed(self) -> list[tuple[int, int, int, int]]:
            return []

    def wait(handle: socket.socket, timeout: float) -> bool:
        waits.append(timeout)
        if len(waits) == 30:
            enough.set()
        return readable(handle, timeout)

    monkeypatch.setattr(process, "Screen", Screen)
    monkeypatch.setattr(process, "readable", wait)
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    message = SharedMessage()
    thread = threading.Thread(target=process.serve, args=(its, message, WindowPlacement()), daemon=True)
    thread.start()
    assert enough.wait(20), "thirty looks take a third of a second"
    said = [json.loads(ours.recv(1000)) for _ in range(3)]
    ours.close()
    thread.join(20)
    assert not thread.is_alive(), "it ends when nobody is there"
    message.close()
    its.close()
    assert max(waits) <= 0.05
    assert said[:2] == [{"ready": True}, {"key": ord("f"), "repeated": False}]
    assert said[2]["key"] == ord("f")


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
