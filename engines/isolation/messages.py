"""What an isolated engine's process and its parent say to each other."""

from __future__ import annotations

from typing import Any, NamedTuple

from clesr.engines.engine import EngineInfo

MOST_BYTES = 1 << 17  # of one packet


class EngineRequest(NamedTuple):
    """What is to be opened: arguments of an ``EngineOpener``, and the LR shape (H, W). ``slots`` are the descriptors of
    shared memory, one pair for each frame that may be in flight: for what comes, and for what is made of it."""

    arguments: dict[str, Any]
    shape: tuple[int, int]
    slots: list[tuple[int, int]]


class Opened(NamedTuple):
    """What was opened: ``model`` and ``engine`` are the names by which it is opened again; the rest is what the engine
    offers beside its images."""

    info: EngineInfo
    depth: int
    model: str
    checking: bool
    on_request: bool
    correcting: bool


class Said(NamedTuple):
    """A message of the process to the log of the other one."""

    logger: str
    level: int
    text: str
