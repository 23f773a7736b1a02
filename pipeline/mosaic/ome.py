"""A map as OME-TIFF, with the list of the frames that made it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import tifffile

from clesr import __version__
from clesr.engines.common.image import Image
from clesr.engines.common.parsing import one_line, parse_json
from clesr.pipeline.mosaic.canvas import TILE, MapBox
from clesr.pipeline.mosaic.tissue_map import MapFrame, TissueMap
from clesr.pipeline.video.ome_xml import ome_xml

NAMESPACE = "clesr/mosaic/1"  # of the annotation that has the frames
CLASSIC = 2**31  # bytes of pixels from which on the file is a BigTIFF
NOTE = (
    "A mosaic of super-resolved frames, for research. Distances hold for tissue that was not pressed or pulled while "
    "it was scanned; brightness was evened out between frames."
)


class PixelSize(NamedTuple):
    """Micrometres of a pixel of the map, across and down."""

    width_um: float
    height_um: float


def write_map(path: Path, tissue: TissueMap, index: int, size: PixelSize | None = None) -> tuple[int, int]:
    """Write ``tissue``, the run's map ``index``, to the empty file ``path``: an OME-TIFF of one plane, in tiles, of the
    frames' dtype, 0 where nothing was seen. Its (H, W). Raises OSError."""
    box = tissue.canvas.box
    assert box is not None
    shape = box.bottom - box.top, box.right - box.left
    with tifffile.TiffWriter(
        path, bigtiff=shape[0] * shape[1] * tissue.dtype.itemsize > CLASSIC, ome=False
    ) as tiff:
        tiff.write(
            _tiles(tissue, box), shape=shape, dtype=tissue.dtype, tile=(TILE, TILE), compression="zlib",
            photometric="minisblack", metadata=None, software=f"clesr {__version__}",
            description=_description(tissue, box, index, size).encode(),
            resolution=None if size is None else (1e4 / size.width_um, 1e4 / size.height_um),
            resolutionunit="NONE" if size is None else "CENTIMETER",
        )  # fmt: skip
    return shape


def frames_of(path: Path) -> dict[str, Any]:
    """What a map's file says of its frames: ``map``, its number in the run, and ``frames``, a list in their order. Each
    has ``number``, ``seconds``, ``outcome``; those that were drawn also ``x`` and ``y``, the pixel of the picture where
    their middle lies, ``lean_x`` and ``lean_y`` in pixels a row, and ``agreement``.

    Raises ValueError where the file is no such map, OSError where it cannot be read.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            document = ElementTree.fromstring(tiff.ome_metadata or "<none/>")
        notes = [note for note in document.iter() if note.get("Namespace") == NAMESPACE]
        values = [part.text for note in notes for part in note if part.tag.endswith("Value")]
        return parse_json(values[0] or "", dict[str, Any], nonfinite=True)
    except OSError:
        raise
    except Exception as error:  # whatever tifffile raises for what is damaged
        raise ValueError(f"{path} is no map that clesr wrote ({one_line(error)})") from error


def _tiles(tissue: TissueMap, box: MapBox) -> Iterator[Image]:
    most = int(tissue.white)
    for top in range(box.top, box.bottom, TILE):
        for left in range(box.left, box.right, TILE):
            mean, _ = tissue.canvas.read(left, top, (TILE, TILE))
            yield np.rint(np.clip(mean, 0, most)).astype(tissue.dtype)


def _description(tissue: TissueMap, box: MapBox, index: int, size: PixelSize | None) -> str:
    height, width = box.bottom - box.top, box.right - box.left
    frames = [_line(frame, tissue, box) for frame in tissue.frames]
    said = json.dumps({"map": index, "frames": frames}, separators=(",", ":"))
    metadata: dict[str, Any] = {
        "Name": f"map {index}",
        "Description": f"{NOTE} {tissue.count} of {len(frames)} frames were drawn.",
        "CommentAnnotation": {"Namespace": NAMESPACE, "Value": said},
    }
    return ome_xml(tissue.dtype, (height, width), size, metadata)


def _line(frame: MapFrame, tissue: TissueMap, box: MapBox) -> dict[str, Any]:
    line = {"number": frame.number, "seconds": round(frame.seconds, 6), "outcome": str(frame.outcome)}
    if (place := frame.placement) is None:
        return line
    rows, columns = tissue.shape
    return line | {
        "x": round(place.x + (columns - 1) / 2 - box.left, 3),
        "y": round(place.y + (rows - 1) / 2 - box.top, 3),
        "lean_x": round(place.lean_x, 6),
        "lean_y": round(place.lean_y, 6),
        "agreement": round(frame.agreement, 4),
    }
