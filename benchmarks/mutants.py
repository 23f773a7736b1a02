"""Whether tests notice faults: small faults put into the product one at a time, and what the tests of that module say.

python benchmarks/mutants.py [--each 12] [--only pipeline/prepare.py] [--output FILE]

The faults are those of cosmic-ray (pip install cosmic-ray), a sample of them for each module, in a copy of the tree.
Those in type annotations and in what decorators say are left out: they change nothing that runs. What survives stays
in the result with the ``reason`` that was written for it there by hand, and so do modules that are not tried again, as
long as they are listed in ``TESTS``.
"""

from __future__ import annotations

import ast
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import click
from common import ROOT, environment

from clesr.engines.common.files import OWN, write_json

PIPELINE = "tests/pipeline/test_"
SESSION = "tests/pipeline/session/test_"
SESSION_MODULES = (
    "commit folder format manifest preroll reader recorder repair segments sessions verify video writer"
)
EXPORT_MODULES = "burn_in clip dicom dicom_header files mp4 ome_tiff patient run selection sessions stills"
RUN = [f"{PIPELINE}{name}.py" for name in ("pipeline", "engine_faults", "continuity", "streams", "hanging")]
RECORDED = [
    f"{SESSION}{name}.py"
    for name in ("verify", "repair", "recorder", "commit", "manifest", "foreign_sessions")
]
RECORDED.append("tests/test_library.py")
EXPORTED = ["tests/tools/export", "tests/tools/commands/test_export.py"]
TESTS = {
    "pipeline/capture.py": [*RUN, f"{PIPELINE}outages.py"],
    "pipeline/ending.py": RUN,
    "pipeline/engine_stage.py": [f"{PIPELINE}engine_switch.py", *RUN],
    "pipeline/fidelity.py": [f"{PIPELINE}fidelity.py", *RUN],
    "pipeline/frame.py": [*(f"{PIPELINE}{name}.py" for name in ("timeline", "fidelity", "outages")), *RUN],
    "pipeline/frame_queue.py": [f"{PIPELINE}frame_queue.py", *RUN],
    "pipeline/live_engine.py": [f"{PIPELINE}engine_reopening.py", f"{PIPELINE}engine_switch.py", *RUN],
    "pipeline/pipeline.py": [f"{PIPELINE}engine_switch.py", *RUN],
    "pipeline/prepare.py": [f"{PIPELINE}prepare.py"],
    "pipeline/run_report.py": RUN,
    "pipeline/sink_worker.py": [f"{PIPELINE}sink_worker.py", *RUN],
    "pipeline/stats.py": [f"{PIPELINE}stats.py", f"{PIPELINE}outages.py", *RUN],
    "pipeline/watchdog.py": [*RUN, f"{PIPELINE}uptime.py"],
    **{f"pipeline/session/{name}.py": RECORDED for name in SESSION_MODULES.split()},
    **{
        f"pipeline/session/{name}.py": [f"{SESSION}notes.py", *RECORDED]
        for name in ("preroll", "recorder", "segments")
    },
    "pipeline/session/commit.py": [f"{SESSION}room.py", *RECORDED],
    "pipeline/session/reader.py": [*RECORDED, f"{PIPELINE}prepare_cores.py"],
    "pipeline/session/sessions.py": [f"{SESSION}listing.py", f"{PIPELINE}outages.py", *RECORDED],
    "pipeline/session/folder.py": [*RECORDED, f"{SESSION}broken_places.py", f"{SESSION}links.py"],
    **{f"tools/export/{name}.py": EXPORTED for name in EXPORT_MODULES.split()},
    "tools/export/ome_tiff.py": [*EXPORTED, "tests/tools/test_pixel_aspect.py"],
}
SLOWER = 4.0  # times what the tests take without a fault, after which one is noticed: something hangs

Mutant = dict[str, Any]


@click.command()
@click.option("--each", default=12, show_default=True, help="Faults tried for each module.")
@click.option("--only", multiple=True, help="This module alone; may be given several times.")
@click.option("--seed", default=1, show_default=True)
@click.option("--output", default="benchmarks/results/mutants.json", show_default=True)
def main(each: int, only: tuple[str, ...], seed: int, output: str) -> None:
    """Try faults in every module and write what survived."""
    written = Path(output).absolute()
    result = json.loads(written.read_text()) if written.exists() else {"modules": [], "survivors": []}
    known = {_key(mutant): mutant["reason"] for mutant in result["survivors"]}
    with tempfile.TemporaryDirectory(prefix="clesr-mutants-") as folder:
        _copy(Path(folder))
        os.chdir(folder)
        for what in ("modules", "survivors"):
            result[what] = [each for each in result[what] if each["module"] in TESTS]
        for module in only or TESTS:
            row, survived = _try(module, each, random.Random(f"{seed} {module}"))
            click.echo(f"{module}: {row['noticed']} of {row['tried']} noticed")
            survivors = [mutant | {"reason": known.get(_key(mutant), "")} for mutant in survived]
            added = {"modules": [row], "survivors": survivors}
            result |= {"benchmark": "mutants", **environment(), "seed": seed}
            for what, new in added.items():
                kept = [each for each in result[what] if each["module"] != module]
                result[what] = sorted([*kept, *new], key=lambda each: str(each["module"]))
            write_json(written, result, OWN)
    click.echo(f"wrote {output}")


def _copy(folder: Path) -> None:
    """The tree as git would commit it."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, files.split("\0")):
        if (ROOT / name).exists() or (ROOT / name).is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    os.environ |= {"PYTHONPATH": str(folder / ".import"), "PYTHONDONTWRITEBYTECODE": "1"}


def _try(module: str, each: int, chance: random.Random) -> tuple[dict[str, Any], list[Mutant]]:
    """The counts of ``module``, and what survived."""
    from cosmic_ray.mutating import mutate_and_test
    from cosmic_ray.work_item import TestOutcome

    command = f"{shlex.quote(sys.executable)} -m pytest -q -x -p no:cacheprovider {' '.join(TESTS[module])}"
    command += " -m 'not slow and not cuda and not hardware'"
    start = perf_counter()
    unchanged = subprocess.run(shlex.split(command), capture_output=True, text=True)
    if unchanged.returncode:
        raise click.ClickException(f"the tests of {module} fail without a fault:\n{unchanged.stdout[-4000:]}")
    most_s = 10 + SLOWER * (perf_counter() - start)
    possible = list(_possible(Path(module)))
    tried = chance.sample(possible, min(each, len(possible)))
    survivors: list[Mutant] = []
    for mutation in tried:
        found = mutate_and_test([mutation], command, most_s)
        if found.test_outcome == TestOutcome.SURVIVED:
            survivors.append({"module": module, "function": mutation.definition_name, **_change(found.diff)})
    row = {"module": module, "possible": len(possible), "tried": len(tried)}
    return row | {"noticed": len(tried) - len(survivors)}, survivors


def _possible(module: Path) -> Iterator[Any]:
    """The faults that change what runs."""
    from cosmic_ray.commands import init
    from cosmic_ray.work_db import WorkDB

    silent = list(_silent(ast.parse(module.read_text())))
    with tempfile.TemporaryDirectory() as folder:
        work = WorkDB(str(Path(folder) / "work.sqlite"), WorkDB.Mode.create)
        init([module], work, {})
        for item in work.work_items:
            (mutation,) = item.mutations
            if not any(begin <= tuple(mutation.start_pos) < end for begin, end in silent):
                yield mutation


def _silent(tree: ast.Module) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations and decorators stand: line and column of their begin and end."""
    for node in ast.walk(tree):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if part is not None:
                yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)
        for part in getattr(node, "decorator_list", ()):
            yield (part.lineno, 0), (part.end_lineno, part.end_col_offset)  # with its @


def _change(diff: str) -> dict[str, str]:
    """The lines that a fault takes away and puts in their place."""
    lines = [line for line in diff.splitlines() if line[:3] not in ("---", "+++")]
    taken, put = ([line[1:].strip() for line in lines if line[:1] == sign] for sign in "-+")
    return {"line": " ".join(taken), "fault": " ".join(put)}


def _key(mutant: Mutant) -> tuple[str, ...]:
    return mutant["module"], mutant["line"], mutant["fault"]


if __name__ == "__main__":
    main()
