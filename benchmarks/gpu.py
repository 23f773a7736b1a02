"""Everything that needs a GPU, one stage after the other: see gpu.sh.

Each stage is a process with a time limit of its own; one that fails or runs late does not stop the others. It leaves a
JSON file with its headline, of which the closing table is made.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import STDOUT
from time import monotonic, perf_counter
from typing import Any

import click
from cards import RIVALS
from common import ROOT
from rich.console import Console
from rich.table import Table
from rich.text import Text
from stage import folder, leave

HERE = Path(__file__).resolve().parent
LIMITS = {
    "tests": 140.0,
    "parity": 90.0,
    "cards": 110.0,
    "kernels": 70.0,
    "steady": 40.0,
    "torch-compile": 200.0,
    "tensorrt": 200.0,
}  # seconds of each stage, the most important first
TOTAL = 525.0  # seconds of all together but the training: what a stage leaves over is for the last ones
DRY_LIMIT = 600.0  # of each: the interpreter is slow, and nothing is timed
LEAST = 10.0  # seconds without which no stage is begun
GRACE = 15.0  # seconds that a stage may take to finish what it has begun at its own limit
ABREAST = max(2, len(os.sched_getaffinity(0)) // 2)  # test files at once: each compiles kernels
LACKING = ("CLESR_DATA", "torch-tensorrt is not installed")  # what skips may be about
LOGGED = 4000  # characters of a failed file's log that are shown


@dataclass(frozen=True, slots=True)
class Stage:
    """``command`` writes NAME.json; it is ended after ``limit`` seconds."""

    name: str
    command: list[str]
    limit: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a stage ended: ``passed``, ``FAILED`` or ``LATE``, after how many seconds, and what it has to say."""

    name: str
    status: str
    seconds: float
    headline: list[str]

    @property
    def passed(self) -> bool:
        return self.status == "passed"


def stages(*, dry: bool, train: float, only: Sequence[str]) -> list[Stage]:
    """What is to be run; ``train`` minutes of the paper's schedule, 0 for none."""
    found = []
    for name, usual in LIMITS.items():
        limit = DRY_LIMIT if dry else usual
        bounded = ["--limit", str(limit - GRACE)]
        words = {
            "tests": ["gpu", "--run-tests", str(limit - GRACE)],
            "parity": ["parity", *bounded],
            "cards": ["cards", *bounded],
        }
        rival = ["cards", "--rival", name] if name in RIVALS else [name]
        found.append(Stage(name, _command(*words.get(name, rival), dry=dry), limit))
    if train:
        found.append(Stage("paper", _command("paper", "--minutes", str(train), dry=dry), 60 * train + 60))
    return [stage for stage in found if not only or stage.name in only]


def _command(script: str, *arguments: str, dry: bool) -> list[str]:
    return [sys.executable, str(HERE / f"{script}.py"), *arguments, *(["--dry"] if dry else [])]


def perform_all(todo: Sequence[Stage], total: float) -> list[Outcome]:
    """Every stage in turn; together at most ``total`` seconds, but for the training, which was asked for by itself."""
    outcomes = []
    spent = 0.0
    for stage in todo:
        limit = stage.limit if stage.name == "paper" else min(stage.limit, total - spent)
        if limit < LEAST:
            outcomes.append(Outcome(stage.name, "LATE", 0.0, ["no time was left for it"]))
            continue
        outcomes.append(perform(replace(stage, limit=limit)))
        spent += outcomes[-1].seconds
    return outcomes


def perform(stage: Stage) -> Outcome:
    """Run ``stage`` and read what it left."""
    left = folder() / f"{stage.name}.json"
    left.unlink(missing_ok=True)
    start = perf_counter()
    click.echo(f"--- {stage.name}, at most {stage.limit:.0f} s")
    code = run_within(stage.command, stage.limit)
    seconds = perf_counter() - start
    try:
        result = json.loads(left.read_text())
        headline, passed = result["headline"], result["passed"] and code == 0
    except (OSError, ValueError, KeyError):
        headline, passed = ["it left no result"], False
    status = "LATE" if code is None else "passed" if passed else "FAILED"
    return Outcome(stage.name, status, seconds, headline)


def run_within(command: Sequence[str], seconds: float, **options: Any) -> int | None:
    """The exit status of ``command``; None where it and all it started were ended after ``seconds``. ``options`` are
    those of subprocess.Popen."""
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, **options)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def summary(outcomes: Sequence[Outcome]) -> Table:
    """The closing table."""
    table = Table(box=None, pad_edge=False)
    for column in ("stage", "", "s", "what it found"):
        table.add_column(column, vertical="top")
    for outcome in outcomes:
        text = Text("\n".join(outcome.headline))
        table.add_row(outcome.name, outcome.status, f"{outcome.seconds:.0f}", text)
    return table


def test_files(dry: bool) -> list[list[str]]:
    """What pytest is given, a process each: the files with tests marked ``cuda``, and the kernels'; dry, the first
    alone. Not the one that compiles for cards that are not here."""
    engines = ROOT / "tests" / "engines"
    marked = sorted(p for p in engines.rglob("test_*.py") if "mark.cuda" in p.read_text())
    own = engines / "backends" / "cuda" / "kernels"
    kernels = sorted(p for p in own.glob("test_*.py") if p.name != "test_compile.py")
    return [["-m", "cuda", str(p)] for p in marked] + [[str(p)] for p in kernels if not dry]


def run_tests(dry: bool, seconds: float) -> int:
    """The tests marked ``cuda`` and the kernels', all of which must run, as many files at once as there are processors
    for; dry, those marked alone, which may skip. After ``seconds`` the files that are not done are given up.

    The kernels' plans that are measured meanwhile, on a card with much to do, are not kept.
    """
    end = monotonic() + seconds
    tests = ROOT / "tests"
    paths = os.pathsep.join(filter(None, [str(tests), str(tests / "helpers"), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": paths} | ({} if dry else {"CLESR_REQUIRE_CUDA": "1"})
    options = ["-m", "pytest", "-c", str(HERE / "gpu-tests.ini"), "--rootdir", str(ROOT), "-q"]
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
        counts.update(count_tests(report))
        skips = [] if dry else unexplained_skips(report)
        if code != 0 or skips:
            wrong.append(f"{name}: {'; '.join(skips) or ('too late' if code is None else f'see {log.name}')}")
            click.echo(log.read_text()[-LOGGED:])

    with tempfile.TemporaryDirectory() as cache, ThreadPoolExecutor(1 if dry else ABREAST) as pool:
        list(pool.map(lambda selected: run(selected, cache), test_files(dry)))
    headline = [", ".join(f"{n} {what}" for what, n in counts.items()), *sorted(wrong)]
    return leave("tests", not wrong and counts["tests"] > 0, headline, dry=dry, counts=counts)


def unexplained_skips(report: Path) -> list[str]:
    """Why tests were skipped, but for what a GPU machine need not have."""
    if not report.exists():
        return []
    reasons = {skip.get("message", "") for skip in ElementTree.parse(report).iter("skipped")}
    return sorted(reason for reason in reasons if not any(words in reason for words in LACKING))


def count_tests(report: Path) -> dict[str, int]:
    """``tests``, ``failures``, ``errors`` and ``skipped`` of a JUnit file; zeros where there is none."""
    counts = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    if report.exists():
        for suite in ElementTree.parse(report).iter("testsuite"):
            counts = {what: count + int(suite.get(what, 0)) for what, count in counts.items()}
    return counts


@click.command()
@click.option(
    "--dry", is_flag=True, help="Everything at a tiny size on a processor: checks the script, not the GPU."
)
@click.option(
    "--train", type=click.FloatRange(min=0), default=0, metavar="MINUTES", help="Then train by the paper."
)
@click.option("--only", multiple=True, type=click.Choice([*LIMITS, "paper"]), help="These stages alone.")
@click.option("--run-tests", "testing", type=float, hidden=True)
def main(dry: bool, train: float, only: tuple[str, ...], testing: float | None) -> None:
    """Run the stages, print what they found; exit 1 where one did not pass."""
    if testing is not None:
        sys.exit(run_tests(dry, testing))
    todo = stages(dry=dry, train=train, only=only)
    outcomes = perform_all(todo, DRY_LIMIT * len(todo) if dry else TOTAL)
    console = Console(highlight=False, width=132)
    console.print(summary(outcomes))
    passed = all(outcome.passed for outcome in outcomes)
    total = sum(outcome.seconds for outcome in outcomes)
    console.print(f"{'all passed' if passed else 'NOT ALL PASSED'} in {total:.0f} s; results in {folder()}")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
