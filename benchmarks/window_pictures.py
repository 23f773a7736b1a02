"""Draws the pictures of the window for docs/: the program runs on a virtual screen, keys are pressed, and the screen is
kept. Needs Xvfb and xdotool.

python benchmarks/window_pictures.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from clesr.engines.common.image import Pixels

ROOT = Path(__file__).resolve().parent.parent
SCREEN, SIDE = "1280x800x24", (560, 700)  # of the window: height, width
SOURCE = "demo:?size=128&fps=2"
OPENED_S, DRAWN_S = 300.0, 2.0
BRIGHT = 45.0  # grey levels that tissue has on average, and a window without an image has not
# The keys for each picture, and those that lead back to the live image.
PICTURES: dict[str, tuple[list[str], list[str]]] = {
    "live": ([], []),
    "wipe": (["w", "b"], ["w", "b"]),
    "beside": (["h", "d"], ["h", "h", "d"]),
    "frozen": (["space", "t", "f"], ["space", "t", "t", "t", "f"]),
    "help": (["question"], ["question"]),
    "recording": (["r"], []),
}


def main() -> None:
    """Write docs/window-*.png."""
    with tempfile.TemporaryDirectory() as folder, _screen(Path(folder)) as (display, framebuffer):
        environment = os.environ | {"DISPLAY": display, "XDG_CONFIG_HOME": folder}
        command = [sys.executable, "-c", "from clesr.tools.entry import live_main; live_main()"]
        program = subprocess.Popen(
            [*command, "--source", SOURCE, "--pixel-size", "1.2", "--temporal", "off"],
            cwd=folder,
            env=environment,
        )
        try:
            _wait(lambda: _is_on(framebuffer), "the window")
            _write("opening", framebuffer)
            _wait(lambda: _window(framebuffer)[300:400, 200:300].mean() > BRIGHT, "an image")
            _key(display, "search", "--name", "clesr", "windowsize", str(SIDE[1]), str(SIDE[0]))
            for name, (there, back) in PICTURES.items():
                for key in there:
                    _key(display, "mousemove", "350", "280", "key", key)
                    time.sleep(DRAWN_S)
                time.sleep(2 * DRAWN_S)  # the last answer stays for a while
                _write(name, framebuffer)
                for key in back:
                    _key(display, "key", key)
                    time.sleep(DRAWN_S)
        finally:
            program.kill()
            program.wait()


@contextmanager
def _screen(folder: Path) -> Iterator[tuple[str, Path]]:
    """A screen that nobody sees: its name, and the file of its pixels."""
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", "1", "-screen", "0", SCREEN, "-fbdir", str(folder), "-noreset"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    try:
        yield f":{server.stdout.readline().strip()}", folder / "Xvfb_screen0"
    finally:
        server.kill()
        server.wait()


def _key(display: str, *words: str) -> None:
    subprocess.run(["env", f"DISPLAY={display}", "xdotool", *words], check=True, stdout=subprocess.DEVNULL)


def _wait(ready: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + OPENED_S
    while not ready():
        if time.monotonic() > end:
            raise SystemExit(f"{what} did not appear within {OPENED_S:.0f} s")
        time.sleep(0.2)


def _is_on(framebuffer: Path) -> bool:
    return bool(_window(framebuffer)[10, 10].max())


def _window(framebuffer: Path) -> Pixels:
    """The screen's upper left corner, (H, W, 3); Xvfb keeps the screen as an xwd file (X11/XWDFile.h)."""
    data = framebuffer.read_bytes()
    header = np.frombuffer(data[:100], ">u4")
    height, width, pitch = int(header[5]), int(header[4]), int(header[12])
    pixels = np.frombuffer(data, np.uint8, height * pitch, int(header[0]) + 12 * int(header[19]))
    return pixels.reshape(height, pitch // 4, 4)[:, :width, :3]


def _write(name: str, framebuffer: Path) -> None:
    """What is on the screen, without the black around it."""
    pixels = _window(framebuffer)
    rows, columns = np.nonzero(pixels.max(axis=-1))
    bottom, right = int(rows.max()) + 1, int(columns.max()) + 1
    cv2.imwrite(
        str(ROOT / "docs" / f"window-{name}.png"), pixels[:bottom, :right], [cv2.IMWRITE_PNG_COMPRESSION, 9]
    )


if __name__ == "__main__":
    main()
