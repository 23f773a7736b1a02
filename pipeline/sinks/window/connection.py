"""The process that draws a window, as its parent sees it: an X server that dies takes that one with it.

It imports little, so that a window can be opened before anything else is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Callable
from typing import Any

from clesr.engines.common.errors import SinkError
from clesr.engines.common.parent import start_child
from clesr.engines.common.processor import seconds_used
from clesr.engines.common.shared_message import SharedMessage
from clesr.engines.common.waiting import readable

START_S = 30.0  # for the process to start and find a screen
CLOSE_S = 2.0
KEPT = 4096  # bytes of what the process complained of
MOST_BYTES = 65536  # of what the processes say by socket
PROGRAM = "clesr.pipeline.sinks.window.process"


class WindowProcess:
    """A process with a window, the ``index``-th of ``count``; returns before that is there. Raises SinkError where the
    process cannot be started, and from all that listens to it when it has died."""

    def __init__(self, title: str, index: int = 0, count: int = 1) -> None:
        self.complaints = ""  # the last that the process wrote on its standard error
        self.ended = False
        self._message = SharedMessage()
        self._socket, others = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ends = (others.fileno(), self._message.descriptor)
        try:
            self._process = start_child(
                PROGRAM, *ends, title, index, count, descriptors=ends, stderr=subprocess.PIPE
            )
        except OSError as error:
            self._socket.close()
            self._message.close()
            raise SinkError(f"the window's process cannot be started: {error.strerror}") from error
        finally:
            others.close()
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def used_s(self) -> float:
        """Seconds of a core that the thread that draws has used."""
        return seconds_used(self.pid)

    def wait_ready(self) -> None:
        """Return when the process has said whether there is a window. Raises SinkError where it does not."""
        if not self.answers_within(START_S):
            self.fail(f"the window has not opened within {START_S:.0f} s; run with --display none")

    def answers_within(self, seconds: float) -> bool:
        """Whether the process says something until then."""
        return readable(self._socket, seconds)

    def announce(self, *lines: str) -> None:
        """Have the window say what is being opened, the last of ``lines`` now, until there is something to show."""
        with contextlib.suppress(OSError):  # what has become of it is told by ``heard``
            self._socket.send(json.dumps({"opening": lines}).encode(), socket.MSG_DONTWAIT)

    def show(self, scene: object) -> bool:
        """Have ``scene`` drawn, which is answered; one at a time. False where the process has ended: what it has said
        last tells why."""
        sizes = self._message.put(scene)
        try:
            self._socket.send(json.dumps(sizes).encode())
        except OSError:
            return False
        return True

    def heard(self) -> list[dict[str, Any]]:
        """What the process has said since the last call. It says at last that it was ``closed``, or else has died, for
        which this raises SinkError."""
        self._read_complaints()
        said: list[dict[str, Any]] = []
        while not self.ended and not (said and "closed" in said[-1]):
            try:
                packet = self._socket.recv(MOST_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except ConnectionResetError:  # it has ended, a message of ours unread; its last words come next
                continue
            if not packet:
                self.fail("the process of the window has ended")
            said.append(json.loads(packet))
            if "error" in said[-1]:
                self.fail(said[-1]["error"])
        return said

    def fail(self, reason: str) -> None:
        """Raises SinkError; the process is ended."""
        self.end()
        words = [line for line in self.complaints.splitlines() if line.strip()]
        raise SinkError(f"{reason} ({words[-1].strip()})" if words else reason)

    def end(self) -> None:
        """Ask the process to end; kill it where it does not."""
        self.ended = True
        if self._process.returncode is not None:
            return
        self._socket.close()
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._read_complaints()
        for pipe in (self._process.stdin, self._process.stderr):
            assert pipe is not None
            pipe.close()
        self._message.close()

    def _read_complaints(self) -> None:
        assert self._process.stderr is not None
        if not self._process.stderr.closed:
            words = self._process.stderr.read() or b""  # all that is there
            self.complaints = (self.complaints + words.decode(errors="replace"))[-KEPT:]


class WindowProgress:
    """Whether a process gets on with what it was given. ``used_s`` gives the seconds of a core that it has used: one
    that waits for a core on a busy machine uses little, one that hangs none."""

    def __init__(self, used_s: Callable[[], float]) -> None:
        self._used_s = used_s
        self._begun_s = self._last_s = 0.0
        self._last_ns = 0

    def begin(self, now_ns: int) -> None:
        """It was given something at ``now_ns``."""
        self._begun_s = self._last_s = self._used_s()
        self._last_ns = now_ns

    def hangs(self, now_ns: int, limit_s: float) -> bool:
        """Whether it has used nothing for ``limit_s`` seconds, or as many of a core for this one thing."""
        if now_ns - self._last_ns <= limit_s * 1e9:
            return False
        used_s = self._used_s()
        hangs = used_s <= self._last_s or used_s - self._begun_s > limit_s
        self._last_s, self._last_ns = used_s, now_ns
        return hangs
