"""``session.json`` on the disk."""

from __future__ import annotations

import os
from pathlib import Path

from clesr.pipeline.session.format import MANIFEST, SessionInfo, format_manifest


def write_manifest(folder: Path, info: SessionInfo) -> None:
    """Replace ``session.json`` of ``folder``, so that a crash leaves the old one or the new one."""
    temporary = folder / (MANIFEST + ".part")
    with temporary.open("wb") as file:
        file.write(format_manifest(info))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / MANIFEST)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
