"""Which plan is fastest on this card: measured once, before anything is captured in a graph, and remembered.

Triton's own autotuner is not used: it measures at the first launch, which a graph's capture forbids, in the
interpreter it would run every configuration, and it has no bound on its time.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
import triton
from triton.errors import TritonError

from clesr.engines.kernels.plan import Plan

SECONDS = 60.0  # for all kernels of a network together, compilation included
REPEATS = 10  # runs in a graph that is timed
REPLAYS = 7


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for one kernel: its ``plan``, the time of a run in microseconds, and of how many ``tried``."""

    plan: Plan
    microseconds: float
    tried: int


@dataclass(slots=True)
class Tuner:
    """Chooses plans for one card. ``measure`` gives the seconds of a run; ``folder`` None keeps nothing on disk.

    Choices are kept by card, Triton version and key, in memory for the process and in the folder for good; but not
    for good where ``seconds`` ran out before every plan had its turn.
    """

    card: str
    capability: tuple[int, int]
    folder: Path | None
    measure: Callable[[Callable[[], None]], float]
    seconds: float = SECONDS
    spent: float = 0.0
    known: dict[str, Choice] = field(default_factory=dict)

    def choose(self, key: str, plans: Sequence[Plan], run: Callable[[Plan], None]) -> Choice:
        """The fastest of ``plans``; the last where none could be measured in the time that is left.

        A plan that this card cannot run is passed over.
        """
        stored = self.known.get(key) or self._read(key)
        if stored is None or stored.plan not in plans:
            stored = self._measured(key, plans, run)
        self.known[key] = stored
        return stored

    def faster(self, key: str, run: Callable[[bool], None]) -> bool:
        """Whether ``run(True)`` is faster than ``run(False)``."""
        with_it, without = (replace(Plan(), rows=rows) for rows in (2, 1))
        return self.choose(key, [with_it, without], lambda plan: run(plan is with_it)).plan == with_it

    def _measured(self, key: str, plans: Sequence[Plan], run: Callable[[Plan], None]) -> Choice:
        best, seen, tried, started = (plans[-1], float("inf")), 0, 0, perf_counter()
        for plan in plans:
            if self.spent + perf_counter() - started > self.seconds:
                break
            seen += 1
            seconds = self._time(plan, run)
            tried += seconds is not None
            if seconds is not None and seconds < best[1]:
                best = plan, seconds
        self.spent += perf_counter() - started
        choice = Choice(best[0], best[1] * 1e6, tried)
        if tried and seen == len(plans):
            self._write(key, choice)
        return choice

    def _time(self, plan: Plan, run: Callable[[Plan], None]) -> float | None:
        try:
            run(plan)
            return self.measure(lambda: run(plan))
        except (TritonError, ValueError):  # too much shared memory, too many registers, a load it lacks
            return None
        except RuntimeError as error:
            if "Triton Error" not in str(error):  # that is a launch the driver refused
                raise
            return None

    def _file(self, key: str) -> Path | None:
        if self.folder is None:
            return None
        name = "".join(
            c if c.isalnum() or c in ".-" else "_" for c in f"{self.card}-{triton.__version__}-{key}"
        )
        return self.folder / f"{name}.json"

    def _read(self, key: str) -> Choice | None:
        file = self._file(key)
        try:
            stored = json.loads(file.read_text()) if file else None
            return stored and Choice(
                Plan(**stored["plan"]), float(stored["microseconds"]), int(stored["tried"])
            )
        except (OSError, ValueError, TypeError, KeyError):  # none yet, or of another clesr: measure again
            return None

    def _write(self, key: str, choice: Choice) -> None:
        file = self._file(key)
        if file is None:
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as temporary:
                json.dump(asdict(choice), temporary)
            os.replace(temporary.name, file)
        except OSError:  # a full or read-only disk: the choice holds for this process
            return


def measure_on_card(run: Callable[[], None]) -> float:
    """Seconds of a run on the current GPU: the median over replays of a graph of several, with what it reads in the
    second-level cache, as in a frame."""
    run()
    torch.cuda.synchronize()
    graph, marks = torch.cuda.CUDAGraph(), [torch.cuda.Event(enable_timing=True) for _ in range(REPLAYS + 1)]  # type: ignore[no-untyped-call]
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        for _ in range(REPEATS):
            run()
    graph.replay()
    for mark in marks[:-1]:
        mark.record()
        graph.replay()
    marks[-1].record()
    torch.cuda.synchronize()
    times = [a.elapsed_time(b) / 1e3 / REPEATS for a, b in pairwise(marks)]
    return median(times)


@functools.cache
def card_tuner(device: torch.device | str) -> Tuner | None:
    """The tuner of a GPU, one a process; None where ``device`` is none."""
    if torch.device(device).type != "cuda":
        return None
    words, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
    return Tuner(words, capability, _cache_folder(), measure_on_card)


def _cache_folder() -> Path | None:
    try:
        import platformdirs
    except ImportError:
        return None
    return Path(platformdirs.user_cache_dir("clesr")) / "kernels"
