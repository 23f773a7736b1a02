"""OME-TIFF: every pixel as it is, with pixel size and the time of each plane."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tifffile

from clesr import __version__
from clesr.pipeline.frame import Image
from clesr.pipeline.video.ome_xml import ome_xml
from clesr.tools.export.burn_in import WARNING
from clesr.tools.export.clip import Clip, Still, runs, to_files
from clesr.tools.export.files import Files

CLASSIC = 2**32 - 2**25  # bytes of pixels up to which a classic TIFF has room for all that describes them
DESCRIPTION = 270  # the tag; the first of them is OME's, the second, of tifffile's own words, ImageJ's


class OmeTiffExporter:
    """A stack for each size of image: one plane a frame, axes TYX, no compression; DeltaT in seconds since the
    recording's first frame, TimeIncrement the mean time from plane to plane. BigTIFF where the file may become larger
    than 4 GB.

    ImageJ does not read OME-XML. A second description in its own words (as its ij.io.FileOpener reads it) tells it of
    the time axis, the interval and micrometres; what reads OME takes the first one.
    """

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
    resolution, unit = _resolution(clip)
    with tifffile.TiffWriter(temporary, bigtiff=big, ome=False) as tiff:
        for still in itertools.chain([first], run):
            tiff.write(
                still.image, photometric="minisblack", contiguous=True, metadata={}, description="OME",
                software=f"clesr {__version__}", resolution=resolution, resolutionunit=unit,
            )  # fmt: skip
            times.append(still.time_ns / 1e9)
    interval = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else None
    interval = interval or (1 / clip.fps if clip.fps else None)
    tifffile.tiffcomment(temporary, _description(clip, image, times, interval).encode())
    _describe_to_imagej(temporary, len(times), interval, clip.pixel_um)
    height, width = image.shape
    return f"{final}: {len(times)} planes, {width}x{height}, {8 * image.itemsize} bit"


def _resolution(clip: Clip) -> tuple[tuple[float, float] | None, str]:
    """Pixels per centimetre, across and down; where their size is not known but their form, that without a unit."""
    if clip.pixel_um is not None and clip.height_um is not None:
        return (1e4 / clip.pixel_um, 1e4 / clip.height_um), "CENTIMETER"
    return None if clip.pixel_aspect == 1 else (float(1 / clip.pixel_aspect), 1.0), "NONE"


def _describe_to_imagej(path: Path, planes: int, interval: float | None, pixel_um: float | None) -> None:
    lines = ["ImageJ=1.53t", f"images={planes}", f"frames={planes}", "hyperstack=true", "mode=grayscale"]
    if pixel_um is not None:
        lines.append("unit=um")
    if interval:
        lines += [f"finterval={interval:.9g}", "tunit=sec", f"fps={1 / interval:.9g}"]
    text = "\n".join([*lines, ""])
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tag = tiff.pages.first.tags.get(DESCRIPTION, index=1)
        assert tag is not None
        tag.overwrite(text, dtype="s")


def _description(clip: Clip, image: Image, times: list[float], interval: float | None) -> str:
    """The OME-XML of planes like ``image`` at ``times`` in seconds, ``interval`` apart on the average."""
    count, (height, width) = len(times), image.shape
    words = [str(clip.derivation)] if clip.derivation else []
    metadata: dict[str, Any] = {
        "Name": "super-resolved" if clip.kind == "sr" else "raw",
        "Description": "; ".join(filter(None, [*words, *clip.edits, clip.notes, WARNING])),
        "Plane": {"DeltaT": times, "DeltaTUnit": ["s"] * count},
    }
    if interval:
        metadata |= {"TimeIncrement": interval, "TimeIncrementUnit": "s"}
    if clip.started:
        metadata["AcquisitionDate"] = clip.started
    pixel = None if clip.pixel_um is None else (clip.pixel_um, clip.height_um)
    return ome_xml(image.dtype, (count, height, width), pixel, metadata)
