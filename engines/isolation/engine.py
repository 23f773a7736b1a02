"""An engine in a process of its own: one that hangs or crashes takes nothing else with it, and is killed."""

from __future__ import annotations

import logging
import math
import pickle
import socket
import subprocess
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import WHY, EngineError, on_error, told_as
from clesr.engines.common.image import Image
from clesr.engines.common.parent import start_child
from clesr.engines.common.shared_message import SharedMessage
from clesr.engines.common.waiting import readable
from clesr.engines.engine import Engine
from clesr.engines.guidance import Guidance
from clesr.engines.isolation.messages import MOST_BYTES, EngineRequest, Opened, Said
from clesr.engines.opener import EngineOpener

log = logging.getLogger(__name__)
PROGRAM = "clesr.engines.isolation.process"
FRAME_S = 2.0  # that a frame may take at least, before the process is killed
FIRST_S = 30.0  # that the first one may take, which makes memory and loads kernels; the most for any
OPEN_S = 300.0  # to be opened for a size for the first time: engines are compiled, tested and timed
AGAIN_S = 30.0  # to be opened again at least
SLOWER = 5.0  # times what it took before: what is slow by nature is not taken for hung
TOLD_S = 30.0  # after which it is said that opening takes long, and how long it may
END_S = 2.0
SLOTS = 4  # frames that may be in flight at most


class IsolatedOpener(EngineOpener):
    """Opens engines as `EngineOpener` does, each in a process of its own.

    What was chosen and found to be fast the first time is opened at once the next, in a process that waits with its
    libraries loaded. Opening may take ``OPEN_S`` for a new size, and for one that was opened ``SLOWER`` times what that
    took, ``AGAIN_S`` at least.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._found: dict[str, Any] = {}
        self._spare: list[EngineProcess] = []
        self._took_s: dict[tuple[int, int], float] = {}  # to be opened, by shape
        weakref.finalize(self, _close_all, self._spare)

    def _chosen(self, shape: tuple[int, int]) -> Engine:
        before, begin = self._took_s.get(shape), SYSTEM.now_ns()
        limit_s = OPEN_S if before is None else min(OPEN_S, max(AGAIN_S, SLOWER * before))
        given = {**self.given, "fps": self.fps, **self._found}
        engine = IsolatedEngine(self._take_process(), given, shape, open_s=limit_s)
        self._took_s[shape] = max(before or 0.0, (SYSTEM.now_ns() - begin) / 1e9)
        self._found = {"model": engine.opened.model}
        if engine.info.model_hash:  # interpolation is no engine that can be asked for
            self._found["engine"] = engine.info.engine
        with suppress(EngineError):  # this one works
            self._spare.append(EngineProcess(spare=True))
        return engine

    def _take_process(self) -> EngineProcess:
        """The spare one where it lives, else a new one."""
        with suppress(IndexError):
            while True:
                process = self._spare.pop()
                if process.alive:
                    return process
                process.close()
        return EngineProcess()


def _close_all(processes: list[EngineProcess]) -> None:
    for process in processes:
        process.close()


class EngineProcess:
    """A process that opens one engine when it is told to. A ``spare`` one takes no time from others until then. Raises
    EngineError where it cannot be started; any method does where it has died."""

    def __init__(self, *, spare: bool = False) -> None:
        self._messages: list[SharedMessage] = []
        with (
            told_as(EngineError, f"the engine's process cannot be started: {WHY}"),
            on_error(self._free_memory),
        ):
            for _ in range(2 * SLOTS):
                self._messages.append(SharedMessage())
            self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            descriptors = [one.descriptor for one in self._messages]
            with theirs, on_error(self._connection.close):
                words = (theirs.fileno(), *["spare"] * spare)
                self._process = start_child(PROGRAM, *words, descriptors=[theirs.fileno(), *descriptors])

        self.slots = list(zip(self._messages[::2], self._messages[1::2], strict=True))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, name: str, *arguments: object) -> None:
        try:
            self._connection.send(pickle.dumps((name, arguments)))
        except OSError as error:
            raise self._died() from error

    def answer(self, limit_s: float, told_s: float = math.inf) -> Any:
        """What the process answers within ``limit_s`` seconds; what it says meanwhile is logged. That it takes longer
        than ``told_s`` is said. Raises EngineError where it does not answer, and kills it."""
        begun_ns = SYSTEM.now_ns()
        while True:
            took_s = (SYSTEM.now_ns() - begun_ns) / 1e9
            wait_s = (told_s if took_s < told_s < limit_s else limit_s) - took_s
            if wait_s <= 0 or not readable(self._connection, wait_s):  # also where it only talks
                if took_s + wait_s < limit_s:
                    log.warning(
                        f"the engine's process has not answered for {told_s:.0f} s; it is killed after {limit_s:.0f} s"
                    )
                    continue
                self._kill()
                raise EngineError(f"the engine's process has not answered for {limit_s:.0f} s and was killed")
            try:
                packet = self._connection.recv(MOST_BYTES)
            except OSError:
                packet = b""
            if not packet:
                raise self._died()
            answer = pickle.loads(packet)
            if not isinstance(answer, Said):
                return answer
            logging.getLogger(answer.logger).log(answer.level, "%s", answer.text)

    def close(self) -> None:
        """End it; it is killed where it does not. May be called twice."""
        self._connection.close()
        if self._process.returncode is None:
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._kill()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._free_memory()

    def _died(self) -> EngineError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        self._kill()
        code = self._process.returncode
        if code is None:
            how = "does not even end"
        else:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
        return EngineError(f"the engine's process {how}")

    def _kill(self) -> None:
        """One that a driver holds ends when that lets it go; nobody waits for that."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)

    def _free_memory(self) -> None:
        for one in self._messages:
            one.close()


class IsolatedEngine:
    """The engine that ``EngineOpener(**arguments)`` opens for LR ``shape`` (H, W), in ``process``.

    ``collect`` raises EngineError where the process has died, or a frame takes more than ``frame_s`` seconds and far
    longer than those before: it is killed then, and so is this engine's use. The first frame, which tells nothing of
    the others, and the second may take ``first_s``, and none more. Images are handed over in shared memory. Raises what
    opening raises, and EngineError where that takes more than ``open_s``.
    """

    def __init__(
        self,
        process: EngineProcess,
        arguments: dict[str, Any],
        shape: tuple[int, int],
        *,
        open_s: float = OPEN_S,
        first_s: float = FIRST_S,
        frame_s: float = FRAME_S,
        clock: Clock = SYSTEM,
    ) -> None:
        self._process, self._first_s, self._frame_s, self._clock = process, first_s, frame_s, clock
        self._collected, self._longest_s = 0, 0.0  # of frames after the first
        self._free, self._taken = deque(range(SLOTS)), deque[int]()
        self._reprojected: Sequence[Image] = ()
        with on_error(self.close):
            descriptors = [(given.descriptor, made.descriptor) for given, made in process.slots]
            process.send("open", EngineRequest(arguments, shape, descriptors))
            opened = process.answer(open_s, TOLD_S)
            if isinstance(opened, Exception):
                raise opened
        self.opened: Opened = opened
        self.info, self.depth = opened.info, min(opened.depth, SLOTS)
        self._checking = opened.checking

    def __getattr__(self, name: str) -> Any:
        """What not every engine offers: there where this one does."""
        opened: Opened | None = self.__dict__.get("opened")
        if opened is not None:
            if name == "reprojected" and self._checking:
                return self._reprojected
            if (name == "check" and opened.on_request) or (name == "correct" and opened.correcting):
                return lambda: self._ask(name)
        raise AttributeError(name)

    @property
    def pid(self) -> int:
        """Of the process that computes."""
        return self._process.pid

    def submit(self, lr: Image, guidance: Guidance | None = None) -> None:
        self.info.check_shape(lr)
        slot = self._free.popleft()
        self._taken.append(slot)
        self._process.send("submit", slot, self._process.slots[slot][0].put((lr, guidance)))

    def collect(self) -> Image:
        if not self._taken:
            raise RuntimeError("nothing is in flight")
        slot = self._taken.popleft()
        self._free.append(slot)
        begin = self._clock.now_ns()
        self._process.send("collect")
        usual_s = min(self._first_s, max(self._frame_s, SLOWER * self._longest_s))
        answer = self._process.answer(usual_s if self._collected > 1 else self._first_s)
        if self._collected:
            self._longest_s = max(self._longest_s, (self._clock.now_ns() - begin) / 1e9)
        self._collected += 1
        if isinstance(answer, str):
            raise EngineError(answer)
        image, reprojected = self._process.slots[slot][1].get(answer)
        self._reprojected = [np.array(one) for one in reprojected]
        copy: Image = np.array(image)
        return copy

    def close(self) -> None:
        self._process.close()

    def _ask(self, what: str) -> None:
        self._process.send("ask", what)
        self._checking = self._process.answer(self._first_s)
