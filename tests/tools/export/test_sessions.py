"""Clips from sessions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from clesr.engines.common.errors import ClesrError
from clesr.pipeline.frame import Outcome
from clesr.pipeline.session.format import Record
from clesr.tools.export.selection import Selection
from clesr.tools.export.sessions import session_clip


def test_a_frame_that_is_not_there_is_named_with_what_became_of_it() -> None:
    records = [
        Record(number=0, captured_ns=0, outcome=Outcome.UPSCALED, raw_index=0, sr_index=0),
        Record(number=1, captured_ns=1, outcome=Outcome.STALE, raw_index=1),
        Record(number=2, captured_ns=2, outcome=Outcome.CORRUPT, reason="its data end early"),
        Record(number=3, captured_ns=3),
    ]
    session: Any = SimpleNamespace(folder="s", info=None, records=lambda: iter(records))
    with pytest.raises(ClesrError) as caught:
        session_clip(session, "sr", Selection(only=(9, 0, 3, 2, 1)), pixel_um=None)
    assert str(caught.value) == (
        "s has no sr image of frame 1 (stale), 2 (its data end early), 3 (unfinished), 9 (not captured); "
        "nothing was written"
    )
