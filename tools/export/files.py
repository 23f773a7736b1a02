"""Files under temporary names that get their own when all of them are whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import av

from clesr.engines.common.errors import SinkError
from clesr.engines.common.files import NEW, NewFile, WriteRule, cannot_write


@dataclass(frozen=True, slots=True)
class Files:
    """The files that one export writes."""

    rule: WriteRule = NEW
    begun: list[NewFile] = field(default_factory=list)
    spools: list[NewFile] = field(default_factory=list)

    def begin(self, final: Path) -> Path:
        """The temporary path, beside it and with the same suffix, of what becomes ``final``."""
        self.begun.append(NewFile(final, self.rule))
        return self.begun[-1].path

    def spool(self, final: Path) -> Path:
        """A path beside ``final`` for bytes that are only needed meanwhile; deleted at the end."""
        self.spools.append(NewFile(final, self.rule))
        return self.spools[-1].path


@contextmanager
def all_or_none(rule: WriteRule = NEW) -> Iterator[Files]:
    """Files that get their names at the end of the block, and are deleted where it raises.

    Raises SinkError where the disk or folder is the reason, or ``rule`` forbids a name.
    """
    files = Files(rule)
    try:
        yield files
        for file in files.begun:
            rule.check(file.final)
        for file in files.begun:
            file.publish()
    except OSError as error:
        raise cannot_write(_named(files), error) from error
    except av.FFmpegError as error:
        raise SinkError(f"{_named(files)} cannot be written: {error.strerror or error}") from error
    finally:
        for file in (*files.begun, *files.spools):
            file.discard()


def _named(files: Files) -> Path | str:
    return files.begun[-1].final if files.begun else "the export"
