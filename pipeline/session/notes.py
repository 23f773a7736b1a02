"""The operator's notes in a session, ``notes.jsonl``: lines that are chained as those of ``frames.jsonl``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from clesr.engines.common.parsing import Count, Int64
from clesr.pipeline.session.format import LONGEST_TEXT, chain_lines

NOTES = "notes.jsonl"
NoteText = Annotated[str, Meta(max_length=LONGEST_TEXT)]


class SessionNote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``text`` that was noted at ``time_ns`` (monotonic nanoseconds); ``number`` is that of the frame that was seen
    then, None where none was."""

    time_ns: Int64
    number: Count | None = None
    text: NoteText


def format_notes(notes: Iterable[SessionNote], previous: str) -> tuple[bytes, str]:
    """``notes`` as lines that follow the one whose chain value is ``previous`` (the first of all follows the session's
    id); the lines and the chain value of the last."""
    return chain_lines((msgspec.structs.asdict(note) for note in notes), previous)
