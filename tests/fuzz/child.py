"""The process in which a target runs: mutated inputs, one after the other, at once where they do no harm.

``python -m fuzz.child TARGET SEED INPUTS END SCRATCH FINDINGS``; ends with CAUGHT where it should not go on in this
process. ``python -m fuzz.child TARGET SCRATCH`` tries once more what ended one. Times are those of time.monotonic.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path
from random import Random

from fuzz.board import Board
from fuzz.findings import Findings, lines_of_clesr
from fuzz.target import Target
from fuzz.targets import corpus, load

HANG_S = 5.0
MEMORY = 500 << 20  # bytes that an input may take
SPARE = 140 << 20  # address space beyond, for stacks of threads and the like
POOL = 400  # inputs that mutation begins with
SMALL = 25_000  # bytes of such an input: larger ones cost more time than they find
LEFT = 1 << 30  # bytes that inputs may leave behind before another process goes on
ANEW = 512  # inputs after which memory is measured anew
UNSEEN_S = 1e-3  # in which nobody fills so much memory that it is worth looking
CAUGHT = 3
REFUSED = "annot allocate memory"  # what the system says, and FFmpeg


class Hang(BaseException):
    """The watching process says that an input takes too long."""


class Memory(Exception):
    """An input took more memory than it may."""


class Child:
    """Runs ``target`` and keeps what it finds."""

    def __init__(self, target: Target, name: str, board: Board, findings: Findings) -> None:
        self.target, self.board, self.findings = target, board, findings
        self.seeds = [data for data in [*target.seeds(), *corpus(name)] if not findings.is_avoided(data)]
        self.pool = [data for data in self.seeds if len(data) <= SMALL] or [b""]
        self.count = board.read()[0]
        self.started = 0.0
        self.sound = True  # whether this process may go on
        self._seen: set[object] = set()
        self._peak, self._before, self._most = Peak(), 0, 0

    def warm(self) -> None:
        """Load what is loaded lazily, then take memory for measure and limit."""
        self.listen()
        for data in self.seeds:
            if self.sound:
                self.attempt(data)
        gc.collect()
        gc.freeze()
        self._limit()

    def listen(self) -> None:
        """From now on SIGALRM ends an input that takes too long."""
        signal.signal(signal.SIGALRM, self._ring)

    def fuzz(self, rng: Random, inputs: int, end: float) -> None:
        """``inputs`` in all, until ``end``."""
        while self.sound and self.count < inputs and time.monotonic() < end:
            if not self.count % ANEW:
                self._limit()
            data = self.target.mutate(rng, self.pool[int(rng.random() * len(self.pool))])
            if self.attempt(data) and len(self.pool) < POOL and len(data) <= SMALL:
                self.pool.append(data)
        self.board.rest(self.count)

    def attempt(self, data: bytes) -> bool:
        """Whether what came of ``data`` is new."""
        self.count += 1
        self.started = time.monotonic()
        self.board.begin(self.count, self.started, data)
        outcome: object = None
        try:
            self.target.run(data)
        except self.target.allowed as error:
            cause = error.__cause__
            if REFUSED in str(error):  # FFmpeg's words, whose errors are MemoryErrors too
                unsound = not self._is_refused_anyway(data)
            else:
                unsound = isinstance(cause, MemoryError)
            if unsound:
                self._caught("memory", error, data)
            outcome = _signature(error)
        except Hang as error:
            if self._hangs_again(data):
                self._caught("hang", error, data)
            self.sound = False
        except MemoryError as error:
            self._caught("memory", error, data)
        except Exception as error:  # noqa: BLE001 - what a fuzzer is for
            self.findings.add("error", f"{type(error).__name__}: {error}"[:300], lines_of_clesr(error), data)
            outcome = _signature(error)
        slow = time.monotonic() - self.started > UNSEEN_S
        if slow and self._before and (more := self._peak() - self._before) > MEMORY:
            self._caught("memory", Memory(f"{more >> 20} MB more"), data)
        if outcome in self._seen:
            return False
        self._seen.add(outcome)
        return True

    def _limit(self) -> None:
        """Measure and limit memory from what is held now, so that what many inputs leave behind is nobody's fault."""
        Path("/proc/self/clear_refs").write_text("5")  # begins VmHWM anew
        self._before = self._peak()
        self._most = self._most or self._before + LEFT
        self.sound = self.sound and self._before < self._most
        space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (space + MEMORY + SPARE, -1))

    def _is_refused_anyway(self, data: bytes) -> bool:
        """Whether it was not our limit: FFmpeg refuses by itself to take 2 GB at once, and says the same."""
        limit = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        try:
            self.target.run(data)
        except self.target.allowed as error:
            return REFUSED in str(error)
        except Exception:  # noqa: BLE001 - another end than the one that was seen
            return False
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limit)
        return False

    def _hangs_again(self, data: bytes) -> bool:
        """Whether it was not only that the machine had no time."""
        self.started = time.monotonic()
        self.board.begin(self.count, self.started, data)
        try:
            self.target.run(data)
        except Hang:
            return True
        except Exception:  # noqa: BLE001 - found when it is tried again
            return False
        return False

    def _caught(self, kind: str, error: BaseException, data: bytes) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        text = f"{type(error).__name__}: {error}"[:300]
        self.findings.add(kind, text, lines_of_clesr(error), data)
        self.findings.avoid(data)
        self.sound = False

    def _ring(self, _number: int, _frame: object) -> None:
        if time.monotonic() - self.started > HANG_S:
            self.started = time.monotonic()  # or the next signal would come while this is noted down
            raise Hang(f"more than {HANG_S:g} s")


class Peak:
    """The most bytes that this process has held. (getrusage also counts what its parent held when it was started.)"""

    def __init__(self) -> None:
        self._file = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)

    def __call__(self) -> int:
        status = os.pread(self._file, 4096, 0)
        at = status.index(b"VmHWM:") + len(b"VmHWM:")
        return int(status[at : status.index(b"k", at)]) << 10


def _signature(error: BaseException) -> object:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return type(error), trace and (trace.tb_frame.f_code, trace.tb_lineno)


def again(name: str, scratch: str) -> int:
    """Once more what is on the board."""
    place = Path(scratch)
    _, _, data = Board(place / "board").read()
    with tempfile.TemporaryDirectory(dir=place) as folder:
        target = load(name)(Path(folder))
        with suppress(Exception):
            target.run(data)
    return 0


def main(name: str, seed: str, inputs: str, end: str, scratch: str, findings: str) -> int:
    place = Path(scratch)
    faulthandler.enable((place / "faults").open("w"))
    warnings.simplefilter("ignore")
    os.fsync = os.fdatasync = lambda _file: None  # type: ignore[assignment]  # what counts here is what is written
    board = Board(place / "board")
    with tempfile.TemporaryDirectory(dir=place) as folder:
        target = load(name)(Path(folder))
        child = Child(target, name, board, Findings(Path(findings), name))
        child.warm()
        child.fuzz(Random(seed), int(inputs), float(end))
    return 0 if child.sound else CAUGHT


if __name__ == "__main__":
    code = (again if len(sys.argv) == 3 else main)(*sys.argv[1:])
    os._exit(code)
