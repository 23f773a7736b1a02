"""``python -m fuzz.run TARGET|all --inputs N`` or ``--seconds S``: a line for each target; exit status 1 where one has
findings."""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from fuzz.findings import Finding, read
from fuzz.targets import TARGETS
from fuzz.watch import Result, watch

EVER = 10 * 86_400.0  # seconds
TRIAL_S = 4.0  # in which the speed of a target is measured
SHM = Path("/dev/shm")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    names = list(TARGETS) if options.target == "all" else [options.target]
    findings = Path(options.findings)
    findings.mkdir(parents=True, exist_ok=True)
    before, results = len(read(findings)), []
    for result in fuzz(names, options.inputs, options.seconds, options.seed, findings):
        results.append(result)
        print(result, flush=True)
    found = read(findings)[before:]
    for finding in found:
        print(finding)
    print(f"{len(results)} targets, {sum(r.inputs for r in results):,} inputs, {len(found)} findings")
    if options.json:
        Path(options.json).write_text(json.dumps(_report(options.seed, results, found), indent=1) + "\n")
    if options.add:
        add(Path(options.add), options.seed, results)
    return 1 if found or any(result.given_up for result in results) else 0


def fuzz(
    names: Sequence[str], inputs: int | None, seconds: float, seed: int, findings: Path
) -> Iterator[Result]:
    """Try ``inputs`` over all targets, by the square root of their speed: twice the time for one that is four times
    as slow. Where None, all for so many ``seconds``."""
    if inputs is None:
        for name in names:
            yield _try(name, sys.maxsize, seconds / len(names), f"{seed}", findings)
        return
    if len(names) == 1:
        yield _try(names[0], inputs, EVER, f"{seed}", findings)
        return
    trials = {name: _try(name, inputs // len(names), TRIAL_S, f"{seed} trial", findings) for name in names}
    left = inputs - sum(trial.inputs for trial in trials.values())
    shares = {name: math.sqrt(max(trial.rate, 1.0)) for name, trial in trials.items()}
    for name, trial in trials.items():
        more = _try(
            name, max(1, round(left * shares[name] / sum(shares.values()))), EVER, f"{seed}", findings
        )
        yield Result(
            name,
            trial.inputs + more.inputs,
            trial.seconds + more.seconds,
            trial.working + more.working,
            trial.findings + more.findings,
            trial.given_up or more.given_up,
        )


def _try(name: str, inputs: int, seconds: float, seed: str, findings: Path) -> Result:
    with tempfile.TemporaryDirectory(prefix="clesr-fuzz-", dir=SHM if SHM.is_dir() else None) as scratch:
        return watch(
            name, inputs=inputs, seconds=seconds, seed=seed, scratch=Path(scratch), findings=findings
        )


def add(path: Path, seed: int, results: Sequence[Result]) -> None:
    """Add ``results`` to the totals in ``path``, which has the seeds of each target: a seed that it has already stands
    for inputs that it has already. Raises ValueError for such."""
    rows = {row["target"]: row for row in json.loads(path.read_text())["targets"]} if path.exists() else {}
    for result in results:
        row = rows.setdefault(
            result.target, {"target": result.target, "inputs": 0, "findings": 0, "seeds": []}
        )
        if seed in row["seeds"]:
            raise ValueError(f"{path} has inputs of {result.target} by the seed {seed}; give another --seed")
        row["inputs"] += result.inputs
        row["findings"] += result.findings
        row["seeds"].append(seed)
    path.write_text(json.dumps({"targets": list(rows.values())}, indent=1) + "\n")


def _report(seed: int, results: Sequence[Result], found: Sequence[Finding]) -> dict[str, object]:
    rows = [{**asdict(result), "rate": result.rate} for result in results]
    return {"seed": seed, "targets": rows, "findings": [asdict(finding) for finding in found]}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fuzz.run", description="Damaged and malicious inputs for clesr's readers."
    )
    parser.add_argument("target", choices=["all", *TARGETS])
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--inputs", type=int, help="How many, over all targets.")
    limit.add_argument("--seconds", type=float, default=60.0, help="How long, over all targets (60).")
    parser.add_argument("--seed", type=int, default=1, help="The same inputs again for the same seed (1).")
    parser.add_argument(
        "--findings", default="fuzz-findings", help="Folder for inputs that fail (fuzz-findings)."
    )
    parser.add_argument("--json", help="Write what came of it to this file.")
    parser.add_argument("--add", help="Add it to the totals in this file, of runs with other seeds.")
    return parser


if __name__ == "__main__":
    sys.exit(main())
