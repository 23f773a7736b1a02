"""Who does the work: one worker in this process, or many on a cluster (cluster.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from clesr.tools.archive.messages import Answer, Task
from clesr.tools.archive.settings import Settings
from clesr.tools.archive.work import Worker


class Lost:
    """The worker that had the task is gone."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Crew(Protocol):
    """Workers that take tasks and give answers, in any order. One thread calls; ``stop`` and ``progress`` may come
    from others."""

    def choose(self) -> str:
        """The name of the model that the model "auto" of the settings stands for."""

    def settle(self, settings: Settings) -> None:
        """Take other settings, before the first task."""

    def free(self) -> int:
        """How many tasks may be given now: never more than a few a worker."""

    def give(self, task: Task) -> None: ...

    def wait(self) -> list[tuple[Task, Answer | Lost]]:
        """What has come back, perhaps nothing after a short while. Raises ClesrError where nobody can work."""

    def progress(self) -> int:
        """LR pixels done of tasks that are not finished, as far as is known."""

    def stop(self) -> None:
        """Give up what is being done."""

    def close(self) -> None:
        """Send everybody home. May be called twice."""


class Alone:
    """One worker in this process."""

    def __init__(self, settings: Settings, out: Path, tell: Callable[[str], None]) -> None:
        self._out, self._tell = out, tell
        self._worker = Worker(settings, out, tell)
        self._task: Task | None = None

    def choose(self) -> str:
        return self._worker.choose()

    def settle(self, settings: Settings) -> None:
        self._worker.engines.close()
        self._worker = Worker(settings, self._out, self._tell)

    def free(self) -> int:
        return self._task is None

    def give(self, task: Task) -> None:
        assert self._task is None
        self._task = task

    def wait(self) -> list[tuple[Task, Answer | Lost]]:
        task, self._task = self._task, None
        return [] if task is None else [(task, self._worker.do(task))]

    def progress(self) -> int:
        return self._worker.progress()

    def stop(self) -> None:
        self._worker.stop()

    def close(self) -> None:
        self._worker.engines.close()
