"""Where the files of an export cannot be written."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from clesr.engines.common.errors import SinkError
from clesr.tools.export.files import all_or_none


def test_a_read_only_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There even the removal of a file that does not exist fails, and not with FileNotFoundError."""

    def refused(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refused)
    with (
        pytest.raises(SinkError, match=r"sr\.mp4 cannot be written: Read-only file system"),
        all_or_none() as files,
    ):
        refused(files.begin(tmp_path / "sr.mp4"))
