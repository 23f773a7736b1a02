from __future__ import annotations

import errno
import fcntl
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from session_runs import frames, noise, record

from clesr.pipeline.session.folder import SessionFolder
from clesr.pipeline.session.format import SessionError, format_manifest
from clesr.pipeline.session.reader import demux, read_session
from clesr.pipeline.session.repair import repair
from clesr.pipeline.session.verify import verify


@pytest.fixture
def cut_off(tmp_path: Path) -> Path:
    """A session of twelve frames whose manifest was never closed and whose last three lines were not written."""
    folder = tmp_path / "s"
    record(folder, [*frames(range(5)), *frames(range(7, 14))])
    info = read_session(folder).info
    unclosed = replace(info, closed=False, ended="", totals=None, lines=None, chain=None, files=None)
    (folder / "session.json").write_bytes(format_manifest(unclosed))
    lines = (folder / "frames.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "frames.jsonl").write_bytes(b"".join(lines[:-3]) + lines[-3][:40])
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_frames_without_a_line_are_recovered_from_the_video(cut_off: Path) -> None:
    before = {path.name: path.read_bytes() for path in cut_off.iterdir()}
    said = repair(cut_off)
    assert verify(cut_off).problems == ()
    records = {r.number: r for r in read_session(cut_off).records()}
    assert list(records) == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13]
    for number in (11, 12, 13):
        assert records[number].recovered
        assert records[number].outcome is None
        assert records[number].ticks == 40 * number
        assert records[number].sr_index is not None
    assert not records[10].recovered
    for line, image in read_session(cut_off).images("raw"):
        np.testing.assert_array_equal(image, noise(line.number))
    assert "line 11 of frames.jsonl is cut or damaged" in said[0]
    kept = cut_off / "before-repair"
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    assert names(cut_off) == {"session.json", "frames.jsonl", "raw.mkv", "sr.mkv", "before-repair"}
    assert not any("lost" in line for line in said), "every line has its image"


def test_a_video_cut_in_the_middle_of_an_image_keeps_those_before(cut_off: Path) -> None:
    data = (cut_off / "raw.mkv").read_bytes()
    (cut_off / "raw.mkv").write_bytes(data[: int(len(data) * 0.9)])
    repair(cut_off)
    certificate = verify(cut_off)
    assert certificate.problems == ()
    assert 9 <= certificate.totals["raw"] < 12


def test_pixels_that_a_line_vouches_for_are_missed(cut_off: Path) -> None:
    data = (cut_off / "raw.mkv").read_bytes()
    (cut_off / "raw.mkv").write_bytes(data[: len(data) // 2])
    said = repair(cut_off)
    assert any("are not in raw.mkv: they are lost" in line for line in said)
    assert any("raw.mkv ends early" in problem for problem in verify(cut_off).problems)


def test_so_many_are_counted_as_lost_as_have_a_line_and_no_image(cut_off: Path) -> None:
    with_lines = 9  # of the twelve frames
    data = (cut_off / "raw.mkv").read_bytes()
    (cut_off / "raw.mkv").write_bytes(data[: len(data) // 2])
    said = repair(cut_off)
    there = sum(1 for _ in demux(cut_off / "raw.mkv"))
    assert 0 < there < with_lines
    assert f"{with_lines - there} frames have a line, but are not in raw.mkv: they are lost" in said


def test_a_session_killed_before_its_first_image(cut_off: Path) -> None:
    for name in ("raw.mkv", "sr.mkv", "frames.jsonl"):
        (cut_off / name).unlink()
    (cut_off / "raw.mkv").write_bytes(b"")
    repair(cut_off)
    certificate = verify(cut_off)
    assert certificate.problems == ()
    assert certificate.totals == {}


def test_a_repair_that_was_interrupted_is_done_again(cut_off: Path) -> None:
    copy = cut_off.with_name("copy")
    shutil.copytree(cut_off, copy)
    (copy / "before-repair").mkdir()
    shutil.copy(copy / "session.json", copy / "before-repair")
    for name in ("raw.mkv", "sr.mkv"):
        (copy / name).rename(copy / "before-repair" / name)
    (copy / "raw.mkv").write_bytes(b"half")
    (copy / ".repair").mkdir()
    repair(copy)
    assert verify(copy).problems == ()
    repair(cut_off)
    assert verify(copy).totals == verify(cut_off).totals


def test_what_no_repair_has_kept_is_not_taken_for_a_part(cut_off: Path) -> None:
    (cut_off / "before-repair").mkdir()
    (cut_off / "before-repair" / "notes.txt").write_text("mine")
    with pytest.raises(SessionError, match=r"notes\.txt is nothing that a repair keeps"):
        repair(cut_off)
    assert (cut_off / "before-repair" / "notes.txt").read_text() == "mine"


def test_a_closed_session_is_left_alone(tmp_path: Path) -> None:
    record(tmp_path / "s", frames(range(3)))
    with pytest.raises(SessionError, match="is closed: there is nothing to repair"):
        repair(tmp_path / "s")


def test_a_session_that_is_being_recorded_is_left_alone(cut_off: Path) -> None:
    with (cut_off / "frames.jsonl").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SessionError, match="still being recorded"):
            repair(cut_off)
    assert ".repair" not in names(cut_off)


def test_a_session_that_begins_is_left_alone_from_its_first_moment_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its manifest was there before the file that is locked while it is recorded."""
    refused: list[bool] = []
    write = SessionFolder.write_manifest

    def writing(self: SessionFolder, *arguments: Any, **options: Any) -> None:
        write(self, *arguments, **options)
        if not refused:
            with pytest.raises(SessionError, match="still being recorded"):
                repair(self.path)
            refused.append(True)

    monkeypatch.setattr(SessionFolder, "write_manifest", writing)
    record(tmp_path / "s", frames(range(3)))
    assert refused
    assert verify(tmp_path / "s").complete


def test_a_disk_that_cannot_be_written_leaves_it_as_it_was(
    cut_off: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in cut_off.iterdir()}

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(SessionError, match="Read-only file system"):
        repair(cut_off)
    assert {path.name: path.read_bytes() for path in cut_off.iterdir()} == before
