"""Files under temporary names that get their own when all of them are whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import av

from clesr.pipeline.errors import SinkError

DOUBLE = (".ome.tif", ".ome.tiff")


@dataclass(frozen=True, slots=True)
class Files:
    """The files that one export writes."""

    begun: list[tuple[Path, Path]] = field(default_factory=list)

    def begin(self, final: Path) -> Path:
        """The temporary path, beside it and with the same suffix, of what becomes ``final``."""
        stem, suffix = split_suffix(final)
        temporary = final.with_name(f".{stem}.{os.getpid()}.part{suffix}")
        self.begun.append((temporary, final))
        return temporary

    def spool(self, final: Path) -> Path:
        """A path beside ``final`` for bytes that are only needed meanwhile; deleted at the end."""
        temporary = final.with_name(f".{final.name}.{os.getpid()}.spool")
        self.begun.append((temporary, temporary))
        return temporary


@contextmanager
def all_or_none() -> Iterator[Files]:
    """Files that get their names at the end of the block, and are deleted where it raises.

    Raises SinkError where the disk or folder is the reason.
    """
    files = Files()
    try:
        yield files
        for temporary, final in files.begun:
            if temporary != final:
                os.replace(temporary, final)
    except (OSError, av.FFmpegError) as error:
        full = (
            "; free some space, or choose another disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        )
        raise SinkError(f"{_named(files)} cannot be written: {error.strerror or error}{full}") from error
    finally:
        for temporary, _ in files.begun:
            with suppress(OSError):  # on a read-only disk even the removal of what is not there
                temporary.unlink()


def split_suffix(path: Path) -> tuple[str, str]:
    """The name without its suffix, and the suffix; ``.ome.tif`` is one."""
    double = next((suffix for suffix in DOUBLE if path.name.lower().endswith(suffix)), None)
    suffix = path.name[-len(double) :] if double else path.suffix
    return path.name[: len(path.name) - len(suffix)], suffix


def numbered(path: Path, *words: object) -> Path:
    """``NAME.WORD.SUFFIX`` for ``NAME.SUFFIX``."""
    stem, suffix = split_suffix(path)
    return path.with_name(".".join([stem, *map(str, words)]) + suffix)


def _named(files: Files) -> Path | str:
    return files.begun[-1][1] if files.begun else "the export"
