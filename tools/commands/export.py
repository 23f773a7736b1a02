"""`clesr export`: a recording in the formats of other programs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import rich_click as click

from clesr.pipeline.settings import setting
from clesr.tools.common.options import general_options, overwrite_option, settings_options
from clesr.tools.export.patient import REGIONS

CODECS = ("h264", "hevc", "hevc10", "hevc12")
_what, _output, _privacy = (partial(setting, panel=panel) for panel in ("What", "Output", "Privacy"))


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What to export, and how."""

    what: str | None = _what(
        None,
        "Super-resolved or captured images; both go to NAME.raw.SUFFIX and NAME.sr.SUFFIX.  [default: sr; "
        "both for DICOM]",
        choices=("sr", "raw", "both"),
    )
    frames: str | None = _what(None, "Only the frames with these numbers, both included.", "A-B")
    frame: tuple[int, ...] = _what((), "PNG: the frame with this number; may be repeated.", "N")
    every: float | None = _what(None, "PNG: a still every S seconds.", "S")
    output: str = _output(
        ..., "Ends in .mp4, .ome.tif, .dcm or .png, which is the format.", "FILE", names=("-o",)
    )
    codec: str | None = _output(
        None, "MP4: h264, or hevc (8 bit), hevc10, hevc12.  [default: h264]", choices=CODECS
    )
    crf: int | None = _output(None, "MP4: quality, 0 best, 51 worst.", "N", minimum=0, maximum=51)
    burn_in: bool = _output(False, "Draw time, scale, model and a warning into the images.")
    pixel_size: float | None = _output(
        None, "Side of a captured pixel in micrometres, where the session has none.", "UM"
    )
    mask: tuple[str, ...] = _privacy((), "Blank this part of the captured image; may be repeated.", "X,Y,W,H")
    keep_metadata: bool = _privacy(False, "Copy date, source and title. Without it none is copied.")
    patient: str | None = _privacy(
        None, "DICOM: patient and study from this TOML or JSON file.  [default: anonymous]", "FILE"
    )
    region: str | None = _privacy(
        None, f"DICOM: what was looked at: {', '.join(REGIONS)}.", "NAME", choices=tuple(REGIONS)
    )
    text_free: bool = _privacy(False, "DICOM: you have looked, and nobody's name stands in the images.")


@click.command()
@click.argument("session")
@settings_options(ExportOptions, panels=())
@overwrite_option("Output")
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
