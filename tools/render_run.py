"""The SR images of a session again, from its raw frames: compared, or into a new session."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import ClesrError, EngineError, UsageError, WeightsError
from clesr.engines.engine import Engine
from clesr.engines.interpolation import METHODS
from clesr.engines.levels import Levels
from clesr.engines.models.weights import find_model
from clesr.engines.opener import EngineOpener
from clesr.engines.view import View
from clesr.pipeline.cores.calibration import CoreCalibration, load_cores
from clesr.pipeline.frame import Frame, Image, Outcome, PreparedFrame, Result, Temporal
from clesr.pipeline.guide import Guide
from clesr.pipeline.live_engine import LiveEngine
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.session.folder import make_folder
from clesr.pipeline.session.format import TICK, Record, SessionError
from clesr.pipeline.session.manifest import RecorderSettings, recorded_settings
from clesr.pipeline.session.reader import SessionReader
from clesr.pipeline.sources.session import SessionSource
from clesr.pipeline.temporal import StreamFusion
from clesr.tools.common.console import progress_bar
from clesr.tools.common.runs import make_recorder, run_recorded

log = logging.getLogger(__name__)
ALLOWED_LSB = 1.0  # mean difference of a frame, in 8-bit levels


class RecordedPrepare(Prepare):
    """Cuts and stretches the frames of a session exactly as they were while it was recorded."""

    def __init__(self, session: SessionReader, *, temporal: Temporal | None, **known: Any) -> None:
        lines = list(session.lines())
        if temporal is None and any(r.frames is not None for r in lines):
            temporal = StreamFusion()
        super().__init__(temporal=temporal, **known)
        self._recorded = {r.number: r.levels for r in lines if r.prepared_ns is not None}
        self._cores = {r.number: r.cores for r in lines if r.cores is not None}
        self._calibrations = {
            sha256: recorded_calibration(session, sha256) for sha256 in sorted(set(self._cores.values()))
        }

    def find_cores(self, frame: Frame) -> CoreCalibration | None:
        sha256 = self._cores.get(frame.number)
        return None if sha256 is None else self._calibrations[sha256]

    def find_levels(self, image: Image, frame: Frame) -> tuple[float, float] | None:
        if frame.number in self._recorded:
            levels = self._recorded[frame.number]
            if levels is not None and not levels[0] < levels[1]:
                raise SessionError(
                    f"frame {frame.number} has black at level {levels[0]:g} and white at {levels[1]:g}; "
                    "`clesr verify` tells more"
                )
            return levels
        return super().find_levels(image, frame)


def recorded_calibration(session: SessionReader, sha256: str) -> CoreCalibration:
    """The calibration in ``session`` with this hash; raises ClesrError where it is not there, or another."""
    path = session.calibration(sha256)
    found = load_cores(path)
    if found.sha256 != sha256:
        raise SessionError(
            f"{path} is not the calibration by which {session.folder} was made; `clesr verify` tells more"
        )
    return found


class RecordedGuide(Guide):
    """Tells the network what it was told while a session was recorded."""

    def __init__(self, session: SessionReader, denoise: float | None) -> None:
        super().__init__(denoise)
        self._recorded = {r.number: Levels(*r.noise) for r in session.lines() if r.noise is not None}

    def find_levels(self, frame: Frame, lr: Image, view: View) -> Levels:
        found = self._recorded.get(frame.number)
        return super().find_levels(frame, lr, view) if found is None else found


def recorded_prepare(session: SessionReader) -> Prepare:
    """What prepares the frames of ``session`` as it was done while it was recorded."""
    settings = recorded_settings(session.info)
    return settings.prepare(
        make=partial(RecordedPrepare, session), guide=RecordedGuide(session, settings.denoise)
    )


def compare(session: SessionReader, opener: EngineOpener) -> None:
    """Render the recorded SR images again and compare; raises ClesrError where one differs by too much."""
    info = session.info
    total = None if info.totals is None else info.totals.get("sr", 0)
    with progress_bar(session.folder.name, total, unit="frames") as advance:
        found = Differences()
        for record, recorded, again in _pairs(session, opener):
            found.add(record, recorded, again)
            advance(found.count, "")
    if not found.count:
        raise SessionError(
            f"{session.folder} has no up-scaled frames to compare with, or all rest on frames from before it"
        )
    log.info(str(found))
    if found.worst > ALLOWED_LSB:
        lossy = "; it was recorded by a lossy codec" if info.sr_codec != "ffv1" else ""
        raise ClesrError(
            f"frame {found.worst_number} differs by {found.worst:.2f} levels on average, "
            f"{ALLOWED_LSB:g} is allowed{lossy}"
        )


@dataclass(slots=True)
class Differences:
    """Mean differences in 8-bit levels over the frames seen."""

    count: int = 0
    same: int = 0
    total: float = 0.0
    worst: float = -1.0
    worst_number: int = 0
    most: float = 0.0

    def add(self, record: Record, recorded: Image, again: Image) -> None:
        """Raises SessionError where the recorded image is none of the frame's size."""
        if (recorded.shape, recorded.dtype) != (again.shape, again.dtype):
            raise SessionError(
                f"the recorded image of frame {record.number} is {recorded.dtype} of {recorded.shape}, its frame "
                f"makes {again.dtype} of {again.shape}; `clesr verify` tells more"
            )
        level = 257.0 if recorded.dtype == np.uint16 else 1.0
        difference = np.abs(recorded.astype(np.int32) - again) / level
        mean = float(difference.mean())
        self.count += 1
        self.same += mean == 0
        self.total += mean
        self.most = max(self.most, float(difference.max()))
        if mean > self.worst:
            self.worst, self.worst_number = mean, record.number

    def __str__(self) -> str:
        return (
            f"{self.count} frames rendered again, {self.same} of them the same to the bit: "
            f"{self.total / self.count:.3f} levels mean difference, {self.worst:.3f} in the worst frame "
            f"({self.worst_number}), {self.most:.0f} in the worst pixel"
        )


def _pairs(session: SessionReader, opener: EngineOpener) -> Iterator[tuple[Record, Image, Image]]:
    """Record, recorded image, and image made again, of every frame that was up-scaled, without those whose images rest
    on frames that are not in the recording.

    Images that were made and not recorded are made again too: later ones rest on them.
    """
    prepare = recorded_prepare(session)
    fused = prepare.temporal is not None and bool(session.info.model_hash)
    waiting: deque[tuple[Record, Image | None]] = deque()
    settings = replace(recorded_settings(session.info), scale=opener.scale)
    live = LiveEngine(opener, clock=SYSTEM, **settings.computing())
    with closing(live) as upscaler:
        for record, raw, sr in _known(session, rests=fused):
            if sr is None and record.frames is None:
                continue
            base = None if record.ticks is None else TICK
            frame = Frame(raw, record.number, record.captured_ns, record.ticks, base)
            job = PreparedFrame(
                frame,
                prepare(frame),
                SYSTEM.now_ns(),
                guide=prepare.guide,
                temporal=None if record.frames is None else prepare.temporal,
                alone=record.frames == 1,
            )
            if upscaler.engine is None:
                upscaler.open((job.lr.shape[0], job.lr.shape[1]))
            waiting.append((record, sr))
            results = upscaler.submit(job)
            if len(waiting) - len(results) >= upscaler.depth:
                results.append(upscaler.collect())
            yield from _recorded(waiting, results, upscaler)
        yield from _recorded(waiting, upscaler.drain(), upscaler)


def _known(session: SessionReader, *, rests: bool) -> Iterator[tuple[Record, Image, Image | None]]:
    """Record, raw and recorded SR image of every frame whose image can be made again. Where images may rest on earlier
    frames (``rests``), none can after one that is not known, until one stands alone."""
    raws, srs = session.images("raw"), session.images("sr")
    known = False
    for record in session.records():
        _, raw = next(raws, (None, None)) if record.raw_index is not None else (None, None)
        _, sr = next(srs, (None, None)) if record.sr_index is not None else (None, None)
        if record.outcome not in (Outcome.UPSCALED, None):
            continue
        if raw is None or (rests and record.outcome is None):
            known = False
        elif known := known or record.frames in (None, 1.0):
            yield record, raw, sr


def _recorded(
    waiting: deque[tuple[Record, Image | None]], results: list[Result], upscaler: LiveEngine
) -> Iterator[tuple[Record, Image, Image]]:
    """Of ``results``, those of the oldest frames ``waiting``, each whose image was recorded."""
    for result in results:
        if result.outcome is Outcome.FAILED:
            raise EngineError(f"frame {result.frame.number}: {upscaler.failure}")
        record, sr = waiting.popleft()
        if sr is not None:
            yield record, sr, result.image


def write_session(session: SessionReader, output: Path, opener: EngineOpener) -> bool:
    """Render ``session`` into the new session ``output``; whether that was interrupted."""
    make_folder(output)
    source, prepare, info = SessionSource(session.folder), recorded_prepare(session), session.info
    stated = {**info.settings, "rendered_from": info.id}
    kept = RecorderSettings(pixel_um=info.pixel_um, settings=stated, started=info.started)
    recorder = make_recorder(source.info, prepare, opener.scale, kept)
    settings = replace(recorded_settings(info), scale=opener.scale)
    return run_recorded(
        settings, source, opener, [], "render", record=output, prepare=prepare, recorder=recorder
    )[0]


class RecordedEngine(EngineOpener):
    """Opens the engine that made a session where this machine has it, else the best, and says so.

    ``given`` are options that the user set himself. Raises SessionError where the session's model is not installed.
    """

    def __init__(self, session: SessionReader, given: dict[str, Any]) -> None:
        self._info = info = session.info
        scale = int(given.get("scale", info.scale))
        if "model" in given:
            model = str(given["model"])
        else:
            model = recorded_model(session) if scale == info.scale else info.model
        asked = {key: given[key] for key in ("engine", "device", "precision", "threads") if key in given}
        self._free = not asked
        options: dict[str, Any] = {"engine": "auto", "threads": recorded_settings(info).threads}
        if info.model_hash and model not in METHODS and "engine" not in asked:
            options |= {"engine": info.engine, "precision": info.precision}
        super().__init__(scale, model, **(options | asked))

    @property
    def same_model(self) -> bool:
        """Whether the model is the session's own."""
        info, model = self._info, self.model
        own = (model == info.model) if isinstance(model, str) else model and model.sha256 == info.model_hash
        return bool(own) and self.scale == info.scale

    def __call__(self, shape: tuple[int, int]) -> Engine:
        try:
            engine = super().__call__(shape)
        except (EngineError, UsageError) as error:
            if not self._free:
                raise
            log.warning(f"not the engine of the session: {error}")
            self.engine, self.options = "auto", self.options | {"precision": None}
            engine = super().__call__(shape)
        now, then = (f"{made.engine} {made.precision} on {made.device}" for made in (engine.info, self._info))
        if self.same_model and now != then:
            log.warning(f"another engine than the session's: {now}; it was made by {then}")
        return engine


def recorded_model(session: SessionReader) -> str:
    """Name or file of the model that made ``session``; raises SessionError where it is not installed."""
    info = session.info
    if not info.model:
        raise SessionError(f"{session.folder} has no up-scaled frames; give --model and --output")
    if info.model in METHODS:
        return info.model
    for name in (recorded_settings(info).model, info.model):
        with suppress(UsageError, WeightsError):
            if name and find_model(name, info.scale).sha256 == info.model_hash:
                return str(name)
    raise SessionError(
        f"the model {info.model} x{info.scale} ({info.model_hash[:12]}) that made {session.folder} is not installed; "
        "give its file with --model"
    )
