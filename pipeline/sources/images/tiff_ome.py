"""The planes that OME-XML in a TIFF file names, in this and other files."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path

import tifffile

from clesr.engines.common.errors import printable
from clesr.engines.common.parsing import one_line, read_bounded
from clesr.pipeline.sources.images.indexed import Note
from clesr.pipeline.sources.images.ome import LONGEST, Index, OmeError, OmeImage, PageOfFile, parse_ome
from clesr.pipeline.sources.images.planes import Planes
from clesr.pipeline.sources.images.tiff_file import page_of


def read_ome(
    tiff: tifffile.TiffFile, total: int, path: Path, notes: list[Note], *, alone: bool
) -> Planes | None:
    """The planes that OME-XML in the file names, those of files that are there; None where it has none, or none that
    can be used, which is added to ``notes``."""
    document = _ome_document(tiff)
    if document is None:
        return None
    try:
        image = parse_ome(document, total)
        if image.companion and not image.places:
            companion = path.parent / re.split(r"[\\/]", image.companion)[-1]
            image = parse_ome(read_bounded(companion, LONGEST), total)
    except (OmeError, OSError, ValueError) as error:
        text = f"has OME-XML that is not used, and its pages are taken one after the other: {one_line(error)}"
        notes.append(Note(logging.WARNING, text))
        return None
    planes = _own(image, path, total) if alone else _there(image, path, total)
    if planes is None:
        text = "has none of the planes that its OME-XML names: its own pages are taken, one after the other"
        notes.append(Note(logging.WARNING, text))
    else:
        planes.pixel_aspect = image.pixel_aspect
    return planes


def _ome_document(tiff: tifffile.TiffFile) -> bytes | None:
    tag = page_of(tiff, 0).tags.get(270)
    if tag is None or not 0 < tag.count <= LONGEST:
        return None
    file = tiff.filehandle
    file.seek(tag.valueoffset)
    data = bytes(file.read(tag.count)).rstrip(b"\0 \r\n\t")
    return data if data.endswith(b"OME>") else None


def _there(image: OmeImage, path: Path, total: int) -> Planes | None:
    """The planes of ``image`` in files that exist."""
    exists: dict[str, bool] = {"": True}
    kept: list[tuple[Index, PageOfFile]] = []
    for index in sorted(image.places, key=lambda index: (index.t, index.z, index.c)):
        file, ifd = image.places[index]
        file = "" if file == path.name else file
        if file not in exists:
            exists[file] = _is_file(path.parent / file)
        if exists[file] and (file or ifd < total):
            kept.append((index, PageOfFile(file, ifd)))
    if not kept:
        return None
    indices, places = zip(*kept, strict=True)
    absent = [name for name, there in exists.items() if not there]
    return Planes(
        image.sizes,
        indices,
        places,
        image.interval,
        image.times,
        image.others,
        _of_missing(image, len(kept), absent),
    )


def _of_missing(image: OmeImage, there: int, absent: Sequence[str]) -> list[Note]:
    stated = math.prod(image.sizes)
    if there == stated:
        return []
    text = f"lacks {stated - there} of the {stated} planes that its OME-XML states"
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        text += f": these files are not there: {printable(absent[0])}{more}"
    return [Note(logging.WARNING, text)]


def of_unnamed(planes: Planes, pages: Sequence[int]) -> list[Note]:
    """That a description does not fit its file, which has ``pages`` that are no plane of any image."""
    named = {place.ifd for place in planes.places if not place.file}
    spare = sum(page not in named for page in pages)
    if not spare or planes.others:
        return []
    text = f"has {spare} of {len(pages)} pages that its OME-XML does not name: they are passed over"
    return [Note(logging.WARNING, text)]


def _own(image: OmeImage, path: Path, total: int) -> Planes | None:
    """The planes of ``image`` that lie in the file itself, as if there were no others."""
    kept = sorted(
        (index, place._replace(file=""))
        for index, place in image.places.items()
        if place.file in ("", path.name) and place.ifd < total
    )
    if not kept:
        return None
    ranks = [
        {value: rank for rank, value in enumerate(sorted(set(axis)))}
        for axis in zip(*(i for i, _ in kept), strict=True)
    ]
    kept.sort(key=lambda pair: (pair[0].t, pair[0].z, pair[0].c))
    moved = [Index(*(rank[value] for rank, value in zip(ranks, index, strict=True))) for index, _ in kept]
    times = {new: image.times[old] for new, (old, _) in zip(moved, kept, strict=True) if old in image.times}
    sizes = Index(*map(len, ranks))
    return Planes(sizes, moved, [place for _, place in kept], image.interval, times, image.others)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
