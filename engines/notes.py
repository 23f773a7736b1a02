"""What the user must know while an engine is opened: a cache file that is not used, an image that is cut into tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_listener: ContextVar[Callable[[str], None] | None] = ContextVar("clesr_notes", default=None)


def note(line: str) -> None:
    """Tell ``line`` to whoever opened the engine; lost where nobody listens."""
    listener = _listener.get()
    if listener is not None:
        listener(line)


@contextmanager
def noting(listener: Callable[[str], None]) -> Iterator[None]:
    """Within the block, notes of this thread go to ``listener``, each once."""
    said: set[str] = set()

    def once(line: str) -> None:
        if line not in said:
            said.add(line)
            listener(line)

    token = _listener.set(once)
    try:
        yield
    finally:
        _listener.reset(token)
