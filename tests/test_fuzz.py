"""What has been found once is not found again; and the fuzzer finds what is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.findings import Finding, read
from fuzz.targets import CORPUS, TARGETS
from fuzz.watch import Result, watch

TESTS = Path(__file__).parent


def test_what_was_found_once_is_mended() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.replay"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS / "helpers"))),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tried = [line.split() for line in done.stdout.splitlines()]
    assert [words[0] for words in tried] == [f"{name}:" for name in TARGETS]
    kept = [len(list((CORPUS / name).glob("*"))) for name in TARGETS]
    assert all(int(words[1]) >= count for words, count in zip(tried, kept, strict=True))


def test_the_corpus_is_small() -> None:
    sizes = {path: path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()}
    assert max(sizes.values()) < 20_000
    assert sum(sizes.values()) < 1_000_000
    assert {path.parent.name for path in sizes} <= {*TARGETS, "session"}


def tried(tmp_path: Path, name: str, inputs: int, seconds: float = 60) -> tuple[Result, list[Finding]]:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    result = watch(
        f"fuzz.planted.{name}",
        inputs=inputs,
        seconds=seconds,
        seed="1",
        scratch=scratch,
        findings=tmp_path,
        most=2,
    )
    return result, read(tmp_path)


def test_a_target_without_faults_has_no_findings(tmp_path: Path) -> None:
    result, found = tried(tmp_path, "Fine", 5000)
    assert (result.inputs, result.findings, result.given_up, found) == (5000, 0, False, [])


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("Rare", "error", "KeyError"),
        ("Greedy", "memory", "MemoryError"),
        ("Growing", "memory", "MB more"),
        ("Dying", "death", "SIGSEGV"),
        pytest.param("Stuck", "hang", "more than 5 s", marks=pytest.mark.slow),
        pytest.param("Deaf", "death", "does not react", marks=pytest.mark.slow),
    ],
)
def test_a_fault_is_found_and_its_input_kept(tmp_path: Path, name: str, kind: str, text: str) -> None:
    result, found = tried(tmp_path, name, 40)
    assert result.findings == len(found) >= 1
    assert {finding.kind for finding in found} == {kind}
    assert text in found[0].text
    kept = Path(found[0].file).read_bytes()
    assert len(kept) == found[0].size
    assert kept[:4] != b"fine"
