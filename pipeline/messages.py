"""Log messages of live runs: which stream they are about, where several run side by side."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

stream_name: ContextVar[str | None] = ContextVar("clesr_stream", default="")
"""The stream that a thread works for: empty where there is only one, None where its messages interest nobody."""


@contextmanager
def naming(name: str | None) -> Iterator[None]:
    """What is made in the block works for the stream ``name``, as do its threads."""
    token = stream_name.set(name)
    try:
        yield
    finally:
        stream_name.reset(token)


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """For what must go on whatever the handlers of an application raise."""

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        with suppress(Exception):
            super().log(level, msg, *args, **options)
