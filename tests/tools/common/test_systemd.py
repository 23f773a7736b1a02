"""systemd hears that a service is ready and alive, and only then."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from support import until

from clesr.tools.common.systemd import told_to_systemd


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(20)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    return listener


def test_it_is_told_when_it_is_ready_and_while_it_is_alive(systemd: socket.socket) -> None:
    ready, alive = False, True
    with systemd, told_to_systemd(lambda: ready, lambda: alive):
        assert systemd.recv(100) == b"WATCHDOG=1"
        ready = True
        heard = [systemd.recv(100) for _ in range(20)]
        assert heard.count(b"READY=1") == 1
        alive = False
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
    with told_to_systemd(lambda: pytest.fail("asked"), lambda: pytest.fail("asked")):
        pass


def test_a_socket_that_is_gone_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", os.fspath(tmp_path / "gone"))
    with told_to_systemd(lambda: True, lambda: True):
        pass
