"""Names in foreign folders stay in them, and no link is followed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clesr.engines.common.folders import Folder, check_part, open_part, relative_parts

HOSTILE = ["", ".", "..", "/", "/etc/passwd", "a/../../b", "../a", "a/..", "a//b", "./a", "a/", "a\0b", "\0"]
PARTS = st.sampled_from(["..", ".", "", "a", "\0", "a" * 300, "~", "\\..", "\udcff"]) | st.text(max_size=8)


@given(st.lists(PARTS, max_size=6).map("/".join))
def test_a_name_that_is_taken_lies_inside(name: str) -> None:
    try:
        parts = relative_parts(name)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert "\0" not in name
    root = "/some/where"
    inside = os.path.normpath(os.path.join(root, *parts))
    assert inside.startswith(root + "/")
    assert inside == os.path.join(root, name)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no relative name"):
        relative_parts(name)
    (tmp_path / "in").mkdir()
    with Folder(tmp_path / "in") as folder:
        for use in (
            folder.open,
            folder.open_own,
            folder.remove,
            folder.remove_tree,
            folder.folder,
            folder.is_file,
        ):
            with pytest.raises(OSError, match="no name of a file"):
                use(name)
        with pytest.raises(OSError, match="no name of a file"):
            folder.move(name, folder, "x")
        with pytest.raises(OSError, match="no name of a file"):
            folder.move("x", folder, name or "..")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with something precious, and ``in`` beside it with links to both."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "thesis.txt").write_bytes(b"precious")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "folder").symlink_to(folder)
    (tmp_path / "in" / "file").symlink_to(folder / "thesis.txt")
    os.mkfifo(tmp_path / "in" / "pipe")
    return folder


def test_links_inside_are_not_followed(outside: Path, tmp_path: Path) -> None:
    with Folder(tmp_path / "in") as folder:
        uses: list[Callable[[], object]] = [
            lambda: folder.open("file"),
            lambda: folder.open_own("file"),
            lambda: folder.open("pipe"),
            lambda: folder.open_own("pipe"),
            lambda: folder.folder("folder"),
            lambda: folder.folder("folder", "x", make=True),
            lambda: open_part(tmp_path / "in" / "file"),
            lambda: check_part(tmp_path / "in" / "file"),
            lambda: check_part(tmp_path / "in" / "pipe"),
        ]
        for use in uses:
            with pytest.raises(OSError, match=r"no file|no folder"):
                use()
        for name in ("folder", "file"):
            assert not folder.is_file(name)
            folder.remove_tree(name)
        assert folder.names() == ["pipe"]
    assert (outside / "thesis.txt").read_bytes() == b"precious"
    assert os.listdir(outside) == ["thesis.txt"]


def test_a_tree_with_links_in_it_is_removed_and_what_they_name_stays(outside: Path, tmp_path: Path) -> None:
    with Folder(tmp_path) as folder:
        folder.remove_tree("in")
    assert not (tmp_path / "in").exists()
    assert (outside / "thesis.txt").read_bytes() == b"precious"


def test_what_is_moved_replaces_nothing_unasked(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    with Folder(tmp_path) as folder:
        with pytest.raises(FileExistsError):
            folder.move("a", folder, "b")
        with folder.folder("x", "y", make=True) as deep:
            folder.move("a", deep)
            assert deep.names() == ["a"]
            deep.move("a", folder, "b", replace=True)
            assert deep.names() == []
    assert (tmp_path / "b").read_bytes() == b"a"


def test_two_names_of_one_file_become_one(tmp_path: Path) -> None:
    """As a kill between the two steps of a move leaves them."""
    (tmp_path / "a").write_bytes(b"a")
    os.link(tmp_path / "a", tmp_path / "b")
    with Folder(tmp_path) as folder:
        folder.move("a", folder, "b", replace=True)
        assert folder.names() == ["b"]
