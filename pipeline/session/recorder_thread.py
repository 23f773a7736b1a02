"""The thread that owns the files of a recorder.

Its work comes as letters through the inbox, so an outcome always comes after its frame, and no lock is needed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from clesr.pipeline.frame_queue import Closed
from clesr.pipeline.session.format import SessionError
from clesr.pipeline.session.inbox import Inbox
from clesr.pipeline.session.sessions import Sessions

LOOK_S = 0.1  # longest wait for work before it is looked whether a checkpoint has ended, or is due


class RecorderThread:
    """Does the work of ``sessions`` that comes into ``inbox``, until that is closed and empty. Whatever breaks, it goes
    on."""

    def __init__(self, sessions: Sessions, inbox: Inbox) -> None:
        self.sessions, self.inbox = sessions, inbox
        self._thread = threading.Thread(target=self._work, name="clesr recorder", daemon=True)
        self._thread.start()

    def finish(self) -> str | None:
        """Any thread, once the inbox is closed: wait for the end; what was recorded, in a line. Raises SessionError
        where a recording ended early, or nothing of it was recorded."""
        self._thread.join()
        errors = self.sessions.errors
        if errors:
            raise SessionError("; ".join(errors))
        return "; ".join(self.sessions.reports) or None

    def _work(self) -> None:
        with suppress(Closed):
            while True:
                work = self.inbox.get(LOOK_S)
                if work is not None:
                    self._do(work)
                self._do(self._tend)
        self._do(self.sessions.close)

    def _tend(self) -> None:
        self.sessions.tend(idle=self.inbox.empty)

    def _do(self, work: Callable[[], None]) -> None:
        """What breaks where nobody expects it, as for want of memory, ends the sessions and not this thread."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - as said
            self.sessions.give_up(error)
