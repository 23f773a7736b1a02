"""Targets with known faults, by which the fuzzer itself is tested."""

from __future__ import annotations

import os
import signal
import time

from clesr.engines.common.errors import UsageError
from fuzz.target import Target


class Fine(Target):
    def seeds(self) -> list[bytes]:
        return [b"fine"]

    def run(self, data: bytes) -> None:
        if len(data) % 2:
            raise UsageError("an odd number of bytes")


class Rare(Fine):
    """A fault that no seed shows."""

    def run(self, data: bytes) -> None:
        if data[:1] not in b"fi":
            raise KeyError(data[:1])


class Stuck(Fine):
    """Python code that does not end."""

    def run(self, data: bytes) -> None:
        while b"fine" not in data:
            pass


class Deaf(Fine):
    """Code that does not end and lets nobody interrupt it."""

    def run(self, data: bytes) -> None:
        if b"fine" not in data:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
            time.sleep(3600)


class Greedy(Fine):
    """Memory that is asked for at once."""

    def run(self, data: bytes) -> None:
        if b"fine" not in data:
            bytearray(700 << 20)


class Growing(Fine):
    """Memory that is asked for in many parts."""

    def run(self, data: bytes) -> None:
        if b"fine" not in data:
            parts = [bytearray(b"x" * (1 << 20)) for _ in range(520)]
            del parts


class Dying(Fine):
    def run(self, data: bytes) -> None:
        if b"fine" not in data:
            os.kill(os.getpid(), signal.SIGSEGV)
