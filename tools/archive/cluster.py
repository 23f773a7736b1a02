"""Work on a Ray cluster: one actor an engine, lost ones replaced.

All machines must see the archive and the output folder under the same paths (a shared file system), and have clesr
installed: what travels are names and frame ranges, never images.
"""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections import deque
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import WHY, ClesrError, MissingDependencyError, UsageError, told_as
from clesr.engines.common.folders import put_part
from clesr.engines.common.processor import core_count
from clesr.tools.archive.messages import Answer, Failure, Hello, Task
from clesr.tools.archive.settings import Settings
from clesr.tools.archive.worker import Worker, token_file, versions

log = logging.getLogger(__name__)
AHEAD = 2  # tasks a worker has at most: the one it does, and the next
WAIT_S = 0.2
STARTING_S = 30.0  # without any worker, before the user is told what is waited for
LOSSES = 5  # workers lost in a row, for each that there should be, without any work done: the run ends
STORE_BYTES = 100_000_000  # object store of a local cluster: next to nothing is put in
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_SCHEDULER_EVENTS": "0",
}
LOOPBACK = "127.0.0.1"
# With this Ray takes a cluster for impossible, as on Windows, and all that it starts listens on LOOPBACK alone. An
# address given to ray.init does not do that: Ray replaces LOOPBACK by the machine's own address.
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
ADVICE = "give local, auto, or HOST:PORT of a running cluster (`ray start --head` starts one)"
ANSWER_S = 5.0  # in which a cluster takes a connection; Ray itself tries for minutes


@dataclass
class _Actor:
    """A worker, what it has to do (oldest first), and whether it has said hello."""

    handle: Any
    hello: Any
    ready: bool = False
    tasks: deque[tuple[Any, Task]] = field(default_factory=deque)


class RayExecutor:
    """Workers as Ray actors.

    ``address`` is ``local`` (start Ray on this machine), ``auto``, or HOST:PORT of a cluster. ``workers`` bounds their
    number; by default as many as fit: one for ``gpus`` of a GPU where the cluster has any, else one for ``threads``
    processors (1 by default). Raises MissingDependencyError without Ray, ClesrError where the cluster does not answer.
    """

    def __init__(
        self, settings: Settings, out: Path, *, address: str, workers: int | None = None, gpus: float = 1.0
    ) -> None:
        self._settings, self._out = settings, out
        with ExitStack() as stack:
            # Ray prints what it thinks of lost workers, whatever its log level.
            stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
            self._ray = _connect(address)
            self._quiet = stack.pop_all()
        if address == "local":
            log.info(f"this machine's own cluster listens on {LOOPBACK} alone: no other machine can reach it")
        self._token = uuid.uuid4().hex
        put_part(token_file(out), self._token.encode())
        having = self._ray.cluster_resources()
        self._resources = _resources(having, settings, gpus)
        shares = {"CPU": self._resources["num_cpus"], "GPU": self._resources["num_gpus"]}
        rooms = (having.get(kind, 0.0) / share for kind, share in shares.items() if share)
        fitting = max(1, int(min(rooms)))  # workers that the cluster has room for
        self._wanted = min(workers or fitting, fitting)
        self._settings = replace(settings, threads=settings.threads or self._resources["num_cpus"])
        self._actors = [self._start() for _ in range(self._wanted)]
        self._losses = 0
        self._closed = False
        self._reminder_ns = SYSTEM.now_ns()

    def choose_model(self) -> str:
        """The model that "auto" stands for on a worker of this cluster."""
        return str(self._started(self._actors[0].handle.choose_model.remote()))

    def configure(self, settings: Settings) -> None:
        """Begin again with other settings, before any task was given."""
        for actor in self._actors:
            self._ray.kill(actor.handle)
        self._settings = replace(settings, threads=self._settings.threads)
        self._actors = [self._start() for _ in self._actors]

    def free(self) -> int:
        return sum(max(0, AHEAD - len(actor.tasks)) for actor in self._actors if actor.ready)

    def submit(self, task: Task) -> None:
        actor = min((a for a in self._actors if a.ready), key=lambda a: len(a.tasks))
        actor.tasks.append((actor.handle.do.remote(task), task))

    def wait(self) -> list[tuple[Task, Answer]]:
        waiting = [a.tasks[0][0] if a.ready else a.hello for a in self._actors if a.tasks or not a.ready]
        self._remind()
        if not waiting:
            return []
        came, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        if not came:
            came, _ = self._ray.wait(waiting, num_returns=1, timeout=WAIT_S)
        answers: list[tuple[Task, Answer]] = []
        for actor in list(self._actors):
            if not actor.ready and actor.hello in came:
                self._greet(actor)
            elif actor.tasks and actor.tasks[0][0] in came:
                answers += self._collect(actor)
        return answers

    def progress(self) -> int:
        return 0

    def stop(self) -> None:
        """Nothing: ``close`` ends the actors, and what they had half-made is of no use to anybody."""

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            for actor in self._actors:
                self._ray.kill(actor.handle)
            self._ray.shutdown()
            self._quiet.close()

    def _start(self) -> _Actor:
        remote = self._ray.remote(Worker).options(max_restarts=0, max_task_retries=0, **self._resources)
        handle = remote.remote(self._settings, self._out)
        return _Actor(handle, handle.hello.remote(self._token))

    def _started(self, reference: Any) -> Any:
        """What ``reference`` stands for. Raises ClesrError where the worker could not start."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise ClesrError(f"a worker cannot start: {_line(error.cause)}") from error

    def _greet(self, actor: _Actor) -> None:
        """A worker has started, or could not. Raises ClesrError where it does not belong to the others."""
        try:
            hello: Hello = self._started(actor.hello)
        except self._ray.exceptions.RayError as error:
            self._replace(actor, _line(error))
            return
        where = f"the worker on {hello.host}"
        if not hello.sees:
            raise ClesrError(
                f"{where} does not see {self._out}: all machines need the archive and the output folder under the same "
                "paths, on a shared file system"
            )
        if hello.versions != versions():
            raise ClesrError(f"{where} has {', '.join(hello.versions)}, this machine {', '.join(versions())}")
        if hello.model_sha256 != self._settings.model_sha256:
            raise ClesrError(
                f"{where} has other weights under the name {self._settings.model}; update clesr there"
            )
        actor.ready = True
        log.info(f"worker {hello.process} on {hello.host}: {hello.engine}")

    def _collect(self, actor: _Actor) -> list[tuple[Task, Answer]]:
        """The oldest answer of ``actor``; of one that is lost, all its tasks. Only the task that it was at counts as
        an attempt: those behind it were never begun."""
        reference, task = actor.tasks.popleft()
        try:
            answer: Answer = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            lost: list[tuple[Task, Answer]] = [
                (task, Failure(f"its worker was lost: {_line(error)}", again=True))
            ]
            spared = [replace(waiting, lost=waiting.lost - 1) for _, waiting in actor.tasks]
            self._replace(actor, _line(error))
            return [*lost, *((waiting, Failure("its worker was lost", again=True)) for waiting in spared)]
        self._losses = 0
        return [(task, answer)]

    def _replace(self, actor: _Actor, reason: str) -> None:
        self._losses += 1
        if self._losses > LOSSES * self._wanted:
            raise ClesrError(f"{self._losses} workers in a row were lost, the last: {reason}")
        log.warning(f"a worker was lost, another takes its place: {reason}")
        self._ray.kill(actor.handle)
        self._actors[self._actors.index(actor)] = self._start()

    def _remind(self) -> None:
        """Say what is waited for where no worker has started for a while."""
        now = SYSTEM.now_ns()
        if any(actor.ready for actor in self._actors):
            self._reminder_ns = now
        elif now - self._reminder_ns > STARTING_S * 1e9:
            self._reminder_ns = now
            log.warning(f"waiting for the cluster: no worker with {self._resources} has started yet")


def _connect(address: str) -> Any:
    """The module ``ray``, connected."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if address == "local":
        os.environ.update(ALONE)
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(
            "--cluster needs Ray, which is not installed: pip install 'clesr[cluster]'"
        ) from error
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address == "local":
        options |= {"include_dashboard": False, "object_store_memory": STORE_BYTES}
        options["num_cpus"] = core_count()
    elif address != "auto":
        _check_answers(address)
    try:
        ray.init(address=address, **options)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise ClesrError(f"--cluster {address}: {_line(error)}; {ADVICE}") from error
    if address == "local" and ray.util.get_node_ip_address() != LOOPBACK:  # type: ignore[no-untyped-call]
        ray.shutdown()
        raise ClesrError(
            "--cluster local: Ray was loaded before and would listen to other machines; start clesr as a command"
        )
    return ray


def _check_answers(address: str) -> None:
    """Raises UsageError where ``address`` is no HOST:PORT, ClesrError where nobody listens there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"--cluster {address} is no address; {ADVICE}")
    with told_as(ClesrError, f"--cluster {address} does not answer ({WHY}); {ADVICE}"):
        socket.create_connection((host, int(port)), ANSWER_S).close()


def _resources(having: dict[str, float], settings: Settings, gpus: float) -> dict[str, Any]:
    """What one worker takes of a cluster that is ``having`` so much."""
    threads = min(settings.threads or 1, max(1, int(having.get("CPU", 1))))
    on_gpu = having.get("GPU") and settings.device != "cpu"
    return {"num_cpus": threads, "num_gpus": gpus if on_gpu else 0}


def _line(error: BaseException | None) -> str:
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return lines[-1] if "creation task" in lines[0] else lines[0]
