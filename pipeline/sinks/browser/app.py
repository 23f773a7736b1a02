"""What the browser's server answers: the page, the streams' sockets, the sessions. Nobody comes past the door."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from importlib.resources import files
from typing import Protocol
from urllib.parse import parse_qs, quote

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from clesr.engines.common.errors import ClesrError, first_line
from clesr.pipeline.display.pace import LIVE_SHARE, DrawingPace
from clesr.pipeline.messages import SafeLogger, stream_thread
from clesr.pipeline.sinks.browser.channel import Channel, Loop
from clesr.pipeline.sinks.browser.door import Door
from clesr.pipeline.sinks.browser.stored import Pieces, Replay, Sessions, pieces_of_file, pieces_of_zip
from clesr.pipeline.sinks.browser.threads import Threads
from clesr.pipeline.sinks.browser.viewer import Viewer

log = SafeLogger(logging.getLogger(__name__))
MOST_DIGITS = 4  # of a stream's number
REPLAYS = 4  # sessions that play side by side
SENT = 5  # times what it takes to read a piece of a session, with what it takes to send it
GOING_AWAY, GONE = 1001, 4404  # WebSocket's code, and one of ours for what does not exist
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Handler = Callable[[Request], Awaitable[Response]]


def page_files() -> dict[str, bytes]:
    """The page's files by name, of the package."""
    folder = files("clesr.pipeline.sinks.browser") / "page"
    names = (file for file in folder.iterdir() if file.name.rpartition(".")[2] in TYPES)
    return {file.name: file.read_bytes() for file in names}


class Gate:
    """Lets requests and sockets through that the door does not refuse, and puts our headers on every answer."""

    def __init__(self, app: ASGIApp, door: Door, port: Callable[[], int]) -> None:
        self._app, self._door, self._port = app, door, port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                MutableHeaders(scope=message).update(HEADERS)
            try:
                await send(message)
            except RuntimeError as error:
                if message["type"] != "websocket.send":
                    raise
                raise OSError("the socket was cut off before it was open") from error

        answer = self._answer(scope)
        if answer is None:
            await self._app(scope, receive, with_headers)
        elif scope["type"] == "websocket":
            await WebSocket(scope, receive, with_headers).send_denial_response(answer)
        else:
            await answer(scope, receive, with_headers)

    def _answer(self, scope: Scope) -> Response | None:
        """What answers in place of the app."""
        door, port = self._door, self._port()
        page = scope["type"] == "http" and scope["path"] == "/"
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", []) if page else []
        if given and door.opens(given[0]):
            cookie = {"Set-Cookie": door.cookie(port)}
            return RedirectResponse("/", 303, cookie)
        refusal = door.refusal(Headers(scope=scope), port, asks=not page)
        if refusal is None:
            return None
        status, words = refusal
        return Response(f"{words}\n", status, {"Connection": "close"}, "text/plain")


class Served(Loop, Protocol):
    """Streams by their ``titles``, and ``sessions``, at ``door`` on ``port``, with ``replays`` going on."""

    door: Door
    sessions: Sessions | None
    replays: set[Channel]

    @property
    def port(self) -> int: ...

    @property
    def titles(self) -> list[str]: ...

    def channel(self, index: int) -> Channel | None: ...


def make_app(site: Served) -> ASGIApp:
    """The application that shows ``site``."""
    threads, page = Threads(), page_files()
    stored = Stored(site.sessions, Threads())  # of its own: a disk that hangs holds up no action

    async def file(request: Request) -> Response:
        name = request.path_params.get("file", "index.html")
        if name not in page:
            return Response("there is no such page\n", 404, media_type="text/plain")
        return Response(page[name], media_type=TYPES[name.rpartition(".")[2]])

    async def streams(_request: Request) -> Response:
        return JSONResponse({"streams": site.titles, "sessions": site.sessions is not None})

    async def stream(socket: WebSocket) -> None:
        index = socket.path_params["index"]
        known = index.isascii() and index.isdecimal() and len(index) <= MOST_DIGITS
        channel = site.channel(int(index)) if known else None
        if channel is None:
            await socket.close(GONE)
        else:
            await Viewer(socket, channel, threads).run()

    async def replay(socket: WebSocket) -> None:
        await stored.replay(socket, site)

    app = Starlette(
        routes=[
            Route("/", file),
            Route("/streams", streams),
            WebSocketRoute("/streams/{index}", stream),
            Route("/sessions", stored.answering(stored.list)),
            Route("/sessions/{name}/certificate", stored.answering(stored.certificate)),
            Route("/sessions/{name}/zip", stored.answering(stored.zip)),
            Route("/sessions/{name}/files/{file}", stored.answering(stored.file)),
            WebSocketRoute("/sessions/{name}/replay", replay),
            Route("/{file}", file),
        ]
    )
    return Gate(app, site.door, lambda: site.port)


class Stored:
    """Answers about recorded sessions. One certificate is made at a time: each decodes a whole session."""

    def __init__(self, sessions: Sessions | None, threads: Threads) -> None:
        self._sessions, self._threads = sessions, threads
        self._one = asyncio.Lock()
        self._replays = 0

    @property
    def sessions(self) -> Sessions:
        if self._sessions is None:
            raise ClesrError("this run shows no sessions")
        return self._sessions

    def answering(self, work: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            try:
                return await work(request)
            except ClesrError as error:
                return JSONResponse({"error": first_line(error)}, 404)

        return answer

    async def list(self, _request: Request) -> Response:
        return JSONResponse(await self._threads.run(self.sessions.describe))

    async def certificate(self, request: Request) -> Response:
        gone = asyncio.ensure_future(_end_of(request))

        def advance(_images: int) -> None:
            if gone.done():
                raise ClesrError("nobody waits for it any more")

        try:
            async with self._one:
                advance(0)
                name = request.path_params["name"]
                return JSONResponse(await self._threads.run(self.sessions.certificate, name, advance))
        finally:
            gone.cancel()

    async def zip(self, request: Request) -> Response:
        name = request.path_params["name"]
        await self._threads.run(self.sessions.files, name)
        return self._download(pieces_of_zip(self.sessions, name), f"{name}.zip", "application/zip")

    async def file(self, request: Request) -> Response:
        name, file = request.path_params["name"], request.path_params["file"]
        opened = await self._threads.run(self.sessions.open, name, file)
        return self._download(pieces_of_file(opened), f"{name}-{file}", "application/octet-stream")

    async def replay(self, socket: WebSocket, site: Served) -> None:
        name = socket.path_params["name"]
        if self._replays >= REPLAYS:
            await socket.close(GOING_AWAY, f"{REPLAYS} sessions are playing; close one")
            return
        self._replays += 1
        channel = None
        try:
            if self._sessions is None or name not in await self._threads.run(self._sessions.names):
                await socket.close(GONE)
                return
            channel = Replay(site, self._sessions, name)
            site.replays.add(channel)
            await Viewer(socket, channel, self._threads).run()
        finally:
            self._replays -= 1
            if channel is not None:
                site.replays.discard(channel)
                stream_thread("clesr browser replay ends", channel.end).start()  # may wait for a picture

    def _download(self, pieces: Pieces, name: str, media_type: str) -> Response:
        disposition = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
        return Download(pieces, self._threads, {"Content-Disposition": disposition}, media_type)


class Download(StreamingResponse):
    """Sends ``pieces``, and closes them; on a machine without a core to spare it takes a tenth of one."""

    def __init__(self, pieces: Pieces, threads: Threads, headers: dict[str, str], media_type: str) -> None:
        super().__init__(self._read_all(), 200, headers, media_type)
        self._pieces, self._threads, self._over = pieces, threads, False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over = True
            with suppress(ValueError):  # a thread reads, which then closes them
                self._pieces.close()

    async def _read_all(self) -> AsyncIterator[bytes]:
        pace = DrawingPace(share=LIVE_SHARE / SENT)
        while True:
            piece, took_s = await self._threads.run(self._read)
            if not piece:
                return
            yield piece
            pace.drew(took_s)
            await asyncio.sleep(pace.rest_s())

    def _read(self) -> tuple[bytes, float]:
        """The next piece, and the seconds of a core that it took."""
        begun_s = time.thread_time()
        piece = next(self._pieces, b"")
        if self._over:
            self._pieces.close()
        return piece, time.thread_time() - begun_s


async def _end_of(request: Request) -> None:
    """Return when nobody waits for the answer to ``request`` any more."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
