"""A screen that nobody sees, its pixels, and hands on its keyboard and mouse."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import until
from waits import PATIENCE_S, line_from


@dataclass
class VirtualScreen:
    """A virtual screen of 1280x800 and the file that has its pixels."""

    display: str
    framebuffer: Path
    pid: int

    def pixels(self) -> NDArray[np.uint8]:
        """The screen (H, W, 3), blue-green-red."""
        return read_screen(self.framebuffer)

    def do(self, *words: str) -> str:
        """What xdotool says to ``words``."""
        if shutil.which("xdotool") is None:
            pytest.skip("xdotool is not installed (Debian package xdotool)")
        command = ["env", f"DISPLAY={self.display}", "xdotool", *words]
        return subprocess.run(command, check=False, timeout=60, capture_output=True, text=True).stdout


@contextmanager
def window_manager(screen: VirtualScreen, home: Path) -> Iterator[None]:
    """A window manager on ``screen``, which keeps its files in ``home``."""
    if shutil.which("openbox") is None:
        pytest.skip("openbox is not installed (Debian package openbox)")
    environment = os.environ | {"DISPLAY": screen.display, "HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    process = subprocess.Popen(["openbox"], env=environment, stderr=subprocess.DEVNULL)
    try:
        until(lambda: screen.do("get_num_desktops").strip() not in ("", "0"))
        yield
    finally:
        process.kill()
        process.wait(PATIENCE_S)


def read_screen(framebuffer: Path) -> NDArray[np.uint8]:
    """Xvfb keeps the screen as an xwd file (X11/XWDFile.h)."""
    data = framebuffer.read_bytes()
    header = np.frombuffer(data[:100], ">u4")
    height, width, pitch = int(header[5]), int(header[4]), int(header[12])
    pixels = np.frombuffer(data, np.uint8, height * pitch, int(header[0]) + 12 * int(header[19]))
    return pixels.reshape(height, pitch // 4, 4)[:, :width, :3]


@contextmanager
def virtual_screen(folder: Path) -> Iterator[VirtualScreen]:
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed (Debian package xvfb)")
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", "1", "-screen", "0", "1280x800x24", "-fbdir", str(folder), "-noreset"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    number = line_from(server.stdout).strip()
    assert number, "Xvfb did not start"
    try:
        yield VirtualScreen(f":{number}", folder / "Xvfb_screen0", server.pid)
    finally:
        server.kill()  # also where a test has stopped it
        server.wait(PATIENCE_S)
        server.stdout.close()
