"""One socket that looks at a channel.

The server sends JSON texts with one key, which says what it is: ``hello``, ``streams``, ``status``, ``view``, ``told``.
``picture`` is the header of a picture, whose PNG or JPEG file of ``bytes`` bytes follows as binary messages, a piece
each, texts between them: so the page hears something while a slow network brings a large one. The page answers each
picture by ``{"ack": id}`` when it is drawn; a second is sent when the one on its way will soon be drawn, so that the
newest is never long behind others. It
says its own time in milliseconds at first, then now and then, by ``{"now": 1234.5}``, which is answered by ``opening``
while there is no status yet; the header of a picture has the moment of capture by that clock (``captured_ms``). It may
send ``{"quality": 90}``, and ``{"call": name, "arguments": {...}, "id": 1}``, which is answered by
``{"told": {"id": 1, ...}}``.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import ClesrError, first_line
from clesr.engines.common.parsing import Int64, check_depth, parse_json
from clesr.pipeline.sinks.browser.channel import Channel
from clesr.pipeline.sinks.browser.feed import QUALITIES, USUAL, Picture
from clesr.pipeline.sinks.browser.page_clock import PageClock
from clesr.pipeline.sinks.browser.threads import Threads

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

ON_THE_WAY = 2  # pictures that were sent and are not acknowledged, at most
LEAD_NS = 15_000_000  # before a picture is drawn, in which the next one is made and sent
LEARNED = 0.2  # of how long a picture took, on its way and to be drawn
MOST_CALLS = 8  # that may wait for a disk or a device
MOST_ANSWERS = 64  # that wait for the page to read them
PIECE = 1 << 15  # bytes that are sent together: at 175 kbit/s a page hears us before it takes us for gone
MESSAGES_S, BURST = 200.0, 400.0  # messages a second that a page may send, and how many at once
MOST_MS = 1e13  # of a page's clock
POLICY = 1008  # WebSocket's code for who breaks the rules
ENDED = 1000
REASON_BYTES = 120  # of the words with which a WebSocket is closed


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a page sends: one of these, as the module says."""

    ack: Int64 | None = None
    now: Annotated[float, Meta(ge=0, le=MOST_MS)] | None = None
    quality: Int64 | None = None
    call: Annotated[str, Meta(max_length=100)] | None = None
    arguments: dict[str, Any] = {}
    id: Int64 = 0


class RuleBroken(Exception):
    """The page sends what it must not; it is cut off."""


class Viewer:
    """A page that looks at ``channel`` through ``socket``. All of it is on the server's thread."""

    def __init__(
        self, socket: WebSocket, channel: Channel, threads: Threads, *, clock: Clock = SYSTEM
    ) -> None:
        self._socket, self._channel, self._threads, self._clock = socket, channel, threads, clock
        self._wake = asyncio.Event()
        self._quality = USUAL
        self._told: dict[str, int] = {}  # of each kind of text: the last that was sent
        self._answers: deque[str] = deque()
        self._pieces: deque[str | bytes] = deque()  # of the picture that is being sent
        self._calls: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Task[None]] = set()  # those of them that may wait for a disk or a device
        self._quick, self._asker = Threads(), object()
        self._page_clock = PageClock()
        self._sent = self._acknowledged = 0
        self._begun_ns = 0  # when the picture on its way was sent, or the one before it was drawn
        self._takes_ns = 0.0  # a picture from then on until it is drawn
        self._later: asyncio.TimerHandle | None = None
        self._shown = 0  # version of the last picture that was sent
        self._since: int | None = None  # version of the feed when the next picture was first asked for
        self._opening = False  # whether the page is to be told that the run is being opened
        self._tokens, self._refilled_ns = BURST, clock.now_ns()

    async def run(self) -> None:
        """Serve the page until it goes, the channel ends, or it breaks a rule."""
        from starlette.websockets import WebSocketDisconnect

        await self._socket.accept()
        self._channel.watchers.add(self._wake)
        self._wake.set()
        tasks = [asyncio.create_task(work()) for work in (self._send_all, self._receive_all)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                with suppress(WebSocketDisconnect):
                    task.result()
        except RuleBroken as error:
            await self._socket.close(POLICY, str(error).encode()[:REASON_BYTES].decode(errors="ignore"))
        finally:
            self._channel.watchers.discard(self._wake)
            if self._later is not None:
                self._later.cancel()
            for task in (*tasks, *self._calls):
                task.cancel()
            await asyncio.gather(*tasks, *self._calls, return_exceptions=True)

    async def _receive_all(self) -> None:
        while True:
            event = await self._socket.receive()
            if event["type"] == "websocket.disconnect":
                return
            self._limit_rate()
            text = event.get("text")
            try:
                message = parse_json(text or "", Message)
                check_depth(message.arguments)
                self._take(message)
            except ValueError as error:
                raise RuleBroken(f"the message {error}") from None

    def _limit_rate(self) -> None:
        now = self._clock.now_ns()
        self._tokens = min(BURST, self._tokens + MESSAGES_S * (now - self._refilled_ns) / 1e9) - 1
        self._refilled_ns = now
        if self._tokens < 0:
            raise RuleBroken("too many messages")

    def _take(self, message: Message) -> None:
        if message.ack is not None:
            if not self._acknowledged <= message.ack <= self._sent:
                raise RuleBroken(f"picture {message.ack} was not sent")
            if message.ack > self._acknowledged:
                self._drawn(self._clock.now_ns())
            self._acknowledged = message.ack
        if message.now is not None:
            self._page_clock.hear(message.now, self._clock.now_ns())
            self._opening = "status" not in self._channel.texts
        if message.quality is not None:
            if message.quality not in QUALITIES:
                raise RuleBroken(f"quality is one of {', '.join(map(str, QUALITIES))}")
            self._shown -= self._quality != message.quality  # what is on show comes again, in the new one
            self._quality = message.quality
        if message.call is not None:
            self._begin(message.call, message)
        self._wake.set()

    def _drawn(self, now_ns: int) -> None:
        took_ns = now_ns - self._begun_ns
        self._takes_ns += (took_ns - self._takes_ns) * (LEARNED if self._takes_ns else 1.0)
        self._begun_ns = now_ns

    def _begin(self, name: str, message: Message) -> None:
        if len(self._answers) >= MOST_ANSWERS:
            raise RuleBroken("answers are not read")
        waits = self._channel.waits(name)
        if (waits and len(self._waiting) >= MOST_CALLS) or len(self._calls) >= MOST_ANSWERS:
            self._answer(message.id, {"error": f"{name}: too many actions are still at work; try again"})
            return
        task = asyncio.create_task(self._call(name, message, self._threads if waits else self._quick))
        for tasks in (self._calls, self._waiting) if waits else (self._calls,):
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _call(self, name: str, message: Message, threads: Threads) -> None:
        """Those that wait for nothing have ``threads`` of their own, and are done beside any that do."""
        try:
            told = dict(await threads.run(self._channel.call, name, message.arguments, self._asker))
        except ClesrError as error:
            told = {"error": first_line(error)}
        except Exception as error:  # noqa: BLE001 - an action's fault is no reason to cut the page off
            told = {"error": f"{name}: {first_line(error)}"}
        self._answer(message.id, told)

    def _answer(self, number: int, told: dict[str, Any]) -> None:
        self._answers.append(json.dumps({"told": {"id": number, **told}}, default=str))
        self._wake.set()

    async def _send_all(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            ended = self._channel.ended  # what was told before the end is sent
            while (message := self._next()) is not None:
                if isinstance(message, str):
                    await self._socket.send_text(message)
                else:
                    await self._socket.send_bytes(message)
            if ended:
                await self._socket.send_text('{"ended":true}')
                await self._socket.close(ENDED)
                return

    def _next(self) -> str | bytes | None:
        """What is to be sent now; None where there is nothing."""
        if self._answers:
            return self._answers.popleft()
        for kind, (number, text) in list(self._channel.texts.items()):
            if self._told.get(kind, 0) < number:
                self._told[kind] = number
                return text
        if self._opening:
            self._opening = False
            return '{"opening":true}'
        ready = self._page_clock.known and not self._pieces and self._has_room()
        if ready and (picture := self._picture()) is not None:
            self._pieces.extend(self._cut(picture))
        return self._pieces.popleft() if self._pieces else None

    def _has_room(self) -> bool:
        """Whether a picture can be sent: none is on its way, or one that is soon drawn; else we look again then."""
        waiting = self._sent - self._acknowledged
        early_ns = self._begun_ns + self._takes_ns - LEAD_NS - self._clock.now_ns() if waiting else 0.0
        if waiting and waiting < ON_THE_WAY and early_ns > 0:
            if self._later is not None:
                self._later.cancel()
            self._later = asyncio.get_running_loop().call_later(early_ns / 1e9, self._wake.set)
        return waiting < ON_THE_WAY and early_ns <= 0

    def _picture(self) -> Picture | None:
        """A picture that was the newest when it was asked for, or is newer."""
        feed = self._channel.feed
        if self._since is None:
            self._since = feed.version
        picture = feed.picture(self._quality, max(self._since, self._shown + 1))
        if picture is not None:
            self._since, self._shown = None, picture.version
        return picture

    def _cut(self, picture: Picture) -> list[str | bytes]:
        """The messages that bring ``picture``."""
        if self._sent == self._acknowledged:
            self._begun_ns = self._clock.now_ns()
        self._sent += 1
        drawing = picture.drawing
        captured_ms = None if drawing.time_ns is None else self._page_clock.page_ms(drawing.time_ns)
        header = {
            **drawing.facts,
            "id": self._sent,
            "captured_ms": captured_ms,
            "shape": picture.shape,
            "quality": picture.quality,
            "bytes": len(picture.data),
        }
        pieces = [picture.data[at : at + PIECE] for at in range(0, len(picture.data), PIECE)]
        return [json.dumps({"picture": header}), *pieces]
