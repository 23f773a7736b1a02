"""A disk that becomes full: its minutes are told, raw frames go before up-scaled images, and the session says so."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from session_runs import frames, make_run, noise
from support import FakeEngine, ListSink, ManualClock, Step

from clesr.pipeline.frame import Frame, Image
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.session.commit import LOW_MIN, ROOM_MIN, DiskRoom
from clesr.pipeline.session.format import LOW_DISK, EndedEarlyError, format_manifest
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.repair import repair
from clesr.pipeline.session.verify import verify
from clesr.tools.commands.verify import describe

STEP_NS, WHOLE, RAW = (
    400_000_000,
    1000,
    100,
)  # between two looks; bytes that come in it, and without SR images
MINUTE = int(WHOLE / 0.4 * 60)  # bytes in a minute, with SR images


class Disk:
    """A session that grows, on a disk with ``free`` bytes."""

    def __init__(self) -> None:
        self.room, self.session, self.size, self.now_ns = DiskRoom(), object(), 0, 0
        self.step = WHOLE

    def look(self, free: int, times: int = 10) -> list[str]:
        """What is told in so many looks."""
        told = []
        for _ in range(times):
            self.now_ns += STEP_NS
            self.size += RAW if self.room.low else self.step
            told.append(self.room.note(self.session, self.now_ns, self.size, free))
        return [words for words in told if words]


def test_the_disk_lasts_as_long_as_its_room_at_the_rate_of_the_session() -> None:
    disk = Disk()
    for step in range(4):
        disk.look(60 * MINUTE, 1)
        assert (disk.room.minutes is None) == (step < 3)
    assert disk.room.minutes == pytest.approx(60)
    disk.session = object()
    disk.look(60 * MINUTE, 1)
    assert disk.room.minutes is None, "another session has a rate of its own"


def test_few_minutes_are_told_once_each() -> None:
    disk = Disk()
    assert disk.look(60 * MINUTE) == []
    assert disk.look(9 * MINUTE) == ["the disk is full in 9.0 minutes at the present rate; free some space"]
    assert disk.look(5 * MINUTE) == []
    (words,) = disk.look(int(1.5 * MINUTE))
    assert words.startswith("the disk is full in 1.5 minutes: up-scaled images are left out from here on")
    assert disk.room.minutes == pytest.approx(15), "raw frames alone last longer"
    assert disk.look(int(0.9 * MINUTE)) == [
        "the disk is full in 9.0 minutes at the present rate, that of raw frames alone; free some space"
    ]
    assert disk.look(int(0.1 * MINUTE)) == [
        "the disk is full in 1.0 minutes at the present rate, that of raw frames alone; free some space"
    ]


def test_up_scaled_images_come_again_when_there_is_room_for_longer_than_they_were_left_out_for() -> None:
    disk = Disk()
    disk.look(60 * MINUTE)
    disk.look(int(0.99 * LOW_MIN * MINUTE), 1)
    assert disk.room.low
    assert disk.look(int(0.99 * ROOM_MIN * MINUTE)) == []
    assert disk.room.low, "no to and fro"
    (words,) = disk.look(int(1.01 * ROOM_MIN * MINUTE), 1)
    assert words.startswith("there is room on the disk again")
    assert not disk.room.low


def test_what_is_kept_in_memory_and_written_at_once_is_no_rate() -> None:
    disk = Disk()
    disk.size = 100 * WHOLE
    disk.look(60 * MINUTE, 1)
    disk.size += 20 * WHOLE
    disk.look(int(2.5 * MINUTE), 3)
    assert disk.room.minutes is not None
    assert disk.room.minutes < LOW_MIN
    assert not disk.room.low


def test_a_session_that_goes_on_elsewhere_stays_without_until_it_is_ordered_anew() -> None:
    disk = Disk()
    disk.look(60 * MINUTE)
    disk.look(MINUTE, 1)
    disk.session = object()
    disk.look(MINUTE, 1)
    assert disk.room.low
    disk.room.forget()
    assert not disk.room.low
    told = disk.look(MINUTE)
    assert any("up-scaled images are left out" in words for words in told), "the disk is as full as before"


def test_a_session_ordered_anew_that_grows_more_slowly_has_room() -> None:
    disk = Disk()
    disk.look(60 * MINUTE)
    disk.look(MINUTE, 1)
    assert disk.room.low
    disk.room.forget()
    disk.session, disk.step = object(), WHOLE // 20
    assert not any("left out" in words for words in disk.look(MINUTE, 30))
    assert not disk.room.low


def test_a_second_recording_on_the_disk_makes_its_time_shorter_and_a_large_file_does_not() -> None:
    disk, free = Disk(), 9 * MINUTE
    for _ in range(100):
        disk.look(free, 1)
        free -= 2 * WHOLE  # its own, and the other's
    assert disk.room.minutes == pytest.approx(free / MINUTE / 2, rel=0.01)
    alone, free = Disk(), 100 * MINUTE
    for step in range(100):
        alone.look(free - (50 * MINUTE if step > 30 else 0), 1)
        free -= WHOLE
    assert alone.room.minutes == pytest.approx((free - 50 * MINUTE) / MINUTE, rel=0.01)


def test_two_recordings_leave_up_scaled_images_out_in_time() -> None:
    """Each by itself would have thought that the disk lasts twice as long."""
    disk, free = Disk(), 6 * MINUTE
    told: list[str] = []
    while free > 0 and not told:
        told = [words for words in disk.look(free, 1) if "left out" in words]
        free -= 2 * WHOLE
    assert disk.room.low
    assert free / (2 * MINUTE) > 1.9, "minutes that are left for both"


def test_three_recordings_on_a_disk_leave_images_out_once() -> None:
    """All of them leave images out, so the others fill the disk more slowly from then on: that is no room."""
    disk, free = Disk(), 8 * MINUTE
    told: list[str] = []
    while free > 0:
        told += [words for words in disk.look(free, 1) if "image" in words]
        free -= 3 * (RAW if disk.room.low else WHOLE)
    assert [words for words in told if "there is room" in words] == []
    assert len(told) == 1


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that disks have free: its last value."""
    free = [1 << 50]
    monkeypatch.setattr(
        "clesr.pipeline.session.commit.os",
        SimpleNamespace(fstatvfs=lambda _fd: SimpleNamespace(f_bavail=free[-1], f_frsize=1)),
    )
    return free


@pytest.mark.parametrize("codec", ["ffv1", "hevc"])
def test_raw_frames_go_on_without_up_scaled_images_and_the_session_says_so(
    tmp_path: Path, space: list[int], codec: str
) -> None:
    clock, tick, numbers, folder = ManualClock(), threading.Event(), count(), tmp_path / "s"

    def frames_until(condition: Callable[[], bool]) -> Iterator[Step]:
        while not condition():
            number = next(numbers)
            assert number < 10_000, "nothing happened"
            clock.advance(0.04)
            yield Frame(noise(number, shape=(32, 40)), number, clock.now_ns())
            tick.wait(0.002)

    def recorded(words: str = "\n") -> int:
        path = folder / "frames.jsonl"
        return path.read_text().count(words) if path.exists() else 0

    def script() -> Iterator[Step]:
        assert run.recorder is not None
        room = run.recorder._segments.room  # type: ignore[attr-defined]
        yield from frames_until(lambda: room.minutes is not None and recorded() > 100)
        space.append(int(room._rate * 60 * LOW_MIN / 2))
        yield from frames_until(lambda: room.low)
        alarms.append(run.status().alarm)
        yield from frames_until(lambda: recorded(LOW_DISK) > 60)  # lines do not wait for the next SR image
        space.append(1 << 50)
        yield from frames_until(lambda: not room.low)
        after = recorded()
        yield from frames_until(lambda: recorded() > after + 60)

    alarms: list[str] = []
    run, said = make_run(script(), clock=clock, codec=codec)
    run.start_recording(folder)
    run.run()
    certificate = verify(folder)
    assert certificate.problems == ()
    assert certificate.complete
    totals, left_out = certificate.totals, certificate.sr_left_out
    assert totals["raw"] == totals["captured"] == run.ledger.captured
    assert left_out > 60
    assert certificate.info.sr_left_out == certificate.as_json()["sr_left_out"] == left_out
    assert totals["sr"] == totals["raw"] - left_out
    (missing,) = certificate.missing
    assert (missing.what, missing.last - missing.first + 1, missing.reason) == ("sr", left_out, LOW_DISK)
    assert any(line.startswith(f"left out   {left_out} up-scaled images") for line in describe(certificate))
    assert alarms[0].startswith("THE DISK IS NEARLY FULL: the disk is full in ")
    assert "minutes: up-scaled images are left out from here on" in alarms[0]
    assert sum("up-scaled images are left out" in line for line in said) == 1
    assert sum("up-scaled images are recorded from here on" in line for line in said) == 1


def test_a_count_of_what_was_left_out_that_is_not_that_of_the_lines_is_found(tmp_path: Path) -> None:
    run, _ = make_run(frames(range(5)))
    run.start_recording(tmp_path / "s")
    run.run()
    info = replace(read_session(tmp_path / "s").info, sr_left_out=3)
    (tmp_path / "s" / "session.json").write_bytes(format_manifest(info))
    assert verify(tmp_path / "s").problems == ("0 up-scaled images were left out; session.json states 3",)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, timeout=20).returncode != 0:
        pytest.skip("a file system of its own needs root; run this test as root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True, timeout=20)


def test_a_full_disk_ends_the_recording_with_every_raw_frame_up_to_that_one(small_disk: Path) -> None:
    def script() -> Iterator[Step]:
        for number in count():
            yield Frame(large(number), number, 0)
            if not run.status().recording:
                break
            assert number < 3000, "the disk is never full"
        alarms.append(run.status().alarm)
        yield from (Frame(large(n), n, 0) for n in range(number + 1, number + 21))

    def large(number: int) -> Image:
        return noise(number, shape=(64, 80))

    alarms: list[str] = []
    view = ListSink()
    run: Pipeline
    run, said = make_run(script(), sinks=[view], factory=FakeEngine)
    run.start_recording(small_disk / "s")
    with pytest.raises(EndedEarlyError, match="No space left on device; what is on the disk is closed"):
        run.run()
    certificate = verify(small_disk / "s")
    assert certificate.problems == ()
    records = list(read_session(small_disk / "s").records())
    raw = [record.number for record in records if record.raw_index is not None]
    assert raw == list(range(len(raw))), "no frame before that one is missing"
    assert len(raw) > 50
    assert len(view.results) == run.ledger.captured > len(raw) + 19, "the live view goes on"
    assert alarms[0].startswith("RECORDING ENDED")
    assert sum("the live view goes on" in line for line in said) == 1


def test_what_was_left_out_is_counted_by_a_repair_too(tmp_path: Path) -> None:
    run, _ = make_run(frames(range(12)))
    run.start_recording(tmp_path / "s")
    recorder = run.recorder
    assert recorder is not None
    recorder._segments.room.low = True  # type: ignore[attr-defined]
    recorder._segments.room.forget = lambda: None  # type: ignore[attr-defined]
    run.run()
    closed = read_session(tmp_path / "s").info
    assert closed.sr_left_out == 12
    assert not (tmp_path / "s" / "sr.mkv").exists()
    info = replace(
        closed, closed=False, ended="", totals=None, lines=None, chain=None, files=None, sr_left_out=0
    )
    (tmp_path / "s" / "session.json").write_bytes(format_manifest(info))
    repair(tmp_path / "s")
    certificate = verify(tmp_path / "s")
    assert (certificate.problems, certificate.sr_left_out) == ((), 12)
