"""The folders that recordings go into."""

from __future__ import annotations

import os
import shutil
from itertools import count
from pathlib import Path

from clesr.pipeline.session.format import SessionError

RESERVE = ".reserve"  # space that is given up when the disk is full, so that the session can still be closed
RESERVE_BYTES = 1 << 18
LONGEST = 255  # bytes of a name


def make_folder(folder: Path, *, above: bool = True) -> None:
    """Make ``folder`` and those ``above`` it; raises SessionError where it cannot be, or has something in it."""
    try:
        folder.mkdir(parents=above, exist_ok=True)
        if any(folder.iterdir()):
            raise SessionError(f"{folder} is not empty; give a new folder for the recording")
        probe = folder / RESERVE
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise SessionError(
            f"no recording can be made in {folder} ({error.strerror}); choose another folder"
        ) from error
    if shutil.disk_usage(folder).free < 4 * RESERVE_BYTES:
        raise SessionError(f"no recording can be made in {folder}: the disk is full; free some space")


def next_folder(folder: Path) -> Path:
    """``NAME-2`` after ``NAME``, ``NAME-3`` after ``NAME-2``: the first that does not exist. Raises OSError."""
    stem, _, number = folder.name.rpartition("-")
    if not (stem and number.isdigit()):
        stem, number = folder.name, "1"
    return next(
        following
        for n in count(int(number) + 1)
        if not (following := folder.with_name(_numbered(stem, n))).exists()
    )


def free_folder(folder: Path) -> Path:
    """``folder``, or the next one where that has something in it. Raises OSError."""
    return next_folder(folder) if folder.exists() and any(folder.iterdir()) else folder


def _numbered(stem: str, number: int) -> str:
    """``stem-number``, where ``stem`` is cut if that would be too long for a name."""
    end = f"-{number}"
    return os.fsdecode(os.fsencode(stem)[: LONGEST - len(end)]) + end
