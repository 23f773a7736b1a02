"""What may be replaced, and that a file is whole or not there."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clesr.engines.common import files
from clesr.engines.common.errors import ClesrError, SinkError, UsageError
from clesr.engines.common.files import NEW, OWN, NewFile, WriteRule, partial_name, write_file


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def link(path: Path) -> None:
    path.with_name("other").write_bytes(b"other")
    path.symlink_to("other")


@pytest.mark.parametrize("make", [os.mkfifo, make_socket, dangling, link, os.mkdir])
def test_what_is_no_regular_file_is_never_replaced(make: Callable[[Path], None], tmp_path: Path) -> None:
    target = tmp_path / "target"
    make(target)
    before = os.lstat(target)
    with pytest.raises(SinkError, match="target is a"):
        write_file(target, b"new", WriteRule(overwrite=True))
    assert os.lstat(target).st_ino == before.st_ino
    assert names(tmp_path) <= {"target", "other"}


@pytest.mark.parametrize("make", [os.link, os.symlink, None], ids=["hard link", "link", "itself"])
def test_an_input_is_never_replaced_under_any_of_its_names(make: Any, tmp_path: Path) -> None:
    precious = tmp_path / "in.mkv"
    precious.write_bytes(b"precious")
    target = precious
    if make is not None:
        target = tmp_path / "target.mkv"
        make(precious, target)
    with pytest.raises(ClesrError, match=r"is an input of this command|is a link"):
        write_file(target, b"new", WriteRule.of(True, precious))
    assert precious.read_bytes() == b"precious"


def test_nor_what_lies_in_an_input_folder_even_through_a_link_to_it(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    precious = tmp_path / "in" / "deep" / "1.png"
    precious.write_bytes(b"precious")
    (tmp_path / "out").symlink_to(tmp_path / "in" / "deep")
    for path in (precious, tmp_path / "out" / "1.png"):
        with pytest.raises(UsageError, match="is an input"):
            write_file(path, b"new", WriteRule.of(True, f"file://{tmp_path / 'in'}"))
    assert precious.read_bytes() == b"precious"
    write_file(tmp_path / "out" / "2.png", b"new", WriteRule.of(True, tmp_path / "in"))


@pytest.mark.parametrize("mark", ["session.json", "frames.jsonl"])
def test_nor_what_is_part_of_a_session(mark: str, tmp_path: Path) -> None:
    session = tmp_path / "s"
    (session / "before-repair").mkdir(parents=True)
    for name in (mark, "raw.mkv", "before-repair/raw.mkv", "notes.txt"):
        (session / name).write_bytes(b"precious")
        with pytest.raises(SinkError, match=f"is part of the session {session}"):
            write_file(session / name, b"new", OWN)
        assert (session / name).read_bytes() == b"precious"
    with pytest.raises(SinkError, match="would be part of the session"):
        write_file(session / "sr.mkv", b"new")
    write_file(session / "certificate.json", b"{}")


def test_another_file_is_replaced_only_where_the_user_says_so(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_file(target, "old")
    with pytest.raises(SinkError, match=r"a\.json exists; give another name, or --overwrite to replace it"):
        write_file(target, "new")
    assert target.read_text() == "old"
    write_file(target, "new", WriteRule(overwrite=True))
    assert target.read_text() == "new"
    assert names(tmp_path) == {"a.json"}


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "none"])
def test_what_appears_meanwhile_stays(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the last look and the renaming: a file system with hard links refuses in one step, another as well."""

    def refused(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    if not links:
        monkeypatch.setattr(os, "link", refused)
    target = tmp_path / "a.json"
    made = NewFile(target)
    made.path.write_bytes(b"new")
    monkeypatch.setattr(WriteRule, "check", lambda _self, path: path.write_bytes(b"of another"))
    with pytest.raises(FileExistsError):
        made.publish()
    made.discard()
    assert target.read_bytes() == b"of another"
    assert names(tmp_path) == {"a.json"}


def test_without_hard_links_a_file_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no hard links here")

    monkeypatch.setattr(os, "link", refused)
    write_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert names(tmp_path) == {"a"}


def test_a_failure_leaves_nothing_and_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")

    def full(_path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(SinkError, match="a cannot be written: No space left on device; free some space"):
        write_file(target, b"new", OWN)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == {"a"}


def test_temporary_names_cannot_be_foreseen(tmp_path: Path) -> None:
    one, two = NewFile(tmp_path / "a.ome.tif"), NewFile(tmp_path / "a.ome.tif")
    assert one.path != two.path
    for made in (one, two):
        assert made.path.name.startswith(".a.")
        assert made.path.name.endswith(".part.ome.tif")
        assert len(made.path.name) == len(".a..part.ome.tif") + 16
        made.discard()


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "x" * 250 + ".mkv", "\udcff.json"])
def test_names_that_are_hard_to_write(name: str, tmp_path: Path) -> None:
    target = tmp_path / name
    try:
        write_file(target, b"new")
    except ClesrError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either it works or it is one line
        assert len(target.name) > 255 or "\0" in name
        assert not names(tmp_path)
    else:
        assert target.read_bytes() == b"new"


def test_two_outputs_need_two_names(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="is named for two outputs"):
        NEW.check_all(tmp_path / "a.json", None, tmp_path / "link" / "a.json")


def test_a_partial_file_takes_the_next_free_name(tmp_path: Path) -> None:
    target = tmp_path / "a.mkv"
    for expected in ("a.partial.mkv", "a.partial.2.mkv", "a.partial.3.mkv"):
        name = partial_name(target, NEW)
        assert name.name == expected
        name.touch()
    assert partial_name(target, OWN).name == "a.partial.mkv"
