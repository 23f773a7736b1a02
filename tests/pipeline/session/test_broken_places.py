"""What happens to a session's folder, disk, memory and listeners while it is recorded."""

from __future__ import annotations

import errno
import gc
import logging
import os
import shutil
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from session_runs import CLOCK, frames, make_run, noise
from support import ManualClock, Step, until

from clesr.pipeline.frame import Frame, Image, Outcome, Result, Times
from clesr.pipeline.session.format import SessionError
from clesr.pipeline.session.manifest import RecorderSettings
from clesr.pipeline.session.preroll import AT_ONCE
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.session.repair import repair
from clesr.pipeline.session.segments import Segments
from clesr.pipeline.session.verify import verify
from clesr.pipeline.session.video import DurableFile, EncodedImage, ImageEncoder, MatroskaFile
from clesr.pipeline.session.writer import SessionWriter
from clesr.pipeline.source import SourceInfo

PERIOD_S = 0.04


def disturbed(
    folder: Path, disturb: Callable[[], object], *, noticed: Callable[[list[str]], bool]
) -> tuple[str, list[str]]:
    """Record 60 frames into ``folder``, ``disturb`` that after 20, and wait until it was ``noticed`` in what is said;
    the error and what was said."""
    clock = ManualClock()

    def some(numbers: range) -> Iterator[Step]:
        for number in numbers:
            clock.advance(PERIOD_S)
            yield Frame(noise(number), number, clock.now_ns())

    def passes(condition: Callable[[], bool]) -> bool:
        clock.advance(PERIOD_S)
        return condition()

    def script() -> Iterator[Step]:
        yield from some(range(20))
        until(lambda: passes(lambda: lines(folder) >= 10))
        disturb()
        yield from some(range(20, 40))
        until(lambda: passes(lambda: noticed(said)))
        yield from some(range(40, 60))

    run, said = make_run(script(), clock=clock)
    run.start_recording(folder)
    with pytest.raises(SessionError) as raised:
        run.run()
    assert "\n" not in str(raised.value)
    assert "closed file" not in "".join([*said, str(raised.value)])
    assert run.ledger.captured == 60, "the live view goes on"
    assert run.recorder is not None
    assert run.recorder.alarm is not None
    return str(raised.value), said


def lines(folder: Path) -> int:
    """Lines of the session in ``folder``."""
    path = folder / "frames.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def went_on(said: list[str]) -> bool:
    return any("the recording goes on in" in line for line in said)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def replace_folder(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.mkdir()
    (folder / "notes.txt").write_text("of somebody else")


def test_a_folder_that_is_moved_is_closed_where_it_is_and_the_recording_goes_on(tmp_path: Path) -> None:
    folder, moved = tmp_path / "s", tmp_path / "elsewhere"
    error, said = disturbed(folder, lambda: folder.rename(moved), noticed=went_on)
    assert f"the folder {folder} was moved to {moved} while it was recorded; it is whole and closed" in error
    first, second = verify(moved), verify(tmp_path / "s-2")
    assert first.problems == second.problems == ()
    assert first.totals["raw"] + second.totals["raw"] == 60
    assert first.info.ended == "stopped: the folder was moved while it was recorded"
    assert not folder.exists()
    assert sum("was moved" in line for line in said) == 1


def test_a_folder_that_is_replaced_is_left_to_its_new_owner(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    error, _ = disturbed(folder, lambda: replace_folder(folder), noticed=went_on)
    assert "was moved to" in error
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    first, second = verify(tmp_path / "elsewhere"), verify(tmp_path / "s-2")
    assert first.problems == second.problems == ()
    assert first.totals["raw"] + second.totals["raw"] == 60


def test_a_folder_that_is_deleted_is_told_of_and_the_recording_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    error, said = disturbed(folder, lambda: shutil.rmtree(folder), noticed=went_on)
    assert "was deleted while it was recorded; what was in it is lost" in error
    assert not folder.exists()
    certificate = verify(tmp_path / "s-2")
    assert certificate.problems == ()
    assert certificate.totals["raw"] >= 20
    assert certificate.info.first + certificate.totals["raw"] == 60
    assert sum("was deleted" in line for line in said) == 1


def test_a_folder_that_something_is_mounted_over_is_closed_whole_and_the_recording_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where its disk is detached while it is in use: no name leads to it, but all is there."""
    folder = tmp_path / "s"

    def mount() -> None:
        monkeypatch.setattr(os, "readlink", lambda _path: str(folder))  # as the system calls it then
        replace_folder(folder)

    error, said = disturbed(folder, mount, noticed=went_on)
    assert "mounted over, or its disk detached, while it was recorded; it is whole and closed" in error
    assert [line for line in [error, *said] if "deleted" in line or "in it is lost" in line] == []
    first, second = verify(tmp_path / "elsewhere"), verify(tmp_path / "s-2")
    assert first.problems == second.problems == ()
    assert first.totals["raw"] + second.totals["raw"] == 60


def test_a_folder_above_that_is_closed_to_us_ends_no_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be looked at by its name can still be written."""
    folder, clock, stat, refused = tmp_path / "s", ManualClock(), os.stat, list[object]()

    def closed(path: Any, **options: Any) -> os.stat_result:
        if path == folder:
            refused.append(path)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, **options)

    def passes(condition: Callable[[], bool]) -> bool:
        clock.advance(PERIOD_S)
        return condition()

    def script() -> Iterator[Step]:
        yield from frames(range(20))
        until(lambda: passes(lambda: lines(folder) >= 10))
        monkeypatch.setattr(os, "stat", closed)
        yield from frames(range(20, 40))
        until(lambda: passes(lambda: bool(refused)))
        yield from frames(range(40, 60))

    run, _ = make_run(script(), clock=clock)
    run.start_recording(folder)
    run.run()
    monkeypatch.setattr(os, "stat", stat)
    certificate = verify(folder)
    assert certificate.problems == ()
    assert certificate.totals["raw"] == 60


@pytest.mark.parametrize("name", ["n" * 255, "n" * 253 + "-9", "\u00e9" * 127])
def test_a_recording_with_the_longest_name_goes_on_under_a_shorter_one(tmp_path: Path, name: str) -> None:
    run, _ = make_run([*frames(range(10)), *frames(range(10, 20), shape=(20, 30))])
    run.start_recording(tmp_path / name)
    run.run()
    assert all(path.name.encode() for path in tmp_path.iterdir())  # no character is cut in two
    certificates = [verify(path) for path in tmp_path.iterdir()]
    assert [c.totals["raw"] for c in certificates] == [10, 10]
    assert all(c.problems == () for c in certificates)


def test_where_nobody_can_say_which_folder_is_free_the_first_session_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exists = Path.exists

    def broken(self: Path) -> bool:
        if self.name == "s-2":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))
        return exists(self)

    monkeypatch.setattr(Path, "exists", broken)
    run, said = make_run([*frames(range(10)), *frames(range(10, 20), shape=(20, 30))])
    run.start_recording(tmp_path / "s")
    with pytest.raises(SessionError, match=r"no recording can be made beside .*/s: Input/output error$"):
        run.run()
    certificate = verify(tmp_path / "s")
    assert certificate.problems == ()
    assert certificate.totals["raw"] == 10
    assert not went_on(said)


def test_where_no_folder_can_be_made_beside_it_the_recording_ends_and_says_so(tmp_path: Path) -> None:
    above = tmp_path / "disk"
    folder = above / "s"
    error, said = disturbed(
        folder, lambda: shutil.rmtree(above), noticed=lambda said: "no recording can be made" in "".join(said)
    )
    assert "was deleted" in error
    assert f"no recording can be made in {above / 's-2'}" in error
    assert not above.exists(), "what is above it is not made anew: it may have been a disk"
    assert not went_on(said)


@pytest.mark.parametrize(
    ("name", "disturb", "happened"),
    [
        ("raw.mkv", lambda path: os.truncate(path, 1000), "was cut from"),
        ("frames.jsonl", lambda path: os.truncate(path, 100), "was cut from"),
        ("raw.mkv", lambda path: path.unlink(), "was deleted"),
        ("sr.mkv", lambda path: path.unlink(), "was deleted"),
        ("frames.jsonl", lambda path: path.unlink(), "was deleted"),
        ("frames.jsonl", lambda path: (path.unlink(), path.write_text("{}")), "was replaced"),
        ("raw.mkv", append, "was written to by another program"),
    ],
)
def test_a_file_that_is_tampered_with_ends_its_session_unclosed_and_the_recording_goes_on(
    tmp_path: Path, name: str, disturb: Callable[[Path], object], happened: str
) -> None:
    folder = tmp_path / "s"
    error, _ = disturbed(folder, lambda: disturb(folder / name), noticed=went_on)
    assert f"{folder / name} {happened}" in error
    assert "`clesr repair` closes it with what is left" in error
    assert not verify(folder).holds
    assert not read_session(folder).info.closed
    certificate = verify(tmp_path / "s-2")
    assert certificate.problems == ()
    assert certificate.info.first + certificate.totals["captured"] == 60
    if name == "frames.jsonl" and happened == "was deleted":
        repair(folder)
        assert verify(folder).totals["raw"] == certificate.info.first, "nothing is lost"
    for path in (folder, tmp_path / "s-2"):
        shutil.rmtree(path)


def test_folders_that_are_taken_away_again_and_again_end_the_recording(tmp_path: Path) -> None:
    clock, taken = ManualClock(), 0

    def waits(condition: Callable[[], bool]) -> None:
        def passes() -> bool:
            clock.advance(PERIOD_S)
            return condition()

        until(passes)

    def script() -> Iterator[Step]:
        nonlocal taken
        for number in range(200):
            clock.advance(PERIOD_S)
            yield Frame(noise(number), number, clock.now_ns())
            if number % 20 == 19 and run.status().recording:
                waits(lambda: any(path.stat().st_size for path in tmp_path.glob("s*/frames.jsonl")))
                taken = count = taken + 1
                (path,) = (path for path in tmp_path.glob("s*"))
                path.rename(tmp_path / f"taken-{taken}")
                waits(lambda: sum("was moved" in line for line in said) == count)  # noqa: B023 - called at once

    run, said = make_run(script(), clock=clock)
    run.start_recording(tmp_path / "s")
    with pytest.raises(SessionError, match="was moved"):
        run.run()
    assert taken == AT_ONCE + 1
    assert not run.status().recording
    assert all(verify(path).holds for path in tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EFBIG, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("name", ["raw.mkv", "sr.mkv"])
def test_a_disk_that_takes_nothing_more_leaves_a_session_that_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, name: str
) -> None:
    write = DurableFile.write

    def failing(self: DurableFile, data: bytes) -> int:
        if self.name.endswith(name) and self.size > 4000:
            raise OSError(number, os.strerror(number))
        return write(self, data)

    monkeypatch.setattr(DurableFile, "write", failing)
    run, said = make_run(frames(range(100)))
    run.start_recording(tmp_path / "s")
    with pytest.raises(SessionError, match=os.strerror(number)):
        run.run()
    assert run.ledger.captured == 100
    assert run.recorder is not None
    assert os.strerror(number) in (run.recorder.alarm or "")
    assert sum("the live view goes on" in line for line in said) == 1
    assert verify(tmp_path / "s").problems == ()


def test_a_header_that_cannot_be_written_leaves_no_part_of_a_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = DurableFile.write

    def failing(self: DurableFile, data: bytes) -> int:
        if self.name.endswith("sr.mkv"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(DurableFile, "write", failing)
    run, _ = make_run(frames(range(20)))
    run.start_recording(tmp_path / "s")
    with pytest.raises(SessionError, match="No space left"):
        run.run()
    assert verify(tmp_path / "s").problems == ()
    assert not (tmp_path / "s" / "sr.mkv").exists()


@pytest.mark.parametrize("error", [MemoryError(), ValueError("unexpected"), RuntimeError("no thread")])
@pytest.mark.parametrize("where", ["add", "add_sr", "complete", "prepare_commit"])
def test_whatever_breaks_in_a_session_it_is_closed_and_the_view_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
) -> None:
    work, calls = getattr(SessionWriter, where), []

    def breaking(self: SessionWriter, *arguments: object) -> object:
        calls.append(1)
        if len(calls) == (2 if where == "prepare_commit" else 30):
            raise error
        return work(self, *arguments)

    monkeypatch.setattr(SessionWriter, where, breaking)
    run, said = make_run(frames(range(60)))
    run.start_recording(tmp_path / "s")
    with pytest.raises(SessionError, match=r"ended early: (MemoryError|unexpected|no thread)"):
        run.run()
    assert run.ledger.captured == 60
    assert verify(tmp_path / "s").problems == ()
    assert said


def test_an_error_that_nobody_expects_ends_the_session_and_another_can_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled, calls = Segments.on_settled, []

    def breaking(self: Segments, *arguments: object) -> None:
        calls.append(1)
        if len(calls) == 10:
            raise MemoryError
        settled(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Segments, "on_settled", breaking)

    def script() -> Iterator[Step]:
        yield from frames(range(20))
        until(lambda: not run.status().recording)
        run.start_recording(tmp_path / "t")
        yield from frames(range(20, 40))

    run, _ = make_run(script())
    run.start_recording(tmp_path / "s")
    with pytest.raises(SessionError, match="ended early: MemoryError"):
        run.run()
    assert verify(tmp_path / "s").problems == ()
    certificate = verify(tmp_path / "t")
    assert certificate.problems == ()
    assert certificate.totals["raw"] == 20


def test_a_frame_for_which_there_is_no_memory_is_recorded_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, calls = ImageEncoder.encode, []

    def breaking(self: ImageEncoder, image: Image, *, key: bool = False) -> EncodedImage:
        if image.shape == (12, 18):
            calls.append(1)
            if len(calls) in (10, 11):
                raise MemoryError
        return encode(self, image, key=key)

    monkeypatch.setattr(ImageEncoder, "encode", breaking)
    run, said = make_run(frames(range(30)))
    run.start_recording(tmp_path / "s")
    run.run()
    certificate = verify(tmp_path / "s")
    assert certificate.problems == ()
    assert (certificate.totals["raw"], certificate.totals["unrecorded"]) == (28, 2)
    assert sum("could not be coded: 18x12 uint8: MemoryError" in line for line in said) == 1


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), ValueError("I/O operation on closed file"), MemoryError()]
)
def test_a_listener_that_is_gone_ends_no_recording(tmp_path: Path, error: Exception) -> None:
    class Broken(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            raise error

    logging.getLogger("clesr.pipeline.session").addHandler(Broken())
    run, _ = make_run([*frames(range(10)), *frames(range(10, 20), shape=(20, 30))])
    run.start_recording(tmp_path / "s")
    run.run()
    assert [verify(tmp_path / name).totals["raw"] for name in ("s", "s-2")] == [10, 10]


def fail_to_sync(_file: DurableFile) -> None:
    raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("codec", ["ffv1", "hevc"])
@pytest.mark.parametrize("failing", [False, True], ids=["closed", "failed"])
def test_nothing_of_a_recording_is_left_when_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, failing: bool
) -> None:
    """Without a garbage collection, and as long as the recorder itself is known to somebody."""
    alive: list[weakref.ref[object]] = []
    for kind in (ImageEncoder, MatroskaFile, DurableFile, SessionWriter):

        def remember(
            self: object, *arguments: Any, __init: Callable[..., None] = kind.__init__, **options: Any
        ) -> None:
            alive.append(weakref.ref(self))
            __init(self, *arguments, **options)

        monkeypatch.setattr(kind, "__init__", remember)

    def recorded(folder: Path) -> Recorder:
        recorder = Recorder(
            SourceInfo("scripted", False, 25.0),
            scale=2,
            settings=RecorderSettings(codec=codec),
            clock=CLOCK,
        )
        recorder.start(folder)
        for frame in [*frames(range(10), shape=(32, 40)), *frames(range(10, 20), shape=(40, 32))]:
            assert isinstance(frame, Frame)
            large = np.repeat(np.repeat(frame.image, 2, 0), 2, 1)
            times = Times(frame.time_ns, frame.time_ns, frame.time_ns, frame.time_ns)
            result = Result(frame, frame.image, large, Outcome.UPSCALED, 2, times, "")
            recorder.capture(frame)
            recorder.settle_result(result)
            recorder.write(result)
        with pytest.raises(SessionError, match="Input/output") if failing else nullcontext():
            recorder.close()
        return recorder

    if failing:
        monkeypatch.setattr(DurableFile, "sync", fail_to_sync)
    gc.collect()
    gc.disable()
    try:
        threads = len(os.listdir("/proc/self/task"))
        recorder = recorded(tmp_path / "s")
        assert len(alive) >= 5
        assert [type(found()) for found in alive if found() is not None] == []
        until(
            lambda: len(os.listdir("/proc/self/task")) <= threads
        )  # a joined one may still be on its way out
    finally:
        gc.enable()
    assert recorder.alarm if failing else not recorder.alarm
