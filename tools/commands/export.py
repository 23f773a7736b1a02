"""`clesr export`: a recording in the formats of other programs."""

from __future__ import annotations

from typing import Any

import rich_click as click

from clesr.tools.common.options import general_options, overwrite_option
from clesr.tools.export.patient import REGIONS

CODECS = ("h264", "hevc", "hevc10", "hevc12")


@click.command()
@click.argument("session")
@click.option(
    "--output",
    "-o",
    panel="Output",
    required=True,
    metavar="FILE",
    help="Ends in .mp4, .ome.tif, .dcm or .png, which is the format.",
)
@overwrite_option("Output")
@click.option(
    "--what",
    panel="What",
    type=click.Choice(["sr", "raw", "both"]),
    help="Super-resolved or captured images; both go to NAME.raw.SUFFIX and NAME.sr.SUFFIX.  "
    "[default: sr; both for DICOM]",
)
@click.option(
    "--frames", panel="What", metavar="A-B", help="Only the frames with these numbers, both included."
)
@click.option(
    "--frame",
    panel="What",
    type=int,
    multiple=True,
    metavar="N",
    help="PNG: the frame with this number; may be repeated.",
)
@click.option("--every", panel="What", type=float, metavar="S", help="PNG: a still every S seconds.")
@click.option(
    "--codec",
    panel="Output",
    type=click.Choice(CODECS),
    help="MP4: h264, or hevc (8 bit), hevc10, hevc12.  [default: h264]",
)
@click.option(
    "--crf", panel="Output", type=click.IntRange(0, 51), metavar="N", help="MP4: quality, 0 best, 51 worst."
)
@click.option(
    "--burn-in", panel="Output", is_flag=True, help="Draw time, scale, model and a warning into the images."
)
@click.option(
    "--pixel-size",
    panel="Output",
    type=float,
    metavar="UM",
    help="Side of a captured pixel in micrometres, where the session has none.",
)
@click.option(
    "--mask",
    panel="Privacy",
    multiple=True,
    metavar="X,Y,W,H",
    help="Blank this part of the captured image; may be repeated.",
)
@click.option(
    "--keep-metadata",
    panel="Privacy",
    is_flag=True,
    help="Copy date, source and title. Without it none is copied.",
)
@click.option(
    "--patient",
    panel="Privacy",
    metavar="FILE",
    help="DICOM: patient and study from this TOML or JSON file.  [default: anonymous]",
)
@click.option(
    "--region",
    panel="Privacy",
    type=click.Choice(tuple(REGIONS)),
    metavar="NAME",
    help=f"DICOM: what was looked at: {', '.join(REGIONS)}.",
)
@click.option(
    "--text-free",
    panel="Privacy",
    is_flag=True,
    help="DICOM: you have looked, and nobody's name stands in the images.",
)
@general_options()
def export(session: str, output: str, **options: Any) -> None:
    """Write SESSION, or a plain recording, for other programs.

    - `.mp4`: H.264 or HEVC for players and browsers, every frame at its true time
    - `.ome.tif`: every pixel unchanged, pixel size, time of each plane; for ImageJ and other microscopy software
    - `.dcm`: multi-frame DICOM; raw and super-resolved images in one study, the second derived from the first
    - `.png`: stills with a scale bar below the image

    Nothing that the source says of patient, place or time is copied unless you ask for it. A file gets its name
    only when all are whole.

    Examples:

    - `clesr export examination/ -o sr.mp4`
    - `clesr export examination/ -o study.dcm --patient patient.toml --region colon`
    - `clesr export examination/ -o still.png --frame 120 --pixel-size 1.2`
    - `clesr export recording.mpeg -o recording.ome.tif --mask 0,0,200,24`
    """
    from clesr.tools.export.run import export_files

    export_files(session, output, options)
