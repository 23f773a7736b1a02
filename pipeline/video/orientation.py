"""How a picture is to be turned: the display matrix of MP4 and QuickTime files and of some streams."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type

from clesr.pipeline.frame import Image

_BYTES = 36  # of a display matrix


class Orientation(NamedTuple):
    """Rows and columns are swapped first where ``transposed``, then columns and rows are reversed."""

    transposed: bool = False
    mirrored: bool = False
    upended: bool = False

    def apply(self, image: Image) -> Image:
        """``image`` as it is to be seen, in memory of its own where anything changes."""
        turned = image.T if self.transposed else image
        turned = turned[:: -1 if self.upended else 1, :: -1 if self.mirrored else 1]
        return np.ascontiguousarray(turned)


UPRIGHT = Orientation()


def orientation_of(frame: av.VideoFrame) -> Orientation | None:
    """That of ``frame``; None for one that is no quarter turn or mirror image, which needs new pixels."""
    held: Mapping[Any, Any] = frame.side_data  # whose types PyAV states wrongly
    matrix = bytes(held.get(Type.DISPLAYMATRIX) or b"")
    return from_matrix(struct.unpack_from("=9i", matrix)) if len(matrix) >= _BYTES else UPRIGHT


def from_matrix(matrix: tuple[int, ...]) -> Orientation | None:
    """The orientation of a display matrix (ISO/IEC 14496-12, 8.5.2: nine numbers, row by row): a pixel at (x, y),
    from the upper left corner, is shown at (a x + c y, b x + d y). None where its axes are not the picture's."""
    a, b, _, c, d = matrix[:5]
    if a and d and not b and not c:
        return Orientation(False, a < 0, d < 0)
    if b and c and not a and not d:
        return Orientation(True, c < 0, b < 0)
    return None
