"""The walk through an archive."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image as Pillow

from clesr.engines.common.files import contains
from clesr.tools.archive.tree import ArchiveTree, InputFile, UnreadableEntry


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    root = tmp_path / "archive"
    root.mkdir()
    return root


def put(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def walk(tree: ArchiveTree) -> dict[str, str]:
    found = {}
    for entry in tree:
        assert isinstance(entry, InputFile), entry
        assert entry.name not in found
        found[entry.name] = entry.target
    return found


def test_a_tree_is_mirrored_in_natural_order(archive: Path) -> None:
    for name in (
        "b/10.png",
        "b/2.png",
        "a.mpeg",
        "c.tiff",
        "d.mkt",
        ".hidden/x.png",
        "b/.y.png",
        "notes.txt",
        "raw",
    ):
        put(archive / name)
    tree = ArchiveTree(archive, archive.parent / "out")
    assert list(walk(tree).items()) == [
        ("a.mpeg", "a.mkv"),
        ("c.tiff", "c.tif"),
        ("d.mkt", "d.mkv"),
        ("b/2.png", "b/2.png"),
        ("b/10.png", "b/10.png"),
    ]
    assert tree.left_out == {".txt": 1, "no suffix": 1}


def test_a_gif_of_several_images_becomes_a_video(archive: Path) -> None:
    first, second = (Pillow.new("L", (8, 8), level) for level in (10, 90))
    first.save(archive / "still.gif")
    first.save(archive / "moving.gif", save_all=True, append_images=[second])
    tree = ArchiveTree(archive, archive.parent / "out")
    assert walk(tree) == {"moving.gif": "moving.mkv", "still.gif": "still.png"}


def test_a_session_is_one_recording_its_raw(archive: Path) -> None:
    for name in ("p/s1/raw.mkv", "p/s1/sr.mkv", "p/s1/session.json", "q/raw.mkv"):
        put(archive / name)
    assert walk(ArchiveTree(archive, archive / "out")) == {"p/s1": "p/s1.mkv", "q/raw.mkv": "q/raw.mkv"}
    entry = next(iter(ArchiveTree(archive, archive / "out")))
    assert isinstance(entry, InputFile)
    assert entry.path == archive / "p" / "s1" / "raw.mkv"
    assert walk(ArchiveTree(archive / "p" / "s1", archive / "out")) == {"s1": "s1.mkv"}


def test_results_of_the_same_name_are_told_apart(archive: Path) -> None:
    for name in ("a.mpeg", "a.avi", "a/raw.mkv", "a/session.json", "b.png", "b.jpg"):
        put(archive / name)
    assert walk(ArchiveTree(archive, archive / "out")) == {
        "a": "a.session.mkv",
        "a.avi": "a.avi.mkv",
        "a.mpeg": "a.mpeg.mkv",
        "b.jpg": "b.jpg.png",
        "b.png": "b.png.png",
    }


def test_loops_of_links_end_and_nothing_comes_twice(archive: Path, tmp_path: Path) -> None:
    put(archive / "a" / "x.png")
    put(tmp_path / "elsewhere" / "y.png")
    (tmp_path / "elsewhere" / "back").symlink_to(archive)
    (tmp_path / "elsewhere" / "self").symlink_to(tmp_path / "elsewhere")
    (archive / "a" / "up").symlink_to(archive)
    (archive / "b").symlink_to(archive / "a")
    (archive / "c").symlink_to(tmp_path / "elsewhere")
    (archive / "d").symlink_to(tmp_path / "elsewhere")
    assert list(walk(ArchiveTree(archive, archive / "out"))) == ["a/x.png", "c/y.png"]


def test_the_output_folder_within_the_archive_is_passed_over(archive: Path) -> None:
    put(archive / "x.png")
    put(archive / "out" / "x.png")
    put(archive / "deep" / "link" / "z.png")
    (archive / "deep" / "out").symlink_to(archive / "out")
    assert list(walk(ArchiveTree(archive, archive / "out"))) == ["x.png", "deep/link/z.png"]
    assert contains(archive, archive / "deep")
    assert contains(archive, archive)
    assert not contains(archive / "out", archive)


def test_what_cannot_be_looked_at_is_listed(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(archive / "x.png")
    (archive / "gone.png").symlink_to(archive / "nothing.png")
    (archive / "locked").mkdir()
    listing = Path.iterdir

    def iterdir(self: Path) -> object:
        if self.name == "locked":
            raise PermissionError(13, "Permission denied")
        return listing(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    found = list(ArchiveTree(archive, archive / "out"))
    assert [(e.name, e.reason) for e in found if isinstance(e, UnreadableEntry)] == [
        ("gone.png", "cannot be read (No such file or directory)"),
        ("locked/", "the folder cannot be read (Permission denied)"),
    ]


def test_the_walk_looks_no_further_than_it_is_asked(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        put(archive / f"{number:02d}" / "x.png")
    looked = []
    listing = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: looked.append(self) or listing(self))  # type: ignore[func-returns-value]
    walker = iter(ArchiveTree(archive, archive / "out"))
    for _ in range(3):
        next(walker)
    assert len(looked) == 4  # the root and three folders


def test_sizes_and_times_are_those_of_the_files(archive: Path) -> None:
    path = put(archive / "x.png", "12345")
    os.utime(path, ns=(7, 1_000_000_007))
    entry = next(iter(ArchiveTree(archive, archive / "out")))
    assert isinstance(entry, InputFile)
    assert (entry.size, entry.mtime_ns) == (5, 1_000_000_007)
