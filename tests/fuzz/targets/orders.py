"""Orders to a run: at the control socket, and from the browser's page."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from random import Random
from threading import Semaphore
from typing import Any, cast

from operated import Stage, on_stage
from session_runs import noise
from starlette.websockets import WebSocket

from clesr.engines.common.errors import ClesrError
from clesr.pipeline.display.compose import compose
from clesr.pipeline.frame import Image
from clesr.pipeline.operator.control_socket import ControlSocket
from clesr.pipeline.sinks.browser.channel import Channel
from clesr.pipeline.sinks.browser.threads import Threads
from clesr.pipeline.sinks.browser.viewer import Viewer
from clesr.pipeline.status import State
from fuzz.mutations import DEEP, WORDS, flip, reword
from fuzz.target import Target

FIRST = 8  # frames that come by themselves; then one for each input
TIDY = 50  # inputs after which what was recorded is removed
WAIT_S = 0.05  # for an action that waits
CHOICES = (
    "sr",
    "wipe",
    "side-by-side",
    "raw",
    "auto",
    "full",
    "stretch",
    "viridis",
    "on",
    "off",
    "fast",
    "a",
    "..",
)


class Staged(Target):
    """A run of small frames, whose operator may be told anything; nothing may come to be beside its folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._place, self._count = folder / "run", 0
        self._frames, self._ending = Semaphore(FIRST), False
        self._opened = ExitStack()
        self._words: tuple[bytes, ...] = WORDS
        self.stage = self._begin()
        names = {argument["name"] for action in self._actions() for argument in action["arguments"]}
        known = (*names, *(action["name"] for action in self._actions()), *CHOICES)
        self._words += tuple(json.dumps(word).encode() for word in known)

    def obeyed(self, give: Callable[[], None]) -> None:
        """Give orders, and see that the run goes on, or ends because it was told to."""
        self._count += 1
        self._frames.release()
        try:
            give()
        finally:
            assert os.listdir(self.folder) == [self._place.name], "something came beside the run's folder"
        operator = self.stage.operator
        if operator.pipeline.status().state in (State.STOPPED, State.FAILED):
            self.stage = self._begin()
        elif operator.newest is not None:
            compose(operator.seen or operator.newest, operator.controls.view)
        if not self._count % TIDY:
            self._tidy()

    def example(self, action: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of an action that might be."""
        kinds: dict[str, Any] = {"bool": True, "int": 1, "float": 0.5, "str": "a"}
        return {
            each["name"]: each["choices"][0] if each["choices"] else kinds[each["kind"]]
            for each in action["arguments"]
        }

    def _actions(self) -> list[dict[str, Any]]:
        return self.stage.operator.controls.describe()

    def _begin(self) -> Stage:
        self._ending = True
        self._opened.close()
        self._ending = False
        self._place.mkdir(exist_ok=True)
        self._frames.release(FIRST)
        stage = self._opened.enter_context(on_stage(self._place, image_of=self._image))
        stage.operator.controls.wait_s = WAIT_S
        logging.getLogger("clesr").handlers = [logging.NullHandler()]  # on_stage's own keep all that is said
        return stage

    def _image(self, number: int) -> Image:
        while not self._ending and not self._frames.acquire(timeout=0.1):
            pass
        return noise(number % 20)

    def _tidy(self) -> None:
        """Or end a recording, so that it can be removed next time."""
        if self.stage.operator.recordings.going:
            self.stage.operator.recordings.toggle()
            return
        for path in self._place.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


class Orders(Staged):
    """A request at the control socket."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._control = ControlSocket(f"zmq+ipc://@clesr-fuzz-{os.getpid()}")

    def seeds(self) -> list[bytes]:
        asked: list[dict[str, Any]] = [{"actions": True}, {"status": True, "stream": "live"}]
        asked += [{"action": each["name"], "arguments": self.example(each)} for each in self._actions()]
        deep = (b'{"action":"note","arguments":{"text":' + text + b"}}" for text in DEEP)
        return [*(json.dumps(one).encode() for one in asked), *deep, b""]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        return flip(rng, data) if rng.random() < 0.2 else reword(rng, data, self._words)

    def run(self, data: bytes) -> None:
        operator = self.stage.operator
        self._control._streams = {"live": (operator.controls, operator.pipeline.status)}
        self.obeyed(lambda: self._answered(data))

    def _answered(self, data: bytes) -> None:
        reply = self._control.answer(data)
        told = json.loads(reply)
        assert told["ok"] in (True, False)
        error = told.get("error", "a")
        assert not error.startswith("it failed:"), error
        assert error.isprintable()
        assert error


class NoLoop:
    """A server's thread that is this one."""

    def soon(self, work: Callable[[], object]) -> None:
        work()


class Wire:
    """A WebSocket by which these messages come."""

    def __init__(self, messages: list[bytes]) -> None:
        self._messages, self.sent = messages, list[str | bytes]()

    async def accept(self) -> None:
        pass

    async def receive(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        if not self._messages:
            return {"type": "websocket.disconnect"}
        data = self._messages.pop(0)
        if data[:1] == b"\0":
            return {"type": "websocket.receive", "bytes": data}
        return {"type": "websocket.receive", "text": data.decode(errors="replace")}

    async def send_text(self, text: str) -> None:
        self.sent.append(json.dumps(json.loads(text)))

    async def send_bytes(self, data: bytes) -> None:
        self.sent.append(data)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        assert len(reason.encode()) <= 123, "a close frame holds no more"


class PageMessages(Staged):
    """What a page sends by its WebSocket, a message a line."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._loop = asyncio.new_event_loop()
        self._raised: list[Exception] = []

    def seeds(self) -> list[bytes]:
        calls = [{"call": each["name"], "arguments": self.example(each), "id": 1} for each in self._actions()]
        texts: list[dict[str, Any]] = [{"ack": 0}, {"quality": 90}, {"quality": 100}, {"now": 5.5}, *calls]
        deep = (b'{"call":"note","arguments":{"text":' + text + b"}}" for text in DEEP)
        return [*(json.dumps(one).encode() + b'\n{"ack":0}\n' for one in texts), *deep, b"\0\1\n", b""]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        return flip(rng, data) if rng.random() < 0.2 else reword(rng, data, self._words)

    def run(self, data: bytes) -> None:
        self._raised.clear()
        self.obeyed(lambda: self._loop.run_until_complete(self._visited(data.split(b"\n"))))
        for error in self._raised:
            raise error

    async def _visited(self, messages: list[bytes]) -> None:
        channel = Channel(NoLoop(), self._call)
        wire = Wire(messages)
        await Viewer(cast(WebSocket, wire), channel, Threads()).run()
        channel.end()

    def _call(self, name: str, arguments: Mapping[str, object], by: object) -> Mapping[str, Any]:
        try:
            return self.stage.operator.controls.call(name, arguments, by)
        except ClesrError:
            raise
        except Exception as error:
            self._raised.append(error)
            raise
