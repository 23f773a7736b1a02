"""The journal of an archive and the lock on it, also after a kill."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from heard import hear
from waits import PATIENCE_S, line_from

from clesr.engines.common.errors import SinkError
from clesr.pipeline.prepare import IntensityWindow, Roi
from clesr.tools.archive.journal import FileStatus, Journal, JournalEntry
from clesr.tools.archive.lock import locked
from clesr.tools.archive.settings import Settings

SETTINGS = Settings(scale=2, model="fast", model_sha256="ab")
HOLD = """
import sys, time
from pathlib import Path
from clesr.tools.archive.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def entry(name: str, status: FileStatus = FileStatus.DONE, **more: object) -> JournalEntry:
    return JournalEntry(input=name, status=status, settings=SETTINGS.identity, **more)  # type: ignore[arg-type]


def test_the_latest_entry_of_a_name_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.begin(SETTINGS.recorded(), SETTINGS.identity, chosen=True)
    journal.add(entry("a", FileStatus.FAILED))
    journal.add(entry("ä/b", frames=3, engines=("x", "y")))
    journal.add(entry("a", frames=2))
    for opened in (journal, Journal(tmp_path)):
        assert opened.find("a") == entry("a", frames=2)
        assert opened.find("ä/b") == entry("ä/b", frames=3, engines=("x", "y"))
        assert opened.find("c") is None
        opened.close()
    again = Journal(tmp_path)
    assert again.chosen == {2: "fast"}
    again.close()


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_cut_last_line_loses_that_line_alone(tmp_path: Path, cut: int) -> None:
    journal = Journal(tmp_path)
    for name in "abc":
        journal.add(entry(name))
    journal.close()
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:-cut])
    journal = Journal(tmp_path)
    assert journal.find("b") == entry("b")
    assert (journal.find("c") is None) == (cut > 1)  # only the line's end was lost
    assert journal.damaged == (cut > 1)
    journal.add(entry("d"))
    journal.close()
    journal = Journal(tmp_path)
    assert [name for name in "abcd" if journal.find(name)] == (
        ["a", "b", "c", "d"] if cut == 1 else ["a", "b", "d"]
    )
    journal.close()


def test_a_ledger_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "archive.jsonl").write_text(
        '{"run": {"format": 2, "chosen": false, "settings": {"scale": 2}}}\n'
    )
    with pytest.raises(SinkError, match="has format 2; this clesr knows 1; update clesr"):
        Journal(tmp_path)


def test_what_decides_pixels_decides_the_identity(tmp_path: Path) -> None:
    changes: list[dict[str, object]] = [
        {"scale": 4}, {"model_sha256": "cd"}, {"precision": "bf16"}, {"codec": "h264-lossless"}, {"piece": 7},
    ]  # fmt: skip
    assert len({SETTINGS.identity, *(replace(SETTINGS, **c).identity for c in changes)}) == 6  # type: ignore[arg-type]
    same = replace(SETTINGS, threads=3, model="/elsewhere/fast")
    assert same.identity == SETTINGS.identity
    assert SETTINGS.key("1", "a") != SETTINGS.key("1", "b") != SETTINGS.key("2", "b")


@pytest.mark.parametrize(
    ("changed", "identity", "key"),
    [
        ({}, "a68168f8d6506924fdf61cb79415da48", "1ae1993177322246969144a28bc1638e"),
        (
            {"denoise": 1.5, "temporal": "off", "consistent": True, "threads": 3, "overwrite": True},
            "12ca8af23b0f9058aa6229a968cd6bfd", "2600fcdc4fe626498ff637900be35bfc",
        ),
        (
            {"roi": Roi(1, 2, 3, 4), "window": IntensityWindow("fixed", 1.5, 9.0), "fps": 12.5, "channel": 1,
             "track": 2, "range": "full", "deinterlace": True, "frames": 7, "piece": 9, "codec": "hevc"},
            "7b9250c95b2f529148ee2a49db6252c7", "4fbe90ff7e491a8ab2be7a049f37f6cb",
        ),
        (
            {"model": "/a/own.safetensors", "engine": "torch", "device": "cpu", "precision": "bf16", "plane": 3,
             "cores": "/x/y.cores", "cores_sha256": "cd"},
            "90461b1540e57666f0d8862deef1c804", "765e4433bb562dfd8a52cc2157fcc9c0",
        ),
    ],
)  # fmt: skip
def test_finished_work_is_known_by_what_it_was_known_by(
    changed: dict[str, Any], identity: str, key: str
) -> None:
    """Journals of before hold."""
    settings = replace(SETTINGS, **changed)
    assert (settings.identity, settings.key("ef", "a/b.mkv")) == (identity, key)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    folder = tmp_path / "out" / ".archive"
    folder.mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder / "lock")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert line_from(process.stdout) == "held\n"
    yield process
    process.kill()
    process.communicate(timeout=PATIENCE_S)


def test_a_second_run_is_refused_and_a_killed_one_leaves_no_lock(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    path = tmp_path / "out" / ".archive" / "lock"
    said = hear()
    with pytest.raises(
        SinkError, match=rf"another run \(process {holder.pid} on .*\) writes to {tmp_path}/out; wait"
    ):
        locked(path).__enter__()
    holder.kill()
    holder.wait(PATIENCE_S)
    with locked(path):
        assert path.read_text().startswith("process ")
    assert said == []
