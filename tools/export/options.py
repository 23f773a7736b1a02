"""The options of `clesr export`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from clesr.pipeline.settings import ReadingSettings, overwriting, setting
from clesr.tools.export.delivery.options import ArchiveOptions
from clesr.tools.export.patient import REGIONS

PANELS = ("What", "Output", "Privacy", "Archive")
CODECS = ("h264", "hevc", "hevc10", "hevc12")
SOP_CLASSES = ("secondary-capture", "vl-endoscopic", "video-endoscopic")
_what, _output, _privacy = (partial(setting, panel=panel) for panel in ("What", "Output", "Privacy"))


@dataclass(frozen=True, kw_only=True)
class ExportOptions(ReadingSettings, ArchiveOptions):
    """What to export, and how."""

    what: str | None = _what(
        None,
        "Super-resolved or captured images; both go to NAME.raw.SUFFIX and NAME.sr.SUFFIX.  [default: sr; "
        "both for DICOM]",
        choices=("sr", "raw", "both"),
    )
    frames: str | None = _what(None, "Only the frames with these numbers, both included.", "A-B")
    frame: tuple[int, ...] = _what((), "PNG, DICOM: the frame with this number; may be repeated.", "N")
    every: float | None = _what(None, "PNG, DICOM: an image every S seconds.", "S", above_zero=True)
    output: str | None = _output(
        None, "Ends in .mp4, .ome.tif, .dcm or .png, which is the format.", "FILE", names=("-o",)
    )
    sop_class: str | None = _output(
        None,
        "DICOM: secondary-capture (multi-frame, nothing lost), vl-endoscopic (an object for each image), or "
        "video-endoscopic (H.264 or HEVC).  [default: secondary-capture]",
        choices=SOP_CLASSES,
    )
    codec: str | None = _output(
        None,
        "MP4, DICOM video: h264, or hevc (8 bit), and in MP4 hevc10, hevc12.  [default: h264]",
        choices=CODECS,
    )
    crf: int | None = _output(
        None, "MP4, DICOM video: quality, 0 best, 51 worst.", "N", minimum=0, maximum=51
    )
    burn_in: bool = _output(False, "Draw time, scale, model and a warning into the images.")
    pixel_size: float | None = _output(
        None, "Width of a captured pixel in micrometres, where the session has none.", "UM", above_zero=True
    )
    mask: tuple[str, ...] = _privacy((), "Blank this part of the captured image; may be repeated.", "X,Y,W,H")
    keep_metadata: bool = _privacy(False, "Copy date, source and title. Without it none is copied.")
    patient: str | None = _privacy(
        None, "DICOM: patient and study from this TOML or JSON file.  [default: anonymous]", "FILE"
    )
    region: str | None = _privacy(
        None, f"DICOM: what was looked at: {', '.join(REGIONS)}.", "NAME", choices=REGIONS
    )
    text_free: bool = _privacy(False, "DICOM: you have looked, and nobody's name stands in the images.")
    overwrite: bool = overwriting("Output")
