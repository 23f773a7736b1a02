"""A session or recording to the files of other programs, or to an archive: what `clesr export` does."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from clesr.engines.common.errors import ClesrError, SinkError, UsageError
from clesr.engines.common.files import WriteRule, numbered, split_suffix
from clesr.engines.common.text import shown
from clesr.pipeline.frame import Image
from clesr.pipeline.prepare import Roi
from clesr.pipeline.session.format import MANIFEST
from clesr.pipeline.session.manifest import recorded_settings
from clesr.pipeline.session.reader import SessionReader, read_session
from clesr.pipeline.settings import ReadingSettings, option_name
from clesr.pipeline.sources.masked import blank
from clesr.tools.common.console import progress_bar
from clesr.tools.export.burn_in import burn_words, words_of
from clesr.tools.export.clip import Clip, Kind, Still
from clesr.tools.export.delivery.address import open_archive
from clesr.tools.export.files import all_or_none
from clesr.tools.export.options import ExportOptions
from clesr.tools.export.patient import read_patient
from clesr.tools.export.recording import recording_clip
from clesr.tools.export.registry import exporters, options_of
from clesr.tools.export.selection import Selection, parse_frames
from clesr.tools.export.sessions import session_clip

log = logging.getLogger(__name__)
KINDS: dict[str, tuple[Kind, ...]] = {"raw": ("raw",), "sr": ("sr",), "both": ("raw", "sr")}
MARGIN = 2  # pixels of the captured image around a region in SR images: what a network or bicubic carries over its edge
# Options that not every format has.
OBJECTS = "study.dcm"  # what goes to an archive alone
OWN = ("sop_class", "codec", "crf", "patient", "region", "text_free", "frame", "every")


def export_recording(session: str, options: ExportOptions) -> None:
    """Do what ``options`` of the command ask for with ``session``: files, objects in an archive, or both. Raises
    ClesrError."""
    if options.to is None:
        if options.output is None:
            raise UsageError("nothing to do: give -o FILE, --to ARCHIVE, or both")
        for line in write_files(session, Path(options.output), options)[0]:
            log.info(f"wrote {line}")
        return
    _check(Path(options.output or OBJECTS), options)
    if Path(options.output or OBJECTS).suffix.lower() != ".dcm":
        raise UsageError(
            f"--to stores DICOM; --output {options.output} has to end in .dcm, or may be left out"
        )
    archive = open_archive(options)
    from clesr.tools.export.delivery.deliver import deliver  # needs pydicom, which open_archive looks for

    with ExitStack() as opened:
        if options.output is None:
            folder = Path(opened.enter_context(TemporaryDirectory(prefix="clesr-")))
        path = Path(options.output) if options.output else folder / OBJECTS
        said, files = write_files(session, path, options, stable=True)
        if options.output is not None:
            for line in said:
                log.info(f"wrote {line}")
        deliver(archive, files, retries=options.retries)


def write_files(
    session: str, path: Path, options: ExportOptions, **more: bool
) -> tuple[list[str], list[Path]]:
    """Write ``session`` to ``path``, by an exporter with ``more`` options: what was written in words, and the files.
    Raises ClesrError."""
    name = _check(path, options)
    patient = read_patient(Path(options.patient)) if options.patient else None
    own = {option: getattr(options, option) for option in options_of(name)} | (
        {"patient": patient} if patient else {}
    )
    exporter = exporters[name](**own, **more)
    rule = WriteRule.of(options.overwrite, session, options.patient)
    parts = _parts(session, path, options.what or exporter.what, options)
    if not exporter.named_by_frame:
        rule.check_all(*(file for _, file in parts))
    totals = [clip.total for clip, _ in parts]
    total = None if None in totals else sum(total or 0 for total in totals)
    with progress_bar(f"export {path.name}", total, unit="images") as advance, all_or_none(rule) as files:
        seen = itertools.count(1)

        def counted(clip: Clip) -> Iterator[Still]:
            for still in clip.stills:
                yield still
                advance(next(seen), "")

        parts = [(replace(clip, stills=counted(clip)), file) for clip, file in parts]
        said = [line for clip, file in parts for line in exporter.write(clip, file, files)]
        if not files.begun:
            raise ClesrError(f"{shown(session)} has no image in {_selection(options)}; nothing was written")
    return said, [file.final for file in files.begun]


def _check(path: Path, options: ExportOptions) -> str:
    """The name of the format; raises UsageError for options that do not fit it, and paths that cannot be written."""
    suffix = split_suffix(path)[1].lower()
    if suffix[1:] not in exporters:
        known = ", ".join(f".{name}" for name in exporters)
        raise UsageError(f"--output {path} ends in none of {known}, which name the format")
    for name in OWN:
        if getattr(options, name) not in (None, False, ()) and name not in options_of(suffix[1:]):
            formats = ", ".join(f".{other}" for other in exporters if name in options_of(other))
            raise UsageError(f"{option_name(name)} is for {formats}, not for {suffix}")
    if not path.parent.is_dir():
        raise SinkError(f"{path}: there is no folder {path.parent}; create it, or choose another")
    return suffix[1:]


def _selection(options: ExportOptions) -> Selection:
    first, last = parse_frames(options.frames) if options.frames else (0, None)
    return Selection(first, last, frozenset(options.frame), options.every)


def _parts(address: str, path: Path, what: str, options: ExportOptions) -> list[tuple[Clip, Path]]:
    """Clips, and the files that they go to."""
    selection, regions = _selection(options), [Roi.parse(text, "--mask") for text in options.mask]
    keep = options.keep_metadata
    dated = keep or options.patient is not None
    pixel_um = options.pixel_size
    if not (Path(address) / MANIFEST).is_file():
        if options.what in ("sr", "both"):
            raise UsageError(f"{shown(address)} is no session and has one kind of images; leave --what out")
        clip = recording_clip(
            address, selection, pixel_um=pixel_um, dated=dated, named=keep, reading=options.reading()
        )
        return [(_edited(clip, regions, None, options), path)]
    usual = ReadingSettings()
    for option in fields(ReadingSettings):
        if getattr(options, option.name) != getattr(usual, option.name):
            raise UsageError(
                f"{option_name(option.name)} is for plain recordings, and {shown(address)} is a session"
            )
    session = read_session(Path(address))
    if not session.info.closed:
        log.warning(_unclosed(session, selection))
    for region in regions:
        region.check(session.info.raw_shape, "--mask")
    parts = []
    for kind in KINDS[what]:
        clip = session_clip(session, kind, selection, pixel_um=pixel_um, dated=dated, named=keep)
        clip = _edited(clip, regions, session, options)
        parts.append((clip, numbered(path, kind) if what == "both" else path))
    return parts


def _unclosed(session: SessionReader, selection: Selection) -> str:
    """What is missing of a session that was cut off, in one line."""
    records = [record for record in session.records() if record.number in selection]
    raw = sum(record.count for record in records if record.raw_index is None)
    sr = sum(record.count for record in records if record.sr_index is None)
    return (
        f"{session.folder} was never closed: it has {sum(record.count for record in records)} frames, {raw} without a "
        f"raw and {sr} without an up-scaled image, and nothing of what came after them; `clesr repair` closes it"
    )


def _edited(clip: Clip, regions: list[Roi], session: SessionReader | None, options: ExportOptions) -> Clip:
    """``clip`` with its regions blanked, then with words burnt in."""
    if regions:
        words = f"{len(regions)} region{'s' * (len(regions) > 1)} blanked"
        if clip.kind == "sr" and session is not None:
            clip = clip.edited(blank_sr(regions, session.info.scale, _origin(session)), words)
        else:
            clip = clip.edited(lambda still: blank(still.image, regions), words)
    if options.burn_in:
        plain, stills = (
            clip,
            (options.output or "").lower().endswith(".png"),
        )  # whose scale bars are below them
        size = None if stills else clip.pixel_um
        clip = clip.edited(
            lambda still: burn_words(still.image, words_of(plain, still), size), "words burnt in"
        )
    return clip


def blank_sr(regions: Sequence[Roi], scale: int, origin: tuple[int, int]) -> Callable[[Still], Image]:
    """An edit that makes ``regions`` of captured images, with MARGIN around them, black in the SR images.

    ``origin`` (x, y) is the corner of the part of the captured image from which the SR images were made.
    """

    def grown(begin: int, size: int) -> slice:
        return slice(max(0, begin - MARGIN) * scale, max(0, begin + size + MARGIN) * scale)

    def edit(still: Still) -> Image:
        blanked = still.image.copy()
        for region in regions:
            columns = grown(region.x - origin[0], region.width)
            blanked[grown(region.y - origin[1], region.height), columns] = 0
        return blanked

    return edit


def _origin(session: SessionReader) -> tuple[int, int]:
    """The corner of the region of interest."""
    roi = recorded_settings(session.info).roi
    return (roi.x, roi.y) if roi else (0, 0)
