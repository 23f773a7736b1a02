"""What a disk does that takes its time, or nothing at all: frames are written meanwhile, and the promise is watched."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from heard import hear
from session_runs import frames, make_run, record
from support import ManualClock, Step, until

from clesr.pipeline.alarms import Alarms
from clesr.pipeline.session.commit import DEAD_NS, LOSS_NS, Committer
from clesr.pipeline.session.format import SessionError
from clesr.pipeline.session.reader import demux, read_session
from clesr.pipeline.session.verify import verify
from clesr.pipeline.session.video import DurableFile
from clesr.pipeline.session.writer import SessionWriter

PATIENCE_S = 20.0
LATE = "a power cut now would cost more than the last second"


class SlowDisk:
    """Bringing a video to the disk waits until ``go`` is set; ``asked`` is set when it begins, ``error`` is raised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.asked = threading.Event(), threading.Event()
        self.error: OSError | None = None
        sync = DurableFile.sync

        def slow(file: DurableFile) -> None:
            self.asked.set()
            assert self.go.wait(PATIENCE_S)
            error, self.error = self.error, None
            if error is not None:
                raise error
            sync(file)

        monkeypatch.setattr(DurableFile, "sync", slow)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    slow = SlowDisk(monkeypatch)
    yield slow
    slow.go.set()


def written(folder: Path) -> int:
    """Frames that a killed process would leave in the raw video of ``folder``."""
    try:
        with closing(demux(folder / "raw.mkv")) as pictures:
            return sum(1 for _ in pictures)
    except SessionError:  # there is none yet, or no cluster in it
        return 0


def test_frames_are_written_while_the_disk_takes_its_time(tmp_path: Path, disk: SlowDisk) -> None:
    def script() -> Iterator[Step]:
        yield from frames(range(60))
        assert disk.asked.wait(PATIENCE_S)
        until(lambda: written(tmp_path) >= 50, PATIENCE_S)  # the last cluster waits for the next frame
        assert not (tmp_path / "frames.jsonl").read_bytes(), "no line vouches for what is not on the disk"
        disk.go.set()
        yield from frames(range(60, 80))

    record(tmp_path, script())
    assert verify(tmp_path).problems == ()
    assert [r.number for r in read_session(tmp_path).records()] == list(range(80))


def test_a_disk_that_breaks_the_promise_is_told_of_once(tmp_path: Path, disk: SlowDisk) -> None:
    clock = ManualClock()

    def script() -> Iterator[Step]:
        yield from frames(range(5))
        assert disk.asked.wait(PATIENCE_S)
        clock.advance(0.7 * LOSS_NS / 1e9)
        yield from frames(range(5, 15))
        until(lambda: written(tmp_path) >= 10, PATIENCE_S)
        assert not any(LATE in line for line in said), "the second is not over"
        clock.advance(0.3 * LOSS_NS / 1e9)
        yield from frames(range(15, 25))
        until(lambda: written(tmp_path) >= 20, PATIENCE_S)
        disk.go.set()

    run, said = make_run(script(), clock=clock)
    run.start_recording(tmp_path)
    run.run()
    assert sum(LATE in line for line in said) == 1
    assert verify(tmp_path).problems == ()


@pytest.mark.parametrize("behind_s", [0.0, 0.5])
def test_frames_that_wait_for_the_recorder_count_as_late_too(tmp_path: Path, behind_s: float) -> None:
    record(tmp_path / "a", frames(range(2)))
    (tmp_path / "b").mkdir()
    writer = SessionWriter(tmp_path / "b", read_session(tmp_path / "a").info)
    clock, tick = ManualClock(), threading.Event()
    said, committer = hear(), Committer(Alarms())
    for _ in range(4):
        clock.advance(0.45)
        for _ in range(20):  # the disk is fast: what is late are the frames
            committer.commit_when_due(writer, clock.now_ns() - int(behind_s * 1e9), clock.now_ns())
            tick.wait(0.005)
    committer.end(writer)
    committer.close()
    assert sum(LATE in line for line in said) == (behind_s > 0)


def test_a_disk_that_never_comes_back_ends_the_recording(tmp_path: Path, disk: SlowDisk) -> None:
    clock = ManualClock()

    def time_passes() -> bool:
        clock.advance(DEAD_NS / 3e10)
        return True

    def script() -> Iterator[Step]:
        yield from frames(range(5))
        assert disk.asked.wait(PATIENCE_S)
        yield from frames(range(5, 10))
        until(lambda: time_passes() and not run.status().recording, PATIENCE_S)
        yield from frames(range(10, 15))
        disk.go.set()

    run, said = make_run(script(), clock=clock)
    run.start_recording(tmp_path)
    with pytest.raises(SessionError, match="took nothing for 30 s; what is on the disk is closed and valid"):
        run.run()
    assert run.ledger.captured == 15, "the live view goes on"
    assert sum("ends: the disk took nothing" in line for line in said) == 1
    assert verify(tmp_path).problems == ()


def test_a_process_that_was_stopped_while_it_saved_records_on(
    tmp_path: Path, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, looks, commit = ManualClock(), list[int](), Committer.commit_when_due

    def looking(self: Committer, writer: SessionWriter, reached_ns: int, now_ns: int) -> None:
        looks.append(now_ns)
        commit(self, writer, reached_ns, now_ns)

    monkeypatch.setattr(Committer, "commit_when_due", looking)

    def script() -> Iterator[Step]:
        yield from frames(range(5))
        assert disk.asked.wait(PATIENCE_S)
        clock.advance(3600)
        yield from frames(range(5, 10))
        before = len(looks)
        until(lambda: len(looks) > before + 1 or not run.status().recording, PATIENCE_S)
        disk.go.set()
        yield from frames(range(10, 15))

    run, said = make_run(script(), clock=clock)
    run.start_recording(tmp_path)
    run.run()
    assert not any("took nothing" in line for line in said)
    certificate = verify(tmp_path)
    assert certificate.problems == ()
    assert certificate.totals["raw"] == 15


@pytest.mark.parametrize("late", [False, True])
def test_an_error_of_the_disk_reaches_the_caller(tmp_path: Path, disk: SlowDisk, late: bool) -> None:
    """Also where nothing but the end of the recording is left to notice it (``late``)."""
    disk.error = OSError(errno.EIO, "Input/output error")

    def script() -> Iterator[Step]:
        yield from frames(range(20))
        assert disk.asked.wait(PATIENCE_S)
        if late:
            run.stop_recording()
        disk.go.set()
        yield from frames(range(20, 40))

    run, said = make_run(script())
    run.start_recording(tmp_path)
    with pytest.raises(SessionError, match="ended early: Input/output error; what is on the disk is closed"):
        run.run()
    assert run.ledger.captured == 40
    assert sum("ends: Input/output error" in line for line in said) == 1
    certificate = verify(tmp_path)
    assert certificate.problems == ()
    assert certificate.info.ended == "writing failed: Input/output error"


def test_a_recording_that_is_being_closed_does_not_hold_up_the_next(tmp_path: Path, disk: SlowDisk) -> None:
    def script() -> Iterator[Step]:
        yield from frames(range(5))
        assert disk.asked.wait(PATIENCE_S)
        run.stop_recording()
        run.start_recording(tmp_path / "b")
        yield from frames(range(5, 40))
        until(lambda: written(tmp_path / "b") >= 30, PATIENCE_S)
        assert not read_session(tmp_path / "a").info.closed
        disk.go.set()

    run, _ = make_run(script())
    run.start_recording(tmp_path / "a")
    run.run()
    for name, count in (("a", 5), ("b", 35)):
        certificate = verify(tmp_path / name)
        assert certificate.problems == ()
        assert certificate.totals["raw"] == count
