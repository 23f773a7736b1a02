"""systemd hears that a service is ready and alive, and only then."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from support import FakeEngine, ListSink, ScriptedSource, make_frame, until
from waits import joined

from clesr.engines.common.clock import SYSTEM
from clesr.pipeline.metrics.collector import UNATTENDED_S
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.session.verify import verify
from clesr.tools.common import systemd as systemd_words
from clesr.tools.common.systemd import told_to_systemd

T = TypeVar("T")


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(20)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    return listener


def test_it_is_told_when_it_is_ready_and_while_it_is_alive(systemd: socket.socket) -> None:
    run: Any = SimpleNamespace(started=False, ending=False, unattended_s=0.0)
    with systemd, told_to_systemd([run]):
        assert systemd.recv(100) == b"WATCHDOG=1"
        run.started = True
        heard = [systemd.recv(100) for _ in range(20)]
        assert heard.count(b"READY=1") == 1
        run.unattended_s = UNATTENDED_S
        systemd.settimeout(0.3)

        def silent() -> bool:
            try:
                systemd.recv(100)
            except TimeoutError:
                return True
            return False

        until(silent)


def test_nothing_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    asked: Any = [object()]  # which says nothing
    with told_to_systemd(asked):
        pass


def test_a_socket_that_is_gone_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", os.fspath(tmp_path / "gone"))
    run: Any = SimpleNamespace(started=True, ending=True, unattended_s=0.0)
    with told_to_systemd([run]):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("part", ["output", "recorder", "source"])
def test_a_run_that_is_long_in_closing_is_alive_and_has_its_time(
    systemd: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """systemd hears at the begin of the end that it ends, and until that is done that it needs more time."""
    monkeypatch.setattr(systemd_words, "UNATTENDED_S", 0.5)
    closing, release = threading.Event(), threading.Event()

    def slow(close: Callable[[], T]) -> Callable[[], T]:
        def closed() -> T:
            closing.set()
            assert release.wait(60)
            return close()

        return closed

    source, sink = ScriptedSource(map(make_frame, range(5)), shape=(8, 10)), ListSink()
    recorder = Recorder(source.info, scale=2)
    slowed: Any = {"output": sink, "recorder": recorder, "source": source}[part]
    slowed.close = slow(slowed.close)
    run = Pipeline(source, FakeEngine, [sink], scale=2, recorder=recorder)
    run.start_recording(tmp_path / "s")
    thread = threading.Thread(target=run.run)
    with systemd, told_to_systemd([run]):
        thread.start()
        try:
            heard = [systemd.recv(100).decode() for _ in iter(closing.is_set, True)]
            enough_ns = SYSTEM.now_ns() + int(3 * UNATTENDED_S * 1e9)
            while SYSTEM.now_ns() < enough_ns:
                heard.append(systemd.recv(100).decode())
            words = {systemd.recv(100).decode() for _ in range(20)}
        finally:
            release.set()
            joined(thread)
    assert [*heard, *words].count("STOPPING=1") == 1
    assert words == {"WATCHDOG=1", "EXTEND_TIMEOUT_USEC=30000000"}
    assert verify(tmp_path / "s").holds
