"""A small archive of every kind of recording, and clesr in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from archive_support import Start
from recordings import drifting, mkt_bytes, noise, write_video
from waits import PATIENCE_S


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Videos that are split and not, deep ones, a session, an image and a stack; PIECE frames make a piece."""
    root = tmp_path / "archive"
    for folder in ("a/b", "s"):
        (root / folder).mkdir(parents=True)
    write_video(root / "a" / "long.mkv", drifting(50, (48, 64)), options={"g": "1"})
    write_video(
        root / "a" / "b" / "h264.mp4", drifting(40, (48, 64), seed=2), codec="libx264", options={"g": "5"},
        pixel_format="yuv420p",
    )  # fmt: skip
    write_video(root / "short.avi", drifting(7, (48, 64), seed=3), codec="mpeg4", pixel_format="yuv420p")
    write_video(root / "s" / "raw.mkv", noise(30, (32, 40), np.uint16), options={"g": "5"})
    (root / "s" / "session.json").write_text("{}")
    cv2.imwrite(str(root / "x.png"), noise(1, (20, 30))[0])
    tifffile.imwrite(root / "stack.tif", np.stack(noise(5, (20, 24), np.uint16)))
    deep = [image.view(np.int16) for image in noise(25, (2, 576), np.uint16)]
    (root / "deep.mkt").write_bytes(mkt_bytes(deep, 12.0))
    return root


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `clesr ARGUMENTS` in a process group of its own; what still runs at the end is killed."""
    processes: list[subprocess.Popen[str]] = []

    def begin(*arguments: object, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", "from clesr.tools.cli import main; main()", *map(str, arguments)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate(timeout=PATIENCE_S)
