"""Recorded sessions in the browser: their list, certificates, download and replay."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Callable, Generator, Iterator, Mapping
from io import BufferedReader, RawIOBase
from typing import Any, Literal, Protocol

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import ClesrError, UsageError, first_line
from clesr.pipeline.frame import Image
from clesr.pipeline.messages import stream_thread
from clesr.pipeline.sinks.browser.channel import Channel, Loop
from clesr.pipeline.sinks.browser.feed import Drawing

Pieces = Generator[bytes, None, None]
PIECE = 1 << 18  # bytes that are read and sent together


class Sessions(Protocol):
    """The recorded sessions of a folder, by name. All but ``names`` raise ClesrError for another name."""

    def names(self) -> list[str]: ...

    def describe(self) -> list[dict[str, Any]]: ...

    def files(self, name: str) -> dict[str, int]: ...

    def open(self, name: str, file: str) -> BufferedReader: ...

    def certificate(self, name: str, advance: Callable[[int], None]) -> dict[str, Any]: ...

    def images(
        self, name: str, which: Literal["raw", "sr"], go_on: Callable[[], None]
    ) -> Iterator[tuple[float, Image, dict[str, Any]]]: ...


class _Outlet(RawIOBase):
    """Takes what a zip file writes, which cannot go back in it."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.taken.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken, self.taken = b"".join(self.taken), []
        return taken


def pieces_of_file(file: BufferedReader) -> Pieces:
    """The bytes of ``file``, which is closed at the end."""
    with file:
        while piece := file.read(PIECE):
            yield piece


def pieces_of_zip(sessions: Sessions, name: str) -> Pieces:
    """A zip file of the session ``name``, uncompressed: video is compressed already. Never more than a piece of it is
    in memory."""
    outlet = _Outlet()
    with zipfile.ZipFile(outlet, "w", zipfile.ZIP_STORED) as archive:
        for file in sessions.files(name):
            with (
                sessions.open(name, file) as read,
                archive.open(f"{name}/{file}", "w", force_zip64=True) as entry,
            ):
                while piece := read.read(PIECE):
                    entry.write(piece)
                    yield outlet.take()
            yield outlet.take()
    yield outlet.take()


class Replay(Channel):
    """A session that plays at its own pace: ``pause`` and ``restart`` are what its page may call, and ``images`` with
    ``which`` of ``sr`` or ``raw``. What a page is too slow for it leaves out."""

    def __init__(self, loop: Loop, sessions: Sessions, name: str, clock: Clock = SYSTEM) -> None:
        super().__init__(loop, self._do)
        self._sessions, self._name, self._clock = sessions, name, clock
        self._changed = threading.Condition()
        self._which: Literal["raw", "sr"] = "sr"
        self._paused = self._again = self._closed = False
        self.post("hello", {"session": name})
        stream_thread("clesr browser replay", self._play_all).start()

    def end(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        super().end()

    def _do(self, name: str, arguments: Mapping[str, object], _by: object) -> Mapping[str, Any]:
        which = arguments.get("which", self._which)
        if name not in ("pause", "restart", "images") or which not in ("raw", "sr"):
            raise UsageError(f"{name[:40]} is nothing that a replay can do; it can pause, restart, images")
        with self._changed:
            self._paused = name == "pause" and not self._paused
            self._again = name != "pause"
            self._which = "raw" if which == "raw" else "sr"
            self._changed.notify_all()
        self._tell()
        return {"paused": self._paused}

    def _tell(self, **more: object) -> None:
        self.post("playing", {"paused": self._paused, "which": self._which, **more})

    def _play_all(self) -> None:
        while not self._closed:
            self._again = False
            self._tell()
            try:
                self._play()
                told: dict[str, object] = {"over": True}
            except ClesrError as error:
                told = {"over": True, "error": first_line(error)}
            with self._changed:
                if not self._again and not self._closed:
                    self._tell(**told)
                self._changed.wait_for(lambda: self._again or self._closed)

    def _play(self) -> None:
        start_ns: int | None = None
        for seconds, image, known in self._sessions.images(self._name, self._which, self._go_on):
            start_ns = self._clock.now_ns() if start_ns is None else start_ns
            start_ns = self._wait_until(start_ns, seconds)
            if self._again or self._closed:
                return
            facts = {**known, "seconds": seconds}
            self.feed.show(Drawing(lambda image=image: image, facts))  # type: ignore[misc]

    def _go_on(self) -> None:
        if self._again or self._closed:
            raise ClesrError("it is not wanted any more")

    def _wait_until(self, start_ns: int, seconds: float) -> int:
        """Wait for the time of an image; when the replay began, less what it was paused."""
        with self._changed:
            while True:
                left = seconds - (self._clock.now_ns() - start_ns) / 1e9
                self._changed.wait_for(lambda: self._again or self._closed or self._paused, max(0.0, left))
                if not self._paused:
                    return start_ns
                paused_ns = self._clock.now_ns()
                self._changed.wait_for(lambda: self._again or self._closed or not self._paused)
                start_ns += self._clock.now_ns() - paused_ns
