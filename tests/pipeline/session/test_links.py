"""Links, pipes and folders under the names of a session reach nothing outside and hold nobody up."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from recordings import read_all
from session_runs import frames, record

from clesr.engines.common.errors import ClesrError
from clesr.pipeline.session.format import SessionError, format_manifest
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.repair import repair
from clesr.pipeline.session.verify import verify
from clesr.pipeline.sources.registry import open_source

FILES = ["session.json", "frames.jsonl", "raw.mkv", "sr.mkv"]
OWN = ["session.json.part", ".session.0123456789abcdef.part.json", ".reserve", ".repair", "before-repair"]
Make = Callable[[Path, Path], None]


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """A session that was cut off."""
    folder = tmp_path / "s"
    record(folder, frames(range(5)))
    info = read_session(folder).info
    unclosed = replace(info, closed=False, ended="", totals=None, lines=None, chain=None, files=None)
    (folder / "session.json").write_bytes(format_manifest(unclosed))
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of somebody with something in it."""
    folder = tmp_path / "outside"
    (folder / "deep").mkdir(parents=True)
    for name in ("thesis.txt", "deep/more.txt", "raw.mkv"):
        (folder / name).write_bytes(b"precious")
    return folder


def all_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def to_file(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "thesis.txt")


def to_folder(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def to_copy(path: Path, outside: Path) -> None:
    """To the very file that was there, moved outside."""
    kept = outside / "moved"
    kept.write_bytes(path.read_bytes() if path.exists() else b"")
    path.unlink(missing_ok=True)
    path.symlink_to(kept)


def pipe(path: Path, _outside: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [to_file, to_folder, to_copy, pipe])
@pytest.mark.parametrize("name", [*FILES, *OWN])
def test_repair_stays_inside(name: str, make: Make, session: Path, outside: Path) -> None:
    if make is not to_copy:
        (session / name).unlink(missing_ok=True)
    make(session / name, outside)
    before, was = all_in(outside), {path.name for path in session.iterdir()}
    try:
        repair(session)
    except SessionError as error:
        assert "\n" not in str(error)  # noqa: PT017 - it may repair or say why not
        left = {path.name for path in session.iterdir()}
        assert left == was or (name == ".repair" and left == was - {".repair"})
    else:
        assert name in OWN
        assert verify(session).problems == ()
    assert all_in(outside) == before


@pytest.mark.parametrize("make", [to_file, to_folder, to_copy, pipe])
@pytest.mark.parametrize("name", FILES)
def test_a_session_with_a_link_in_it_is_not_read(name: str, make: Make, session: Path, outside: Path) -> None:
    record(session.with_name("t"), frames(range(5)))
    session = session.with_name("t")
    if make is not to_copy:
        (session / name).unlink()
    make(session / name, outside)
    try:
        problems = verify(session).problems
    except SessionError as error:
        problems = (str(error),)
    assert any(name in problem and "\n" not in problem for problem in problems)
    if name != "sr.mkv":
        with pytest.raises(ClesrError, match=name.replace(".", r"\.")):
            read_all(open_source(str(session), pace="max"))


@pytest.mark.parametrize(
    "name", ["../outside/thesis.txt", "/etc/passwd", "", ".", "x\0", "thesis.txt", "a" * 300]
)
def test_a_manifest_that_names_other_files(name: str, session: Path, outside: Path) -> None:
    info = read_session(session).info
    (session / "session.json").write_bytes(
        format_manifest(replace(info, files={name: {"bytes": 8, "digest": "0" * 64}}))
    )
    problems = verify(session).problems
    assert any("which no session has" in problem and repr(name) in problem for problem in problems)


def test_what_an_interrupted_repair_left_is_put_back(session: Path) -> None:
    kept = session / "before-repair"
    kept.mkdir()
    for name in FILES:
        os.link(session / name, kept / name)  # killed between the two steps of a move
    (session / "raw.mkv").unlink()
    (kept / ".session.0123456789abcdef.part.json").write_bytes(b"half")
    repair(session)
    assert verify(session).problems == ()
    assert {path.name for path in session.iterdir()} == {*FILES, "before-repair"}


def test_what_no_repair_left_is_not_touched(session: Path) -> None:
    (session / "before-repair").mkdir()
    (session / "before-repair" / "thesis.txt").write_bytes(b"precious")
    with pytest.raises(SessionError, match=r"thesis\.txt is nothing that a repair keeps"):
        repair(session)
    assert (session / "before-repair" / "thesis.txt").read_bytes() == b"precious"
