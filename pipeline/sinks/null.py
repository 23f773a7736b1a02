"""A sink that keeps nothing: for measuring, and for runs where only the summary counts."""

from __future__ import annotations

from clesr.pipeline.frame import Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.sinks.registry import DEFAULTS, SinkOptions


class Null:
    """Takes every result and counts it."""

    name = "null"
    policy = Policy.BLOCK

    def __init__(self, _address: str = name, _options: SinkOptions = DEFAULTS) -> None:
        self.written = 0

    def write(self, result: Result) -> None:
        self.written += 1

    def close(self) -> str | None:
        return f"null: {self.written} results taken, nothing kept"
