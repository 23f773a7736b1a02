"""Which of two forms is faster on this card: measured at the first opening, before anything is captured in a graph.

Triton's own autotuner is not used: it measures at the first launch, which a graph's capture forbids, and on a card that
has yet to raise its clocks.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

import torch
from triton.errors import TritonError

from clesr.engines.backends.cuda.buffers import timed_on_card
from clesr.engines.backends.cuda.kernels.plan import only_compiling
from clesr.engines.common.errors import first_line
from clesr.engines.common.processor import core_count

WARM_UP = 0.05  # seconds: an idle card clocks low
ROUNDS = 7  # in each of which every form has its turn
CLEARLY = 0.98  # of the first form's time: a second that is no faster would come and go between openings
FAILURES = (TritonError, RuntimeError, ValueError, AssertionError)  # of a form that this card cannot run

log = logging.getLogger(__name__)
T = TypeVar("T", bound=Hashable)


@dataclass(slots=True)
class Tuner:
    """Chooses for a card of ``capability``, once a process. ``timed`` makes of a run what gives its seconds. What was
    ``taken`` and ``said`` of each choice goes by its key."""

    capability: tuple[int, int]
    timed: Callable[[Callable[[], None]], Callable[[], float]]
    warm_up: float = WARM_UP
    taken: dict[str, Any] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)

    def compile(self, runs: Sequence[Callable[[], object]]) -> None:
        """Compile the kernels of ``runs``, as many at once as there are processors: one by one they would take
        minutes. What does not compile is left to ``choose``."""
        current = torch.cuda.current_device() if torch.cuda.is_available() else -1  # -1 leaves it as it is

        def one(run: Callable[[], object]) -> None:
            with torch.cuda.device(current), only_compiling():
                run()

        with ThreadPoolExecutor(core_count(), thread_name_prefix="clesr compiler") as pool:
            for run in runs:
                pool.submit(one, run)

    def choose(self, key: str, forms: Sequence[T], run: Callable[[T], None]) -> T:
        """The first of ``forms``, or one that is clearly faster; what does not run on this card is passed over.

        Raises what the first raised where none runs.
        """
        if key not in self.taken:
            seconds = self._measured(key, forms, run)
            first, best = next(iter(seconds)), min(seconds, key=seconds.__getitem__)
            self.taken[key] = best if seconds[best] < CLEARLY * seconds[first] else first
            times = ", ".join(f"{form} {1e6 * s:.1f} us" for form, s in seconds.items())
            self.said[key] = f"{key}: {self.taken[key]} ({times})"
        return self.taken[key]  # type: ignore[no-any-return]

    def _measured(self, key: str, forms: Sequence[T], run: Callable[[T], None]) -> dict[T, float]:
        """The seconds of those that run."""
        clocks, errors = dict[T, Callable[[], float]](), list[Exception]()
        for form in forms:
            try:
                clocks[form] = self.timed(functools.partial(run, form))
            except FAILURES as error:
                errors.append(error)
                log.info(f"{key}: {form} does not run on this card: {first_line(error)}")
        if not clocks:
            raise errors[0]
        end = perf_counter() + self.warm_up
        while perf_counter() < end:
            for clock in clocks.values():
                clock()
        rounds = [[clock() for clock in clocks.values()] for _ in range(ROUNDS)]
        return dict(zip(clocks, map(median, zip(*rounds, strict=True)), strict=True))


@functools.cache
def card_tuner(device: torch.device | str) -> Tuner | None:
    """The tuner of a GPU, one a process; None where ``device`` is none."""
    if torch.device(device).type != "cuda":
        return None
    return Tuner(torch.cuda.get_device_capability(device), timed_on_card)
