"""Streams whose scripts switch their engines, which are stand-ins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from heard import hear
from support import FakeEngine, ListSink, ScriptedSource, Step, make_frame, until

from clesr.engines.common.errors import UsageError
from clesr.engines.engine import EngineInfo
from clesr.pipeline.engine_stage import EngineStage
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.session.manifest import RecorderSettings
from clesr.pipeline.session.recorder import Recorder

SHAPE = (8, 10)
READY = "ready, it begins with the next frame"


class Openers:
    """What an EngineOpener is to a run, of FakeEngines, all of which are kept in ``opened``. ``faults`` say by (scale,
    model) what is done when an engine is opened, ``options`` what it is made with."""

    def __init__(
        self,
        scale: int = 2,
        model: str = "one",
        *,
        faults: Mapping[tuple[int, str], Callable[[], object]] | None = None,
        options: Mapping[tuple[int, str], Mapping[str, Any]] | None = None,
        opened: list[FakeEngine] | None = None,
    ) -> None:
        self.scale, self.model = scale, model
        self.faults, self.options = faults or {}, options or {}
        self.opened: list[FakeEngine] = [] if opened is None else opened

    @property
    def given(self) -> Mapping[str, Any]:
        return {"scale": self.scale, "model": self.model, "engine": "fake"}

    def switched(self, scale: int, model: str) -> Openers:
        if model == "none":
            raise UsageError("model 'none' is unknown; choose one of one, two")
        return Openers(scale, model, faults=self.faults, options=self.options, opened=self.opened)

    def __call__(self, shape: tuple[int, int]) -> FakeEngine:
        key = self.scale, self.model
        if key in self.faults:
            self.faults[key]()
        engine = FakeEngine(shape, scale=self.scale, **self.options.get(key, {}))
        engine.info = EngineInfo("fake", "nothing", "integer", self.model, "", self.scale, shape)
        self.opened.append(engine)
        return engine

    def count_open(self) -> int:
        return sum(not engine.closed for engine in self.opened)


def failing(error: BaseException) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


class Run:
    """A stream whose script switches: ``frames`` gives the next frames, ``ready`` waits until an engine waits for one,
    ``settled`` until nothing is on its way."""

    def __init__(
        self,
        openers: Openers,
        *,
        record: RecorderSettings | None = None,
        engine: EngineStage | None = None,
        sink: ListSink | None = None,
        shape: tuple[int, int] | None = SHAPE,
    ) -> None:
        self.openers, self.sink, self.said = openers, sink or ListSink(), hear()
        self.script: list[Step] = []
        self.number = 0
        source = ScriptedSource(self._steps(), shape=shape)
        recorder: Recorder | None = None
        if record is not None:
            scale = openers.scale
            recorder = Recorder(
                source.info,
                scale=scale,
                settings=record,
            )
        self.pipeline = Pipeline(
            source, engine or openers, [self.sink], scale=openers.scale, recorder=recorder
        )

    def _steps(self) -> Iterator[Step]:
        while self.script:
            yield self.script.pop(0)

    def frames(self, count: int, shape: tuple[int, int] = SHAPE) -> None:
        """Frames, and a wait until they have come through."""
        self.script += [make_frame(self.number + i, shape) for i in range(count)]
        self.number += count
        number = self.number
        self.script.append(lambda: until(lambda: self.pipeline.ledger.captured >= number))
        self.script.append(lambda: until(lambda: sum(self.pipeline.ledger.outcomes.values()) >= number))

    def do(self, call: Callable[[], object]) -> None:
        def step() -> None:
            call()

        self.script.append(step)

    def switch(self, *arguments: Any, **options: Any) -> None:
        self.do(partial(self.pipeline.switch, *arguments, **options))

    def ready(self, name: str = "") -> None:
        self.do(lambda: until(lambda: self.status.startswith(name) and self.status.endswith(READY)))

    def settled(self) -> None:
        self.do(lambda: until(lambda: not self.status))

    @property
    def status(self) -> str:
        return self.pipeline.status().switching

    def run(self) -> list[int]:
        """Run to the end of the script; the factor of each result. Every frame has come through, in order."""
        self.script.append(self.pipeline.stop)
        self.pipeline.run()
        assert [r.frame.number for r in self.sink.results] == list(range(self.number))
        for result in self.sink.results:
            scale = result.scale
            assert result.image.shape == (result.lr.shape[0] * scale, result.lr.shape[1] * scale)
            assert result.image[0, 0] == result.lr[0, 0]
        assert self.openers.count_open() == 0
        return [result.scale for result in self.sink.results]
