"""``session.json`` on the disk."""

from __future__ import annotations

from pathlib import Path

from clesr.pipeline.durable import sync
from clesr.pipeline.session.format import MANIFEST, SessionInfo, format_manifest


def write_manifest(folder: Path, info: SessionInfo, *, wait: bool = True) -> None:
    """Replace ``session.json`` of ``folder``, so that a crash leaves the old one or the new one; without ``wait`` for
    the disk that holds for a killed process only."""
    temporary = folder / (MANIFEST + ".part")
    temporary.write_bytes(format_manifest(info))
    if wait:
        sync(temporary)
    temporary.replace(folder / MANIFEST)
    if wait:
        sync(folder)
