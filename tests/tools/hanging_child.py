"""`clesr-live` in which one part never returns: it waits in C for a lock that nobody frees, so no signal wakes it.

    hanging_child.py PART OPTIONS...

Prints "hangs" when it does.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

from clesr.engines import opener
from clesr.engines.common.files import WriteRule
from clesr.engines.factory import open_engine
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.sinks.placement import WindowPlacement
from clesr.tools import entry, live_run

FRAMES = 12  # that pass before


def hang() -> None:
    print("hangs", flush=True)
    library, lock = ctypes.CDLL(None), ctypes.create_string_buffer(256)
    library.pthread_mutex_lock(lock)
    library.pthread_mutex_lock(lock)


def after(calls: int, work: Callable[..., Any]) -> Callable[..., Any]:
    """``work``, whose ``calls``-th call never returns."""
    done = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal done
        done += 1
        if done == calls:
            hang()
        return work(*arguments, **options)

    return counted


class Sink:
    name, policy = "stuck", Policy.BLOCK

    def write(self, result: object) -> None:
        pass

    def close(self) -> str | None:
        return None


class Window(Sink):
    policy = Policy.DROP_OLDEST

    def refresh(self, status: object) -> bool:
        return True


def break_it(part: str) -> None:
    opening = {"engine opening": (opener, "open_engine"), "source opening": (live_run, "open_source")}
    if part in opening:
        module, name = opening[part]
        setattr(module, name, after(1, getattr(module, name)))
    elif part == "engine":

        def opened(*arguments: Any, **options: Any) -> Any:
            engine = open_engine(*arguments, **options)
            engine.collect = after(FRAMES, engine.collect)  # type: ignore[method-assign]
            return engine

        setattr(opener, "open_engine", opened)  # noqa: B010 - which the module does not export
    elif part == "source":
        from clesr.pipeline.sources.simulator.demo import DemoSource

        DemoSource.read = after(FRAMES, DemoSource.read)  # type: ignore[method-assign]
    else:
        sink = Window() if part == "window" else Sink()
        method = {"sink": "write", "closing": "close", "window": "refresh"}[part]
        setattr(sink, method, after(1 if part == "closing" else FRAMES, getattr(sink, method)))
        opening_sinks = live_run._open_sinks

        def open_sinks(stream: live_run.Stream, place: WindowPlacement, rule: WriteRule) -> None:
            opening_sinks(stream, place, rule)
            stream.sinks.append(sink)

        live_run._open_sinks = open_sinks


if __name__ == "__main__":
    break_it(sys.argv[1])
    sys.argv[1:2] = ["live"]
    entry.main()
