"""The formats of `clesr export` by suffix. A new one is a file and a line here, or an entry point elsewhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Protocol

from clesr.engines.common.registry import Registry
from clesr.tools.export.clip import Clip
from clesr.tools.export.files import Files
from clesr.tools.export.options import ExportOptions


class Exporter(Protocol):
    """Writes the clips of one export. It is made with those options of the command that its parameters name, and raises
    UsageError there for values that do not fit; a parameter with a default that names none is left alone.

    ``what`` is written where the user does not say: "sr", or "both". ``named_by_frame``: files are called
    NAME.000012.SUFFIX by their frames, and none has the very name that the user gave.
    """

    what: str
    named_by_frame: bool

    def write(self, clip: Clip, path: Path, files: Files) -> list[str]:
        """Write ``clip`` to ``path``, ``NAME.2.SUFFIX`` and so on where one file cannot hold it. Files are begun by
        ``files``. What was written, in words."""


exporters: Registry[Callable[..., Exporter]] = Registry(
    "clesr.exporters",
    {
        "mp4": "clesr.tools.export.mp4:Mp4Exporter",
        "ome.tif": "clesr.tools.export.ome_tiff:OmeTiffExporter",
        "ome.tiff": "clesr.tools.export.ome_tiff:OmeTiffExporter",
        "dcm": "clesr.tools.export.dicom:DicomExporter",
        "png": "clesr.tools.export.stills:PngExporter",
    },
)


def options_of(name: str) -> list[str]:
    """The options of the command that the format ``name`` has of its own."""
    known = {each.name for each in fields(ExportOptions)}
    return [each for each in inspect.signature(exporters[name]).parameters if each in known]
