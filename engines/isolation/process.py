"""The process of an isolated engine: ``python -m clesr.engines.isolation.process SOCKET [spare]``.

It gets what engine to open, says what that is, and then computes a frame for each message. It ends when nobody is at
the other end, whatever the engine is doing. A ``spare`` one loads its libraries in time that nobody else wants.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import sys
import threading
from collections import deque

from clesr.engines.common.errors import ClesrError, EngineError, first_line
from clesr.engines.common.parent import end_with_parent
from clesr.engines.common.processor import schedule
from clesr.engines.common.shared_message import SharedMessage
from clesr.engines.engine import CheckingOnRequest, Engine, SelfChecking, SelfCorrecting
from clesr.engines.guidance import Guidance
from clesr.engines.isolation.messages import MOST_BYTES, EngineRequest, Opened, Said
from clesr.engines.results import submit


class EngineServer:
    """An engine for the process at the other end of ``connection``."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._engine: Engine | None = None
        self._slots: list[tuple[SharedMessage, SharedMessage]] = []
        self._in_flight: deque[tuple[int, BaseException | None]] = deque()

    def serve(self) -> None:
        try:
            while packet := self._connection.recv(MOST_BYTES):
                name, arguments = pickle.loads(packet)
                getattr(self, f"_{name}")(*arguments)
        except OSError:
            pass  # nobody is there any more

    def say(self, message: object) -> None:
        self._connection.send(pickle.dumps(message))

    def _open(self, wanted: EngineRequest) -> None:
        from clesr.engines.opener import EngineOpener

        try:
            opener = EngineOpener(**wanted.arguments)
            engine = self._engine = opener(wanted.shape)
        except ClesrError as error:
            self.say(error)
            return
        except Exception as error:  # noqa: BLE001 - told to the other process
            self.say(EngineError(first_line(error)))
            return
        self._slots = [(SharedMessage(given), SharedMessage(made)) for given, made in wanted.slots]
        model = opener.model if isinstance(opener.model, str) else wanted.arguments["model"]
        if not isinstance(opener.model, str) and model == "auto":
            model = engine.info.model
        kinds = (SelfChecking, CheckingOnRequest, SelfCorrecting)
        self.say(Opened(engine.info, engine.depth, model, *(isinstance(engine, kind) for kind in kinds)))

    def _submit(self, slot: int, sizes: list[int]) -> None:
        assert self._engine is not None
        lr, guidance = self._slots[slot][0].get(sizes)
        if guidance is not None:  # the memory cannot be written to here, which torch warns of
            guidance = Guidance(guidance.levels.copy(), guidance.trust.copy())
        try:
            submit(self._engine, lr, guidance)
        except Exception as error:  # noqa: BLE001 - told when its result is collected
            self._in_flight.append((slot, error))
        else:
            self._in_flight.append((slot, None))

    def _collect(self) -> None:
        assert self._engine is not None
        slot, error = self._in_flight.popleft()
        try:
            if error is not None:
                raise error
            image = self._engine.collect()
        except Exception as raised:  # noqa: BLE001 - told to the other process
            self.say(first_line(raised))
            return
        reprojected = list(getattr(self._engine, "reprojected", ()))
        self.say(self._slots[slot][1].put((image, reprojected)))

    def _ask(self, what: str) -> None:
        """``check`` or ``correct``; then again what the engine offers."""
        getattr(self._engine, what)()
        self.say(isinstance(self._engine, SelfChecking))


class _Telling(logging.Handler):
    def __init__(self, server: EngineServer) -> None:
        super().__init__()
        self._server = server

    def emit(self, record: logging.LogRecord) -> None:
        self._server.say(Said(record.name, record.levelno, record.getMessage()))


def _load(spare: bool) -> None:
    """Import what opens engines. For a ``spare`` process on a core that nobody wants; its own threads are as any, since
    without rights none could go back."""
    if spare:
        schedule("SCHED_IDLE")
    import clesr.engines.opener  # noqa: F401


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a service manager's, to all its processes
    end_with_parent()
    loading = threading.Thread(target=_load, args=["spare" in sys.argv])
    loading.start()
    loading.join()
    server = EngineServer(socket.socket(fileno=int(sys.argv[1])))
    root = logging.getLogger("clesr")
    root.setLevel(logging.INFO)
    root.addHandler(_Telling(server))
    server.serve()
    os._exit(0)  # whatever the engine's libraries would still do


if __name__ == "__main__":
    main()
