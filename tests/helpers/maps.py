"""What a map's file says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from clesr.pipeline.mosaic.ome import NAMESPACE


def frames_of(path: Path) -> dict[str, Any]:
    """``map``, its number in the run, and ``frames``, a list in their order. Each has ``number``, ``seconds``,
    ``outcome``; those that were drawn also ``x`` and ``y``, the pixel of the picture where their middle lies,
    ``lean_x`` and ``lean_y`` in pixels a row, and ``agreement``."""
    with tifffile.TiffFile(path) as tiff:
        document = ElementTree.fromstring(tiff.ome_metadata or "")
    notes = [note for note in document.iter() if note.get("Namespace") == NAMESPACE]
    (value,) = [part.text for note in notes for part in note if part.tag.endswith("Value")]
    said: dict[str, Any] = json.loads(value or "")
    return said
