"""What a target of the fuzzer is."""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path
from random import Random

from clesr.engines.common.errors import ClesrError, EndOfSource
from clesr.pipeline.source import Source
from fuzz.mutations import flip


class Target:
    """One kind of outside bytes. ``folder`` is a place for the files that it needs, empty at first.

    ``run`` uses ``data`` as clesr would; it may raise what is ``allowed``, and anything else is a finding.
    """

    allowed: tuple[type[Exception], ...] = (ClesrError,)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def seeds(self) -> list[bytes]:
        """Good inputs, and bad ones of known kinds, that mutation begins with, beside those in the corpus."""
        raise NotImplementedError

    def mutate(self, rng: Random, data: bytes) -> bytes:
        return flip(rng, data)

    def run(self, data: bytes) -> None:
        raise NotImplementedError


def drain(source: Source, most: int = 40) -> None:
    """Read ``most`` items of ``source``, or all, and close it."""
    with closing(source), suppress(EndOfSource):
        for _ in range(most):
            if source.read(0.2) is None:
                return
