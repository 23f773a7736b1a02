"""Sessions as a run leaves them, recorded from scripted sources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from heard import hear
from support import FakeEngine, ScriptedSource, ShiftedClock, Step

from clesr.engines.common.clock import Clock
from clesr.pipeline.frame import Frame, Image
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.prepare import IntensityWindow, Prepare
from clesr.pipeline.session.manifest import RecorderSettings
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.sink import Sink
from clesr.pipeline.watchdog import Timeouts

START_NS, PERIOD_NS = 10**12, 40_000_000
UNHURRIED = Timeouts(full=24 * 3600.0)  # by a clock that moves with the frames, however slow the threads are
CLOCK = ShiftedClock()  # on which all that begins at START_NS is past, however short ago the machine booted


def noise(number: int, dtype: type = np.uint8, shape: tuple[int, int] = (12, 18)) -> Image:
    """Every bit of it random."""
    image: Image = np.random.default_rng(number).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    return image


def frames(
    numbers: Iterable[int],
    dtype: type = np.uint8,
    shape: tuple[int, int] = (12, 18),
    *,
    timed: bool = True,
) -> list[Step]:
    """Noise, 25 frames a second; where not ``timed``, captured when it is read."""
    return [Frame(noise(n, dtype, shape), n, START_NS + n * PERIOD_NS if timed else 0) for n in numbers]


def make_run(
    script: Iterable[Step],
    *,
    live: bool = False,
    sinks: Sequence[Sink] = (),
    factory: Any = FakeEngine,
    prepare: Prepare | None = None,
    clock: Clock = CLOCK,
    **settings: Any,
) -> tuple[Pipeline, list[str]]:
    """A pipeline with a recorder, and the list of what both say."""
    said = hear()
    source, prepared = (
        ScriptedSource(script, live=live, clock=clock),
        prepare or Prepare(window=IntensityWindow("full")),
    )
    recorder = Recorder(
        source.info,
        scale=2,
        sr_shape=lambda raw: (2 * prepared.shape(raw)[0], 2 * prepared.shape(raw)[1]),
        settings=RecorderSettings(**settings),
        clock=clock,
    )
    run = Pipeline(
        source,
        factory,
        sinks,
        scale=2,
        prepare=prepared,
        recorder=recorder,
        clock=clock,
        timeouts=UNHURRIED,
    )
    return run, said


def record(folder: Path, script: Iterable[Step], **options: Any) -> list[str]:
    """Run ``script`` to its end into ``folder``; what was said."""
    run, said = make_run(script, **options)
    run.start_recording(folder)
    run.run()
    return said
