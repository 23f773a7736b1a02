"""What the pages of a TIFF file are to each other: channels, planes of depth, times."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tifffile

from clesr.pipeline.sources.images.indexed import Note
from clesr.pipeline.sources.images.ome import Index, PageOfFile, index_of, seconds_of
from clesr.pipeline.sources.images.planes import MOST_CHANNELS, Planes
from clesr.pipeline.sources.images.tiff_file import page_of
from clesr.pipeline.sources.images.tiff_ome import of_unnamed, read_ome
from clesr.pipeline.sources.images.times import plausible
from clesr.pipeline.sources.registry import SourceOptions

_CHANNELS = re.compile(r"SI\.hChannels\.channelSave\s*=\s*\[([\d;,\s]{1,99})\]")
_SCAN_RATE = re.compile(r"SI\.hRoiManager\.scanFrameRate\s*=\s*([\d.]{1,20})")
_SCANNED = 1 << 20  # characters that are searched


def find_planes(
    tiff: tifffile.TiffFile, pages: Sequence[int], total: int, path: Path, options: SourceOptions
) -> Planes:
    """What the ``pages`` of ``tiff``, of ``total`` in its list, are by what it says of itself; one after the other in
    time where it says nothing."""
    notes: list[Note] = []
    ome = read_ome(tiff, total, path, notes, alone=options.alone)
    if ome is not None:
        ome.notes += of_unnamed(ome, pages)
        return ome
    sizes, order, interval = (
        _imagej(tiff) or _scanimage(tiff, total) or _shaped(tiff) or (Index(1, 1, 1), "CZT", 0.0)
    )
    stated = math.prod(sizes)
    if stated < len(pages):
        if stated > 1:
            text = f"describes {stated} planes and has {len(pages)}: they are taken one after the other"
            notes.append(Note(logging.WARNING, text))
        sizes = Index(1, 1, len(pages))
    indices = [index_of(number, sizes, order.lower()) for number in range(len(pages))]
    return Planes(sizes, indices, [PageOfFile("", page) for page in pages], interval, notes=notes)


def _imagej(tiff: tifffile.TiffFile) -> tuple[Index, str, float] | None:
    try:
        metadata: dict[str, Any] = tiff.imagej_metadata or {}
    except Exception:  # noqa: BLE001
        return None
    if not metadata:
        return None
    c, z, t = (_count(metadata.get(name)) for name in ("channels", "slices", "frames"))
    t = max(t, _count(metadata.get("images")) // (c * z))
    if c > MOST_CHANNELS and z == t == 1:  # writers call times channels where nobody says
        c, t = 1, c
    return Index(c, z, t), "CZT", imagej_interval(metadata)


def _count(value: object) -> int:
    return value if isinstance(value, int) and 1 <= value < 1 << 31 else 1


def imagej_interval(metadata: dict[str, Any]) -> float:
    """Seconds from one frame to the next by ImageJ's metadata, 0 where they say none. ``fps`` is what ImageJ plays with
    and counts where there is no interval."""
    interval, unit = metadata.get("finterval"), metadata.get("tunit", "s")
    scale = seconds_of(unit) if isinstance(unit, str) else None
    if isinstance(interval, int | float) and interval > 0 and scale and plausible(1 / (interval * scale)):
        return float(interval * scale)
    rate = metadata.get("fps")
    return 1 / rate if isinstance(rate, int | float) and rate > 0 and plausible(rate) else 0.0


def _scanimage(tiff: tifffile.TiffFile, pages: int) -> tuple[Index, str, float] | None:
    page = page_of(tiff, 0)
    text = f"{page.software}\n{page.description}"[:_SCANNED]
    if "SI.h" not in text:
        return None
    saved = _CHANNELS.search(text)
    channels = len(re.findall(r"\d+", saved[1])) if saved else 1
    found = _SCAN_RATE.search(text)
    rate = float(found[1]) if found and re.fullmatch(r"\d+\.?\d*", found[1]) else 0.0
    return Index(channels, 1, -(-pages // channels)), "CZT", 1 / rate if plausible(rate or None) else 0.0


def _shaped(tiff: tifffile.TiffFile) -> tuple[Index, str, float] | None:
    """What tifffile itself writes: the shape, and with luck the names of its axes."""
    try:
        described: tuple[dict[str, Any], ...] = tiff.shaped_metadata or ()
        axes, shape = described[0].get("axes", ""), described[0]["shape"]
        if len(axes) != len(shape) or "Y" not in axes:
            return None
        outer = [(axis, int(count)) for axis, count in zip(axes, shape, strict=True)][: axes.index("Y")]
    except Exception:  # noqa: BLE001
        return None
    sizes = {"c": 1, "z": 1, "t": 1}
    order = ""
    for axis, count in reversed(outer):
        name = axis.lower() if axis in "CZ" else "t"  # whatever else it is, its planes follow each other
        sizes[name] *= count
        order += "" if name.upper() in order else name.upper()
    order += "".join(axis for axis in "CZT" if axis not in order)
    return Index(**sizes), order, 0.0
