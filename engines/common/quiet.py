"""Libraries that talk about what is not used here."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

MOST_HEARD = 50  # records that are kept


@contextmanager
def quiet(library: str, level: int) -> Iterator[None]:
    """Without warnings, and without what ``library`` logs below ``level``. What fails is raised."""
    logger = logging.getLogger(library)
    before = logger.level
    logger.setLevel(level)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


class _Ear(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.heard) < MOST_HEARD:
            self.heard.append(record)


@contextmanager
def heard(*loggers: str) -> Iterator[list[logging.LogRecord]]:
    """Without warnings, and with the errors that ``loggers`` and those below them log in a list, the first 50 of them,
    and nowhere else: for libraries that log what they should raise."""
    ear, named = _Ear(), [logging.getLogger(name) for name in loggers]
    before = [(logger, logger.handlers, logger.propagate, logger.level) for logger in named]
    for logger in named:
        logger.handlers, logger.propagate = [ear], False
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield ear.heard
    finally:
        for logger, handlers, propagate, level in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
