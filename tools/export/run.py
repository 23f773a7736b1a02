"""A session or recording to the files of other programs: what `clesr export` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from clesr.engines.common.errors import ClesrError, SinkError, UsageError
from clesr.engines.common.files import WriteRule, numbered, split_suffix
from clesr.engines.common.text import shown
from clesr.pipeline.frame import Image
from clesr.pipeline.prepare import Roi
from clesr.pipeline.session.format import MANIFEST
from clesr.pipeline.session.manifest import recorded_settings
from clesr.pipeline.session.reader import Session, read_session
from clesr.tools.common.console import progress_bar, tell
from clesr.tools.export.burn_in import burn_words, words_of
from clesr.tools.export.clip import Clip, Kind, Still
from clesr.tools.export.dicom import open_study, write_dicom
from clesr.tools.export.files import Files, all_or_none
from clesr.tools.export.mask import blank_raw, blank_sr
from clesr.tools.export.mp4 import write_mp4
from clesr.tools.export.ome_tiff import write_ome_tiff
from clesr.tools.export.patient import read_patient
from clesr.tools.export.recording import recording_clip
from clesr.tools.export.selection import Selection, parse_frames
from clesr.tools.export.sessions import session_clip
from clesr.tools.export.stills import write_stills

FORMATS = (".mp4", ".ome.tif", ".ome.tiff", ".dcm", ".png")
KINDS: dict[str, tuple[Kind, ...]] = {"raw": ("raw",), "sr": ("sr",), "both": ("raw", "sr")}
ONLY_FOR = {  # options that one format has
    "codec": (".mp4",), "crf": (".mp4",), "patient": (".dcm",), "region": (".dcm",), "text_free": (".dcm",),
    "frame": (".png",), "every": (".png",),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """A clip and the file that it goes to."""

    clip: Clip
    path: Path


def export_files(session: str, output: str, options: dict[str, Any]) -> None:
    """Write what ``options`` of the command ask for of ``session`` to ``output``. Raises ClesrError."""
    path = Path(output)
    suffix = _check(path, options)
    patient = read_patient(Path(options["patient"])) if options["patient"] else None
    if suffix == ".dcm":
        open_study(patient, region=options["region"], text_free=options["text_free"])  # is pydicom there?
    rule = WriteRule.of(options["overwrite"], session, options["patient"])
    parts = _parts(session, path, suffix, options)
    if suffix != ".png" or len(options["frame"]) == 1:
        rule.check_all(*(part.path for part in parts))
    if suffix == ".dcm" and [part.clip.kind for part in parts] == ["sr"]:
        tell(
            "the captured images are not exported with them, so the SR object names no source images (--what both)"
        )
    totals = [part.clip.total for part in parts]
    total = None if None in totals else sum(total or 0 for total in totals)
    with progress_bar(f"export {path.name}", total, unit="images") as advance, all_or_none(rule) as files:
        count = _Count(advance)
        parts = [Part(replace(p.clip, stills=count(p.clip.stills)), p.path) for p in parts]
        said = _write(suffix, parts, files, options, patient)
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
    """The format's suffix; raises UsageError for options that do not fit it, and paths that cannot be written."""
    suffix = split_suffix(path)[1].lower()
    if suffix not in FORMATS:
        raise UsageError(f"--output {path} ends in none of {', '.join(FORMATS)}, which name the format")
    for name, formats in ONLY_FOR.items():
        if options[name] not in (None, False, ()) and suffix not in formats:
            raise UsageError(f"--{name.replace('_', '-')} is for {', '.join(formats)}, not for {suffix}")
    if suffix == ".png" and not options["frame"] and options["every"] is None:
        raise UsageError("say which stills: --frame N, or --every S for one every S seconds")
    for name in ("every", "pixel_size"):
        if options[name] is not None and not options[name] > 0:
            raise UsageError(f"--{name.replace('_', '-')} {options[name]:g} is not above 0")
    if not path.parent.is_dir():
        raise SinkError(f"{path}: there is no folder {path.parent}; create it, or choose another")
    return suffix


def _selection(options: dict[str, Any]) -> Selection:
    first, last = parse_frames(options["frames"]) if options["frames"] else (0, None)
    return Selection(first, last, frozenset(options["frame"]), options["every"])


def _parts(address: str, path: Path, suffix: str, options: dict[str, Any]) -> list[Part]:
    """What is to be written, and where to."""
    selection, regions = _selection(options), [Roi.parse(text, "--mask") for text in options["mask"]]
    keep = options["keep_metadata"]
    dated = keep or options["patient"] is not None
    pixel_um, what = options["pixel_size"], options["what"]
    if not (Path(address) / MANIFEST).is_file():
        if what in ("sr", "both"):
            raise UsageError(f"{shown(address)} is no session and has one kind of images; leave --what out")
        clip = recording_clip(address, selection, pixel_um=pixel_um, dated=dated, named=keep)
        return [Part(_edited(clip, regions, None, options), path)]
    session = read_session(Path(address))
    if not session.info.closed:
        tell(_unclosed(session, selection))
    for region in regions:
        region.check(session.info.raw_shape, "--mask")
    what = what or ("both" if suffix == ".dcm" else "sr")
    parts = []
    for kind in KINDS[what]:
        clip = session_clip(session, kind, selection, pixel_um=pixel_um, dated=dated, named=keep)
        clip = _edited(clip, regions, session, options)
        parts.append(Part(clip, numbered(path, kind) if what == "both" else path))
    return parts


def _unclosed(session: Session, selection: Selection) -> str:
    """What is missing of a session that was cut off, in one line."""
    records = [record for record in session.records() if record.number in selection]
    raw = sum(record.count for record in records if record.raw_index is None)
    sr = sum(record.count for record in records if record.sr_index is None)
    return (
        f"{session.folder} was never closed: it has {sum(record.count for record in records)} frames, {raw} without a "
        f"raw and {sr} without an up-scaled image, and nothing of what came after them; `clesr repair` closes it"
    )


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


def _write(suffix: str, parts: list[Part], files: Files, options: dict[str, Any], patient: Any) -> list[str]:
    if suffix == ".dcm":
        pairs = [(part.clip, part.path) for part in parts]
        return write_dicom(
            pairs, files, patient=patient, region=options["region"], text_free=options["text_free"]
        )
    said: list[str] = []
    for part in parts:
        if suffix == ".mp4":
            codec = options["codec"] or "h264"
            said += write_mp4(part.clip, part.path, files, codec=codec, crf=options["crf"])
        elif suffix == ".png":
            several = len(options["frame"]) != 1
            said += write_stills(part.clip, part.path, files, several=several)
        else:
            said += write_ome_tiff(part.clip, part.path, files)
    return said
