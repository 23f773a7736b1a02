"""While `clesr-live` records, display, terminal, output and network die or hang at random: the raw recording is
complete by the stamps in the frames' own pixels, and the session holds."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import zmq
from numpy.typing import NDArray
from support import until
from waits import joined, line_from
from zmq_peers import peer_context

from clesr.pipeline.session.verify import verify

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="preloads a library")]

FRAMES = 100
FPS = 25
SIDE = 64
BITS = 16  # pixels that spell the number
PATIENCE_S = 120
ENTRY = "from clesr.tools.entry import main; main()"


def stamped(number: int) -> NDArray[np.uint8]:
    """A frame whose first pixels spell ``number``."""
    image = np.random.default_rng(number).integers(60, 200, (SIDE, SIDE), np.uint8)
    image[0, :BITS] = [255 * (number >> bit & 1) for bit in range(BITS)]
    return image


def stamps(path: Path) -> list[int]:
    """The numbers that the frames of a video spell."""
    with av.open(str(path)) as container:
        rows = [frame.to_ndarray(format="gray")[0, :BITS] for frame in container.decode(video=0)]
    return [sum(int(pixel > 127) << bit for bit, pixel in enumerate(row)) for row in rows]


class Scene:
    """All that a live run depends on, and how each part of it dies."""

    def __init__(self, folder: Path, freezer: Path, choice: random.Random, stack: ExitStack) -> None:
        self.folder, self.choice, self.stack = folder, choice, stack
        self.disk, self.frozen = folder / "disk", folder / "frozen"
        self.disk.mkdir()
        self.sender, self.port = self._sender()
        self.screen, display = self._screen()
        self.send = self._receiver_address()
        self.live = subprocess.Popen(
            [
                sys.executable, "-c", ENTRY, "live", "--source", f"zmq+tcp://127.0.0.1:{self.port}?socket=pull",
                "--scale", "2", "--model", "nearest", "--record", folder / "s", "--output", self.disk / "out.mkv",
                "--send", self.send, "--frames", str(FRAMES),
            ],
            stderr=subprocess.PIPE,
            env=os.environ | {
                "DISPLAY": display, "LD_PRELOAD": str(freezer), "FREEZE_FOLDER": str(self.disk),
                "FREEZE_WHILE": str(self.frozen),
            },
        )  # fmt: skip
        stack.callback(self._end)
        assert self.live.stderr is not None
        self.stderr = self.live.stderr
        self.heard = b""
        self.reading = threading.Thread(target=self._read)
        self.reading.start()

    def _end(self) -> None:
        self.live.kill()
        self.live.wait(PATIENCE_S)
        joined(self.reading)
        with suppress(OSError):
            self.stderr.close()

    def _read(self) -> None:
        self.silent = threading.Event()
        while not self.silent.is_set():
            line = self.stderr.readline()
            if not line:
                return
            self.heard += line
        self.stderr.close()

    def _sender(self) -> tuple[zmq.Socket[bytes], int]:
        context = peer_context()
        self.stack.callback(context.destroy, 0)
        sender = context.socket(zmq.PUSH)
        self.stack.callback(sender.close, 0)
        sender.set(zmq.SNDHWM, 4)
        sender.set(zmq.SNDTIMEO, 100)
        return sender, sender.bind_to_random_port("tcp://127.0.0.1")

    def _screen(self) -> tuple[subprocess.Popen[str], str]:
        server = subprocess.Popen(
            ["Xvfb", "-displayfd", "1", "-screen", "0", "800x600x24"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert server.stdout is not None
        display = f":{line_from(server.stdout).strip()}"

        def end() -> None:
            server.kill()
            server.wait(PATIENCE_S)
            server.stdout.close()  # type: ignore[union-attr]

        self.stack.callback(end)
        return server, display

    def _receiver_address(self) -> str:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.kind = self.choice.choice(["zmq+tcp", "igtl"])
        self.receiver_port, self.taken = port, b""
        return f"{self.kind}://127.0.0.1:{port}"

    def connect(self) -> None:
        """A receiver of the results, which takes some and then nothing. It gets those that are made from now on, so the
        frames must go on while it waits."""
        if self.kind == "igtl":
            receiver = self.stack.enter_context(self._connected())
            taking = threading.Thread(target=self._take, args=(receiver,))
            taking.start()
            self.stack.callback(joined, taking)
            self.receiver: Callable[[], object] = partial(self._hang_up, receiver)
            self.stack.callback(self.receiver)
        else:
            context = peer_context()
            self.stack.callback(context.destroy, 0)
            subscriber = context.socket(zmq.SUB)
            self.stack.callback(subscriber.close, 0)
            subscriber.subscribe("")
            subscriber.connect(f"tcp://127.0.0.1:{self.receiver_port}")
            self.receiver = lambda: subscriber.close(0)

    def _take(self, receiver: socket.socket) -> None:
        with suppress(OSError):  # it was killed
            self.taken += receiver.recv(1000)

    def _hang_up(self, receiver: socket.socket) -> None:
        with suppress(OSError):  # the other end was faster, or it was done before
            receiver.shutdown(socket.SHUT_RDWR)
        receiver.close()

    def _connected(self) -> socket.socket:
        """To the receivers' port, which may be opened a little later than the source."""
        made: list[socket.socket] = []

        def connected() -> bool:
            with suppress(ConnectionRefusedError):
                made.append(socket.create_connection(("127.0.0.1", self.receiver_port), PATIENCE_S))
            return bool(made)

        until(connected)
        return made[0]

    def feed(self, number: int) -> bool:
        """Send a frame; whether the live run is still there to take it."""
        image = stamped(number)
        header = {
            "version": 1,
            "shape": [SIDE, SIDE],
            "dtype": "uint8",
            "number": number,
            "time_ns": 0,
            "stream": "",
        }
        message = [json.dumps(header).encode(), image.tobytes()]
        for _ in range(10 * PATIENCE_S):
            if self.live.poll() is not None:
                return False
            with suppress(zmq.Again):
                self.sender.send_multipart(message)
                return True
        pytest.fail(f"nobody takes frame {number}: {self.heard.decode(errors='replace')}")

    def kill_screen(self) -> None:
        self.screen.kill()

    def stop_screen(self) -> None:
        self.screen.send_signal(signal.SIGSTOP)

    def close_stderr(self) -> None:
        self.silent.set()

    def freeze_disk(self) -> None:
        self.frozen.touch()

    def thaw_disk(self) -> None:
        self.frozen.unlink(missing_ok=True)

    def kill_receiver(self) -> None:
        self.receiver()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.mark.parametrize("seed", range(12))
def test_the_recording_is_complete_whatever_dies(
    tmp_path: Path, freezer: Path, stack: ExitStack, seed: int
) -> None:
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed (Debian package xvfb)")
    choice = random.Random(seed)
    scene = Scene(tmp_path, freezer, choice, stack)
    faults = choice.sample(
        [scene.kill_screen, scene.close_stderr, scene.freeze_disk, scene.kill_receiver, scene.stop_screen],
        choice.randint(1, 4),
    )
    plan: dict[int, Callable[[], None]] = dict(
        zip(choice.sample(range(10, FRAMES - 10), len(faults)), faults, strict=True)
    )
    frozen = scene.freeze_disk in faults
    thaws = frozen and choice.random() < 0.5
    tick = threading.Event()
    for number in itertools.count():
        if not scene.feed(number):
            break
        if number == 2:
            scene.connect()
        if number in plan:
            plan[number]()
        if number == FRAMES + 10 and thaws:
            scene.thaw_disk()
        if number == FRAMES + 10 and frozen and not thaws:  # the user does not wait for that disk
            scene.live.send_signal(signal.SIGINT)
        if number == FRAMES + 30 and frozen and not thaws:
            scene.live.send_signal(signal.SIGINT)
        tick.wait(1 / FPS)
    status = scene.live.wait(PATIENCE_S)
    said = scene.heard.decode(errors="replace")
    assert status in (0, 1), said
    assert scene.taken or scene.kind != "igtl" or scene.kill_receiver in faults, (
        "it got images, unless it was killed"
    )
    assert "Traceback" not in said
    first, *_ = recorded = stamps(tmp_path / "s" / "raw.mkv")
    assert first < 10, "only frames from before it was ready are passed over"
    assert recorded == list(range(first, first + FRAMES)), said
    found = verify(tmp_path / "s")
    assert found.holds, (found.problems, said)
    assert found.info.closed
    assert found.totals["captured"] == found.totals["raw"] == FRAMES
