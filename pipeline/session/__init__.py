"""The session folder: a recording that proves itself (docs/session-format.md)."""

from __future__ import annotations

from clesr.pipeline.session.format import Record, SessionError, SessionInfo
from clesr.pipeline.session.reader import Session, read_session

__all__ = ["Record", "Session", "SessionError", "SessionInfo", "read_session"]
