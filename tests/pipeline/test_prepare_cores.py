"""Core removal in a running pipeline: calibrated, switched on and off between two frames, from another thread."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import draw_bundle
from session_runs import START_NS, make_run
from support import FakeEngine
from waits import joined

from clesr.engines.common.errors import SourceError, UsageError
from clesr.pipeline.cores.removal import CoreRemoval
from clesr.pipeline.frame import Frame, Image, Outcome
from clesr.pipeline.prepare import IntensityWindow, Prepare, Roi
from clesr.pipeline.session.format import SessionError, format_manifest, parse_manifest
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.repair import repair
from clesr.pipeline.session.verify import verify
from clesr.pipeline.temporal import StreamFusion
from clesr.tools.render_run import compare

BUNDLE = draw_bundle((160, 176), 8.0)
CALIBRATION = BUNDLE.calibration()


def frame(image: Image, number: int = 0) -> Frame:
    return Frame(image, number, START_NS + number * 40_000_000)


def shown(number: int = 0, dtype: type = np.uint8) -> Image:
    return BUNDLE.show(60 + 0.3 * BUNDLE.places[:, 0], dtype, noise=2, seed=number)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_cores_are_removed_before_the_frame_is_cut_and_stretched(dtype: type) -> None:
    roi = Roi(40, 30, 80, 90)
    prepare = Prepare(roi=roi, window=IntensityWindow("percentile"), cores=CALIBRATION)
    given = shown(dtype=dtype)
    lr = prepare(frame(given))
    assert prepare.shape((160, 176)) == lr.shape == (90, 80)
    assert lr.dtype == dtype
    assert prepare.removed is CALIBRATION
    other = Prepare(window=IntensityWindow("percentile"))
    np.testing.assert_array_equal(
        lr, other(frame(np.ascontiguousarray(roi.cut(CoreRemoval(CALIBRATION)(given)))))
    )
    assert prepare.levels == other.levels


def test_frames_of_another_size_are_refused_before_the_run_and_in_it() -> None:
    prepare = Prepare(cores=CALIBRATION)
    for refuse in (lambda: prepare.shape((80, 80)), lambda: prepare(frame(np.zeros((80, 80), np.uint8)))):
        with pytest.raises(
            UsageError, match=r"frames are 80x80, but the calibration drawn\.cores is for 176x160"
        ):
            refuse()


def test_switched_by_another_thread_each_frame_is_one_or_the_other() -> None:
    prepare, given = Prepare(cores=CALIBRATION), frame(shown())
    removed = prepare(given)
    stop = threading.Event()

    def switch() -> None:
        while not stop.is_set():
            prepare.remove_cores = not prepare.remove_cores
            prepare.cores = None if prepare.cores is not None else CALIBRATION

    thread = threading.Thread(target=switch, daemon=True)
    thread.start()
    seen: set[bool] = set()
    try:
        while len(seen) < 2:
            lr = prepare(given)
            done = prepare.removed is not None
            np.testing.assert_array_equal(lr, removed if done else given.image)
            seen.add(done)
    finally:
        stop.set()
        joined(thread)


def test_a_calibration_is_taken_from_the_frames_that_come() -> None:
    prepare = Prepare()
    prepare(frame(shown()))
    pending = prepare.calibrate(3, name="taken")
    for number in range(3):
        assert not pending.done()
        given = frame(BUNDLE.show(noise=2, seed=number))
        assert prepare(given) is given.image
    found = pending.result(timeout=120)
    assert (found.facts.frames, found.name) == (3, "taken")
    assert len(found.places) == pytest.approx(len(BUNDLE.places), rel=0.02)
    prepare.cores = found
    even = prepare(frame(BUNDLE.show()))
    inside = found.map >= 0
    assert even[inside].std() < 0.1 * BUNDLE.show()[inside].std()


def test_frames_that_make_none_say_why_and_go_on() -> None:
    prepare = Prepare()
    changing, flat, late = prepare.calibrate(2), prepare.calibrate(1), prepare.calibrate(9)
    for image in (np.full((64, 64), 80, np.uint8), np.full((64, 65), 80, np.uint8)):
        assert prepare(frame(image)) is not None
    with pytest.raises(UsageError, match="change their size or depth"):
        changing.result(timeout=60)
    with pytest.raises(UsageError, match="no pattern of fibre cores"):
        flat.result(timeout=60)
    with pytest.raises(UsageError, match="change their size"):
        late.result(timeout=60)
    with pytest.raises(UsageError, match="0 frames make no calibration"):
        prepare.calibrate(0)


def test_a_run_that_ends_before_fails_the_calibration(tmp_path: Path) -> None:
    prepare = Prepare()
    pending = prepare.calibrate(9)
    run, _ = make_run([frame(shown(n), n) for n in range(4)], prepare=prepare)
    run.run()
    with pytest.raises(SourceError, match="the run ended after 4 of 9 frames of the calibration"):
        pending.result(timeout=60)
    with pytest.raises(SourceError, match="after 0 of 2 frames"):
        prepare.calibrate(2).result(timeout=60)


class Switching(Prepare):
    """Removes cores but on frames 2 to 4, by another calibration from 7 on."""

    def find_cores(self, frame: Frame) -> object:  # type: ignore[override]
        self.remove_cores = frame.number not in (2, 3, 4)
        if frame.number == 7:
            self.cores = OTHER
        return super().find_cores(frame)


OTHER = BUNDLE.calibration(BUNDLE.show(90.0))


class Opener:
    """A network that repeats pixels."""

    scale = 2

    def __call__(self, shape: tuple[int, int]) -> FakeEngine:
        engine = FakeEngine(shape)
        engine.info = replace(engine.info, model_hash="0" * 64)
        return engine


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded") / "session"
    prepare = Switching(cores=CALIBRATION, temporal=StreamFusion(), window=IntensityWindow("full"))
    script = [frame(shown(n), n) for n in range(10)]
    run, _ = make_run(script, prepare=prepare, factory=Opener(), settings={"temporal": "auto"})
    run.start_recording(folder)
    summary = run.run()
    assert summary.outcomes[Outcome.UPSCALED] == 10
    return folder


@pytest.fixture
def session(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "session"))


def test_a_session_says_by_what_each_frame_was_made_and_holds_it(session: Path) -> None:
    records = {record.number: record for record in read_session(session).records()}
    by = [records[n].cores for n in range(10)]
    assert by == [CALIBRATION.sha256] * 2 + [None] * 3 + [CALIBRATION.sha256] * 2 + [OTHER.sha256] * 3
    alone = [n for n in range(10) if records[n].frames == 1]
    assert {0, 2, 5, 7} <= set(alone), "nothing rests on what was prepared otherwise"
    assert sorted(path.name for path in session.glob("*.cores")) == sorted(
        f"{one.sha256[:16]}.cores" for one in (CALIBRATION, OTHER)
    )
    assert (session / f"{OTHER.sha256[:16]}.cores").read_bytes() == OTHER.data
    certificate = verify(session)
    assert certificate.complete, certificate.problems


def test_the_same_bits_are_rendered_from_it(session: Path, caplog: pytest.LogCaptureFixture) -> None:
    opener: Any = Opener()
    with caplog.at_level(logging.INFO):
        compare(read_session(session), opener)
    assert "10 frames rendered again, 10 of them the same to the bit" in caplog.text
    (session / f"{OTHER.sha256[:16]}.cores").write_bytes(CALIBRATION.data)
    with pytest.raises(SessionError, match="is not the calibration by which"):
        compare(read_session(session), opener)


def test_a_session_that_was_cut_off_is_repaired_with_its_calibrations(session: Path) -> None:
    manifest = json.loads((session / "session.json").read_text("utf-8"))
    for name in ("totals", "lines", "chain", "files"):
        manifest[name] = None
    info = parse_manifest(json.dumps(manifest | {"closed": False}).encode(), "session.json")
    (session / "session.json").write_bytes(format_manifest(info))
    repair(session)
    assert not verify(session).problems
    assert {f"{one.sha256[:16]}.cores" for one in (CALIBRATION, OTHER)} <= set(
        read_session(session).info.files or ()
    )


@pytest.mark.parametrize("change", ["missing", "other", "changed", "link"])
def test_what_happened_to_a_calibration_is_seen(session: Path, change: str) -> None:
    path, other = (session / f"{one.sha256[:16]}.cores" for one in (CALIBRATION, OTHER))
    if change == "other":
        path.write_bytes(other.read_bytes())
    elif change == "changed":
        path.write_bytes(path.read_bytes()[:-1] + b"\1")
    else:
        path.unlink()
        if change == "link":
            path.symlink_to(other)
    problems = "; ".join(verify(session).problems)
    assert path.name in problems
    assert other.name not in problems


def test_the_first_calibration_of_a_session_is_that_of_its_frames_elsewhere(session: Path) -> None:
    from clesr.pipeline.settings import UpscaleSettings
    from clesr.pipeline.sources.session import SessionSource

    info = SessionSource(session).info
    chosen = UpscaleSettings(output="a.mkv").prepare(info).cores
    assert chosen is not None
    assert chosen.sha256 == CALIBRATION.sha256
    assert UpscaleSettings(output="a.mkv", cores="none").prepare(info).cores is None
