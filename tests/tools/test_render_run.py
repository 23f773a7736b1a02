"""Images that rest on earlier frames, made again from a session: the same to the bit, whatever became of these."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support import FakeEngine, ManualClock, ScriptedSource, Step

from clesr.engines.common.image import Pixels
from clesr.pipeline import temporal
from clesr.pipeline.frame import Frame, Result
from clesr.pipeline.operator.operator import Recordings
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.session.format import SessionError
from clesr.pipeline.session.manifest import RecorderSettings
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.session.verify import verify
from clesr.pipeline.temporal import StreamFusion
from clesr.tools.render_run import compare

SIDE, FAILS, FRAMES = 64, 3, 12


def image(number: int, scene: int = 1, *, round_view: bool = False, first: int = 50) -> Pixels:
    """Still tissue with noise of its own for each frame, of which ``first`` is the first pixel."""
    field = cv2.GaussianBlur(np.random.default_rng(scene).standard_normal((SIDE, SIDE)), (0, 0), 3)
    noisy = 120 + 35 * field / field.std() + np.random.default_rng(100 + number).normal(0, 5, (SIDE, SIDE))
    if round_view:
        y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
        noisy *= x**2 + y**2 < 28**2
    noisy[0, 0] = first
    return np.asarray(np.clip(np.rint(noisy), 0, 255), np.uint8)


class Opener:
    """A network that repeats pixels, and fails where the first is FAILS."""

    scale = 2

    def __call__(self, shape: tuple[int, int]) -> FakeEngine:
        engine = FakeEngine(shape, fails=(FAILS,))
        engine.info = replace(engine.info, model_hash="0" * 64)
        return engine


class TickingClock(ManualClock):
    """A second passes whenever it is looked at."""

    def now_ns(self) -> int:
        self.advance(1.0)
        return super().now_ns()


class Missing(Recorder):
    """Has no room for the raw image ``raw``, nor for the up-scaled image ``sr``."""

    raw = sr = -1

    def capture(self, frame: Frame, remark: str = "") -> None:
        put, capturing = self._queue.put, threading.get_ident()

        def has_no_room(
            message: Any, image: int = 0, **options: Any
        ) -> bool:  # results come on another thread
            return not (image and threading.get_ident() == capturing) and put(message, image, **options)

        if frame.number == self.raw:
            self._queue.put = has_no_room  # type: ignore[method-assign]
        super().capture(frame, remark)
        self._queue.put = put  # type: ignore[method-assign]

    def write(self, result: Result) -> None:
        if result.frame.number == self.sr:
            self.skip(result)
        else:
            super().write(result)


def recorded(
    folder: Path, images: list[Pixels], *, missing: tuple[int, int] = (-1, -1), toggles: tuple[int, ...] = (0,),
    retro_s: float = 0.0, fusion: StreamFusion | None = None, switched: tuple[int, ...] = (), begun: str = "auto",
) -> None:  # fmt: skip
    """Sessions in ``folder``; before the frames ``toggles`` key r is pressed, before those ``switched`` the help of
    earlier frames goes off, or on."""

    def switch() -> None:
        pipeline.temporal = not pipeline.temporal

    script: list[Step] = []
    for number, each in enumerate(images):
        if number in toggles:
            script.append(lambda: keys.toggle())
        if number in switched:
            script.append(switch)
        script.append(Frame(each, number, 1 + number * 40_000_000))
    source = ScriptedSource(script)
    settings = RecorderSettings(retro_s=retro_s, settings={"temporal": begun})
    recorder = Missing(source.info, scale=2, settings=settings)
    recorder.raw, recorder.sr = missing
    prepare = Prepare(temporal=None if begun == "off" else fusion or StreamFusion())
    pipeline = Pipeline(source, Opener(), [], scale=2, prepare=prepare, recorder=recorder)
    keys = Recordings(pipeline, str(folder / "s"))
    pipeline.run()


def compared(session: Path, caplog: pytest.LogCaptureFixture) -> int:
    """How many frames of ``session`` were rendered again, all of them the same to the bit."""
    assert not verify(session).problems
    caplog.clear()
    opener: Any = Opener()
    with caplog.at_level(logging.INFO):
        compare(read_session(session), opener)
    found = re.search(r"(\d+) frames rendered again, (\d+) of them the same to the bit", caplog.text)
    assert found is not None
    assert found[1] == found[2], caplog.text
    return int(found[1])


def plain(number: int) -> Pixels:
    return image(number)


def failing(number: int) -> Pixels:
    return image(number, first=FAILS if number == 5 else 50)


def of_another_size(number: int) -> Pixels:
    return image(number)[: SIDE - 8 * (number == 5)].copy()


def cut(number: int) -> Pixels:
    return image(number, 1 + (number > 4), round_view=number > 4)


@pytest.mark.parametrize(
    ("images", "missing", "expected"),
    [
        (plain, (-1, -1), FRAMES),
        (failing, (-1, -1), FRAMES - 1),
        (of_another_size, (-1, -1), 5),
        (cut, (-1, -1), FRAMES),
        (plain, (-1, 5), FRAMES - 1),
        (plain, (5, -1), 5),
        (cut, (3, -1), 3 + FRAMES - 5),
    ],
    ids=["plain", "failed", "other size", "cut", "sr not recorded", "raw not recorded", "raw before a cut"],
)
def test_what_became_of_earlier_frames_changes_no_bit(
    images: Callable[[int], Pixels],
    missing: tuple[int, int],
    expected: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorded(tmp_path, [images(number) for number in range(FRAMES)], missing=missing)
    assert compared(tmp_path / "s", caplog) == expected


def test_a_recording_that_is_begun_later_can_be_rendered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorded(tmp_path, [image(number) for number in range(FRAMES)], toggles=(0, 4, 7))
    assert compared(tmp_path / "s", caplog) == 4
    assert compared(tmp_path / "s-2", caplog) == FRAMES - 7


@pytest.mark.parametrize(("pressed", "expected"), [(4, FRAMES), (9, FRAMES - 9)])
def test_a_recording_with_the_seconds_before_can_be_rendered(
    pressed: int, expected: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where it contains the stream's first frame from there on, else from where it was begun."""
    recorded(tmp_path, [image(number) for number in range(FRAMES)], toggles=(pressed,), retro_s=0.2)
    assert compared(tmp_path / "s", caplog) == expected


def test_images_that_stood_alone_for_want_of_time_do_so_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WATCHED", 4), ("LEFT_OUT", -1), ("COST", -1), ("PAUSE_S", 3)):
        monkeypatch.setattr(temporal, name, value)
    fusion = StreamFusion(hurried=True, clock=TickingClock())
    recorded(tmp_path, [failing(number) for number in range(2 * FRAMES)], fusion=fusion)
    alone = [record.frames is None for record in read_session(tmp_path / "s").records()]
    assert alone[:4] == [False] * 4
    assert any(alone[6:])
    assert not all(alone[6:])
    assert compared(tmp_path / "s", caplog) == 2 * FRAMES - 1


@pytest.mark.parametrize("begun", ["auto", "off"])
def test_help_of_earlier_frames_that_goes_on_and_off_changes_no_bit(
    begun: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorded(tmp_path, [image(number) for number in range(FRAMES)], switched=(3, 4, 6, 9), begun=begun)
    frames = [record.frames for record in read_session(tmp_path / "s").records()]
    off = [(number in (3, 6, 7, 8)) == (begun == "auto") for number in range(FRAMES)]
    assert [each is None for each in frames] == off
    first = [number for number in range(FRAMES) if not off[number] and (number == 0 or off[number - 1])]
    assert all(frames[number] == 1.0 for number in first), "nothing is left of before"
    assert any(each is not None and each > 1.0 for each in frames)
    assert compared(tmp_path / "s", caplog) == FRAMES


def test_where_nothing_can_be_known_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorded(tmp_path, [image(number) for number in range(3)], missing=(0, -1))
    with pytest.raises(SessionError, match="all rest on frames from before it"):
        compared(tmp_path / "s", caplog)
