"""What a command says while it works: progress bars on a terminal, plain lines otherwise."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.text import presentable
from clesr.pipeline.messages import stream_name
from clesr.pipeline.rate_limiter import RateLimiter
from clesr.tools.common.stderr import json_line, stderr

PLAIN_EVERY_S = 10.0
MOST_MESSAGES = 200  # that are remembered, to tell which come again and again
FOREIGN = "clesr.stderr"  # the logger of what libraries and child processes write
VERBOSE = logging.Formatter("%(asctime)s.%(msecs)03d %(name)s: %(stream)s%(message)s", "%H:%M:%S")
USUAL = logging.Formatter("%(stream)s%(message)s")
LOOK_EVERY_S, TERMINAL_EVERY_S = 1.0, 0.2  # at what a progress bar shows

log = logging.getLogger(__name__)
clesr = logging.getLogger("clesr")
console = Console(file=stderr, highlight=False, soft_wrap=True)  # type: ignore[arg-type]  # all that it uses is there


class UserHandler(logging.Handler):
    """Each message as one line for the user on standard error, under its stream's name where there are several. Where
    that speaks JSON, as an object, and one that comes again and again ever more seldom. Returns at once and never
    raises, whatever becomes of the terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()  # of what is said once
        self._limiters: OrderedDict[tuple[object, ...], RateLimiter] = OrderedDict()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        stream = stream_name.get() if stderr.speaks_json or record.name.startswith("clesr.pipeline") else ""
        if stream is None or message in self._said:
            return
        if record.name.startswith("clesr.engines"):
            self._said.add(message)
        if stderr.speaks_json:
            self._emit_json(record, message, stream)
            return
        record.stream = f"{stream}: " if stream else ""
        line = presentable((USUAL if clesr.level > logging.DEBUG else VERBOSE).format(record))
        try:
            console.print(line, markup=False, emoji=False)
        except Exception:  # noqa: BLE001 - no work may depend on what is only said
            stderr.write(line + "\n")

    def rest(self) -> None:
        """Nothing follows: tell what came again and was not told."""
        for limiter in self._limiters.values():
            limiter.rest()

    def _emit_json(self, record: logging.LogRecord, message: str, stream: str) -> None:
        if not message.strip():
            return
        key = (record.name, record.levelname, stream, message)
        limiter = self._limiters.pop(key, None) or RateLimiter(partial(_tell_json, *key[:3]), SYSTEM)
        self._limiters[key] = limiter
        limiter(message)
        if len(self._limiters) > MOST_MESSAGES:
            self._limiters.popitem(last=False)[1].rest()


def _tell_json(logger: str, level: str, stream: str, message: str) -> None:
    stderr.send(json_line(message, level=level.lower(), logger=logger, stream=stream))


def speak_json() -> None:
    """From now on standard error has JSON objects alone, a line each, to the end of ``user_logging``."""
    stderr.speaks_json = True
    stderr.capture(logging.getLogger(FOREIGN).warning)


@contextmanager
def user_logging() -> Iterator[None]:
    """In the block clesr's loggers speak to the user, and to nobody else; ``clesr``'s level is how much they say."""
    handler = UserHandler()
    with handled(clesr, handler):
        try:
            yield
        finally:
            stderr.release()
            handler.rest()


@contextmanager
def handled(logger: logging.Logger, handler: logging.Handler) -> Iterator[None]:
    """In the block what ``logger`` says, from INFO on, goes to ``handler`` alone."""
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # libraries may have put a handler of their own at the root
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


class TimeLeftColumn(TimeRemainingColumn):
    """The time remaining, named as that; nothing where it is not known."""

    def render(self, task: Task) -> Text:
        known = task.total is not None and not task.finished and task.time_remaining is not None
        return super().render(task).append(" left") if known else Text()


class Advance(Protocol):
    """Moves a progress bar; a ``total`` replaces the one it had."""

    def __call__(self, completed: float, note: str, total: float | None = None) -> None: ...


@contextmanager
def progress_bar(label: str, total: float | None, *, unit: str) -> Iterator[Advance]:
    """A bar over ``total`` (None: unknown) that the yielded function moves: ``(completed, note)``.

    Off a terminal the same as a plain line every ten seconds.
    """
    with progress_bars({label: total}, unit=unit) as bars:
        yield bars[label]


@contextmanager
def progress_bars(totals: Mapping[str, float | None], *, unit: str) -> Iterator[dict[str, Advance]]:
    """As ``progress_bar``, a bar for each label."""
    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeLeftColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    ]
    if stderr.speaks_json or not console.is_terminal or clesr.level > logging.INFO:
        yield {label: _plain_progress(label, total, unit) for label, total in totals.items()}
        return
    with Progress(*columns, console=console) as bars:
        yield {label: _bar(bars, label, total) for label, total in totals.items()}


@contextmanager
def repeating(
    act: Callable[[], object], seconds: float | None = None, *, at_end: bool = True
) -> Iterator[None]:
    """While the block runs, call ``act`` on a thread of its own every so many ``seconds``, by default as often as a
    progress bar wants it, and once more ``at_end``."""
    every = seconds or (TERMINAL_EVERY_S if console.is_terminal else LOOK_EVERY_S)
    done = threading.Event()

    def work() -> None:
        while not done.wait(every):
            act()
        if at_end:
            act()

    thread = threading.Thread(target=work, name="clesr progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _bar(bars: Progress, label: str, total: float | None) -> Advance:
    task = bars.add_task(presentable(label), total=total, note="")

    def advance(completed: float, note: str, total: float | None = None) -> None:
        # A total of None leaves it as it is.
        bars.update(task, completed=completed, note=presentable(note), total=total)

    return advance


def _plain_progress(label: str, total: float | None, unit: str) -> Advance:
    start = last = SYSTEM.now_ns() / 1e9
    expected = total
    first: float | None = None  # completed at the first call: a resumed run does not begin at 0

    def advance(completed: float, note: str, total: float | None = None) -> None:
        nonlocal start, last, first, expected
        expected = total or expected
        now = SYSTEM.now_ns() / 1e9
        first = completed if first is None else first
        if completed <= first:  # the start of an engine tells nothing about the pace
            start = now
        if now - last < PLAIN_EVERY_S:
            return
        last = now
        left = ""
        if expected and completed > first:
            left = f", {_duration((now - start) * (expected - completed) / (completed - first))} left"
        of_all = f" of {expected:.0f}" if expected else ""
        log.info(f"{label}: {completed:.0f}{of_all} {unit}{left}{', ' + note if note else ''}")

    return advance


def _duration(seconds: float) -> str:
    """In the unit in which a person would say it: ``45 s``, ``12 min``, ``5 h 14 min``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
