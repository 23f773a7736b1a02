"""The loop of the process that draws."""

from __future__ import annotations

import json
import select
import socket
import threading
from typing import Any

import pytest

from clesr.engines.common.shared_message import SharedMessage
from clesr.pipeline.sinks.placement import WindowPlacement
from clesr.pipeline.sinks.window import process


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

        def pressed(self) -> int:
            return ord("f") if len(waits) == 10 else -1

        def pointed(self) -> list[tuple[int, int, int, int]]:
            return []

    def wait(readers: Any, writers: Any, errors: Any, timeout: float) -> Any:
        waits.append(timeout)
        if len(waits) == 30:
            enough.set()
        return select.select(readers, writers, errors, timeout)

    monkeypatch.setattr(process, "Screen", Screen)
    monkeypatch.setattr(process, "select", type("select", (), {"select": staticmethod(wait)}))
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    message = SharedMessage()
    thread = threading.Thread(target=process.serve, args=(its, message, WindowPlacement()), daemon=True)
    thread.start()
    assert enough.wait(20), "thirty looks take a third of a second"
    said = [json.loads(ours.recv(1000)), json.loads(ours.recv(1000))]
    ours.close()
    thread.join(20)
    assert not thread.is_alive(), "it ends when nobody is there"
    message.close()
    its.close()
    assert max(waits) <= 0.05
    assert said == [{"ready": True}, {"key": ord("f")}]
