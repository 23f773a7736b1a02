"""Files in the cache folder: what was written comes back, anything else is refused and said."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from heard import hear
from hypothesis import given
from hypothesis import strategies as st
from waits import joined

from clesr.engines import cache
from clesr.engines.cache import Cache, cache_folder, pack, unpack

KEY = {"model": "ab12", "shape": "256x256", "gpu": "NVIDIA Test", "driver": "580.1"}
CONTENT = pack(KEY, b"an engine" * 9)


@pytest.fixture
def said() -> list[str]:
    return hear()


@pytest.fixture
def store(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "deep" / "folder", "the compiled engine", ".engine")


keys = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)


@given(key=keys, payload=st.binary(max_size=300))
def test_what_is_packed_comes_back(key: dict[str, str], payload: bytes) -> None:
    assert unpack(pack(key, payload)) == (key, payload)


@given(position=st.integers(0, len(CONTENT) - 1), change=st.integers(1, 255))
def test_any_altered_byte_is_seen(position: int, change: int) -> None:
    content = bytearray(CONTENT)
    content[position] ^= change
    with pytest.raises(ValueError, match=r"checksum|not written by this version"):
        unpack(bytes(content))


@given(kept=st.integers(0, len(CONTENT) - 1))
def test_a_cut_anywhere_is_seen(kept: int) -> None:
    with pytest.raises(ValueError):
        unpack(CONTENT[:kept])


@given(more=st.binary(min_size=1, max_size=100))
def test_what_is_appended_or_put_in_front_is_seen(more: bytes) -> None:
    with pytest.raises(ValueError):
        unpack(CONTENT + more)
    if not (more + CONTENT).startswith(CONTENT):
        with pytest.raises(ValueError):
            unpack(more + CONTENT)


@given(content=st.binary(max_size=200))
def test_no_other_bytes_are_taken(content: bytes) -> None:
    with pytest.raises(ValueError):
        unpack(content)
    with pytest.raises(ValueError):
        unpack(cache.MAGIC + content)


def test_a_file_is_found_by_its_whole_key(store: Cache, said: list[str]) -> None:
    assert store.read("densenet", KEY) is None
    assert store.write("densenet", KEY, b"1")
    assert store.write("densenet", KEY | {"driver": "590"}, b"2")
    assert store.read("densenet", KEY) == b"1"
    assert store.read("densenet", KEY | {"driver": "590"}) == b"2"
    assert store.read("densenet", KEY | {"driver": "600"}) is None
    assert said == []
    assert all(path.name.startswith("densenet-") for path in store.folder.iterdir())


def test_a_file_for_something_else_is_not_used(store: Cache, said: list[str]) -> None:
    store.write("densenet", KEY, b"1")
    other = KEY | {"gpu": "NVIDIA Other", "driver": "590"}
    os.replace(store.path("densenet", KEY), store.path("densenet", other))
    assert store.read("densenet", other) is None
    (line,) = said
    assert line.startswith(f"the compiled engine {store.path('densenet', other)} is not used: ")
    assert "made for gpu NVIDIA Test, not NVIDIA Other; made for driver 580.1, not 590" in line


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "it is empty"), (b"ELF", "not written by this version"), (CONTENT[:-9], "checksum does not fit")],
)
def test_a_bad_file_is_said_in_one_line_and_replaced(
    content: bytes, words: str, store: Cache, said: list[str]
) -> None:
    store.write("densenet", KEY, b"1")
    store.path("densenet", KEY).write_bytes(content)
    assert store.read("densenet", KEY) is None
    (line,) = said
    assert words in line
    assert "\n" not in line
    assert store.write("densenet", KEY, b"2")
    assert store.read("densenet", KEY) == b"2"
    assert len(said) == 1


def test_a_file_that_cannot_be_read_is_said(store: Cache, said: list[str]) -> None:
    store.path("densenet", KEY).mkdir(parents=True)
    assert store.read("densenet", KEY) is None
    assert "it cannot be read: Is a directory" in said[0]


@pytest.mark.parametrize("call", ["mkdir", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
def test_a_disk_that_takes_nothing_is_survived(
    call: str, number: int, store: Cache, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("densenet", KEY, b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*{"mkdir": (Path, call), "fsync": (os, call), "replace": (os, call)}[call], fail)
    assert not store.write("densenet", KEY, b"new")
    (line,) = said
    assert os.strerror(number) in line
    assert "set CLESR_CACHE_DIR to a folder with free space" in line
    assert store.read("densenet", KEY) == b"old"
    assert [path.suffix for path in store.folder.iterdir()] == [".engine"], "nothing half-written may stay"


def test_writers_and_readers_at_once_do_no_harm(store: Cache, said: list[str]) -> None:
    """Each has its own temporary file, so threads stand for processes."""
    payloads = [bytes([i]) * 200_000 for i in range(4)]
    wrong: list[object] = []

    def write(payload: bytes) -> None:
        for _ in range(10):
            store.write("densenet", KEY, payload)
            found = store.read("densenet", KEY)
            if found not in payloads:
                wrong.append(found)

    threads = [threading.Thread(target=write, args=(payload,)) for payload in payloads]
    for thread in threads:
        thread.start()
    for thread in threads:
        joined(thread)
    assert wrong == said == []
    assert len(list(store.folder.iterdir())) == 1


def test_the_folder_is_the_users_or_the_one_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CLESR_CACHE_DIR", raising=False)
    assert cache_folder().name == "clesr"
    monkeypatch.setenv("CLESR_CACHE_DIR", str(tmp_path))
    assert cache_folder() == tmp_path
