"""A pipeline from settings: what `clesr live` and `clesr upscale` share."""

from __future__ import annotations

import copy
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from clesr.engines.engine import Engine
from clesr.engines.factory import open_engine
from clesr.engines.interpolation import METHODS
from clesr.engines.models.weights import Model, find_model
from clesr.engines.trial import choose_model
from clesr.pipeline.pipeline import Pipeline
from clesr.tools.console import tell
from clesr.tools.signals import GRACE_S, end_process, on_signals

ASSUMED_FPS = 25.0  # of a source that does not say
DRAIN_S = 8.0  # for what was captured to be finished, where nobody may be there to wait
STOP_S = 12.0  # for a run to end once it was told to stop at once
RESCUE_S = 3.0  # for each recording and output to be closed after that


class EngineOpener:
    """Opens the engine that the options name, for any LR shape; chooses the model at the first.

    ``fps`` is the rate that ``model`` "auto" must hold.
    """

    def __init__(
        self,
        *,
        scale: int,
        model: str,
        engine: str,
        device: str | None,
        precision: str | None,
        threads: int | None,
        fps: float | None,
        say: Callable[[str], None] = tell,
    ) -> None:
        self.scale, self.engine = scale, engine
        self.device, self.precision, self.threads = device, precision, threads
        self.fps = fps or ASSUMED_FPS
        self.say = say
        self._model: list[Model | str] = []  # the one that was chosen, for those that share cores as well
        self._said: set[str] = set()
        self._lock = threading.Lock()  # several streams may open engines side by side
        if model in METHODS:
            self._model.append(model)
        elif model != "auto":
            self._model.append(find_model(model, scale, besides=("auto", *METHODS)))

    @property
    def model(self) -> Model | str | None:
        """What is used; None before ``auto`` has chosen."""
        return self._model[0] if self._model else None

    def sharing_cores(self, streams: int) -> EngineOpener:
        """The same for engines that compute side by side: each gets its part of the processor's cores."""
        other = copy.copy(self)
        other.threads = self.threads or max(1, cores() // streams)
        return other

    def __call__(self, shape: tuple[int, int]) -> Engine:
        with self._lock:
            if not self._model:
                self._model.append(choose_model(self.scale, shape, self.fps, self._open, self.say))
        return self._open(self._model[0], shape, self._explain)

    def _explain(self, line: str) -> None:
        """Say which engine was opened, once for all shapes and inputs that get the same."""
        if line not in self._said:
            self._said.add(line)
            self.say(line)

    def _open(
        self, model: Model | str, shape: tuple[int, int], explain: Callable[[str], None] | None = None
    ) -> Engine:
        return open_engine(
            self.engine,
            model,
            self.scale,
            shape,
            device=self.device,
            precision=self.precision,
            threads=self.threads,
            explain=explain,
        )


def cores() -> int:
    """Processor cores that clesr may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def draining_on_signals(*pipelines: Pipeline) -> Iterator[list[int]]:
    """Ctrl-C, SIGTERM and SIGHUP drain ``pipelines``, a second one stops them at once; before they have started the
    first one raises KeyboardInterrupt. Yields the signals that came.

    SIGTERM and SIGHUP, after which nobody may be there to insist, stop at once what is not drained after DRAIN_S.
    Where even that does not end the block within STOP_S, its recordings are closed and the process ends.
    """
    received: list[int] = []
    ended = threading.Event()

    def rescue(number: int, seconds: float) -> None:
        if not ended.wait(seconds):
            for pipeline in pipelines:
                pipeline.rescue(RESCUE_S)
            end_process(number, "interrupted: what did not answer was given up")

    def abort(number: int) -> None:
        for pipeline in pipelines:
            pipeline.abort()
        threading.Thread(target=rescue, args=(number, STOP_S), daemon=True).start()

    def insist(number: int) -> None:
        if not ended.wait(DRAIN_S):
            abort(number)

    def handle(number: int) -> None:
        received.append(number)
        if len(received) == 2:
            tell("stopping at once")
            abort(number)
        elif len(received) == 1 and not all(pipeline.started for pipeline in pipelines):
            threading.Thread(target=rescue, args=(number, GRACE_S), daemon=True).start()
        elif len(received) == 1:
            for pipeline in pipelines:
                pipeline.stop()
            tell("stopping: what was captured is finished and written; once more stops at once")
            if number != signal.SIGINT:
                threading.Thread(target=insist, args=(number,), daemon=True).start()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if not all(pipeline.started for pipeline in pipelines):
            raise KeyboardInterrupt

    with on_signals(handle, on_main=interrupt):
        try:
            yield received
        finally:
            ended.set()
