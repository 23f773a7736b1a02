"""The window on this machine's screen, in a process of its own: an X server that dies takes that one with it.

What is to be drawn goes there as a message in memory that both see."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import pickle
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import SinkError, on_error
from clesr.pipeline.frame import Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.sinks.placement import WindowPlacement
from clesr.pipeline.sinks.registry import DEFAULTS, SinkOptions
from clesr.pipeline.status import Status

QUIT_KEYS = (ord("q"), ord("Q"), 27)
OVERLAY_KEYS = (ord("f"), ord("F"))
REDRAW_NS = 100_000_000  # between two drawings while no frame comes
START_S = 30.0  # for the process to start and find a screen
ANSWER_S = 10.0  # for one drawing, before the window is given up
CLOSE_S = 2.0
KEPT = 4096  # bytes of what the process complained of
MOST_BYTES = 65536  # of what the processes say by socket
ALIGNED = 64  # bytes: where a part of a message may begin
PROGRAM = "clesr.pipeline.sinks.window.process"


class DisplayWindow:
    """Shows the newest result under the head-up display; ``q``, Esc or closing the window stops the run, ``f`` switches
    the ``overlay`` of where the image disagrees with what was measured. ``actions`` are what other keys do.

    As large as the image, or as fits the screen, until the user resizes it. ``place`` is for one of several windows,
    which stand in a grid; ``q`` or Esc in any of them stops the streams of all, closing one only its own.

    It is drawn by a process of its own (``window_process``), which gets the newest image whenever it has drawn the one
    before; no call here waits for it. Raises SinkError where there is no screen, and from ``refresh`` when
    that process has died or not answered for ``answer_s`` seconds.
    """

    name = "window"
    policy = Policy.DROP_OLDEST

    def __init__(
        self,
        _address: str = name,
        options: SinkOptions = DEFAULTS,
        *,
        clock: Clock = SYSTEM,
        answer_s: float = ANSWER_S,
    ) -> None:
        place = options.place or WindowPlacement()
        self.overlay = options.overlay is not None
        self.shown = 0
        self.actions: dict[str, Callable[[], None]] = {}
        self.shape: tuple[int, int] | None = None  # (H, W) of the window's inside, once it is drawn
        self.complaints = ""  # the last that the process wrote on its standard error
        self.answer_s = answer_s
        self._keyboard, self._keys, self._clock = place.keyboard, place.keyboard.join(), clock
        self._newest: Result | None = None
        self._fresh = self._shut = self._closed = False
        self._drawing: bool | None = None  # whether what is being drawn is new; None: nothing is being drawn
        self._sent_ns: int | None = None
        self._message = SharedMessage()
        self._socket, others = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-P", "-m", PROGRAM, str(others.fileno()), str(self._message.descriptor)]
        try:
            self._process = subprocess.Popen(
                [*command, place.title, str(place.index), str(place.count)],
                stdin=subprocess.PIPE,  # whose end tells it that we are gone
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(others.fileno(), self._message.descriptor),
                start_new_session=True,  # Ctrl-C is for this process, which then closes the window
            )
        except OSError as error:
            self._socket.close()
            self._message.close()
            raise SinkError(f"the window's process cannot be started: {error.strerror}") from error
        finally:
            others.close()
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        with on_error(self._end):
            if not select.select([self._socket], [], [], START_S)[0]:
                self._fail(f"the window has not opened within {START_S:.0f} s; run with --display none")
            self._listen()

    @property
    def pid(self) -> int:
        """The process that draws."""
        return self._process.pid

    def write(self, result: Result) -> None:
        self._newest, self._fresh = result, True

    def refresh(self, status: Status) -> bool:
        before = self.overlay
        self._listen()
        while self._keys:
            key = self._keys.popleft()
            if key in OVERLAY_KEYS:
                self.overlay = not self.overlay
            if (action := self.actions.get(chr(key))) is not None:
                action()
            self._shut |= key in QUIT_KEYS
        now = self._clock.now_ns()
        waited_ns = now - self._sent_ns if self._sent_ns is not None else REDRAW_NS
        if self._closed:
            return False
        if self._drawing is None and (self._fresh or self.overlay != before or waited_ns >= REDRAW_NS):
            self._send((self._newest, status, self.overlay))
            self._drawing, self._fresh, self._sent_ns = self._fresh, False, now
        elif self._drawing is not None and waited_ns > self.answer_s * 1e9:
            self._fail(f"the window has not answered for {self.answer_s:.0f} s")
        return not (self._shut or self._closed)

    def close(self) -> str | None:
        if self._process.returncode is None:
            with contextlib.suppress(SinkError):
                if self._drawing is not None and select.select([self._socket], [], [], CLOSE_S / 2)[0]:
                    self._listen()
            self._end()
        return f"window: {self.shown} results shown"

    def _listen(self) -> None:
        """Take in what the process says."""
        self._read_complaints()
        while not self._closed:
            try:
                packet = self._socket.recv(MOST_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except ConnectionResetError:  # it has ended, a message of ours unread; its last words come next
                continue
            if not packet:
                self._fail("the process of the window has ended")
            self._take(json.loads(packet))

    def _take(self, said: dict[str, Any]) -> None:
        if "error" in said:
            self._fail(said["error"])
        if "key" in said:
            self._keyboard.press(said["key"])
        if "shape" in said:
            height, width = said["shape"]
            self.shape = height, width
            self.shown += bool(self._drawing)
            self._drawing = None
        self._closed |= "closed" in said

    def _send(self, message: object) -> None:
        sizes = self._message.put(message)
        try:
            self._socket.send(json.dumps(sizes).encode())
        except OSError:
            self._listen()  # its last word may be that the user has closed the window

    def _fail(self, reason: str) -> None:
        """Raises SinkError; the process is ended."""
        self._end()
        words = [line for line in self.complaints.splitlines() if line.strip()]
        raise SinkError(f"{reason} ({words[-1].strip()})" if words else reason)

    def _end(self) -> None:
        """Ask the process to end; kill it where it does not."""
        self._closed = True
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


class SharedMessage:
    """Room for one message, as large as it needs. The memory has no name, so nothing is left of it when both processes
    have ended, in whatever way. ``descriptor`` is that of the other process, None where the memory is made.

    Who writes and who reads is agreed on elsewhere. Messages are pickles with their arrays beside them, for a process
    that trusts the writer: its parent.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = _new_memory() if descriptor is None else descriptor
        self._map: mmap.mmap | None = None

    def put(self, message: object) -> list[int]:
        """Write ``message``; the sizes of its parts, which ``get`` needs."""
        arrays: list[pickle.PickleBuffer] = []
        head = pickle.dumps(message, protocol=5, buffer_callback=arrays.append)
        parts = [memoryview(head), *(array.raw() for array in arrays)]
        sizes = [part.nbytes for part in parts]
        end = sum(map(_aligned, sizes))
        if self._map is None or len(self._map) < end:
            os.ftruncate(self.descriptor, end)
            self._map = mmap.mmap(self.descriptor, end)
        at = 0
        for part in parts:
            self._map[at : at + part.nbytes] = part
            at += _aligned(part.nbytes)
        return sizes

    def get(self, sizes: Sequence[int]) -> Any:
        """The message, whose arrays lie in the shared memory: valid until the other process writes again."""
        end = sum(map(_aligned, sizes))
        if self._map is None or len(self._map) < end:
            self._map = mmap.mmap(self.descriptor, end, access=mmap.ACCESS_READ)
        whole, at, parts = memoryview(self._map), 0, []
        for size in sizes:
            parts.append(whole[at : at + size])
            at += _aligned(size)
        return pickle.loads(parts[0], buffers=parts[1:])

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor, self._map = -1, None


def _aligned(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED


def _new_memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("clesr")
    with tempfile.TemporaryFile() as file:  # has no name either
        return os.dup(file.fileno())
