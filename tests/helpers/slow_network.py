"""A network between two programs of this machine on which all that is sent is under way for a while."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from waits import joined

PIECE, PACKET = 1 << 16, 1 << 12


class SlowNetwork:
    """Leads connections to 127.0.0.1:``port`` on to ``to``. What comes back is ``down_s`` seconds under way, what goes
    there ``up_s``; both may be changed at any time, and count for what is sent from then on. ``bytes_s`` is how many
    come back in a second. While it is ``cut`` nothing arrives, and nobody is told; what begins then is lost."""

    def __init__(self, to: int) -> None:
        self.port, self.down_s, self.up_s, self.bytes_s = 0, 0.0, 0.0, math.inf
        self.cut = False
        self._to, self._loop = to, asyncio.new_event_loop()
        self._begun, self._over = threading.Event(), self._loop.create_future()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        assert self._begun.wait(60)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set_result, None)
        joined(self._thread)
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._lead, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._begun.set()
        await self._over
        server.close()
        ours = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in ours:
            task.cancel()
        await asyncio.gather(*ours, return_exceptions=True)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError, OSError), ExitStack() as ended:
            ended.callback(writer.transport.abort)
            if self.cut:
                await asyncio.sleep(math.inf)
            there, on = await asyncio.open_connection("127.0.0.1", self._to)
            ended.callback(on.transport.abort)
            ways = [
                asyncio.create_task(self._carry(reader, on, lambda: self.up_s, lambda: math.inf)),
                asyncio.create_task(self._carry(there, writer, lambda: self.down_s, lambda: self.bytes_s)),
            ]
            for way in ways:
                ended.callback(way.cancel)
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        delay_s: Callable[[], float],
        bytes_s: Callable[[], float],
    ) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def arrive() -> None:
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(due - self._loop.time())
                if not data:
                    return
                for at in range(0, len(data), PACKET):
                    packet = data[at : at + PACKET]
                    await asyncio.sleep(len(packet) / bytes_s())
                    if self.cut:
                        await asyncio.sleep(math.inf)
                    writer.write(packet)

        arriving = asyncio.create_task(arrive())
        try:
            data = b" "
            while data:
                data = await reader.read(PIECE)
                under_way.put_nowait((self._loop.time() + delay_s(), data))
            await arriving
        finally:
            arriving.cancel()


@contextmanager
def slow_network(to: int) -> Iterator[SlowNetwork]:
    made = SlowNetwork(to)
    try:
        yield made
    finally:
        made.close()
