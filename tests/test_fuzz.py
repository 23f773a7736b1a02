"""What has been found once is not found again; and the fuzzer finds what is there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.findings import Finding, read
from fuzz.run import add
from fuzz.targets import CORPUS, TARGETS
from fuzz.watch import Result, watch

from clesr.pipeline.sources.registry import SOURCES

TESTS = Path(__file__).parent
ROOT, README = TESTS.parent, TESTS / "fuzz" / "README.md"
PARSES = re.compile(
    r"\b(?:parse_json|parse_toml|read_toml|read_bounded|json\.loads|pickle\.loads|torch\.load|dcmread|av\.open|TiffFile"
    r"|unpack_from|struct\.unpack|frombuffer|imdecode|imread|urlsplit|load_certificate|SimpleCookie|getresponse|do_GET"
    r"|CodecContext\.create|recv_multipart|safetensors\.\w+\.load)\(|event_information|ElementTree\.|\.receive\("
)


@pytest.mark.slow
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


def test_whatever_parses_bytes_from_outside_has_a_target() -> None:
    """Or a reason in the second table."""
    tables = README.read_text().split("## What comes from outside")[1].split("Of these bytes somebody else")
    named = {name for table in tables for name in re.findall(r"`([\w/]+\.py)`", table)}
    folders = (ROOT / folder for folder in ("engines", "pipeline", "tools"))
    paths = [path for folder in folders for path in folder.rglob("*.py")]
    parsing = {str(path.relative_to(ROOT)) for path in paths if PARSES.search(path.read_text())}
    assert len(parsing) > 50
    assert parsing <= named
    assert all((ROOT / name).is_file() for name in named)


def test_every_source_and_every_target_is_in_the_table() -> None:
    rows = [row.split("|") for row in README.read_text().splitlines() if row.startswith("| ")]
    sources = {name for row in rows for name in re.findall(r"`([^`]+)`", row[1])}
    assert sources >= set(SOURCES.own)
    targets = [name for row in rows if len(row) == 5 for name in re.findall(r"`([^`]+)`", row[3])]
    assert {name for name in targets if name in TARGETS} == set(TARGETS)


def test_totals_grow_by_runs_with_other_seeds_alone(tmp_path: Path) -> None:
    path = tmp_path / "totals.json"
    add(path, 1, [Result("a", 5, 1.0, 1.0, 0, False), Result("b", 7, 1.0, 1.0, 1, False)])
    add(path, 2, [Result("a", 3, 1.0, 1.0, 0, False)])
    rows = {row["target"]: row for row in json.loads(path.read_text())["targets"]}
    assert rows["a"] == {"target": "a", "inputs": 8, "findings": 0, "seeds": [1, 2]}
    assert (rows["b"]["inputs"], rows["b"]["findings"]) == (7, 1)
    with pytest.raises(ValueError, match="seed 2"):
        add(path, 2, [Result("a", 3, 1.0, 1.0, 0, False)])
    assert json.loads(path.read_text())["targets"][0]["inputs"] == 8


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
