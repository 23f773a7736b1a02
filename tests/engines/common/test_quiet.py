"""Libraries that are kept quiet, and heard."""

from __future__ import annotations

import logging
import warnings

import pytest

from clesr.engines.common.quiet import MOST_HEARD, heard


def test_errors_are_heard_and_go_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    library, below = logging.getLogger("alibrary"), logging.getLogger("alibrary.part")
    own = logging.NullHandler()
    library.addHandler(own)
    try:
        with heard("alibrary", "another library") as errors:
            below.error("one")
            library.warning("not this")
            logging.getLogger("another library").critical("two")
            logging.getLogger("a third").error("as always")
            warnings.warn("nor this", stacklevel=1)
            for _ in range(MOST_HEARD):
                below.error("again")
        below.error("after it")
        assert [record.getMessage() for record in errors[:3]] == ["one", "two", "again"]
        assert len(errors) == MOST_HEARD
        assert [record.getMessage() for record in caplog.records] == ["as always", "after it"]
        assert (library.handlers, library.propagate, library.level) == ([own], True, logging.NOTSET)
    finally:
        library.removeHandler(own)
