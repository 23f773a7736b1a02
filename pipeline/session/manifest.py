"""``session.json`` on the disk."""

from __future__ import annotations

from pathlib import Path

from clesr.pipeline.files import put_part
from clesr.pipeline.session.format import MANIFEST, SessionInfo, format_manifest


def write_manifest(folder: Path, info: SessionInfo, *, wait: bool = True) -> None:
    """Replace ``session.json`` of ``folder``, so that a crash leaves the old one or the new one; without ``wait`` for
    the disk that holds for a killed process only."""
    put_part(folder / MANIFEST, format_manifest(info), wait=wait)
