"""Results for the sinks' tests, and real frames."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from clesr.pipeline.frame import Frame, Image, Outcome, Result, Times

MakeResult = Callable[..., Result]


@pytest.fixture
def make_result() -> MakeResult:
    """A result from its image; its number, times and outcome by keyword."""

    def make(
        image: Image,
        number: int = 0,
        *,
        time_ns: int = 0,
        pts: int | None = None,
        time_base: Fraction | None = None,
        outcome: Outcome = Outcome.UPSCALED,
        scale: int = 1,
    ) -> Result:
        frame = Frame(image, number, time_ns, pts, time_base)
        return Result(frame, image, image, outcome, scale, Times(time_ns, 0, 0, 0), "fast")

    return make


@pytest.fixture(scope="session")
def real_frames(data: Path) -> list[NDArray[np.uint8]]:
    """The first 12 frames of the real video, gray, cut to 256x256 and enlarged to 512x512."""
    video = cv2.VideoCapture(str(data / "video" / "colon_pcle.mpeg"))
    frames: list[NDArray[np.uint8]] = []
    while len(frames) < 12:
        there, colour = video.read()
        assert there
        cut = cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)[200:456, 160:416]
        frames.append(np.asarray(cv2.resize(cut, (512, 512), interpolation=cv2.INTER_CUBIC), np.uint8))
    video.release()
    return frames
