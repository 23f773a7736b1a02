"""The sessions in a folder, by name and by nothing else."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from session_runs import frames, noise, record

from clesr.engines.common.errors import ClesrError
from clesr.engines.common.processor import NICE
from clesr.pipeline.session import sessions
from clesr.pipeline.session.format import SessionError
from clesr.pipeline.session.sessions import SessionListing
from clesr.pipeline.session.verify import verify


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded") / "one"
    record(folder, frames(range(5)))
    return folder


@pytest.fixture
def folder(tmp_path: Path, recorded: Path) -> Path:
    """A folder with two sessions, beside what is none, below one with a secret."""
    folder = tmp_path / "sessions"
    for number, name in enumerate(("old", "ünïcode & new")):
        shutil.copytree(recorded, folder / name)
        os.utime(folder / name, (number, number))
    (folder / "empty").mkdir()
    (folder / "file").write_text("none")
    shutil.copytree(recorded, tmp_path / "secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    shutil.copytree(recorded, folder / ".hidden")
    shutil.copytree(recorded, os.fsdecode(os.fsencode(folder) + b"/bytes\xff"))
    return folder


def test_sessions_are_listed_the_latest_first(folder: Path) -> None:
    assert SessionListing(folder).names() == ["ünïcode & new", "old"]


def test_they_say_what_they_are(folder: Path, recorded: Path) -> None:
    (folder / "old" / "session.json").write_text("{")
    new, old = SessionListing(folder).describe()
    assert new["totals"]["captured"] == 5
    assert new["closed"] is True
    assert new["bytes"] == sum(path.stat().st_size for path in recorded.iterdir())
    assert new["files"].keys() == {path.name for path in recorded.iterdir()}
    assert old.keys() == {"name", "error"}


def test_the_certificate_is_that_of_verify(folder: Path, recorded: Path) -> None:
    looked: list[int] = []
    found = SessionListing(folder).certificate("old", looked.append)
    assert found == verify(recorded).as_json() | {"session": "old"}
    assert found["complete"]
    assert max(looked) == 10


def test_files_and_images_are_as_they_were_recorded(folder: Path, recorded: Path) -> None:
    listing = SessionListing(folder)
    with listing.open("old", "raw.mkv") as file:
        assert file.read() == (recorded / "raw.mkv").read_bytes()
    images = list(listing.images("old", "raw"))
    assert [known["number"] for _, _, known in images] == list(range(5))
    assert [seconds for seconds, _, _ in images] == pytest.approx([0.04 * n for n in range(5)])
    for number, (_, image, _) in enumerate(images):
        assert np.array_equal(image, noise(number))


NAMES = (
    "", ".", "..", "../secret", "/", "old/../old", "old/", "link", "empty", "file", ".hidden", "none", "old\0",
    "bytes\udcff",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_no_other_name_leads_anywhere(folder: Path, name: str) -> None:
    listing = SessionListing(folder)
    calls: list[Callable[[], object]] = [
        lambda: listing.files(name),
        lambda: listing.open(name, "raw.mkv"),
        lambda: listing.certificate(name, lambda _images: None),
        lambda: next(listing.images(name, "sr")),
    ]
    for call in calls:
        with pytest.raises(SessionError):
            call()


@pytest.mark.parametrize(
    "file", ["", ".", "..", "../../secret/raw.mkv", "raw.mkv/", "none", "inner", "link.mkv", "\0"]
)
def test_no_other_file_is_opened(folder: Path, file: str) -> None:
    (folder / "old" / "inner").mkdir()
    (folder / "old" / "link.mkv").symlink_to(folder.parent / "secret" / "raw.mkv")
    with pytest.raises(SessionError):
        SessionListing(folder).open("old", file)


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="--sessions"):
        SessionListing(tmp_path / "none").names()


def test_what_its_listener_raises_ends_a_certificate(folder: Path) -> None:
    def stop(_images: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        SessionListing(folder).certificate("old", stop)


def _readers(program: str = "session.reading") -> list[int]:
    """The processes that decode a session for this one."""
    threads = Path("/proc/self/task").iterdir()
    children = [pid for thread in threads for pid in (thread / "children").read_text().split()]
    return [int(pid) for pid in children if program in Path(f"/proc/{pid}/cmdline").read_text()]


def test_sessions_are_decoded_by_a_process_that_lets_others_go_first(folder: Path) -> None:
    with closing(SessionListing(folder).images("old", "sr")) as images:
        assert next(images)[2]["number"] == 0
        (reader,) = _readers()
        tasks = [int(name) for name in os.listdir(f"/proc/{reader}/task")]
        ours = os.getsid(0)
        before = os.getpriority(os.PRIO_PROCESS, 0)
        assert {os.getpriority(os.PRIO_PROCESS, task) for task in tasks} == {min(before + NICE, 19)}
        assert os.getsid(reader) == ours, "in another its priority would count for nothing"
    assert not _readers()


def test_a_certificate_that_is_given_up_leaves_no_process(folder: Path) -> None:
    def give_up(_images: int) -> None:
        (reader,) = _readers()
        assert os.sched_getscheduler(reader) == os.SCHED_BATCH
        raise ClesrError("nobody waits")

    with pytest.raises(ClesrError, match="nobody waits"):
        SessionListing(folder).certificate("old", give_up)
    assert not _readers()


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program that reads sessions: it says nothing, and does nothing."""
    program = tmp_path / "hanging.py"
    program.write_text("import signal\nsignal.pause()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(sessions, "PROGRAM", program.stem)
    monkeypatch.setattr(sessions, "LOOK_S", 0.01)
    return program


@pytest.mark.usefixtures("hanging")
def test_whoever_waits_for_a_reader_that_hangs_may_go(folder: Path) -> None:
    asked = 0

    def go_on(*_images: int) -> None:
        nonlocal asked
        asked += 1
        if asked % 3 == 0:
            raise ClesrError("nobody waits")

    listing = SessionListing(folder)
    with pytest.raises(ClesrError, match="nobody waits"):
        listing.certificate("old", go_on)
    with pytest.raises(ClesrError, match="nobody waits"):
        next(listing.images("old", "raw", go_on))
    assert asked == 6
    assert not _readers("hanging")


@pytest.mark.usefixtures("hanging")
def test_a_reader_that_hangs_is_given_up(folder: Path) -> None:
    with pytest.raises(SessionError, match="could not be read for 1 s; see to its disk"):
        SessionListing(folder).certificate("old", lambda _images: None)
    assert not _readers("hanging")


def test_a_reader_that_is_slow_is_not_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = itertools.count()
    monkeypatch.setattr(sessions, "LOOK_S", 0.001)
    monkeypatch.setattr(sessions, "IDLE", 2)
    monkeypatch.setattr(sessions, "seconds_used", lambda _pid: next(used))
    assert SessionListing(folder).certificate("old", lambda _images: None)["complete"]
    assert next(used) > 2, "it was silent for longer"


def test_a_reader_that_dies_is_a_line(folder: Path, hanging: Path) -> None:
    imports = "import sys\nfrom multiprocessing.connection import Connection\n"
    sends = imports + "connection = Connection(int(sys.argv[1]))\nconnection.send(1)\n"
    hanging.write_text(sends + hanging.read_text())
    with closing(SessionListing(folder).images("old", "raw")) as images:
        next(images)
        for reader in _readers("hanging"):
            os.kill(reader, signal.SIGKILL)
        with pytest.raises(SessionError, match="has died; try again"):
            list(images)
