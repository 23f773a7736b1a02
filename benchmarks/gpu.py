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
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import click
from cards import RIVALS
from common import ROOT
from rich.console import Console
from rich.table import Table
from rich.text import Text
from stage import folder, leave

HERE = Path(__file__).resolve().parent
LIMITS = {
    "tests": 120.0,
    "parity": 100.0,
    "cards": 110.0,
    "kernels": 80.0,
    "steady": 40.0,
    "torch-compile": 200.0,
    "tensorrt": 200.0,
}  # seconds of each stage, the most important first
TOTAL = 525.0  # seconds of all together but the training: what a stage leaves over is for the last ones
DRY_LIMIT = 280.0  # of each: the interpreter is slow, and nothing is timed
LEAST = 10.0  # seconds without which no stage is begun
GRACE = 15.0  # seconds that a stage may take to finish what it has begun at its own limit


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
            "tests": ["gpu", "--run-tests"],
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


def run_within(command: Sequence[str], seconds: float) -> int | None:
    """The exit status of ``command``; None where it and all it started were ended after ``seconds``."""
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
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


def run_tests(dry: bool) -> int:
    """The tests marked ``cuda`` and the kernels', all of which must run; dry, those marked alone, which may skip."""
    marked = sorted(
        str(p) for p in (ROOT / "tests" / "engines").rglob("test_*.py") if "mark.cuda" in p.read_text()
    )
    kernels = str(ROOT / "tests" / "engines" / "kernels")
    chosen = [["-m", "cuda", *marked], *([] if dry else [[kernels]])]
    paths = os.pathsep.join(filter(None, [str(ROOT / "tests"), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": paths} | ({} if dry else {"CLESR_REQUIRE_CUDA": "1"})
    report = folder() / "tests.xml"
    options = ["-c", str(HERE / "gpu-tests.ini"), "--rootdir", str(ROOT), "-q", f"--junit-xml={report}"]
    counts: Counter[str] = Counter()
    failed = False
    for selected in chosen:
        command = [sys.executable, "-m", "pytest", *options, *selected]
        failed |= subprocess.run(command, cwd=ROOT, env=environment).returncode != 0
        counts.update(count_tests(report))
        report.unlink(missing_ok=True)
    passed = not failed and counts["tests"] > 0 and (dry or not counts["skipped"])
    return leave(
        "tests", passed, [", ".join(f"{n} {what}" for what, n in counts.items())], dry=dry, counts=counts
    )


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
@click.option("--run-tests", "testing", is_flag=True, hidden=True)
def main(dry: bool, train: float, only: tuple[str, ...], testing: bool) -> None:
    """Run the stages, print what they found; exit 1 where one did not pass."""
    if testing:
        sys.exit(run_tests(dry))
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
