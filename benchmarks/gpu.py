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
import subprocess
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

from bare import ROOT, card_says, run_within
from stage import BEFORE, CLOCKS, RESULTS, ROWS, STAGE, append_row

HERE = Path(__file__).resolve().parent
TOTAL = 525.0  # seconds of all together but the training: what a stage leaves over is for the last ones
DRY_LIMIT = 600.0  # of each: the interpreter is slow, and nothing is timed
LEAST = 10.0  # seconds without which no stage is begun
GRACE = 25.0  # seconds that a stage may take to finish what it has begun at its limit: a case of the bench
ALONE = 140.0  # seconds of the smoke stage where nothing else is run: it may have to compile
LARGEST = 15 << 20  # bytes of the archive
LONGEST = 150  # characters of a row that is printed
NEEDED = ("torch", "triton", "numpy", "safetensors", "msgspec", "cv2", "click", "rich", "pytest")
SPARE = (
    "engines/models/shipped/densenet-paper-*",
    "benchmarks/results/*.png",
    "docs/*.png",
)  # no stage reads them
PASSED, UNMEASURED = "passed", "not measured"
OPTIONAL = ("av", "zmq", "pycuda", "torch_tensorrt", "tensorrt")
ENDING = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}


@dataclass(frozen=True, slots=True)
class Stage:
    """``command`` writes NAME.json and is ended after ``limit`` seconds; ``characters`` of its rows are shown. A
    command that ends with --limit is told when to begin nothing more."""

    name: str
    command: list[str]
    limit: float
    characters: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a stage ended: ``passed``, ``not measured`` (this machine lacks what it is about), ``FAILED`` or ``LATE``,
    after how many seconds, and what it has to say."""

    name: str
    status: str
    seconds: float
    headline: list[str]

    @property
    def passed(self) -> bool:
        return self.status == PASSED


# Seconds and characters of each, and its command; the most important first, the tests, which are the longest, last.
# All limits together, 800 s, leave a quarter of an hour enough for the start of a machine.
STAGES: dict[str, tuple[float, int, list[str]]] = {
    "smoke": (60, 1800, ["smoke"]),
    "kernels": (60, 1300, ["kernels"]),
    "parity": (80, 800, ["parity", "--limit"]),
    "bench": (60, 1300, ["cards", "--limit"]),
    "torch-graph": (60, 500, ["cards", "--rival", "torch-graph"]),
    "torch-compile": (80, 500, ["cards", "--rival", "torch-compile"]),
    "tensorrt": (110, 500, ["cards", "--rival", "tensorrt"]),
    "steady": (30, 300, ["steady"]),
    "slots": (30, 200, ["kernels", "--part", "slots"]),
    "rewrites": (40, 450, ["kernels", "--part", "rewrites"]),
    "torch-max-autotune": (70, 350, ["cards", "--rival", "torch-max-autotune"]),
    "sizes": (40, 400, ["cards", "--sizes", "--limit"]),
    "tests": (80, 500, ["card_tests", "--limit"]),
}
PAPER = "paper"


def stages(*, dry: bool, train: float, only: Sequence[str], skip: Sequence[str] = ()) -> list[Stage]:
    """What is to be run; ``train`` minutes of the paper's schedule, 0 for none."""
    found = []
    for name, (usual, characters, (script, *words)) in STAGES.items():
        limit = DRY_LIMIT if dry else ALONE if name == "smoke" and set(only) == {name} else usual
        found.append(Stage(name, _command(script, *words, dry=dry), limit, characters))
    if train:
        command = _command("paper", "--minutes", str(train), dry=dry)
        found.append(Stage(PAPER, command, 60 * train + 60, 300))
    return [stage for stage in found if (not only or stage.name in only) and stage.name not in skip]


def _command(script: str, *arguments: str, dry: bool) -> list[str]:
    return [sys.executable, str(HERE / f"{script}.py"), *(["--dry"] if dry else []), *arguments]


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
        for told in (*before, *self.new_rows()):
            say(str(told["text"]))

    def new_rows(self) -> list[dict[str, Any]]:
        """The whole lines that came since."""
        with self.rows.open("rb") as file:
            file.seek(self._read)
            *lines, rest = file.read().split(b"\n")
            self._read = file.tell() - len(rest)
        return [json.loads(line) for line in lines]

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
            own = [f"{max(limit - GRACE, limit / 2):g}"] if stage.command[-1] == "--limit" else []
            outcome = perform(replace(stage, limit=limit, command=[*stage.command, *own]), results)
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
    """Run ``stage``, show its rows as they come, and read what it left. Rows that later ones sum up get half the room,
    so that those come."""
    answer, log = results.work / f"{stage.name}.json", results.work / f"{stage.name}.log"
    answer.unlink(missing_ok=True)
    room = stage.characters

    def show() -> None:
        nonlocal room
        for row in results.new_rows():
            text = str(row["text"])
            left = room - min(len(text), LONGEST) - 1
            if left >= (stage.characters // 2 if row.get("passing") else 0):
                room = left
                say(text)

    start = perf_counter()
    own = {"OUT": str(results.work), ROWS: str(results.rows), STAGE: stage.name, BEFORE: card_says(*CLOCKS)}
    with log.open("wb") as file:
        code = run_within(
            stage.command, stage.limit, meanwhile=show, env=os.environ | own, stdout=file, stderr=STDOUT
        )
    show()
    seconds = perf_counter() - start
    try:
        result = json.loads(answer.read_text())
        headline, passed = result["headline"], result["passed"] and code == 0
        good = PASSED if result.get("measured", True) else UNMEASURED
    except (OSError, ValueError, KeyError):
        headline, passed, good = [_last_words(log, code)], False, PASSED
    status = "LATE" if code is None else good if passed else "FAILED"
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


def git(*words: str) -> str:
    """What git says here; empty where it cannot say."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return ""


def carried() -> str:
    """How large the repository's files are, and those of them that may stay behind."""
    sizes = []
    for patterns in ((), SPARE):
        paths = [ROOT / name for name in git("ls-files", "-z", "--", *patterns).split("\0") if name]
        sizes.append(sum(path.lstat().st_size for path in paths if path.exists()) / (1 << 20))
    return f"the repository's files: {sizes[0]:.1f} MiB; not needed {sizes[1]:.1f}: {', '.join(SPARE)}"


def places(dry: bool) -> tuple[Path, Path]:
    """Where rows and archive go, and where stages leave their files: those are many, and $OUT is for few."""
    usual = tempfile.mkdtemp(prefix="clesr-gpu-dry-") if dry else RESULTS
    return Path(os.environ.get("OUT") or usual), Path(tempfile.mkdtemp(prefix="clesr-gpu-"))


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
    parser.add_argument("--skip", action="append", default=[], choices=[*STAGES, PAPER], help="not this one")
    parser.add_argument(
        "--total", type=float, default=TOTAL, metavar="SECONDS", help="of all but the training  [%(default)g]"
    )
    given = parser.parse_args(arguments)
    for number, status in ENDING.items():
        signal.signal(number, lambda *_, status=status: sys.exit(status))
    out, work = places(given.dry)
    results = Results(out, work)
    card = card_says("name", "driver_version", "memory.total", "clocks.sm", "clocks.max.sm")
    commit = os.environ.get("CLESR_COMMIT") or git("rev-parse", "--short=12", "HEAD").strip() or "unknown"
    for text in (machine(), card, f"commit {commit}", *([carried()] if given.dry else [])):
        results.note(text, stage="machine")
    results.keep()
    todo = stages(dry=given.dry, train=given.train, only=given.only, skip=given.skip)
    start, outcomes = perf_counter(), list[Outcome]()
    try:
        for outcome in perform_all(todo, DRY_LIMIT * len(todo) if given.dry else given.total, results):
            outcomes.append(outcome)
    finally:
        unmeasured = [outcome.name for outcome in outcomes if outcome.status == UNMEASURED]
        bad = [o.name for o in outcomes if not o.passed and o.name not in unmeasured]
        words = [] if len(outcomes) == len(todo) else ["CUT SHORT"]
        words += [f"NOT ALL PASSED: {', '.join(bad)}"] if bad else []
        words = words or ["all that was measured passed" if unmeasured else "all passed"]
        words += [f"not measured: {', '.join(unmeasured)}"] if unmeasured else []
        verdict = "; ".join(words)
        results.note(f"{verdict}; {perf_counter() - start:.0f} s; results in {out}", stage="end")
        results.keep()
        shutil.rmtree(work)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
