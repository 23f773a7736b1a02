"""Every fault at every place: the run goes on or ends as docs/faults.md says, and nothing is lost without a word."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
from fault_matrix import MATRIX, Expected
from heard import hear
from support import FakeEngine
from waits import joined

from clesr.engines.common.clock import SYSTEM
from clesr.engines.engine import Engine
from clesr.pipeline.chaos.faulty import FaultySink, FaultySource, faulty_disk, faulty_engine
from clesr.pipeline.chaos.plan import parse_plan
from clesr.pipeline.display.facts import is_old
from clesr.pipeline.frame import Frame, Outcome, Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.pipeline import Limits, Pipeline
from clesr.pipeline.prepare import Prepare, Window
from clesr.pipeline.session.manifest import RecorderSettings
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.session.verify import verify
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.sources.reopening import Reopening
from clesr.pipeline.status import Status

SHAPE, FPS, FRAMES = (40, 48), 50.0, 60


def picture(number: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Tissue of a kind, another one in each frame."""
    noise = np.random.default_rng(number).random(SHAPE)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    scaled = cv2.normalize(smooth, None, 20, 230, cv2.NORM_MINMAX)  # type: ignore[call-overload]
    return np.asarray(scaled, np.uint8)


class Camera:
    """Gives a frame whenever one is due; a slow reader loses those before the last three."""

    def __init__(self) -> None:
        self.info = SourceInfo("camera", True, FPS, SHAPE)
        self._begin_ns, self._number = SYSTEM.now_ns(), 0

    def read(self, timeout: float) -> Frame | None:
        now = SYSTEM.now_ns()
        self._number = max(self._number, int((now - self._begin_ns) / 1e9 * FPS) - 3)
        due = self._begin_ns + int(self._number / FPS * 1e9)
        if due - now > timeout * 1e9:
            SYSTEM.sleep_until(now + int(timeout * 1e9))
            return None
        SYSTEM.sleep_until(due)
        self._number += 1
        return Frame(picture(self._number - 1), self._number - 1, due)

    def close(self) -> None:
        pass


@dataclass
class Screen:
    """A display that keeps what a person would have seen: the newest image, and whether it was marked as old."""

    name: str = "screen"
    policy: Policy = Policy.DROP_OLDEST
    newest: Result | None = None
    numbers: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def write(self, result: Result) -> None:
        self.newest = result
        self.numbers.append(result.frame.number)
        height, width = result.lr.shape
        if result.image.shape != (2 * height, 2 * width):
            self.wrong.append(f"frame {result.frame.number} is {result.image.shape}")

    def refresh(self, status: Status) -> bool:
        if self.newest is not None and not is_old(status):
            age = SYSTEM.now_ns() - self.newest.times.captured
            if age > 1e9:
                self.wrong.append(f"an image {age / 1e6:.0f} ms old is shown as live")
        return True

    def close(self) -> str | None:
        return None


def run_with(plan_text: str, folder: Path) -> tuple[Pipeline, Screen, list[str], BaseException | None]:
    said, plan, screen = hear(), parse_plan(plan_text), Screen()

    def source() -> FaultySource:
        return FaultySource(Camera(), plan)

    def engine(shape: tuple[int, int]) -> Engine:
        return faulty_engine(FakeEngine(shape), plan)

    camera = Reopening(source(), source)
    recorder = Recorder(
        camera.info,
        scale=2,
        sr_shape=lambda raw: (2 * raw[0], 2 * raw[1]),
        settings=RecorderSettings(codec="ffv1"),
    )
    run = Pipeline(
        camera,
        engine,
        [FaultySink(screen, plan)],
        scale=2,
        prepare=Prepare(window=Window("full")),
        recorder=recorder,
        limits=Limits(frames=FRAMES),
    )
    run.start_recording(folder / "s")
    ended = threading.Event()
    error: list[Exception] = []

    def go() -> None:
        try:
            run.run()
        except Exception as raised:  # noqa: BLE001 - of sink or disk, on purpose
            error.append(raised)
        ended.set()

    with faulty_disk(plan):
        thread = threading.Thread(target=go)
        thread.start()
        assert ended.wait(60), "the run hangs"
        joined(thread)
    return run, screen, said, error[0] if error else None


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "expected"), MATRIX.items(), ids=MATRIX)
def test_every_fault_at_every_place(tmp_path: Path, fault: str, expected: Expected) -> None:
    run, screen, said, error = run_with(f"{fault}@0.3+0.4", tmp_path)
    assert any(f"chaos: {fault}" in line for line in said), "the fault is announced"
    assert run.ledger.captured == sum(run.ledger.outcomes.values()) >= FRAMES
    assert run.ledger.outcomes[expected.outcome] > 0
    assert screen.wrong == []
    assert (0 if error is None else getattr(error, "exit_code", 1)) == expected.status
    assert screen.numbers[-1] >= run.ledger.captured - 5 or fault.startswith("sink"), "the view goes on"
    found = [verify(session) for session in tmp_path.iterdir()]
    assert [each.problems for each in found if each.problems] == []
    assert len(found) >= expected.sessions
    assert sum(each.totals["captured"] for each in found) == run.ledger.captured or not expected.complete
    assert run.status().source_restarts == (fault == "source-exception")
    if expected.outcome is Outcome.FAILED and fault != "engine-away":  # it may not be back yet
        assert run.status().engine_restarts > 0
