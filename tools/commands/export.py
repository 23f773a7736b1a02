"""`clesr export`: a recording in the formats of other programs."""

from __future__ import annotations

import rich_click as click

from clesr.tools.common.options import command
from clesr.tools.export.options import PANELS, ExportOptions


@command(ExportOptions, panels=PANELS)
@click.argument("session")
def export(options: ExportOptions, session: str) -> None:
    """Write SESSION, or a plain recording, for other programs.

    - `.mp4`: H.264 or HEVC for players and browsers, every frame at its true time
    - `.ome.tif`: every pixel unchanged, pixel size, time of each plane; for ImageJ and other microscopy software
    - `.dcm`: multi-frame DICOM; raw and super-resolved images in one study, the second derived from the first
    - `.png`: stills with a scale bar below the image

    `--to` stores DICOM in an archive. What it holds already is not sent again: after a failure the same command goes
    on with the rest.

    Nothing that the source says of patient, place or time is copied unless you ask for it. A file gets its name
    only when all are whole.

    Examples:

    - `clesr export examination/ -o sr.mp4`
    - `clesr export examination/ -o study.dcm --patient patient.toml --region colon`
    - `clesr export examination/ --to dicom://PACS@archive:104 --calling-aet CLESR`
    - `clesr export examination/ --to https://archive/dicom-web/studies --credentials login.toml`
    - `clesr export examination/ -o still.png --frame 120 --pixel-size 1.2`
    - `clesr export recording.mpeg -o recording.ome.tif --mask 0,0,200,24`
    """
    from clesr.tools.export.run import export_recording

    export_recording(session, options)
