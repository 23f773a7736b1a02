"""OME-TIFF: every pixel as it is, with pixel size and the time of each plane."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import tifffile

from clesr import __version__
from clesr.pipeline.frame import Image
from clesr.tools.export.burn_in import WARNING
from clesr.tools.export.clip import Clip, Still, runs, to_files
from clesr.tools.export.files import Files

CLASSIC = 2**32 - 2**25  # bytes of pixels up to which a classic TIFF has room for all that describes them


class OmeTiffExporter:
    """A stack for each size of image: one plane a frame, axes TYX, no compression; DeltaT in seconds since the
    recording's first frame. BigTIFF where the file may become larger than 4 GB."""

    what, named_by_frame = "sr", False

    def write(self, clip: Clip, path: Path, files: Files) -> list[str]:
        return [
            _write_run(clip, run, final, files.begin(final))
            for final, run in to_files(runs(clip.stills), path)
        ]


def _write_run(clip: Clip, run: Iterator[Still], final: Path, temporary: Path) -> str:
    first = next(run)
    image, times = first.image, []
    big = clip.total is None or clip.total * image.nbytes > CLASSIC
    with tifffile.TiffWriter(temporary, bigtiff=big, ome=False) as tiff:
        for still in itertools.chain([first], run):
            tiff.write(
                still.image, photometric="minisblack", contiguous=True, metadata=None, description="OME",
                software=f"clesr {__version__}",
            )  # fmt: skip
            times.append(still.time_ns / 1e9)
    tifffile.tiffcomment(temporary, _description(clip, image, times).encode())
    height, width = image.shape
    return f"{final}: {len(times)} planes, {width}x{height}, {8 * image.itemsize} bit"


def _description(clip: Clip, image: Image, times: list[float]) -> str:
    """The OME-XML of planes like ``image`` at ``times`` in seconds."""
    count, (height, width) = len(times), image.shape
    words = [str(clip.derivation)] if clip.derivation else []
    metadata: dict[str, Any] = {
        "Name": "super-resolved" if clip.kind == "sr" else "raw",
        "Description": "; ".join(filter(None, [*words, *clip.edits, clip.notes, WARNING])),
        "Plane": {"DeltaT": times, "DeltaTUnit": ["s"] * count},
    }
    if clip.pixel_um is not None:
        metadata |= {"PhysicalSizeX": clip.pixel_um, "PhysicalSizeXUnit": "µm"}
        metadata |= {"PhysicalSizeY": clip.pixel_um, "PhysicalSizeYUnit": "µm"}
    if clip.fps:
        metadata |= {"TimeIncrement": 1 / clip.fps, "TimeIncrementUnit": "s"}
    if clip.started:
        metadata["AcquisitionDate"] = clip.started
    # tifffile's own identifier would contain the address of the machine's network card.
    document = tifffile.OmeXml(Creator=f"clesr {__version__}", UUID=str(uuid4()))
    document.addimage(
        image.dtype, (count, height, width), (count, 1, 1, height, width, 1), axes="TYX", **metadata
    )
    return str(document.tostring(declaration=True))
