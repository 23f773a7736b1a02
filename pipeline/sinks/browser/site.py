"""The one server of a run, whose page shows all its streams."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from clesr.engines.common.errors import MissingDependencyError, on_error
from clesr.pipeline.messages import SafeLogger
from clesr.pipeline.sinks.browser.channel import Channel
from clesr.pipeline.sinks.browser.door import Door
from clesr.pipeline.sinks.browser.stored import Sessions

if TYPE_CHECKING:
    from clesr.pipeline.sinks.browser.server import Server

log = SafeLogger(logging.getLogger(__name__))


class Site:
    """Where streams are shown: at ``door``, with the ``sessions`` that were recorded, None without. The server runs
    from the first stream that joins to the last that leaves."""

    def __init__(self, door: Door, sessions: Sessions | None = None) -> None:
        self.door, self.sessions = door, sessions
        self.replays: set[Channel] = set()
        self._streams: list[tuple[str, Channel]] = []
        self._server: Server | None = None

    @property
    def port(self) -> int:
        assert self._server is not None
        return self._server.port

    @property
    def url(self) -> str:
        """What to open in a browser, with the token where one is needed."""
        return self.door.url(self.port)

    @property
    def titles(self) -> list[str]:
        return [title for title, _ in self._streams]

    def channel(self, index: int) -> Channel | None:
        """The stream that joined as the ``index``-th, from 0; None where there is none."""
        return self._streams[index][1] if index < len(self._streams) else None

    def join(self, title: str, channel: Channel) -> None:
        """Show one more stream. Raises SinkError where the server cannot listen, MissingDependencyError where what it
        is made of is not installed."""
        self._streams.append((title, channel))  # first, so that whoever comes finds it
        if self._server is None:
            with on_error(self._streams.pop):
                self._server = self._start()
        for _, each in self._streams:
            each.post("streams", self.titles)

    def leave(self, channel: Channel) -> None:
        """``channel`` has ended."""
        if self._server is not None and all(each.ended for _, each in self._streams):
            for replay in list(self.replays):
                replay.end()
            self._server.close()
            self._server = None

    def soon(self, work: Callable[[], object]) -> None:
        """Call ``work`` on the server's thread, while there is one."""
        if self._server is not None:
            self._server.soon(work)

    def _start(self) -> Server:
        try:
            from clesr.pipeline.sinks.browser.app import make_app
            from clesr.pipeline.sinks.browser.server import Server
        except ImportError as error:
            raise MissingDependencyError(
                f"the view in the browser needs more packages ({error}); run: pip install 'clesr[browser]'"
            ) from error
        server = Server(make_app(self), self.door)
        url = self.door.url(server.port)
        if self.door.local:
            log.info(f"open in a browser: {url}")
        else:  # also where a command is to be quiet: nobody can know the token otherwise
            log.warning(f"open in a browser: {url}")
        if not self.door.local and self.door.certificate is None:
            log.warning(
                "the browser's view is not encrypted: whoever is on the network may read along; "
                "--tls-certificate and --tls-key encrypt"
            )
        return server
