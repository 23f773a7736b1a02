"""A real Chromium without a screen, driven by its DevTools protocol (https://chromedevtools.github.io/devtools-protocol):
pages, keys, the mouse and screenshots. websockets is there for the server already, and it needs no second program."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from clesr.engines.common.clock import SYSTEM

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-dev-shm-usage", "--remote-debugging-port=0", "about:blank",
)  # fmt: skip
START_S = 30.0
KEY_CODES = {
    "Enter": 13, "Escape": 27, "Tab": 9, " ": 32, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
}  # fmt: skip


def program() -> str | None:
    """The Chromium of this machine."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Navigated(Exception):
    """The page went elsewhere, or was loaded anew, before it answered."""


class Page:
    """A tab of the browser."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self.errors: list[str] = []  # what the page's script raised, and what it was refused
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._socket.recv(60))
            if said.get("id") == number:
                if "navigated" in str(said.get("error")):
                    raise Navigated
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result
            self._note(said)

    def _note(self, event: dict[str, Any]) -> None:
        if event["method"] == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(event["params"]["exceptionDetails"])[:500])
        if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.errors.append(str(event["params"]["entry"]["text"]))

    def open(self, url: str) -> None:
        self.send("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """What the expression ``script`` gives, a promise's value where it is one."""
        done = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait(self, script: str, seconds: float = 20.0) -> None:
        """Wait until ``script`` gives something true."""
        end = SYSTEM.now_ns() + seconds * 1e9
        while True:
            with suppress(Navigated):
                if self.run(f"Promise.resolve({script}).then(Boolean)"):
                    return
                self.run("new Promise((done) => setTimeout(done, 20))")
            assert SYSTEM.now_ns() < end, f"never: {script}; {self.errors}"

    def press(self, key: str, *, shift: bool = False, held: int = 0) -> None:
        """Press and release ``key``, which repeats ``held`` times before."""
        code = KEY_CODES.get(key, ord(key.upper()) if len(key) == 1 else 0)
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        common = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        for repeat in range(1 + held):
            self.send("Input.dispatchKeyEvent", type="keyDown", text=text, autoRepeat=repeat > 0, **common)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, selector: str, count: int = 1) -> None:
        """Click in the middle of an element with the mouse."""
        box = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
            "e.scrollIntoView({block: 'center', behavior: 'instant'}); const b = e.getBoundingClientRect(); "
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.mouse(kind, *box, button="none" if kind == "mouseMoved" else "left", clickCount=count)

    def drag(self, begin: tuple[float, float], end: tuple[float, float], *, shift: bool = False) -> None:
        held: dict[str, Any] = {"button": "left", "buttons": 1, "modifiers": 8 if shift else 0}
        self.mouse("mousePressed", *begin, clickCount=1, **held)
        for share in (0.25, 0.5, 0.75, 1.0):
            x, y = (a + (b - a) * share for a, b in zip(begin, end, strict=True))
            self.mouse("mouseMoved", x, y, **held)
        self.mouse("mouseReleased", *end, clickCount=1, **held)

    def size(self, width: int, height: int, *, touch: bool = False) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=touch,
        )
        self.send("Emulation.setTouchEmulationEnabled", enabled=touch)

    def screenshot(self, file: Path, *, whole: bool = False) -> None:
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def chromium(*options: str) -> Iterator[Callable[[], Page]]:
    """A browser; calling what is yielded opens another tab."""
    found = program()
    assert found is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [found, f"--user-data-dir={profile}", *options, *OPTIONS]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        sockets = ExitStack()
        try:
            port = _port_of(process)

            def tab() -> Page:
                asked = urllib.request.Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT")
                with urllib.request.urlopen(asked, timeout=START_S) as answer:
                    address = json.load(answer)["webSocketDebuggerUrl"]
                return Page(
                    sockets.enter_context(connect(address, max_size=None, proxy=None, ping_interval=None))
                )

            yield tab
        finally:
            sockets.close()
            os.killpg(process.pid, signal.SIGKILL)  # those that draw, too
            process.communicate(timeout=60)


def _port_of(process: subprocess.Popen[str]) -> int:
    """The port that the browser says it listens at."""
    assert process.stderr is not None
    for line in process.stderr:
        if "DevTools listening on" in line:
            return int(line.split(":")[2].split("/")[0])
    raise AssertionError("the browser has not begun")
