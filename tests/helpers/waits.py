"""Waits that end: what does not come within a minute fails with words, instead of with its whole worker."""

from __future__ import annotations

import threading
from multiprocessing.process import BaseProcess
from typing import IO, AnyStr

PATIENCE_S = 60.0


def joined(*threads: threading.Thread | BaseProcess, seconds: float = PATIENCE_S) -> None:
    """Wait for the end of each thread or process; fails where one goes on for so many seconds."""
    for thread in threads:
        thread.join(seconds)
        if thread.is_alive():
            raise AssertionError(f"{thread.name} still runs after {seconds:g} s")


def line_from(stream: IO[AnyStr] | None, seconds: float = PATIENCE_S) -> AnyStr:
    """The next line of a process, an empty one at its end; fails where none comes for so many seconds."""
    assert stream is not None, "the process has no pipe there"
    lines: list[AnyStr] = []
    reader = threading.Thread(target=lambda: lines.append(stream.readline()), daemon=True)
    reader.start()
    reader.join(seconds)
    if not lines:
        raise AssertionError(f"the process said nothing for {seconds:g} s")
    return lines[0]
