"""`clesr export`: a recording in the formats of other programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import rich_click as click

from clesr.engines.common.errors import ClesrError, SinkError, UsageError
from clesr.engines.common.files import WriteRule, numbered, split_suffix
from clesr.engines.common.text import shown
from clesr.pipeline.frame import Image
from clesr.pipeline.prepare import Roi
from clesr.pipeline.session.format import MANIFEST
from clesr.pipeline.session.manifest import recorded_settings
from clesr.pipeline.session.reader import Session, read_session
from clesr.tools.console import progress_bar, tell
from clesr.tools.export.burn_in import burn_words, words_of
from clesr.tools.export.clip import Clip, Kind, Still
from clesr.tools.export.files import all_or_none
from clesr.tools.export.mask import blank_raw, blank_sr
from clesr.tools.export.mp4 import CODECS
from clesr.tools.export.patient import REGIONS, read_patient
from clesr.tools.export.recording import recording_clip
from clesr.tools.export.registry import exporters, options_of
from clesr.tools.export.selection import Selection, parse_frames
from clesr.tools.export.sessions import session_clip
from clesr.tools.options import general_options, overwrite_option

KINDS: dict[str, tuple[Kind, ...]] = {"raw": ("raw",), "sr": ("sr",), "both": ("raw", "sr")}
OWN = (
    "codec",
    "crf",
    "patient",
    "region",
    "text_free",
    "frame",
    "every",
)  # options that not every format has


@dataclass(frozen=True, slots=True)
class Part:
    """A clip and the file that it goes to."""

    clip: Clip
    path: Path


@click.command()
@click.option_panel("What", options=["--what", "--frames", "--frame", "--every"])
@click.option_panel(
    "Output", options=["--output", "--overwrite", "--codec", "--crf", "--burn-in", "--pixel-size"]
)
@click.option_panel("Privacy", options=["--mask", "--keep-metadata", "--patient", "--region", "--text-free"])
@click.argument("session")
@click.option(
    "--output",
    "-o",
    required=True,
    metavar="FILE",
    help="Ends in .mp4, .ome.tif, .dcm or .png, which is the format.",
)
@overwrite_option()
@click.option(
    "--what",
    type=click.Choice(["sr", "raw", "both"]),
    help="Super-resolved or captured images; both go to NAME.raw.SUFFIX and NAME.sr.SUFFIX.  "
    "[default: sr; both for DICOM]",
)
@click.option("--frames", metavar="A-B", help="Only the frames with these numbers, both included.")
@click.option(
    "--frame", type=int, multiple=True, metavar="N", help="PNG: the frame with this number; may be repeated."
)
@click.option("--every", type=float, metavar="S", help="PNG: a still every S seconds.")
@click.option(
    "--codec", type=click.Choice(CODECS), help="MP4: h264, or hevc (8 bit), hevc10, hevc12.  [default: h264]"
)
@click.option("--crf", type=click.IntRange(0, 51), metavar="N", help="MP4: quality, 0 best, 51 worst.")
@click.option("--burn-in", is_flag=True, help="Draw time, scale, model and a warning into the images.")
@click.option(
    "--pixel-size",
    type=float,
    metavar="UM",
    help="Side of a captured pixel in micrometres, where the session has none.",
)
@click.option(
    "--mask", multiple=True, metavar="X,Y,W,H", help="Blank this part of the captured image; may be repeated."
)
@click.option("--keep-metadata", is_flag=True, help="Copy date, source and title. Without it none is copied.")
@click.option(
    "--patient",
    metavar="FILE",
    help="DICOM: patient and study from this TOML or JSON file.  [default: anonymous]",
)
@click.option(
    "--region",
    type=click.Choice(tuple(REGIONS)),
    metavar="NAME",
    help=f"DICOM: what was looked at: {', '.join(REGIONS)}.",
)
@click.option(
    "--text-free", is_flag=True, help="DICOM: you have looked, and nobody's name stands in the images."
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
    path = Path(output)
    name = _check(path, options)
    patient = read_patient(Path(options["patient"])) if options["patient"] else None
    own = {option: options[option] for option in options_of(name)} | ({"patient": patient} if patient else {})
    exporter = exporters[name](**own)
    rule = WriteRule.of(options["overwrite"], session, options["patient"])
    parts = _parts(session, path, options["what"] or exporter.what, options)
    if not exporter.named_by_frame:
        rule.check_all(*(part.path for part in parts))
    totals = [part.clip.total for part in parts]
    total = None if None in totals else sum(total or 0 for total in totals)
    with progress_bar(f"export {path.name}", total, unit="images") as advance, all_or_none(rule) as files:
        count = _Count(advance)
        parts = [Part(replace(p.clip, stills=count(p.clip.stills)), p.path) for p in parts]
        said = [line for part in parts for line in exporter.write(part.clip, part.path, files)]
        if not files.begun:
            raise ClesrError(f"{shown(session)} has no image in {_selection(options)}; nothing was written")
    for line in said:
        tell(f"wrote {line}")


class _Count:
    """Moves the progress bar with each image that passes."""

    def __init__(self, advance: Callable[[float, str], None]) -> None:
        self._advance, self._seen = advance, 0

    def __call__(self, stills: Any) -> Iterator[Still]:
        for still in stills:
            yield still
            self._seen += 1
            self._advance(self._seen, "")


def _check(path: Path, options: dict[str, Any]) -> str:
    """The name of the format; raises UsageError for options that do not fit it, and paths that cannot be written."""
    suffix = split_suffix(path)[1].lower()
    if suffix[1:] not in exporters:
        known = ", ".join(f".{name}" for name in exporters)
        raise UsageError(f"--output {path} ends in none of {known}, which name the format")
    for name in OWN:
        if options[name] not in (None, False, ()) and name not in options_of(suffix[1:]):
            formats = ", ".join(f".{other}" for other in exporters if name in options_of(other))
            raise UsageError(f"--{name.replace('_', '-')} is for {formats}, not for {suffix}")
    for name in ("every", "pixel_size"):
        if options[name] is not None and not options[name] > 0:
            raise UsageError(f"--{name.replace('_', '-')} {options[name]:g} is not above 0")
    if not path.parent.is_dir():
        raise SinkError(f"{path}: there is no folder {path.parent}; create it, or choose another")
    return suffix[1:]


def _selection(options: dict[str, Any]) -> Selection:
    first, last = parse_frames(options["frames"]) if options["frames"] else (0, None)
    return Selection(first, last, frozenset(options["frame"]), options["every"])


def _parts(address: str, path: Path, what: str, options: dict[str, Any]) -> list[Part]:
    """What is to be written, and where to."""
    selection, regions = _selection(options), [Roi.parse(text, "--mask") for text in options["mask"]]
    keep = options["keep_metadata"]
    dated = keep or options["patient"] is not None
    pixel_um = options["pixel_size"]
    if not (Path(address) / MANIFEST).is_file():
        if options["what"] in ("sr", "both"):
            raise UsageError(f"{shown(address)} is no session and has one kind of images; leave --what out")
        clip = recording_clip(address, selection, pixel_um=pixel_um, dated=dated, named=keep)
        return [Part(_edited(clip, regions, None, options), path)]
    session = read_session(Path(address))
    for region in regions:
        region.check(session.info.raw_shape, "--mask")
    parts = []
    for kind in KINDS[what]:
        clip = session_clip(session, kind, selection, pixel_um=pixel_um, dated=dated, named=keep)
        clip = _edited(clip, regions, session, options)
        parts.append(Part(clip, numbered(path, kind) if what == "both" else path))
    return parts


def _edited(clip: Clip, regions: list[Roi], session: Session | None, options: dict[str, Any]) -> Clip:
    """``clip`` with its regions blanked, then with words burnt in."""
    if regions:
        words = f"{len(regions)} region{'s' * (len(regions) > 1)} blanked"
        if clip.kind == "sr" and session is not None:
            clip = clip.edited(blank_sr(regions, session.info.scale, _origin(session)), words)
        else:
            clip = clip.edited(blank_raw(regions), words)
    if options["burn_in"]:
        clip = clip.edited(
            partial(_burnt, clip, stills=bool(options["frame"] or options["every"])), "words burnt in"
        )
    return clip


def _burnt(clip: Clip, still: Still, *, stills: bool) -> Image:
    """The image of ``still`` with words; PNG ``stills`` have their scale bar below."""
    return burn_words(still.image, words_of(clip, still), None if stills else clip.pixel_um)


def _origin(session: Session) -> tuple[int, int]:
    """The corner of the region of interest."""
    roi = recorded_settings(session.info).roi
    if not roi:
        return 0, 0
    parsed = Roi.parse(roi)
    return parsed.x, parsed.y
