"""Work that may wait, off the server's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

from clesr.pipeline.messages import stream_thread

P = ParamSpec("P")
T = TypeVar("T")
MOST = 16  # that work side by side


class Threads:
    """Runs functions on threads that hold up neither the server nor, at the end, the process."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(MOST)

    async def run(self, work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """What ``work`` returns, or raises."""
        await self._room.acquire()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(value: T | None, error: BaseException | None) -> None:
            self._room.release()
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)  # type: ignore[arg-type]

        def run() -> None:
            value, raised = None, None
            try:
                value = work(*arguments, **options)
            except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
                raised = error
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, value, raised)

        stream_thread("clesr browser work", run).start()
        return await future
