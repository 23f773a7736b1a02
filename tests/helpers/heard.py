"""What clesr's loggers say, as an application's own handler gets it."""

from __future__ import annotations

import logging


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def hear(name: str = "clesr") -> list[str]:
    """The messages of the loggers below ``name`` from now on, to the end of the test (see conftest.py)."""
    logger, handler = logging.getLogger(name), _Lines()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    return handler.lines
