"""Everything that needs a GPU, one stage after the other: see gpu.sh.

Each stage is a process with a time limit of its own and needs nothing of another; one that fails or runs late does not
stop the others. It writes what it finds row by row, each when it is known. This process repeats the rows, and after
each stage puts everything into one archive, so that a run that is cut short has still told what it found. It needs
nothing but Python itself.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from subprocess import STDOUT
from time import perf_counter
from typing import Any

from bare import card_says, run_within
from stage import RESULTS, ROWS, STAGE, append_row

HERE = Path(__file__).resolve().parent
TOTAL = 525.0  # seconds of all together but the training: what a stage leaves over is for the last ones
DRY_LIMIT = 600.0  # of each: the interpreter is slow, and nothing is timed
LEAST = 10.0  # seconds without which no stage is begun
GRACE = 15.0  # seconds that a stage may take to finish what it has begun at its own limit
LARGEST = 15 << 20  # bytes of the archive
LONGEST = 150  # characters of a row that is printed
NEEDED = ("torch", "triton", "numpy", "safetensors", "msgspec", "cv2", "click", "rich", "pytest")
OPTIONAL = ("av", "zmq", "pycuda", "torch_tensorrt", "tensorrt")
ENDING = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}


@dataclass(frozen=True, slots=True)
class Stage:
    """``command`` writes NAME.json and is ended after ``limit`` seconds; ``characters`` of its rows are shown."""

    name: str
    command: list[str]
    limit: float
    characters: int


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


# Seconds and characters of each, and its command; the most important first, the tests, which are the longest, last.
STAGES: dict[str, tuple[float, int, list[str]]] = {
    "smoke": (60, 1800, ["smoke"]),
    "kernels": (60, 1500, ["kernels"]),
    "parity": (90, 900, ["parity", "--limit"]),
    "bench": (45, 900, ["cards", "--limit"]),
    "torch-graph": (30, 500, ["cards", "--rival", "torch-graph"]),
    "torch-compile": (100, 500, ["cards", "--rival", "torch-compile"]),
    "tensorrt": (200, 500, ["cards", "--rival", "tensorrt"]),
    "steady": (40, 400, ["steady"]),
    "slots": (30, 300, ["kernels", "--part", "slots"]),
    "rewrites": (50, 500, ["kernels", "--part", "rewrites"]),
    "sizes": (60, 600, ["cards", "--sizes", "--limit"]),
    "tests": (140, 800, ["card_tests", "--limit"]),
}
PAPER = "paper"


def stages(*, dry: bool, train: float, only: Sequence[str]) -> list[Stage]:
    """What is to be run; ``train`` minutes of the paper's schedule, 0 for none."""
    found = []
    for name, (usual, characters, (script, *words)) in STAGES.items():
        limit = DRY_LIMIT if dry else usual
        own = [str(limit - GRACE)] if words[-1:] == ["--limit"] else []
        found.append(Stage(name, _command(script, *words, *own, dry=dry), limit, characters))
    if train:
        command = _command("paper", "--minutes", str(train), dry=dry)
        found.append(Stage(PAPER, command, 60 * train + 60, 300))
    return [stage for stage in found if not only or stage.name in only]


def _command(script: str, *arguments: str, dry: bool) -> list[str]:
    return [sys.executable, str(HERE / f"{script}.py"), *arguments, *(["--dry"] if dry else [])]


class Results:
    """Where results go: rows and the archive to ``out``, what stages leave to ``work``."""

    def __init__(self, out: Path, work: Path) -> None:
        self.work, self.rows, self.archive = work, out / "rows.jsonl", out / "results.tar.gz"
        for path in (out, work):
            path.mkdir(parents=True, exist_ok=True)
        self.rows.write_bytes(b"")
        self._read = 0

    def note(self, text: str, **row: Any) -> None:
        """A row of this process, behind what its stage has told."""
        before = self.new_rows()
        append_row(self.rows, text=text, **row)
        for line in (*before, *self.new_rows()):
            say(line)

    def new_rows(self) -> list[str]:
        """The texts of the whole lines that came since."""
        with self.rows.open("rb") as file:
            file.seek(self._read)
            *lines, rest = file.read().split(b"\n")
            self._read = file.tell() - len(rest)
        return [str(json.loads(line)["text"]) for line in lines]

    def keep(self) -> None:
        """Make the archive anew: all that was found, the smallest first, as far as there is room. It is whole at any
        moment."""
        partial = self.archive.with_suffix(".partial")
        own = (partial, self.archive)
        found = sorted({self.rows, *self.work.iterdir()} - set(own), key=lambda path: path.stat().st_size)
        room = LARGEST
        with tarfile.open(partial, "w:gz") as archive:
            for path in found:
                if path.is_file() and (room := room - path.stat().st_size) >= 0:
                    archive.add(path, path.name)
        partial.replace(self.archive)


def say(text: str) -> None:
    """A line on standard output; where nobody reads it any more the results still come."""
    with contextlib.suppress(OSError):
        print(text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}...", flush=True)


def perform_all(todo: Sequence[Stage], total: float, results: Results) -> Iterator[Outcome]:
    """Every stage in turn; together at most ``total`` seconds, but for the training, which was asked for by itself."""
    spent = 0.0
    for stage in todo:
        limit = stage.limit if stage.name == PAPER else min(stage.limit, total - spent)
        if limit < LEAST:
            outcome = Outcome(stage.name, "LATE", 0.0, ["no time was left for it"])
        else:
            outcome = perform(replace(stage, limit=limit), results)
            spent += outcome.seconds
        _close(outcome, results)
        yield outcome


def _close(outcome: Outcome, results: Results) -> None:
    """Say how a stage ended, and keep what it found."""
    why = "" if outcome.passed else f": {'; '.join(outcome.headline)}"
    text = f"= {outcome.name} {outcome.status}, {outcome.seconds:.0f} s{why}"
    results.note(text, stage=outcome.name, status=outcome.status, seconds=round(outcome.seconds, 1))
    results.keep()


def perform(stage: Stage, results: Results) -> Outcome:
    """Run ``stage``, show its rows as they come, and read what it left."""
    left, log = results.work / f"{stage.name}.json", results.work / f"{stage.name}.log"
    left.unlink(missing_ok=True)
    room = stage.characters

    def show() -> None:
        nonlocal room
        for text in results.new_rows():
            room -= min(len(text), LONGEST) + 1
            if room >= 0:
                say(text)

    start = perf_counter()
    own = {"OUT": str(results.work), ROWS: str(results.rows), STAGE: stage.name}
    with log.open("wb") as file:
        code = run_within(
            stage.command, stage.limit, meanwhile=show, env=os.environ | own, stdout=file, stderr=STDOUT
        )
    show()
    seconds = perf_counter() - start
    try:
        result = json.loads(left.read_text())
        headline, passed = result["headline"], result["passed"] and code == 0
    except (OSError, ValueError, KeyError):
        headline, passed = [_last_words(log, code)], False
    status = "LATE" if code is None else "passed" if passed else "FAILED"
    return Outcome(stage.name, status, seconds, headline)


def _last_words(log: Path, code: int | None) -> str:
    """Why a stage left no result: the last line of its log, which is Python's for an error, and how it ended."""
    lines = log.read_bytes()[-4096:].decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    ended = (
        "" if code is None or code in (0, 1) else f" (signal {-code})" if code < 0 else f" (status {code})"
    )
    return f"{last}{ended}"


def machine() -> str:
    """Python, the packages that do the work, and which are not there."""
    versions = [f"Python {sys.version.split()[0]}"]
    for name in ("torch", "triton", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{name} {metadata.version(name)}")
    needed, optional = (
        [name for name in names if importlib.util.find_spec(name) is None] for names in (NEEDED, OPTIONAL)
    )
    lacking = f"LACKING {', '.join(needed)}, gpu.sh says how to bring it; " if needed else ""
    without = f"; without {', '.join(optional)}" if optional else ""
    return f"{lacking}{', '.join(versions)}{without}"


def places(dry: bool) -> tuple[Path, Path]:
    """Where rows and archive go, and where stages leave their files: those are many, and $OUT is for few."""
    if out := os.environ.get("OUT"):
        return Path(out), Path(tempfile.mkdtemp(prefix="clesr-gpu-"))
    if dry:
        path = Path(tempfile.mkdtemp(prefix="clesr-gpu-dry-"))
        return path, path / "stages"
    return RESULTS, RESULTS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stages and say what they found; 1 where one did not pass."""
    parser = argparse.ArgumentParser(description="Everything that needs a GPU, one stage after the other.")
    parser.add_argument(
        "--dry", action="store_true", help="tiny, on a processor: checks the script, not the GPU"
    )
    parser.add_argument("--train", type=float, default=0.0, metavar="MINUTES", help="then train by the paper")
    parser.add_argument(
        "--only", action="append", default=[], choices=[*STAGES, PAPER], help="this stage alone"
    )
    given = parser.parse_args(arguments)
    for number, status in ENDING.items():
        signal.signal(number, lambda *_, status=status: sys.exit(status))
    out, work = places(given.dry)
    results = Results(out, work)
    for text in (
        machine(),
        card_says("name", "driver_version", "memory.total", "clocks.sm", "clocks.max.sm"),
    ):
        results.note(text, stage="machine")
    results.keep()
    todo = stages(dry=given.dry, train=given.train, only=given.only)
    start, outcomes = perf_counter(), list[Outcome]()
    try:
        for outcome in perform_all(todo, DRY_LIMIT * len(todo) if given.dry else TOTAL, results):
            outcomes.append(outcome)
    finally:
        bad = [outcome.name for outcome in outcomes if not outcome.passed]
        words = [] if len(outcomes) == len(todo) else ["CUT SHORT"]
        words += [f"NOT ALL PASSED: {', '.join(bad)}"] if bad else []
        verdict = "; ".join(words) or "all passed"
        results.note(f"{verdict}; {perf_counter() - start:.0f} s; results in {out}", stage="end")
        results.keep()
        if work.parent == Path(tempfile.gettempdir()):
            shutil.rmtree(work)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
