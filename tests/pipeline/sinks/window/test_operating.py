"""The whole program at work on a virtual screen, driven by real keys and a real mouse, its pictures looked at."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from bundles import draw_bundle
from numpy.typing import NDArray
from support import until
from virtual_screen import VirtualScreen, virtual_screen, window_manager

from clesr.pipeline.display import facts
from clesr.pipeline.operator.control_socket import ask
from clesr.pipeline.operator.registry import all_actions
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.sessions import Session
from clesr.pipeline.session.verify import verify

SOURCE = "demo:?size=96&fps=5"
SIDE = 480  # of the window: 4 times 96 is less than is readable
KEYSYMS = {"+": "plus", "-": "minus", "?": "question", "space": "space"}
BRIGHT = 45.0  # grey levels that tissue has on average, and a window without an image has not
WAIT_S = 120.0  # the machine may be busy; what is waited for takes a moment
Picture = NDArray[np.uint8]


class Window:
    """The program's window."""

    def __init__(self, screen: VirtualScreen, process: subprocess.Popen[str], folder: Path) -> None:
        self.screen, self.process, self.folder = screen, process, folder

    def look(self) -> Picture:
        return self.screen.pixels()[:SIDE, :SIDE].copy()

    def middle(self) -> Picture:
        """The part of it that no words of alerts and answers stand on."""
        return self.look()[140:340, 20:460]

    def press(self, key: str) -> None:
        self.screen.do("mousemove", "240", "240", "key", KEYSYMS.get(key, key))

    def hold(self, key: str, seconds: float = 2.0) -> None:
        """So long that it is repeated, some dozen times."""
        held = KEYSYMS.get(key, key)
        self.screen.do("mousemove", "240", "240", "keydown", held, "sleep", str(seconds), "keyup", held)

    def drag(self, button: str, held: str, begin: tuple[int, int], end: tuple[int, int]) -> None:
        """With the ``button`` of the mouse, while a key is ``held``."""
        (left, top), (right, bottom) = (map(str, place) for place in (begin, end))
        down, up = (("keydown", held), ("keyup", held)) if held else ((), ())
        self.screen.do(
            "mousemove", left, top, *down, "mousedown", button, "mousemove", right, bottom, "mouseup", button, *up
        )  # fmt: skip

    def sees(self, what: Callable[[], bool]) -> None:
        until(what, WAIT_S)

    def changes(self, part: Callable[[], Picture], act: Callable[[], object], least: float = 0.002) -> None:
        """``act`` changes ``part`` of the picture."""
        before = part()
        act()
        self.sees(lambda: part().shape == before.shape and bool((part() != before).any(-1).mean() > least))


@contextmanager
def running(
    folder: Path, *options: str, source: Sequence[str] = ("--source", SOURCE), managed: bool = False
) -> Iterator[Window]:
    """`clesr-live` on a screen of its own, ``managed`` by a window manager, showing images. A window that Qt does not
    paint is mapped again."""
    (folder / "screen").mkdir()
    with virtual_screen(folder / "screen") as screen, ExitStack() as around:
        if managed:
            around.enter_context(window_manager(screen, folder / "screen"))
        command = [sys.executable, "-c", "from clesr.tools.entry import live_main; live_main()"]
        environment = os.environ | {"DISPLAY": screen.display, "XDG_CONFIG_HOME": str(folder)}
        process = subprocess.Popen(
            [*command, *source, "--model", "nearest", "--pixel-size", "1.2", *options],
            cwd=folder, env=environment, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        window = Window(screen, process, folder)

        def lit() -> bool:
            pixels = screen.pixels()
            parts = [pixels[300:500, 560:720] if managed else window.middle()]
            parts += [pixels[140:340, 660:1100]] * (source == TWO)
            return all(bool(part.mean() > BRIGHT) for part in parts)

        try:
            for _ in range(20):
                try:
                    until(lambda: lit() or process.poll() is not None, WAIT_S / 8)
                    break
                except pytest.fail.Exception:
                    for act in ("windowunmap", "windowmap"):
                        screen.do("search", "--name", "clesr", act, "%@")
            assert process.poll() is None, process.communicate(timeout=60)[1]
            yield window
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=60)


def is_framed(picture: Picture, colour: tuple[int, int, int]) -> bool:
    return bool((picture[200:280, :2] == colour).all())


TOGGLES = ("wipe", "side-by-side", "bicubic", "raw", "fidelity")
ONCE = ("zoom", "zoom-out", "whole", "contrast", "lookup-table", "scale-bar", "hud", "mode", "help")


@pytest.mark.slow
def test_every_key_of_the_view_changes_the_picture(tmp_path: Path) -> None:
    """Of a frozen image, so that nothing else does."""
    keys = {action.name: action.key for action in all_actions() if action.key and action.group == "View"}
    others = {"freeze", "full-screen", "mosaic"}  # one needs a window manager, one a map
    assert keys.keys() == {*TOGGLES, *ONCE, *others}
    apart: dict[str, Callable[[], Picture]] = {}
    with running(tmp_path) as window:
        apart["scale-bar"] = lambda: window.look()[360:440, 300:460]
        apart["fidelity"] = lambda: window.look()[340:440, :300]
        apart["hud"] = lambda: window.look()[:40]
        window.press(keys["freeze"])
        window.sees(lambda: is_framed(window.look(), facts.BLUE))
        for name in (*TOGGLES, *TOGGLES, *ONCE):
            window.changes(apart.get(name, window.middle), lambda key=keys[name]: window.press(key))  # type: ignore[misc]
            if name == "zoom-out":
                window.changes(window.middle, lambda: window.press(keys["zoom"]))
        window.press(keys["freeze"])
        window.sees(lambda: not is_framed(window.look(), facts.BLUE))


def bright_columns(window: Window) -> list[int]:
    """Columns with a white line from top to bottom: the edge of a wipe."""
    lines = (window.look()[300:400] == facts.WHITE).all(axis=-1).all(axis=0)
    return [int(column) for column in np.flatnonzero(lines)]


@pytest.mark.slow
def test_the_mouse_moves_the_edge_zooms_and_shows_all_again(tmp_path: Path) -> None:
    keys = {action.name: action.key for action in all_actions()}
    with running(tmp_path) as window:
        window.press(keys["freeze"])
        window.sees(lambda: is_framed(window.look(), facts.BLUE))
        window.press(keys["wipe"])
        window.sees(lambda: bright_columns(window) == [240])
        do = window.screen.do
        do(
            "mousemove",
            "240",
            "350",
            "mousedown",
            "1",
            "mousemove",
            "200",
            "350",
            "mousemove",
            "120",
            "350",
            "mouseup",
            "1",
        )
        window.sees(lambda: bright_columns(window) == [120])
        window.press(keys["wipe"])
        window.sees(lambda: bright_columns(window) == [])
        whole = window.middle()
        window.changes(window.middle, lambda: do("mousemove", "300", "200", "click", "4"))
        zoomed = window.middle()
        window.changes(window.middle, lambda: do("mousemove", "300", "200", "click", "4"))
        do("mousemove", "300", "200", "click", "5")
        window.sees(lambda: bool((np.abs(window.middle().astype(int) - zoomed) < 12).mean() > 0.9))
        window.changes(
            window.middle,
            lambda: do(
                "mousemove", "300", "300", "mousedown", "1", "mousemove", "260", "260", "mouseup", "1"
            ),
        )
        do("mousemove", "240", "240", "click", "--repeat", "2", "--delay", "60", "1")
        window.sees(lambda: bool((window.middle() == whole).all(-1).mean() > 0.95))
        do("mousemove", "150", "200", "mousedown", "3", "mousemove", "250", "300", "mouseup", "3")
        window.sees(lambda: bool((window.look()[210:290, 148:153] == facts.BLUE).all(-1).any(-1).all()))


@pytest.mark.slow
def test_a_recording_has_nothing_of_the_view_and_quitting_asks(tmp_path: Path) -> None:
    """Colours, zoom, wipe and a frozen image are on the screen alone; a still is written by a key, too."""
    keys = {action.name: action.key for action in all_actions()}
    options = "--record", "session", "--stills", str(tmp_path)
    with running(tmp_path, *options, source=("--source", "demo:?size=96&fps=25")) as window:
        for name in ("lookup-table", "wipe", "zoom", "contrast", "fidelity", "freeze"):
            window.press(keys[name])
        window.sees(lambda: is_framed(window.look(), facts.BLUE))
        window.press(keys["still"])
        until(lambda: len(list(tmp_path.glob("clesr-still-*.png"))) >= 3, WAIT_S)
        window.press("q")
        window.sees(lambda: bool((window.look()[380:460] == facts.WHITE).all(-1).mean() > 0.1))
        assert window.process.poll() is None, "asked first"
        window.press("q")
        until(lambda: window.process.poll() is not None, WAIT_S)
        assert window.process.returncode == 0, window.process.communicate(timeout=60)[1]
    assert verify(tmp_path / "session").complete
    frames = [frame for frame in Session(tmp_path / "session") if frame.sr is not None]
    assert len(frames) > 2
    for frame in frames:
        assert frame.raw is not None
        assert frame.sr is not None
        assert np.array_equal(frame.sr, np.repeat(np.repeat(frame.raw, 4, 0), 4, 1))


@pytest.mark.slow
def test_a_key_that_is_held_acts_once_and_zooms_on(tmp_path: Path) -> None:
    """The question whether to quit is not answered by its own key; the next press of it is the answer."""
    address = f"zmq+ipc://{tmp_path}/control"

    def told() -> Told:
        answer = ask(address, {"status": True}, WAIT_S)
        return Told(answer["view"], answer["status"], tmp_path)

    def sessions() -> int:
        return len(list(tmp_path.glob("*/session.json")))

    with running(tmp_path, "--control", address) as window:
        window.hold("+")
        window.sees(lambda: told().view["zoom"] == 16)
        for key, field in (("space", "frozen"), ("f", "overlay"), ("d", "mode")):
            before = told().view[field]
            window.hold(key)
            window.sees(lambda field=field, before=before: told().view[field] != before)  # type: ignore[misc]
        window.press("h")
        window.sees(lambda: told().view["hud"] == "beside")
        view = told().view
        assert (view["frozen"], view["overlay"], view["mode"]) == (True, True, "side-by-side")
        window.hold("r")
        window.sees(lambda: bool(told().status["recording_s"]))
        window.press("h")
        window.sees(lambda: told().view["hud"] == "off")
        assert told().status["recording"]
        assert sessions() == 1, "begun once"
        window.hold("q")
        window.sees(lambda: bool(told().view["asking"]))
        window.press("h")
        window.sees(lambda: told().view["hud"] == "over")
        assert window.process.poll() is None, "asked, and not answered"
        assert told().status["recording"]
        window.press("q")
        window.sees(lambda: bool(told().view["asking"]))
        window.press("q")
        until(lambda: window.process.poll() is not None, WAIT_S)
        assert window.process.returncode == 0, window.process.communicate(timeout=60)[1]
    assert sessions() == 1
    assert all(verify(path.parent).complete for path in tmp_path.glob("*/session.json"))


TWO = ("--source", f"left={SOURCE}", "--source", f"right={SOURCE}&seed=5")


@pytest.mark.slow
def test_one_key_in_one_of_two_windows_asks_once_and_ends_both_recordings(tmp_path: Path) -> None:
    address = f"zmq+ipc://{tmp_path}/control"

    def told(stream: str) -> Told:
        answer = ask(address, {"status": True, "stream": stream}, WAIT_S)
        return Told(answer["view"], answer["status"], tmp_path)

    def are_recorded() -> bool:
        return all(told(stream).status["recording_s"] for stream in ("left", "right"))

    with running(tmp_path, "--record", "s-{stream}", "--control", address, source=TWO) as window:
        window.sees(lambda: bool(window.screen.pixels()[140:340, 660:1100].mean() > BRIGHT))
        window.sees(are_recorded)
        window.hold("q")
        window.sees(lambda: bool(told("left").view["asking"]))
        question = told("left").view["asking"]
        assert question.startswith("left, right are recorded; once more ends them")
        assert told("right").view["asking"] == "", "asked where the key was pressed"
        assert window.process.poll() is None
        assert are_recorded()
        window.press("q")
        until(lambda: window.process.poll() is not None, WAIT_S)
        assert window.process.returncode == 0, window.process.communicate(timeout=60)[1]
    sessions = [path.parent for path in tmp_path.glob("**/session.json")]
    assert len(sessions) == 2
    assert all(verify(session).complete for session in sessions)


class Told(NamedTuple):
    """What the program tells of itself, and where it writes."""

    view: Mapping[str, Any]
    status: Mapping[str, Any]
    folder: Path

    def says(self, words: str) -> bool:
        return words in self.view["said"]


# What shows that an action was done, in the order in which they are.
DONE: dict[str, Callable[[Told], bool]] = {
    "calibrate-cores": lambda told: told.says("calibrated: ") and bool(list(told.folder.glob("*.cores"))),
    "cores": lambda told: told.says("core pattern as it is"),
    "save-last": lambda told: told.says("frames are in "),
    "freeze": lambda told: told.view["frozen"],
    "side-by-side": lambda told: told.view["mode"] == "side-by-side",
    "bicubic": lambda told: told.view["mode"] == "bicubic",
    "raw": lambda told: told.view["mode"] == "raw",
    "mode": lambda told: told.view["mode"] == "raw-beside",
    "wipe": lambda told: told.view["mode"] == "wipe",
    "fidelity": lambda told: told.view["overlay"],
    "contrast": lambda told: told.view["contrast"] == "auto",
    "levels": lambda told: told.view["contrast"] == "fixed",
    "lookup-table": lambda told: told.view["lookup_table"] == "green",
    "zoom": lambda told: told.view["zoom"] == 1.5,
    "centre": lambda told: told.view["centre"] != [0.5, 0.5],
    "zoom-out": lambda told: told.view["zoom"] == 1.0,
    "whole": lambda told: told.view["zoom"] == 1.0,
    "region": lambda told: told.view["region"] is not None,
    "scale-bar": lambda told: told.view["scale_bar"],
    "mosaic": lambda told: told.view["mosaic"],
    "hud": lambda told: told.view["hud"] == "beside",
    "full-screen": lambda told: told.view["full_screen"],
    "record": lambda told: bool(told.status["recording_s"]),
    "note": lambda told: told.says("noted"),
    "acknowledge": lambda told: told.says("there is no alarm"),
    "still": lambda told: len(list(told.folder.glob("clesr-still-*.json"))) == 1,
    "save-map": lambda told: (told.folder / "map.ome.tif").exists(),
    "temporal": lambda told: told.says("earlier frames"),
    "scale": lambda told: told.status["scale"] == 8,
    "help": lambda told: told.view["help"],
    "quit": lambda told: bool(told.view["asking"]),
}
TYPED = {
    "model",
    "exposure",
    "gain",
}  # need a value, which no key has: in the browser and by the control socket
OWN_KEYS = {"calibrate-cores": "C", "cores": "c", "contrast": "y"}
GESTURES = {  # button, what is held, from and to
    "levels": ("1", "ctrl", (240, 200), (280, 240)),
    "centre": ("1", "", (240, 200), (290, 250)),
    "region": ("3", "", (150, 160), (250, 260)),
}


@pytest.mark.slow
def test_every_action_is_done_by_a_key_or_the_mouse(tmp_path: Path) -> None:
    """Of a flat field of a fibre bundle, with which all can be done. A capital is another key than the small letter."""
    assert {action.name for action in all_actions()} == DONE.keys() | TYPED
    keys = {action.name: OWN_KEYS.get(action.name, action.key) for action in all_actions()}
    flat = draw_bundle().show(200.0)
    assert cv2.imwrite(str(tmp_path / "flat.png"), flat)
    address = f"zmq+ipc://{tmp_path}/control"
    options = ["--retro", "5", "--mosaic", "map.ome.tif", "--control", address]
    options += [word for name, key in OWN_KEYS.items() for word in ("--key", f"{name}={key}")]
    source = ("--source", "flat.png", "--loop", "--pace", "12")

    def told() -> Told:
        answer = ask(address, {"status": True}, WAIT_S)
        return Told(answer["view"], answer["status"], tmp_path)

    with running(tmp_path, *options, source=source) as window:
        for name, is_done in DONE.items():
            if name == "whole":
                window.press(keys["zoom"])
                window.sees(lambda: told().view["zoom"] == 1.5)
            assert not is_done(told()), name
            if name in GESTURES:
                window.drag(*GESTURES[name])
            else:
                window.press(keys[name])
            window.sees(lambda done=is_done: done(told()))  # type: ignore[misc]
            if name == "help":
                window.press(keys["help"])
        window.press(keys["quit"])
        until(lambda: window.process.poll() is not None, WAIT_S)
        assert window.process.returncode == 0, window.process.communicate(timeout=60)[1]
    sessions = [path.parent for path in tmp_path.glob("*/session.json")]
    assert len(sessions) == 3, "the last seconds, and one for each scale"
    assert all(verify(session).complete for session in sessions)
    assert [note.text for session in sessions for note in read_session(session).notes()] == ["mark"]


@pytest.mark.slow
def test_full_screen_is_all_of_the_screen_and_goes_back(tmp_path: Path) -> None:
    with running(tmp_path, managed=True) as window:
        do, key = window.screen.do, {action.name: action.key for action in all_actions()}["full-screen"]

        def geometry() -> str:
            """Place and size of the window."""
            words = do("search", "--onlyvisible", "--name", "clesr", "getwindowgeometry").split("\n", 1)
            return words[1] if len(words) > 1 else ""

        def covers() -> bool:
            sides = window.screen.pixels()[:, [0, -1]]  # black where no window is
            return "1280x800" in geometry() and bool(sides.any(-1).all())

        before = geometry()
        assert f"{SIDE}x{SIDE}" in before
        for leave in (key, "Escape"):
            do("key", key)
            window.sees(covers)
            do("key", leave)
            window.sees(lambda: geometry() == before)
        assert window.process.poll() is None
