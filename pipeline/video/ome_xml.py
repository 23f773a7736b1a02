"""OME-XML of gray images, for OME-TIFF files that are written."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import tifffile
from numpy.typing import DTypeLike

from clesr import __version__


def ome_xml(
    dtype: DTypeLike,
    shape: tuple[int, ...],
    pixel: tuple[float, float | None] | None,
    metadata: dict[str, Any],
) -> str:
    """The document of an image of ``shape`` (H, W), or (T, H, W) of several, whose pixels are ``pixel`` (width, height)
    in micrometres; ``metadata`` as tifffile takes it."""
    if pixel is not None:
        for axis, size in zip("XY", pixel, strict=True):
            metadata = {**metadata, f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "µm"}
    *times, height, width = shape
    # tifffile's own identifier would contain the address of the machine's network card.
    document = tifffile.OmeXml(Creator=f"clesr {__version__}", UUID=str(uuid4()))
    stored = (times[0] if times else 1, 1, 1, height, width, 1)
    document.addimage(dtype, shape, stored, axes="TYX"[-len(shape) :], **metadata)
    return str(document.tostring(declaration=True))
