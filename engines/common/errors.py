"""What can go wrong, in classes that say who must act. Every message is one line for the user:
the value, what was allowed, and what to do next. Beside them, what makes foreign text fit to stand in one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

LONGEST_LINE = 200  # characters of what a foreign error says
LONGEST_OWN = 2000  # of what one of clesr says: two long paths have room


class ClesrError(Exception):
    """A failure that the user can understand; the command ends with exit status 1."""

    exit_code = 1


class UsageError(ClesrError):
    """An option or address that cannot work on any machine; exit status 2."""

    exit_code = 2


class SourceError(ClesrError):
    """A source cannot be opened, or broke for good."""


class SinkError(ClesrError):
    """A sink cannot be opened or written."""


class RecordingError(ClesrError):
    """A recording that was asked for failed or ended early, while its run went on to the end; exit status 3."""

    exit_code = 3


class EngineError(ClesrError):
    """An engine cannot start, failed its self-test, or failed on a frame."""


class WeightsError(ClesrError):
    """A weights file is missing, damaged, of another model, or of a kind that is refused."""


class MissingDependencyError(ClesrError):
    """An optional package is not installed; the message has the exact command that installs it."""


class EndOfSource(Exception):
    """Raised by ``Source.read`` after the last frame. Not a failure."""


WHY = "{why}"  # in the words of ``told_as``: what the error says


@contextmanager
def told_as(
    kind: type[Exception], words: str, caught: type[Exception] | tuple[type[Exception], ...] = OSError
) -> Iterator[None]:
    """What is ``caught`` in the block is raised as a ``kind`` that says ``words``, with the reason in place of WHY."""
    try:
        yield
    except caught as error:
        raise kind(words.replace(WHY, getattr(error, "strerror", None) or str(error))) from error


@contextmanager
def on_error(undo: Callable[[], object]) -> Iterator[None]:
    """Call ``undo`` where the block raises, whatever that is; the error goes on, and not one of ``undo``."""
    try:
        yield
    except BaseException:
        with suppress(Exception):
            undo()
        raise


def first_line(error: BaseException) -> str:
    """What ``error`` says, or its kind where it says nothing: libraries put a trace of theirs behind the first line.

    Never raises, and is never long, whatever a foreign error is."""
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - an error that cannot say what it is must not become another one
        said = ""
    most = LONGEST_OWN if isinstance(error, ClesrError) else LONGEST_LINE
    line = said[: 4 * most].strip().split("\n")[0] or type(error).__name__
    return line if len(line) <= most else line[:most] + "..."


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """``error``, then what it was raised from or after, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def printable(text: str) -> str:
    """``text`` with an escape in place of every character that a terminal would obey or hide: control characters,
    line ends, marks of direction, bytes that are no text."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
