"""``session.json`` on the disk."""

from __future__ import annotations

import os
from pathlib import Path

from clesr.pipeline.session.format import MANIFEST, SessionInfo, format_manifest


def write_manifest(folder: Path, info: SessionInfo, *, wait: bool = True) -> None:
    """Replace ``session.json`` of ``folder``, so that a crash leaves the old one or the new one; without ``wait`` for
    the disk that holds for a killed process only."""
    temporary = folder / (MANIFEST + ".part")
    with temporary.open("wb") as file:
        file.write(format_manifest(info))
        file.flush()
        if wait:
            os.fsync(file.fileno())
    temporary.replace(folder / MANIFEST)
    if not wait:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
