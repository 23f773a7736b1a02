"""What a socket shows: pictures of a feed, and texts of which only the newest counts."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from clesr.pipeline.display.pace import DrawingPace, share_of
from clesr.pipeline.sinks.browser.feed import Feed

Ask = Callable[[str, Mapping[str, object], object], Mapping[str, Any]]


class Loop(Protocol):
    """What runs the server; ``soon`` calls a function on its thread, from any."""

    def soon(self, work: Callable[[], object]) -> None: ...


class Channel:
    """A live stream or a replay, with the sockets that look at it. ``call`` does what a socket asks for, by name,
    arguments and who asks, on a thread that may wait; ``waits`` says of which names it does. ``live`` where its images
    come from a camera or a network."""

    def __init__(
        self, loop: Loop, call: Ask, waits: Callable[[str], bool] = lambda _name: False, *, live: bool = False
    ) -> None:
        self.call, self.waits = call, waits
        self.texts: dict[str, tuple[int, str]] = {}
        self.watchers: set[asyncio.Event] = set()  # of the server's thread
        self.ended = False
        self._loop, self._posted = loop, 0
        self._lock = threading.Lock()
        pace = DrawingPace(share=share_of(live) / 2)  # to send a picture takes as much again
        self.feed = Feed(self.wake, pace)

    def post(self, kind: str, value: object) -> None:
        """Tell ``value``, which JSON can say, in place of what was told of this ``kind``. Any thread."""
        text = json.dumps({kind: value}, separators=(",", ":"))
        with self._lock:
            self._posted += 1
            self.texts[kind] = self._posted, text
        self.wake()

    def wake(self) -> None:
        """Something is new. Any thread."""
        self._loop.soon(self._wake)

    def end(self) -> None:
        """Nothing more comes: sockets are told and closed. May be called twice."""
        self.ended = True
        self.feed.close()
        self.wake()

    def _wake(self) -> None:
        for each in self.watchers:
            each.set()
