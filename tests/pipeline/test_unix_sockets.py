"""What listens at a name in the file system takes the place of nothing but an abandoned socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clesr.engines.common.errors import ClesrError
from clesr.pipeline.sinks.registry import open_sink
from clesr.pipeline.sources.registry import open_source

USES: dict[str, Callable[[Path], object]] = {
    "sink": lambda path: open_sink(f"zmq+ipc://{path}"),
    "source": lambda path: open_source(f"zmq+ipc://{path}?bind=1&socket=pull"),
}


@pytest.fixture
def name(tmp_path: Path) -> Path:
    return tmp_path / "in.mkv"


@pytest.fixture(params=USES)
def use(request: pytest.FixtureRequest) -> Callable[[Path], object]:
    return USES[request.param]


def write(path: Path) -> None:
    path.write_bytes(b"precious")


def link(path: Path) -> None:
    path.with_name("precious").write_bytes(b"precious")
    path.symlink_to("precious")


@pytest.mark.parametrize("make", [write, link, os.mkfifo, os.mkdir])
def test_what_is_there_stays(
    make: Callable[[Path], object], name: Path, use: Callable[[Path], object]
) -> None:
    make(name)
    before = os.lstat(name)
    with pytest.raises(ClesrError, match=r"in\.mkv"):
        use(name)
    assert (os.lstat(name).st_ino, os.lstat(name).st_mode) == (before.st_ino, before.st_mode)


def test_a_socket_at_which_another_program_listens_stays(name: Path, use: Callable[[Path], object]) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(name))
        other.listen(1)
        with pytest.raises(ClesrError, match=r"in\.mkv"):
            use(name)
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(name))


def test_an_abandoned_socket_is_replaced_and_gone_afterwards(
    name: Path, use: Callable[[Path], object]
) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(name))
    opened = use(name)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(name))
    opened.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 60
    while name.exists():  # a source's thread does it
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_has_taken_its_name_since_stays(name: Path, use: Callable[[Path], object]) -> None:
    opened = use(name)
    name.unlink()
    write(name)
    opened.close()  # type: ignore[attr-defined]
    assert name.read_bytes() == b"precious"
