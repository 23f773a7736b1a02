"""Which plan is fastest on this card: measured once, before anything is captured in a graph, and remembered.

Triton's own autotuner is not used: it measures at the first launch, which a graph's capture forbids, in the
interpreter it would run every configuration, and it has no bound on its time.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
import triton
from triton.errors import TritonError

from clesr.engines.backends.cuda.kernels.plan import Plan, only_compiling
from clesr.engines.cache import Cache, Key, cache_folder
from clesr.engines.common.errors import chain
from clesr.engines.common.parsing import convert, parse_json
from clesr.engines.common.processor import core_count

SECONDS = 60.0  # for all kernels of a network together, compilation included
REPEATS = 20  # runs in a graph that is timed
REPLAYS = 7
COMPILING = 0.75  # of the time that is left, at most, for compiling before measuring
FORMS = (Plan(rows=2), Plan(rows=1))  # stand for a form of launch and for its absence
CLOSE = 1.2  # times the shortest: plans that are measured again, for a card that had yet to raise its clocks
BROKEN = ("Triton Error", "PassManager::run failed")  # of a launch that was refused, a kernel not compiled


@dataclass(frozen=True, slots=True)
class TunedPlan:
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
    known: dict[str, TunedPlan] = field(default_factory=dict)

    def choose(self, key: str, plans: Sequence[Plan], run: Callable[[Plan], None]) -> TunedPlan:
        """The fastest of ``plans``; the last where none could be measured in the time that is left.

        A plan that this card cannot run is passed over.
        """
        stored = self.recall(key, plans) or self._measured(key, plans, run)
        self.known[key] = stored
        return stored

    def recall(self, key: str, plans: Sequence[Plan]) -> TunedPlan | None:
        """What was chosen earlier; None where nothing was, or a plan that is not among ``plans``."""
        stored = self.known.get(key) or self._read(key)
        return stored if stored is not None and stored.plan in plans else None

    def compile(self, runs: Sequence[Callable[[], None]]) -> None:
        """Compile the kernels of ``runs``, as many at once as there are processors: one by one they would take
        minutes. What does not compile, or not in time, is left to ``choose``."""
        if not runs:
            return
        begin = perf_counter()
        device = torch.cuda.current_device() if torch.cuda.is_available() else None

        def one(run: Callable[[], None]) -> None:
            if device is not None:
                torch.cuda.set_device(device)
            with only_compiling():
                run()

        pool = ThreadPoolExecutor(core_count(), thread_name_prefix="clesr compiler")
        wait([pool.submit(one, run) for run in runs], timeout=COMPILING * max(0.0, self.seconds - self.spent))
        pool.shutdown(cancel_futures=True)
        self.spent += perf_counter() - begin

    def faster(self, key: str, run: Callable[[bool], None]) -> bool:
        """Whether ``run(True)`` is faster than ``run(False)``."""
        return self.choose(key, FORMS, lambda plan: run(plan == FORMS[0])).plan == FORMS[0]

    def _measured(self, key: str, plans: Sequence[Plan], run: Callable[[Plan], None]) -> TunedPlan:
        times: dict[Plan, float] = {}
        seen, started = 0, perf_counter()
        for plan in plans:
            if self.spent + perf_counter() - started > self.seconds:
                break
            seen += 1
            self._note(times, plan, run)
        shortest = min(times.values(), default=0.0)
        close = [plan for plan, seconds in times.items() if seconds <= CLOSE * shortest]
        for plan in close if len(close) > 1 else ():
            self._note(times, plan, run)
        self.spent += perf_counter() - started
        best = min(times, key=times.__getitem__, default=plans[-1])
        choice = TunedPlan(best, times.get(best, float("inf")) * 1e6, len(times))
        if times and seen == len(plans):
            self._write(key, choice)
        return choice

    def _note(self, times: dict[Plan, float], plan: Plan, run: Callable[[Plan], None]) -> None:
        """Measure ``plan``; its shortest time goes to ``times``, where it runs."""
        seconds = self._time(plan, run)
        if seconds is not None:
            times[plan] = min(seconds, times.get(plan, seconds))

    def _time(self, plan: Plan, run: Callable[[Plan], None]) -> float | None:
        try:
            run(plan)
            return self.measure(lambda: run(plan))
        except (TritonError, ValueError, AssertionError):  # too much memory, or registers, or a load it lacks
            return None
        except RuntimeError as error:
            # The end of a graph's capture in which a launch was refused raises an error of its own.
            if any(words in str(one) for one in chain(error) for words in BROKEN):
                return None
            raise

    def _kept(self, key: str) -> tuple[Cache, str, Key] | None:
        """Where the choice for ``key`` is kept; None where none is."""
        if self.folder is None:
            return None
        whole = {"card": self.card, "triton": triton.__version__, "kernel": key}
        return Cache(self.folder, "the measured choice for a kernel", ".plan"), key, whole

    def _read(self, key: str) -> TunedPlan | None:
        kept = self._kept(key)
        content = kept and kept[0].read(*kept[1:])
        try:
            found = parse_json(content or b"{}", dict[str, Any])
            stored = convert(found, TunedPlan)
            return stored if asdict(stored.plan) == found["plan"] else None
        except ValueError:  # none yet, or of another clesr: measure again
            return None

    def _write(self, key: str, choice: TunedPlan) -> None:
        kept = self._kept(key)
        if kept is not None:
            kept[0].write(*kept[1:], json.dumps(asdict(choice)).encode())


def measure_on_card(run: Callable[[], None]) -> float:
    """Seconds of a run on the current GPU: the median over replays of a graph of several, with what it reads in the
    second-level cache, as in a frame."""
    run()
    torch.cuda.synchronize()
    graph, marks = torch.cuda.CUDAGraph(), [torch.cuda.Event(enable_timing=True) for _ in range(REPLAYS + 1)]  # type: ignore[no-untyped-call]
    capturing = torch.cuda.graph(graph, capture_error_mode="thread_local")
    with torch.cuda.stream(torch.cuda.current_stream()), capturing:  # which forgets it where it fails
        for _ in range(REPEATS):
            run()
    graph.replay()
    for mark in marks[:-1]:
        mark.record()
        graph.replay()
    marks[-1].record()
    torch.cuda.synchronize()
    times = [a.elapsed_time(b) / 1e3 / REPEATS for a, b in pairwise(marks)]
    return float(median(times))


@functools.cache
def card_tuner(device: torch.device | str) -> Tuner | None:
    """The tuner of a GPU, one a process; None where ``device`` is none."""
    if torch.device(device).type != "cuda":
        return None
    words, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
    return Tuner(words, capability, cache_folder() / "kernels", measure_on_card)
