"""Maps from recordings: the up-scaled images of a session as they are, or those of any recording made first."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path

from clesr.engines.common.errors import UsageError, on_error
from clesr.engines.common.files import WriteRule
from clesr.engines.opener import EngineOpener
from clesr.pipeline.frame import Outcome
from clesr.pipeline.session.format import MANIFEST, SR, TICK
from clesr.pipeline.session.reader import SessionReader, read_session
from clesr.pipeline.settings import PATIENCE_FPS, MosaicSettings, option_name
from clesr.pipeline.sinks.mosaic import SCHEME, MosaicFile
from clesr.pipeline.sinks.registry import SinkOptions
from clesr.pipeline.sources.registry import open_source
from clesr.tools.common.console import progress_bar
from clesr.tools.common.runs import run_recorded

log = logging.getLogger(__name__)
# What counts for a session too, whose images are there already.
OWN = ("recording", "output", "overwrite", "mosaic_memory", "pixel_size", "frames")


def draw_recording(recording: Path, settings: MosaicSettings, given: Sequence[str] = ()) -> bool:
    """Draw the maps of ``recording``; whether that was interrupted. ``given`` are the options of the command line.

    Raises ClesrError for what cannot be read or written.
    """
    if not os.path.lexists(recording / MANIFEST):
        return _upscale(recording, settings)
    session = read_session(recording)
    if not os.path.lexists(recording / SR):
        return _upscale(recording, settings, session.info.pixel_um)
    if other := [name for name in given if name not in OWN]:
        raise UsageError(
            f"{option_name(other[0])} is not for {recording}, whose up-scaled images are taken as they are; make "
            "others with `clesr render` first"
        )
    _draw_session(session, settings)
    return False


def _draw_session(session: SessionReader, settings: MosaicSettings) -> None:
    info = session.info
    sink = _sink(session.folder, settings, settings.pixel_size or info.pixel_um, Fraction(*info.pixel_aspect))
    total = None if info.totals is None else info.totals.get("sr")
    with progress_bar(session.folder.name, total, unit="frames") as advance:
        for count, (record, image) in enumerate(islice(session.images("sr"), settings.frames), 1):
            ns = record.captured_ns - info.started_ns
            seconds = ns / 1e9 if record.ticks is None else float(record.ticks * TICK)
            sink.draw(
                image, record.number, seconds, scale=info.scale, failed=record.outcome is Outcome.FAILED
            )
            advance(count, "")
    log.info(f"wrote {sink.close()}")


def _upscale(recording: Path, settings: MosaicSettings, pixel_um: float | None = None) -> bool:
    source = open_source(str(recording), pace="max", count=True, **settings.reading())
    with on_error(source.close):
        sink = _sink(recording, settings, settings.pixel_size or pixel_um, source.info.pixel_aspect)
    opener = EngineOpener.of(settings, PATIENCE_FPS)
    return run_recorded(settings, source, opener, [sink], recording.name, frames=settings.frames)[0]


def _sink(recording: Path, settings: MosaicSettings, pixel_um: float | None, aspect: Fraction) -> MosaicFile:
    """What draws every image that it gets."""
    options = SinkOptions(
        pixel_um=pixel_um,
        rule=WriteRule.of(settings.overwrite, str(recording), settings.model),
        pixel_aspect=aspect,
        mosaic_memory=settings.mosaic_memory,
    )
    return MosaicFile(SCHEME + settings.output, options, share=1.0)
