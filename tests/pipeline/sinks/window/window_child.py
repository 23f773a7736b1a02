"""Runs a DisplayWindow for test_window.py in a process of its own: OpenCV's window library ends the whole process
where it finds no screen. Prints what happened as JSON.

    window_child.py SCENARIO [framebuffer file of Xvfb]
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys

if "av first" in sys.argv:
    import av  # noqa: F401
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from virtual_screen import read_screen

import clesr.pipeline.video.encoding  # noqa: F401 - brings PyAV along, whose libraries must not break the window
from clesr.pipeline.display.pace import DrawingPace
from clesr.pipeline.frame import Frame, Outcome, Result, Times
from clesr.pipeline.sink import LiveSink
from clesr.pipeline.sinks.placement import Keyboard, WindowPlacement
from clesr.pipeline.sinks.registry import open_sink
from clesr.pipeline.sinks.window.keys import key_name
from clesr.pipeline.sinks.window.scene import Scene
from clesr.pipeline.sinks.window.window import DisplayWindow
from clesr.pipeline.status import State, Status

STATUS = Status(State.RUNNING, "demo:", "torch", "fast", 5, {}, 25.0, 10_000_000, 40_000_000, False)
PATIENCE_S = 30.0
FIRST_S = 1.5  # for the first image to be painted, which takes a tenth of a second
WAKES = 4  # until a window that is not painted is given up
TICK_S = 0.02  # between two looks, so that the window's process gets on on a busy machine


def result(
    image: NDArray[Any], outcome: Outcome = Outcome.UPSCALED, lr: NDArray[Any] | None = None
) -> Result:
    lr = image if lr is None else lr
    return Result(Frame(lr, 0, 0), lr, image, outcome, 4, Times(0, 0, 0, 0), "fast")


def screen(path: str) -> NDArray[np.uint8]:
    return read_screen(Path(path))


class NotPaintedError(Exception):
    """Qt has mapped the window and paints nothing.

    Without a window manager that comes one time in ten: Qt has missed that the window was mapped, and only another
    mapping wakes it.
    """


def refresh_until(window: LiveSink, status: Status, done: Any, seconds: float = PATIENCE_S) -> bool:
    """Refresh until ``done`` gives True."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        going = window.refresh(status)
        if done(going):
            return True
        time.sleep(TICK_S)
    return False


def painted(framebuffer: str, window: LiveSink) -> bool:
    """Whether the first image, of level 201, is on the screen; raises NotPaintedError where it is not."""

    def waited() -> bool:
        return refresh_until(window, STATUS, lambda _: (screen(framebuffer)[300, 300] == 201).all(), FIRST_S)

    return wake_until(waited)


def wake_until(waited: Callable[[], bool]) -> bool:
    """Whether ``waited`` gives True, the windows being mapped again in between; raises NotPaintedError."""
    for _ in range(WAKES):
        if waited():
            return True
        if shutil.which("xdotool") is not None:
            for act in ("windowunmap", "windowmap"):
                subprocess.run(["xdotool", "search", "--name", "clesr", act, "%@"], check=False, timeout=60)
    raise NotPaintedError


def show(framebuffer: str) -> dict[str, Any]:
    """Gray values on the screen in each state."""
    window = open_sink("window")
    assert isinstance(window, LiveSink)
    window.refresh(replace(STATUS, state=State.STARTING, age_ns=None))
    seen: dict[str, Any] = {}
    window.write(result(np.full((600, 500), 201, np.uint8)))
    painted(framebuffer, window)
    seen["live"] = refresh_until(
        window, STATUS, lambda _: (screen(framebuffer)[200:400, 50:450] == 201).all()
    )
    seen["nothing beside"] = bool((screen(framebuffer)[700:, 600:] == 0).all())
    stalled = replace(STATUS, stalled=True, age_ns=10**9)
    red = (70, 70, 255)
    seen["stalled"] = refresh_until(window, stalled, lambda _: (screen(framebuffer)[300, 0] == red).all())
    seen["dimmed"] = int(screen(framebuffer)[150, 250, 0])
    window.write(result(np.full((600, 500), 0x9000, np.uint16), Outcome.FAILED))
    amber = (40, 180, 255)
    seen["failed"] = refresh_until(window, STATUS, lambda _: (screen(framebuffer)[300, 0] == amber).all())
    window.write(result(np.full((4000, 4000), 150, np.uint8)))
    assert isinstance(window, DisplayWindow)
    seen["large"] = refresh_until(
        window,
        STATUS,
        lambda _: (screen(framebuffer)[300, 700] == 150).all() and len(set(window.shape or ())) == 1,
    )
    seen["size of large"] = list(window.shape or ())
    seen["closed"] = window.close()
    seen["closed twice"] = window.close()
    seen["complaints"] = window.complaints
    return seen


def silent(framebuffer: str) -> dict[str, Any]:
    """Nothing comes any more, as of a program that hangs; then it goes on."""
    window = open_sink("window")
    assert isinstance(window, LiveSink)
    window.write(result(np.full((700, 900), 201, np.uint8)))
    seen: dict[str, Any] = {"shown": painted(framebuffer, window)}
    end = time.monotonic() + PATIENCE_S
    while (screen(framebuffer)[100, 100] == 201).all() and time.monotonic() < end:
        time.sleep(TICK_S)
    seen["level"] = int(screen(framebuffer)[100, 100, 0])
    seen["red"] = bool((screen(framebuffer)[200:520] == (70, 70, 255)).all(-1).any())
    seen["back"] = refresh_until(window, STATUS, lambda _: (screen(framebuffer)[300, 300] == 201).all())
    return seen | {"closed": window.close()}


def switch_the_scale(framebuffer: str) -> dict[str, Any]:
    """The window's size with images of x4, x8 and x2 of one frame, each of its own level."""
    window = open_sink("window")
    assert isinstance(window, DisplayWindow)
    lr, seen = np.zeros((100, 150), np.uint8), dict[str, Any]()
    for scale, level in ((4, 201), (8, 150), (2, 90)):
        window.write(result(np.full((100 * scale, 150 * scale), level, np.uint8), lr=lr))
        if scale == 4:
            painted(framebuffer, window)

        def shown(_: object, level: int = level) -> bool:
            return bool((screen(framebuffer)[200:300, 50:550] == level).all())

        seen[f"x{scale}"] = refresh_until(window, STATUS, shown) and list(window.shape or ())
    window.close()
    return seen


def quit_by(framebuffer: str, act: Callable[[], object]) -> dict[str, Any]:
    """Whether refresh says stop after ``act``."""
    window = open_sink("window")
    assert isinstance(window, LiveSink)
    window.write(result(np.full((700, 900), 201, np.uint8)))
    shown = painted(framebuffer, window)
    before = all(window.refresh(STATUS) for _ in range(20))
    act()
    stopped = refresh_until(window, STATUS, lambda going: not going)
    return {"shown": shown, "before": before, "stopped": stopped, "closed": window.close()}


def closed_while_we_look_away(framebuffer: str) -> dict[str, Any]:
    """The window is closed, and its process gone, between our look for messages and the next image."""
    window = DisplayWindow()
    window.write(result(np.full((700, 900), 201, np.uint8)))
    shown = painted(framebuffer, window)
    while window._drawing is not None:
        window._listen()
    click_on_the_cross()
    os.waitid(os.P_PID, window.pid, os.WEXITED | os.WNOWAIT)
    listen, window._listen = window._listen, lambda: setattr(window, "_listen", listen)  # type: ignore[method-assign]
    window._pace = DrawingPace(
        used=lambda: 0.0
    )  # however busy the machine was: the next image is sent at once
    window.write(result(np.full((700, 900), 90, np.uint8)))
    return {"shown": shown, "goes on": window.refresh(STATUS), "closed": window.close()}


def closed_with_an_image_unread(framebuffer: str) -> dict[str, Any]:
    """The window's process ends with an image that it has not looked at: Linux tells that before its last words."""
    window = DisplayWindow()
    image = result(np.full((700, 900), 201, np.uint8))
    window.write(image)
    shown = painted(framebuffer, window)
    while window._drawing is not None:
        window._listen()
    os.kill(window.pid, signal.SIGSTOP)
    click_on_the_cross()
    for _ in range(2):
        window._process.show(Scene(image, STATUS))
    os.kill(window.pid, signal.SIGCONT)
    os.waitid(os.P_PID, window.pid, os.WEXITED | os.WNOWAIT)
    return {"shown": shown, "goes on": window.refresh(STATUS), "closed": window.close()}


def two(framebuffer: str, key: str) -> dict[str, Any]:
    """Two windows side by side; whether ``key`` in the left one stops both, or closing it only itself."""
    keyboard = Keyboard()
    windows = []
    for index, name in enumerate(("left", "right")):
        window = open_sink("window", place=WindowPlacement(f"clesr: {name}", index, 2, keyboard))
        assert isinstance(window, LiveSink)
        window.write(result(np.full((300, 400), 100 + 80 * index, np.uint8)))
        windows.append(window)
    ends = [False, False]

    def refreshed(seconds: float, done: Callable[[], bool]) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not done():
            for index, window in enumerate(windows):
                ends[index] |= not ends[index] and not window.refresh(STATUS)
            time.sleep(TICK_S)
        return done()

    def drawn() -> bool:
        pixels = screen(framebuffer)
        return bool((pixels[200, 100] == 100).all() and (pixels[200, 740] == 180).all())

    wake_until(lambda: refreshed(FIRST_S, drawn))
    seen: dict[str, Any] = {"shown": True}
    if key == "close":
        click_on_the_cross("clesr: right")
    else:
        press(key)
    seen["stopped"] = refreshed(PATIENCE_S, lambda: ends == [key != "close", True])
    refreshed(0.3, lambda: False)
    seen["ends"] = ends
    for window in windows:
        window.close()
    return seen


def switch_the_overlay(framebuffer: str) -> dict[str, Any]:
    """What ``f`` does."""
    window = open_sink("window", overlay="fidelity")
    assert isinstance(window, DisplayWindow)
    window.write(result(np.full((700, 900), 201, np.uint8)))
    painted(framebuffer, window)
    before = window.view.overlay
    press("f")
    switched = refresh_until(window, STATUS, lambda _: not window.view.overlay)
    window.close()
    return {"before": before, "switched": switched}


def letters(framebuffer: str, *typed: str) -> dict[str, Any]:
    """The keys that the window hears when each of ``typed`` is pressed."""
    window, heard = DisplayWindow(), list[str]()
    window.write(result(np.full((700, 900), 201, np.uint8)))
    shown = painted(framebuffer, window)
    window._press = lambda key: heard.append(key) if key else None  # type: ignore[method-assign]
    for keys in typed:
        count = len(heard) + (keys != "Caps_Lock")
        press(keys)
        refresh_until(window, STATUS, lambda _, count=count: len(heard) >= count)
    window.close()
    return {"shown": shown, "heard": heard}


def held(framebuffer: str, *keys: str) -> dict[str, Any]:
    """For each of ``keys``, which is held for a moment and pressed again: what is heard of it, in short."""
    window, heard = DisplayWindow(), list[tuple[str, bool]]()
    window.write(result(np.full((700, 900), 201, np.uint8)))
    seen: dict[str, Any] = {"shown": painted(framebuffer, window)}
    window._press = lambda key: None  # type: ignore[method-assign]
    listen = window._process.heard

    def noting() -> list[dict[str, Any]]:
        said = listen()
        heard.extend((key_name(each["key"]), each["repeated"]) for each in said if "key" in each)
        return said

    window._process.heard = noting  # type: ignore[method-assign]

    def do(*words: str) -> None:
        subprocess.run(["xdotool", "mousemove", "100", "100", *words], check=True, timeout=60)

    def comes(key: str, *, repeated: bool, least: int = 1) -> bool:
        return refresh_until(window, STATUS, lambda _: heard.count((key, repeated)) >= least)

    subprocess.run(["xset", "r", "on"], check=False, timeout=60)
    for keysym in keys:
        key = {"plus": "+", "KP_Add": "+", "KP_5": "5", "Escape": "esc", "F5": "f5"}.get(keysym, keysym)
        heard.clear()
        do("keydown", keysym)
        again = comes(key, repeated=True, least=5)
        do("keyup", keysym)
        fresh = heard.count((key, False))
        do("key", keysym)
        seen[keysym] = {"again": again, "fresh": fresh, "then": comes(key, repeated=False, least=fresh + 1)}
    window.close()
    return seen


def fault(framebuffer: str, what: str, server: str) -> dict[str, Any]:
    """What ``refresh`` does when X server or drawing process die or stop."""
    before = len(os.listdir("/proc/self/fd"))
    window = DisplayWindow()
    window.write(result(np.full((700, 900), 201, np.uint8)))
    painted(framebuffer, window)
    window.answer_s = 1.0
    pid = int(server) if what.startswith("server") else window.pid
    os.kill(pid, signal.SIGKILL if what.endswith("dies") else signal.SIGSTOP)
    said: dict[str, Any] = {"shown": True, "waited": 0.0}
    end = time.monotonic() + PATIENCE_S
    try:
        while time.monotonic() < end:
            begin = time.monotonic()
            window.refresh(STATUS)
            said["waited"] = max(said["waited"], time.monotonic() - begin)
    except Exception as error:  # noqa: BLE001 - told to the test
        said |= {"error": type(error).__name__, "message": str(error)}
    said["closed"] = window.close()
    said["gone"] = not Path(f"/proc/{window.pid}").exists()
    said["handles"] = len(os.listdir("/proc/self/fd")) - before
    return said


def ctrl_c(framebuffer: str) -> dict[str, Any]:
    """What a terminal does to the process group at Ctrl-C."""
    os.setsid()
    window = open_sink("window")
    assert isinstance(window, LiveSink)
    window.write(result(np.full((700, 900), 201, np.uint8)))
    shown = painted(framebuffer, window)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.killpg(0, signal.SIGINT)
    window.write(result(np.full((700, 900), 90, np.uint8)))
    goes_on = refresh_until(window, STATUS, lambda _: (screen(framebuffer)[300, 300] == 90).all())
    window.close()
    return {"shown": shown, "goes on": goes_on}


def priority(framebuffer: str) -> dict[str, Any]:
    """How the window's process stands beside this one, before its first image and after it."""
    window = DisplayWindow()
    refresh_until(window, replace(STATUS, age_ns=None), lambda _: window.shape is not None)

    def nice() -> int:
        return os.getpriority(os.PRIO_PROCESS, window.pid) - os.getpriority(os.PRIO_PROCESS, 0)

    said: dict[str, Any] = {"at first": nice()}
    window.write(result(np.full((700, 900), 201, np.uint8)))
    said["shown"] = painted(framebuffer, window)
    said["gives way"] = refresh_until(window, STATUS, lambda _: nice() > 0)
    said["same session"] = os.getsid(window.pid) == os.getsid(0)
    said["own group"] = os.getpgid(window.pid) == window.pid
    window.close()
    return said


def wait() -> dict[str, Any]:
    """Show a window until killed."""
    window = DisplayWindow()
    print(window.pid, flush=True)
    while window.refresh(STATUS):
        time.sleep(0.015)
    return {}


def press(key: str) -> None:
    subprocess.run(["xdotool", "mousemove", "100", "100", "key", key], check=True, timeout=60)


class ClientMessage(ctypes.Structure):
    """XClientMessageEvent (Xlib.h)."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("serial", ctypes.c_ulong),
        ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p),
        ("window", ctypes.c_ulong),
        ("message_type", ctypes.c_ulong),
        ("format", ctypes.c_int),
        ("data", ctypes.c_long * 5),
        ("padding", ctypes.c_long * 24),
    )


def click_on_the_cross(title: str = "clesr") -> None:
    """What a window manager sends then: WM_DELETE_WINDOW (ICCCM 4.2.8.1)."""
    found = subprocess.run(
        ["xdotool", "search", "--name", title], capture_output=True, text=True, check=True, timeout=60
    )
    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XInternAtom.restype = ctypes.c_ulong
    display = ctypes.c_void_p(x11.XOpenDisplay(None))
    protocols, delete = (x11.XInternAtom(display, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW"))
    window = int(found.stdout.split()[0])
    data = (ctypes.c_long * 5)(delete)
    message = ClientMessage(type=33, window=window, message_type=protocols, format=32, data=data)
    x11.XSendEvent(display, ctypes.c_ulong(window), 0, ctypes.c_long(0), ctypes.byref(message))
    x11.XCloseDisplay(display)


def main() -> None:
    scenario, *rest = sys.argv[1:]
    try:
        if scenario == "show":
            said = show(rest[0])
        elif scenario == "close":
            said = quit_by(rest[0], click_on_the_cross)
        elif scenario == "looking away":
            said = closed_while_we_look_away(rest[0])
        elif scenario == "unread":
            said = closed_with_an_image_unread(rest[0])
        elif scenario == "two":
            said = two(*rest)
        elif scenario == "overlay":
            said = switch_the_overlay(rest[0])
        elif scenario == "letters":
            said = letters(*rest)
        elif scenario == "held":
            said = held(*rest)
        elif scenario == "silent":
            said = silent(rest[0])
        elif scenario == "scale":
            said = switch_the_scale(rest[0])
        elif scenario == "fault":
            said = fault(*rest)
        elif scenario == "ctrl-c":
            said = ctrl_c(rest[0])
        elif scenario == "priority":
            said = priority(rest[0])
        elif scenario == "wait":
            said = wait()
        elif scenario == "open":
            said = {"name": open_sink("window").name}
        else:
            said = quit_by(rest[0], lambda: press(scenario))
    except NotPaintedError:
        said = {"painted": False}
    except Exception as error:  # noqa: BLE001 - told to the test
        said = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
