from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import until
from virtual_screen import VirtualScreen, virtual_screen
from waits import PATIENCE_S, line_from

ATTEMPTS = 3
CHILD = Path(__file__).with_name("window_child.py")
HELPERS = Path(__file__).parents[3] / "helpers"


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualScreen]:
    with virtual_screen(tmp_path_factory.mktemp("screen")) as opened:
        yield opened


def child(*arguments: str, display: str | None) -> tuple[dict[str, Any], str]:
    """What ``window_child.py`` printed, and its standard error. A window that Qt does not paint is opened again."""
    for _ in range(ATTEMPTS):
        said, errors = _child(*arguments, display=display)
        if said != {"painted": False}:
            break
    return said, errors


def _child(*arguments: str, display: str | None) -> tuple[dict[str, Any], str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "XAUTHORITY")}
    if display is not None:
        environment["DISPLAY"] = display
    environment["PYTHONPATH"] = str(HELPERS)
    environment["XDG_SESSION_TYPE"] = "wayland"  # on which Qt warns by default
    run = subprocess.run(
        [sys.executable, "-W", "error", str(CHILD), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=200,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    said: dict[str, Any] = json.loads(run.stdout)
    return said, run.stderr


def test_it_shows_live_stalled_and_failed_images(screen: VirtualScreen) -> None:
    said, errors = child("show", str(screen.framebuffer), display=screen.display)
    assert said["live"]
    assert said["nothing beside"], "the window is no larger than the image"
    assert said["stalled"]
    assert said["dimmed"] == 104, "pale: 40 % of 201, and 24"
    assert said["failed"]
    assert said["large"]
    height, width = said["size of large"]
    assert height == width == 720, "90 % of the screen's height"
    assert said["closed"] == said["closed twice"] == "window: 3 results shown"
    assert said["complaints"] == "", "Qt has nothing to complain about"
    assert errors == ""


def test_an_image_is_not_shown_as_live_by_a_program_that_hangs(screen: VirtualScreen) -> None:
    said, _ = child("silent", str(screen.framebuffer), display=screen.display)
    assert said["level"] == 104, "pale: 40 % of 201, and 24"
    assert said["red"], "its age in large figures"
    assert said["back"]
    assert said["closed"] == "window: 1 results shown"


def test_images_of_another_scale_are_shown_in_a_window_of_the_same_size(screen: VirtualScreen) -> None:
    said, _ = child("scale", str(screen.framebuffer), display=screen.display)
    assert said == {"x4": [400, 600], "x8": [400, 600], "x2": [400, 600]}


@pytest.mark.parametrize("key", ["q", "Escape"])
def test_a_key_stops(key: str, screen: VirtualScreen) -> None:
    if shutil.which("xdotool") is None:
        pytest.skip("xdotool is not installed (Debian package xdotool)")
    said, _ = child(key, str(screen.framebuffer), display=screen.display)
    assert said == {"shown": True, "before": True, "stopped": True, "closed": "window: 1 results shown"}


def test_a_key_switches_the_overlay(screen: VirtualScreen) -> None:
    if shutil.which("xdotool") is None:
        pytest.skip("xdotool is not installed (Debian package xdotool)")
    said, _ = child("overlay", str(screen.framebuffer), display=screen.display)
    assert said == {"before": True, "switched": True}


def test_shift_makes_a_capital_of_a_letter_alone(screen: VirtualScreen) -> None:
    """Caps Lock does, too; and with Shift a small one."""
    if shutil.which("xdotool") is None:
        pytest.skip("xdotool is not installed (Debian package xdotool)")
    typed = ("a", "shift+a", "s", "question", "shift+1", "Z", "Caps_Lock", "b", "shift+b", "Caps_Lock", "c")
    said, _ = child("letters", str(screen.framebuffer), *typed, display=screen.display)
    assert said == {"shown": True, "heard": ["a", "A", "s", "?", "!", "Z", "B", "b", "c"]}


@pytest.mark.slow
def test_a_key_that_is_held_is_told_from_one_that_is_pressed_again(screen: VirtualScreen) -> None:
    if shutil.which("xdotool") is None:
        pytest.skip("xdotool is not installed (Debian package xdotool)")
    keys = ("q", "r", "space", "Escape", "plus", "KP_Add", "KP_5", "F5")
    said, _ = child("held", str(screen.framebuffer), *keys, display=screen.display)
    assert said.pop("shown")
    assert said == {key: {"again": True, "fresh": 1, "then": True} for key in keys}


def test_closing_the_window_stops(screen: VirtualScreen) -> None:
    if shutil.which("xdotool") is None:
        pytest.skip("xdotool is not installed (Debian package xdotool)")
    said, _ = child("close", str(screen.framebuffer), display=screen.display)
    assert said == {"shown": True, "before": True, "stopped": True, "closed": "window: 1 results shown"}


@pytest.mark.parametrize("when", ["looking away", "unread"])
def test_closing_the_window_between_two_looks_stops_too(when: str, screen: VirtualScreen) -> None:
    if shutil.which("xdotool") is None:
        pytest.skip("xdotool is not installed (Debian package xdotool)")
    said, _ = child(when, str(screen.framebuffer), display=screen.display)
    assert said == {"shown": True, "goes on": False, "closed": "window: 1 results shown"}


@pytest.mark.slow
@pytest.mark.parametrize(("key", "ends"), [("q", [True, True]), ("close", [False, True])])
def test_windows_stand_side_by_side_and_a_key_stops_all_but_closing_one_only_itself(
    key: str, ends: list[bool], screen: VirtualScreen
) -> None:
    if shutil.which("xdotool") is None:
        pytest.skip("xdotool is not installed (Debian package xdotool)")
    said, _ = child("two", str(screen.framebuffer), key, display=screen.display)
    assert said == {"shown": True, "stopped": True, "ends": ends}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the X server, which is Linux")
@pytest.mark.parametrize(
    ("display", "said"), [(None, "DISPLAY is not set"), (":4711", "DISPLAY :4711 does not answer")]
)
def test_without_a_screen_one_line_says_what_to_do(display: str | None, said: str) -> None:
    answer, errors = child("open", display=display)
    assert answer["error"] == "SinkError"
    assert said in answer["message"]
    assert "--display none" in answer["message"]
    assert "ssh -X" in answer["message"]
    assert "\n" not in answer["message"]
    assert errors == ""


def test_pyav_before_opencv_does_no_harm(screen: VirtualScreen) -> None:
    """With PyAV's X11 libraries in the process OpenCV's windows hang: they are in another one."""
    said, _ = child("show", str(screen.framebuffer), "av first", display=screen.display)
    assert said["live"]
    assert said["failed"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("server dies", "the process of the window has ended"),
        ("server hangs", "the window has not answered for 1 s"),
        ("process dies", "the process of the window has ended"),
        ("process hangs", "the window has not answered for 1 s"),
    ],
)
def test_a_window_that_breaks_or_hangs_is_told_and_leaves_nothing(
    tmp_path: Path, fault: str, reason: str
) -> None:
    with virtual_screen(tmp_path) as own:
        said, errors = child("fault", str(own.framebuffer), fault, str(own.pid), display=own.display)
    assert said["shown"]
    assert said["error"] == "SinkError"
    assert said["message"].startswith(reason)
    assert "\n" not in said["message"]
    assert said["waited"] < 0.5, "no call waits for the window"
    assert said["gone"]
    assert said["handles"] == 0
    assert said["closed"].startswith("window: ")
    assert errors == ""


def test_ctrl_c_in_the_terminal_is_not_for_the_window(screen: VirtualScreen) -> None:
    said, _ = child("ctrl-c", str(screen.framebuffer), display=screen.display)
    assert said == {"shown": True, "goes on": True}


def test_the_window_is_there_at_once_and_then_gives_way_to_the_engine(screen: VirtualScreen) -> None:
    """In the same session: Linux shares the cores among sessions first (autogroups), and nice counts within one."""
    said, _ = child("priority", str(screen.framebuffer), display=screen.display)
    assert said == {
        "at first": 0, "shown": True, "gives way": True, "same session": True, "own group": True,
    }  # fmt: skip


def test_the_window_ends_with_the_process_that_opened_it(screen: VirtualScreen) -> None:
    parent = subprocess.Popen(
        [sys.executable, str(CHILD), "wait"],
        stdout=subprocess.PIPE,
        env=os.environ | {"DISPLAY": screen.display, "PYTHONPATH": str(HELPERS)},
    )
    assert parent.stdout is not None
    pid = int(line_from(parent.stdout))
    parent.kill()
    parent.wait(PATIENCE_S)
    parent.stdout.close()
    until(lambda: not is_running(pid))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_drawing_process_imports_no_more_than_it_needs() -> None:
    """So it is there quickly, and PyAV's X11 libraries are not in it."""
    script = (
        "import sys, clesr.pipeline.sinks.window.process\n"
        "print([m for m in ('torch', 'av', 'zmq', 'openvino', 'tifffile') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout == "[]\n"
