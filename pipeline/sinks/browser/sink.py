"""A stream in the web browser."""

from __future__ import annotations

from base64 import b64encode
from functools import partial
from typing import Any
from uuid import uuid4

import msgspec

from clesr.engines.common.clock import SYSTEM, Clock
from clesr.engines.common.errors import SinkError, UsageError, first_line, on_error
from clesr.engines.common.image import Pixels
from clesr.engines.common.png import png_bytes
from clesr.pipeline.controls import Controls
from clesr.pipeline.display.compose import compose, shown_check, worst_tile
from clesr.pipeline.display.overlay import Canvas, Scale, legend
from clesr.pipeline.display.view_state import ViewState
from clesr.pipeline.frame import Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.sinks.browser.channel import Channel
from clesr.pipeline.sinks.browser.door import Door
from clesr.pipeline.sinks.browser.feed import QUALITIES, USUAL, Drawing
from clesr.pipeline.sinks.browser.site import Site
from clesr.pipeline.sinks.registry import DEFAULTS, SinkOptions
from clesr.pipeline.status import Status

LOOK = ("mode", "wipe", "overlay", "contrast", "levels", "lookup_table")  # of a view: what a picture shows
LEGEND = 240, 10  # pixels
MAP_NS = 1_000_000_000  # between two pictures of the map
MAP_SIDE = 480  # pixels
STATUS_NS = 250_000_000  # between two times that the page is told where the run stands


class BrowserSink:
    """Shows a stream on the page of ``options.site``, beside its others; ``controls`` is what the page may do with it.

    The picture is drawn as the window's is, by the same function, and encoded for those who look: the newest alone, at
    the pace at which each page draws. Nothing of that happens on the thread that calls here, or while nobody looks.
    Raises SinkError where the server cannot listen, MissingDependencyError without the packages of ``clesr[browser]``.
    """

    name = "browser"
    policy = Policy.DROP_OLDEST

    def __init__(
        self, _address: str = name, options: SinkOptions = DEFAULTS, *, clock: Clock = SYSTEM
    ) -> None:
        self.controls: Controls[Any] | None = None
        site = options.site or Site(Door())
        assert isinstance(site, Site)
        self.site = site
        self.shown = 0
        self._view = ViewState(overlay=options.overlay is not None)
        self._clock, self._told_ns = clock, -STATUS_NS
        self._newest: Result | None = None
        self._drawn: tuple[Result, ViewState] | None = None
        self._described: object = None
        self._told_view: ViewState | None = None
        self._told_state: object = None
        self._map_ns: int | None = None  # when the map was shown last
        title = options.place.title if options.place is not None else "clesr"
        self._hello = {
            "run": uuid4().hex,  # by which a page sees that another one has begun
            "title": title,
            "aspect": float(options.pixel_aspect),
            "qualities": QUALITIES,
            "legend": _address_of(legend(*LEGEND)),
        }
        self._channel = Channel(self.site, self._call, self._waits, live=options.live)
        with on_error(self._channel.end):
            self.site.join(title, self._channel)
        self._greet()

    def write(self, result: Result) -> None:
        self._newest = result
        self.shown += 1
        self._show()

    def refresh(self, status: Status) -> bool:
        if (error := self._channel.feed.error) is not None:
            raise SinkError(f"the browser's picture cannot be drawn: {first_line(error)}") from error
        if self.controls is not self._described:
            self._greet()
        view = self._seen()[1]
        if view != self._told_view:
            self._told_view = view
            self._channel.post("view", msgspec.to_builtins(view))
        self._show()
        self._show_map(view)
        state = (status.state, status.alarm, status.recording, status.stalled, status.message)
        now = self._clock.now_ns()
        if now - self._told_ns >= STATUS_NS or state != self._told_state:
            self._told_ns, self._told_state = now, state
            self.tell(status)
        return True

    def tell(self, status: Status) -> None:
        self._channel.post("status", msgspec.to_builtins(status) | {"outages": _away(status)})

    def close(self) -> str | None:
        self._channel.end()
        self.site.leave(self._channel)
        return f"browser: {self.shown} results for the page"

    def _seen(self) -> tuple[Result | None, ViewState]:
        """What is to be shown, and how."""
        if self.controls is None:
            return self._newest, self._view
        view, held = self.controls.seen
        return held or self._newest, view

    def _show(self) -> None:
        result, view = self._seen()
        look = ViewState(**{name: getattr(view, name) for name in LOOK})  # the page zooms
        if result is None or self._drawn == (result, look):
            return
        self._drawn = result, look
        self._channel.feed.show(
            Drawing(partial(compose, result, look), facts_of(result, look), result.frame.time_ns)
        )

    def _show_map(self, view: ViewState) -> None:
        """The map of the frames so far, now and then, and once that it is not to be seen."""
        joined = self.controls.map if self.controls is not None and view.mosaic else None
        now = self._clock.now_ns()
        if joined is None:
            if self._map_ns is not None:
                self._map_ns = None
                self._channel.post("map", None)
        elif self._map_ns is None or now - self._map_ns >= MAP_NS:
            self._map_ns = now
            self._channel.post("map", _address_of(joined(MAP_SIDE, MAP_SIDE)))

    def _greet(self) -> None:
        self._described = self.controls
        actions = [] if self.controls is None else self.controls.describe()
        self._channel.post("hello", {**self._hello, "quality": USUAL, "actions": actions})

    def _call(self, name: str, arguments: Any, by: object) -> dict[str, Any]:
        if self.controls is None:
            raise UsageError("the stream is still being opened")
        return self.controls.call(name, arguments, by=by)

    def _waits(self, name: str) -> bool:
        return self.controls is not None and self.controls.waits(name)


def facts_of(result: Result, look: ViewState) -> dict[str, Any]:
    """What the page says of a picture, as JSON: of its image, and of how it is drawn."""
    check, times = result.check, result.times
    tinted = shown_check(result, look) if look.overlay else None
    return {
        "number": result.frame.number,
        "time_ns": result.frame.time_ns,
        "outcome": result.outcome,
        "reason": result.reason,
        "scale": result.scale,
        "model": result.model,
        "engine": str(result.engine or ""),
        "fidelity": result.fidelity,
        "worst": None if check is None else check.worst_db,
        "limit": None if check is None else check.limit_db,
        "below_limit": check is not None and check.below_limit,
        "frames": result.frames,
        "damaged": result.frame.damaged,
        "latency_ms": (times.collected - times.captured) / 1e6,
        "captured_shape": result.frame.image.shape,
        "corner": result.corner,
        "sr_shape": result.image.shape,
        "view": {name: getattr(look, name) for name in LOOK},
        "worst_tile": worst_tile(result, look),
        "legend": None if tinted is None else Scale.of(tinted.limit_db),
    }


def _address_of(image: Pixels | Canvas) -> str:
    """``image``, (H, W) or (H, W, 3) blue-green-red, as an address that has it in itself."""
    return "data:image/png;base64," + b64encode(png_bytes(image)).decode()


def _away(status: Status) -> str:
    return str(status.outages) if status.outages.count else ""
