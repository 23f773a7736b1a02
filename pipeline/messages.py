"""Log messages of live runs: which stream they are about, where several run side by side."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
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


def stream_thread(name: str, work: Callable[..., object], *arguments: object) -> threading.Thread:
    """A daemon thread, not yet started, that works for the stream of whoever makes it."""
    return threading.Thread(target=copy_context().run, args=(work, *arguments), name=name, daemon=True)


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """For what must go on whatever the handlers of an application raise. Records have the ``stream`` that they are
    about."""

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        return msg, {**kwargs, "extra": {"stream": stream_name.get()}}

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        with suppress(Exception):
            super().log(level, msg, *args, **options)
