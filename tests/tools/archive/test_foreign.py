"""An output folder of a stranger, or with files of somebody in it: nothing outside is touched, nothing is lost."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import commands
import cv2
import pytest
from archive_support import results
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recordings import noise, write_video

from clesr.engines.common.errors import SinkError
from clesr.tools.archive.journal import FileStatus, Journal, JournalEntry
from clesr.tools.archive.settings import Settings
from clesr.tools.archive.worker import work_folder

Run = Callable[..., tuple[int, str]]
NAMES = ["../victim", "../../victim", "/VICTIM", "x/../../victim", "", ".", "..", "a\0b", "a.png", "victim"]


@pytest.fixture
def run(run: commands.Run) -> Run:
    """`clesr upscale ARCHIVE --out OUT ...` in this process: exit status and standard error."""
    quick = ("--scale", 2, "--model", "nearest")
    return lambda *more: run("clesr", "upscale", "in", "--out", "out", *quick, *more)[::2]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an archive ``in``, an empty ``out``, and a precious file ``victim``, also under ``out``."""
    monkeypatch.chdir(tmp_path)
    for name in ("in/x", "out", "outside"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("in/a.png", "in/x/b.png"):
        cv2.imwrite(name, noise(1, (20, 30))[0])
    for name in ("victim", "out/victim", "outside/thesis.txt", "outside/b.png"):
        (tmp_path / name).write_bytes(b"precious")
    return tmp_path


def kept(place: Path) -> bool:
    names = ("victim", "out/victim", "outside/thesis.txt", "outside/b.png")
    return all((place / name).read_bytes() == b"precious" for name in names)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("status", FileStatus)
def test_the_journal_of_a_stranger_deletes_nothing(
    name: str, status: FileStatus, place: Path, run: Run
) -> None:
    name = name.replace("/VICTIM", str(place / "victim"))
    line: dict[str, object] = {"input": "a.png", "status": status, "output": name, "settings": "zz"}
    line |= {"output_sha256": sha256(place / "victim"), "output_size": 8}
    (place / "out" / "archive.jsonl").write_text(json.dumps(line) + "\n")
    status_code, err = run()
    assert status_code == 0, err
    assert kept(place)
    assert set(results(place / "out")) == {"a.png", "x/b.png", "victim"}


def finished(place: Path, target: str, changes: dict[str, Any]) -> Path:
    """A finished.json as a killed run leaves it for the input a.png, with ``changes``; its folder."""
    made = Settings(scale=2, model="nearest", model_sha256="", engine="auto")
    folder = work_folder(place / "out") / made.key(sha256(place / "in" / "a.png"), "a.png")
    folder.mkdir(parents=True)
    record = JournalEntry(
        input="a.png",
        status=FileStatus.DONE,
        settings=made.identity,
        output=target,
        output_sha256=sha256(place / "victim"),
    )
    (folder / "finished.json").write_text(json.dumps(asdict(record) | changes))
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"file": "../../../../victim"},
        {"file": "../../../../victim", "output": "../target"},
        {"file": "link"},
        {"file": "link", "output": "victim"},
        {"file": "whole.png", "output": "../target"},
        {"file": "whole.png", "output": "out/../target"},
        {"file": "whole.png", "input": "other.png"},
        {"file": "whole.png", "settings": "other"},
        {"file": "whole.png", "output_sha256": "0" * 64},
        {"file": "pipe"},
        {"file": 5},
        {"file": "whole.png", "frames": -1},
        {"file": "whole.png", "size": 10**400},
    ],
)
def test_what_a_stranger_says_was_finished_moves_nothing(
    changes: dict[str, Any], place: Path, run: Run
) -> None:
    folder = finished(place, "a.png", changes)
    (folder / "link").symlink_to(place / "victim")
    os.mkfifo(folder / "pipe")
    (folder / "whole.png").write_bytes(b"forged")
    status, err = run()
    assert status == 0, err
    assert kept(place)
    assert not (place / "target").exists()
    made = cv2.imread("out/a.png", cv2.IMREAD_GRAYSCALE)
    assert made is not None
    assert made.shape == (40, 60)


def to_file(path: Path) -> None:
    path.symlink_to(path.parents[len(path.parts) - len(Path.cwd().parts) - 1] / "victim")


def to_folder(path: Path) -> None:
    path.symlink_to(Path.cwd() / "outside")


@pytest.mark.parametrize("make", [to_file, to_folder, os.mkfifo])
@pytest.mark.parametrize(
    "name",
    [
        "archive.jsonl",
        ".archive",
        ".archive/lock",
        ".archive/work",
        ".archive/work/KEY",
        "x",
        "x/b.png",
        "a.png",
    ],
)
def test_links_and_pipes_in_the_output_folder(name: str, make: Any, place: Path, run: Run) -> None:
    made = Settings(scale=2, model="nearest", model_sha256="", engine="auto")
    path = place / "out" / name.replace("KEY", made.key(sha256(place / "in" / "a.png"), "a.png"))
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
    inputs = {str(p): sha256(p) for p in (place / "in").rglob("*.png")}
    status, err = run()
    assert status == (0 if name == ".archive/work/KEY" and status == 0 else 1), err
    assert "Traceback" not in err
    assert "unexpected" not in err
    assert kept(place)
    assert sorted(os.listdir(place / "outside")) == ["b.png", "thesis.txt"]
    assert {str(p): sha256(p) for p in (place / "in").rglob("*.png")} == inputs


def test_an_output_folder_that_links_into_the_input(place: Path, run: Run) -> None:
    (place / "out" / "x").symlink_to(place / "in" / "x")
    before = sha256(place / "in" / "x" / "b.png")
    for more in ((), ("--overwrite",)):
        status, err = run(*more)
        assert status == 1
        assert "broken: x/b.png: it is a link or no folder" in err
        assert sha256(place / "in" / "x" / "b.png") == before
        assert os.listdir(place / "in" / "x") == ["b.png"]


def test_files_of_somebody_stay_unless_the_user_says_otherwise(place: Path, run: Run) -> None:
    (place / "out" / "a.png").write_bytes(b"precious")
    status, err = run()
    assert status == 1
    assert "a.png exists; give another name, or --overwrite to replace it" in err
    assert (place / "out" / "a.png").read_bytes() == b"precious"
    assert "x/b.png" in results(place / "out")
    status, err = run("--overwrite")
    assert status == 0, err
    assert (place / "out" / "a.png").read_bytes() != b"precious"


def test_what_earlier_runs_made_is_replaced(place: Path, run: Run) -> None:
    assert run()[0] == 0
    before = results(place / "out")
    assert run("--window", "0,100")[0] == 0
    after = results(place / "out")
    assert {name for name in after if after[name] != before[name]} == {"a.png", "x/b.png"}
    (place / "out" / "a.png").write_bytes(b"edited by somebody since")
    status, err = run()
    assert status == 1
    assert "a.png exists" in err
    assert (place / "out" / "a.png").read_bytes() == b"edited by somebody since"


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_result_that_is_its_own_input_under_another_name(link: Any, place: Path, run: Run) -> None:
    before = sha256(place / "in" / "a.png")
    link(place / "in" / "a.png", place / "out" / "a.png")
    status, err = run("--overwrite")
    assert status == 1
    assert "is an input of this command" in err or "is a link" in err
    assert sha256(place / "in" / "a.png") == before


def test_what_is_no_file_in_the_archive_is_broken_and_holds_nobody_up(place: Path, run: Run) -> None:
    os.mkfifo(place / "in" / "pipe.mkv")
    (place / "in" / "x" / "deep.png").symlink_to(place / "in" / "pipe.mkv")
    status, err = run()
    assert status == 1
    assert "broken: pipe.mkv: cannot be read (it is a pipe and no file)" in err
    assert "broken: x/deep.png: cannot be read (it is a pipe and no file)" in err
    assert set(results(place / "out")) == {"a.png", "x/b.png", "victim"}


def test_names_that_are_no_text_are_done_once(place: Path, run: Run) -> None:
    name = os.fsdecode(b"\xff\x1b]0;x\x07\n.png")
    cv2_bytes = (place / "in" / "a.png").read_bytes()
    (place / "in" / name).write_bytes(cv2_bytes)
    assert run()[0] == 0
    status, err = run()
    assert (status, "0 files up-scaled, 3 found finished" in err) == (0, True)
    (place / "in" / name).write_bytes(b"broken")
    status, err = run()
    assert status == 1
    assert r"broken: \udcff\x1b]0;x\x07\n.png: " in err
    assert "\x1b" not in err
    assert "\x07" not in err


LINE = st.one_of(
    st.binary(max_size=40),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["run", "input", "status", "output", "format", "x"]), inner)
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
    st.sampled_from(
        [
            b'{"input":"a","status":"done","output":"' + b"b" * (1 << 19) + b'"}',
            b"[" * 100_000,
            b'{"run":' * 5000,
            b'{"run":{"format":1,"chosen":true,"settings":{"scale":[],"model":3}}}',
            b'{"run":{"format":1e999}}',
            b'{"input":"a","status":"done","frames":' + b"9" * 5000 + b"}",
            b'{"input":"a","status":"done","output":"../b"}',
            b'{"input":"\\udcff","status":"done"}',
        ]
    ),
)
GOOD = JournalEntry(
    input="good.mkv", status=FileStatus.DONE, frames=3, output="good.mkv", output_sha256="0" * 64
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(lines=st.lists(LINE, max_size=6), cut=st.booleans())
def test_a_damaged_journal_is_passed_over_line_by_line(lines: list[bytes], cut: bool, tmp_path: Path) -> None:
    path = tmp_path / "archive.jsonl"
    text = b"".join(line + b"\n" for line in (*lines, json.dumps(asdict(GOOD)).encode(), *lines))
    path.write_bytes(text[: -1 - (len(lines[-1]) > 0)] if cut and lines else text)
    try:
        with closing(Journal(tmp_path)) as journal:
            assert journal.find("good.mkv") == GOOD
            assert journal.find("a") is None or isinstance(journal.find("a"), JournalEntry)
            journal.add(JournalEntry(input="new.mkv", status=FileStatus.FAILED))
        with closing(Journal(tmp_path)) as journal:
            assert journal.find("new.mkv") == JournalEntry(input="new.mkv", status=FileStatus.FAILED)
    except SinkError as error:
        assert "update clesr" in str(error)  # noqa: PT017 - a newer format


def test_a_video_in_pieces_that_a_stranger_left(place: Path, run: Run) -> None:
    """Links under the names of pieces and their notes are not read: the pieces are computed."""
    write_video(place / "in" / "v.mkv", noise(20, (16, 24)), options={"g": "1"})
    assert run("--piece", 8)[0] == 0
    expected = results(place / "out")["v.mkv"]
    made = Settings(scale=2, model="nearest", model_sha256="", engine="auto", piece=8)
    folder = work_folder(place / "out2") / made.key(sha256(place / "in" / "v.mkv"), "v.mkv")
    folder.mkdir(parents=True)
    note = {"frames": 8, "missing": 0, "shape": [16, 24], "engine": "x", "note": ""}
    (place / "note.json").write_text(json.dumps(note))
    for number in (0, 8, 16):
        (folder / f"{number:010d}.mkv").symlink_to(place / "in" / "v.mkv")
        (folder / f"{number:010d}.json").symlink_to(place / "note.json")
    status, err = run("--piece", 8, "--out", "out2")
    assert status == 0, err
    assert results(place / "out2")["v.mkv"] == expected
    assert json.loads((place / "note.json").read_text()) == note
