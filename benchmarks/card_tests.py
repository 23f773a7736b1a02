"""The tests marked ``cuda`` and the kernels', on a GPU, as many files at once as there are processors for.

python benchmarks/card_tests.py [--limit SECONDS] [--dry]

All must run: a test that is skipped for another reason than what a GPU machine need not have is a failure. With
--dry some of those marked ``cuda`` alone, which skip.
"""

from __future__ import annotations

import os
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import STDOUT
from time import monotonic

import click
from bare import ROOT, run_within
from stage import folder, leave, tell

ABREAST = max(2, len(os.sched_getaffinity(0)) // 2)  # each compiles kernels
LACKING = ("CLESR_DATA", "torch-tensorrt is not installed")  # what skips may be about


def test_files(dry: bool) -> list[list[str]]:
    """What pytest is given, a process each: the files with tests marked ``cuda``, and the kernels'; dry, the first of
    the former alone. Not the one that compiles for cards that are not here."""
    engines = ROOT / "tests" / "engines"
    marked = sorted(p for p in engines.rglob("test_*.py") if "mark.cuda" in p.read_text())
    own = engines / "backends" / "cuda" / "kernels"
    kernels = sorted(p for p in own.glob("test_*.py") if p.name != "test_compile.py")
    if dry:
        return [["-m", "cuda", str(marked[0])]]
    return [["-m", "cuda", str(p)] for p in marked] + [[str(p)] for p in kernels]


def run_files(dry: bool, seconds: float) -> tuple[Counter[str], list[str]]:
    """How many tests ran and how they ended, and what is wrong, a line a file. After ``seconds`` the files that are not
    done are given up."""
    end = monotonic() + seconds
    tests = ROOT / "tests"
    paths = os.pathsep.join(filter(None, [str(tests), str(tests / "helpers"), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": paths} | ({} if dry else {"CLESR_REQUIRE_CUDA": "1"})
    options = [
        "-m",
        "pytest",
        "-c",
        str(Path(__file__).with_name("gpu-tests.ini")),
        "--rootdir",
        str(ROOT),
        "-q",
    ]
    counts: Counter[str] = Counter()
    wrong: list[str] = []

    def run(selected: list[str], cache: str) -> None:
        name = Path(selected[-1]).stem
        report, log = folder() / f"{name}.xml", folder() / f"{name}.log"
        report.unlink(missing_ok=True)
        command = [sys.executable, *options, f"--junit-xml={report}", *selected]
        with log.open("w") as file:
            own = environment | {"CLESR_CACHE_DIR": cache}
            code = run_within(command, max(0.0, end - monotonic()), env=own, stdout=file, stderr=STDOUT)
        found = count_tests(report)
        counts.update(found)
        causes = failures(report) + ([] if dry else unexplained_skips(report))
        line = f"{name}: {in_words(found)}"
        if code != 0 or causes:
            causes = causes or ["too late" if code is None else f"status {code}, see {log.name}"]
            line = f"{name}: {'; '.join(causes)}"
            wrong.append(line)
        tell(line, file=name, status=code, **found)

    with tempfile.TemporaryDirectory() as cache, ThreadPoolExecutor(1 if dry else ABREAST) as pool:
        list(pool.map(lambda selected: run(selected, cache), test_files(dry)))
    return counts, wrong


def in_words(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {what}" for what, n in counts.items() if n or what == "tests")


def unexplained_skips(report: Path) -> list[str]:
    """Why tests were skipped, but for what a GPU machine need not have."""
    if not report.exists():
        return []
    reasons = {skip.get("message", "") for skip in ElementTree.parse(report).iter("skipped")}
    return sorted(reason for reason in reasons if not any(words in reason for words in LACKING))


def failures(report: Path) -> list[str]:
    """The tests that failed, each with the first line of why."""
    if not report.exists():
        return []
    found = []
    for case in ElementTree.parse(report).iter("testcase"):
        for bad in (*case.iter("failure"), *case.iter("error")):
            found.append(f"{case.get('name')}: {bad.get('message', '').strip().split(chr(10))[0]}")
    return found


def count_tests(report: Path) -> dict[str, int]:
    """``tests``, ``failures``, ``errors`` and ``skipped`` of a JUnit file; zeros where there is none."""
    counts = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    if report.exists():
        for suite in ElementTree.parse(report).iter("testsuite"):
            counts = {what: count + int(suite.get(what, 0)) for what, count in counts.items()}
    return counts


@click.command()
@click.option(
    "--limit", type=float, default=140.0, show_default=True, help="Seconds after which files are given up."
)
@click.option("--dry", is_flag=True, help="Those marked cuda alone, which skip on a processor.")
def main(limit: float, dry: bool) -> None:
    """Run, print and write tests.json; exit 1 where one failed, was skipped or came too late."""
    counts, wrong = run_files(dry, limit)
    headline = [in_words(counts), *sorted(wrong)]
    sys.exit(leave("tests", not wrong and counts["tests"] > 0, headline, dry=dry, counts=counts))


if __name__ == "__main__":
    main()
