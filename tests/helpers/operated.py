"""A stream that runs, in an operator's hands, with a control socket: what tests of actions act on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from browser_view import Looker, looking
from session_runs import START_NS, make_run, noise
from support import FakeEngine, Step, until

from clesr.pipeline.controls import Controlled
from clesr.pipeline.frame import Frame, Image
from clesr.pipeline.operator.control_socket import ControlSocket, ask
from clesr.pipeline.operator.operator import Operator
from clesr.pipeline.settings import LiveSettings
from clesr.pipeline.sink import Sink
from clesr.pipeline.sinks.browser.door import Door
from clesr.pipeline.sinks.browser.sink import BrowserSink
from clesr.pipeline.sinks.browser.site import Site
from clesr.pipeline.sinks.mosaic import MosaicFile
from clesr.pipeline.sinks.registry import SinkOptions

PATIENCE_S = 60.0
WAYS = ("registry", "socket", "page")


@dataclass(frozen=True)
class OtherEngines:
    """Opens fake engines of any scale and model."""

    scale: int = 2
    model: str = "fake"

    @property
    def given(self) -> dict[str, Any]:
        return {"scale": self.scale, "model": self.model}

    def switched(self, scale: int, model: str) -> OtherEngines:
        return OtherEngines(scale, model)

    def __call__(self, shape: tuple[int, int]) -> FakeEngine:
        engine = FakeEngine(shape, scale=self.scale)
        engine.info = replace(engine.info, model=self.model)
        return engine


@dataclass
class Stage:
    """``operator`` of a stream whose frames come until the end of the block; ``folder`` is where all is written."""

    operator: Operator
    address: str
    folder: Path
    page: BrowserSink | None = None
    looker: Looker | None = None  # the page that calls
    around: ExitStack = field(default_factory=ExitStack)

    def call(self, way: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Do the action by its ``way``, one of `WAYS`; by any but the registry ``ok`` tells whether it was done."""
        if way == "registry":
            return self.operator.controls.call(name, arguments)
        if way == "socket":
            return ask(self.address, {"action": name, "arguments": arguments}, PATIENCE_S)
        if self.looker is None:
            self.looker = self.around.enter_context(looking(self.open_page()))
        told: dict[str, Any] = self.looker.call(name, **arguments)
        refused = told.get("error") or told.get("asking")
        return {"ok": False, "error": refused} if refused else {"ok": True, **told}

    def open_page(self) -> str:
        """The address of the stream's page in the browser."""
        if self.page is None:
            self.page = BrowserSink(options=SinkOptions(site=Site(Door(listen="127.0.0.1:0"))))
            self.page.controls = self.operator.controls
            self.page.refresh(self.operator.pipeline.status())
        return self.page.site.url.rstrip("/")

    def more_frames(self, count: int = 3) -> None:
        """Wait until ``count`` more results are there."""
        seen = self.operator.newest
        number = -1 if seen is None else seen.frame.number
        until(
            lambda: self.operator.newest is not None and self.operator.newest.frame.number >= number + count,
            PATIENCE_S,
        )


@contextmanager
def on_stage(
    folder: Path,
    *,
    name: str = "",
    retro_s: float = 0.0,
    sinks: Sequence[Sink] = (),
    maps: MosaicFile | None = None,
    image_of: Callable[[int], Image] = lambda number: noise(number % 20),
    raising: tuple[type[Exception], ...] = (),
    **settings: Any,
) -> Iterator[Stage]:
    """A stage in ``folder`` of the stream ``name``, of frames that ``image_of`` makes of their numbers, with ``sinks``
    and ``maps``; its run, which may end by errors ``raising``, is ended, and its ledger balanced, behind the block."""
    ended, pause = threading.Event(), threading.Event()

    def script() -> Iterator[Step]:
        number = 0
        while not ended.is_set():
            yield Frame(image_of(number), number, START_NS + number * 40_000_000)
            number += 1
            pause.wait(0.002)

    run, _ = make_run(
        script(),
        sinks=[*sinks, *([maps] if maps else [])],
        factory=OtherEngines(),
        retro_s=retro_s,
        pixel_um=1.5,
    )
    run.pixel_um = 1.5
    operator = Operator(
        run,
        LiveSettings(source="demo:", record=str(folder / "s"), **settings),
        folder,
        stream=name,
        maps=maps,
    )
    for sink in sinks:
        if isinstance(sink, Controlled):
            sink.controls = operator.controls
    address = f"zmq+ipc://@clesr-{id(run)}"
    control = ControlSocket(address)
    control.serve({"live": (operator.controls, run.status)})

    def work() -> None:
        with suppress(*raising):
            run.run()

    thread = threading.Thread(target=work)
    thread.start()
    stage = Stage(operator, address, folder)
    try:
        stage.more_frames()
        yield stage
    finally:
        ended.set()
        thread.join(PATIENCE_S)
        control.close()
        stage.around.close()
        if stage.page is not None:
            stage.page.close()
        operator.close()
        assert not thread.is_alive()
        run.ledger.check()
