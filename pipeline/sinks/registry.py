"""Where results go: ``open_sink`` turns an address into a sink. ``SINKS`` says what opens which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePath
from typing import Any, Protocol

from clesr.engines.common.errors import SinkError, UsageError
from clesr.engines.common.files import NEW, WriteRule
from clesr.engines.common.registry import Registry, taking
from clesr.engines.common.text import hiding_secrets
from clesr.pipeline.settings import MOSAIC_MB
from clesr.pipeline.sink import Sink
from clesr.pipeline.sinks.placement import WindowPlacement

ALLOWED = (
    "window, browser, null, zmq+tcp://ADDRESS:PORT, zmq+ipc://PATH, igtl://ADDRESS:PORT, mosaic:FILE.ome.tif, "
    "or a file that ends in .mkv, .mp4, .mov or .avi"
)


class BrowserPage(Protocol):
    """The page of a run in the browser, `clesr.pipeline.sinks.browser.site.Site`."""

    @property
    def url(self) -> str:
        """What to open in a browser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkOptions:
    """What a sink is opened with beside its address.

    ``place`` and ``overlay`` ("fidelity") are for the window and the browser, and so is ``live``: the images come from
    a camera or a network, and are to be seen although that costs a busy machine some of them. ``site`` is the server of
    ``browser``, the same for several streams, by default at a port of this machine alone; ``pixel_um``, the width of a
    captured pixel in micrometres, for ``igtl`` and ``mosaic``; ``pixel_aspect``, its width over its height, also for
    what shows images and video files; ``mosaic_memory`` is what a map may take, in MB; the others are for video files
    (``VideoFile`` says what they mean).
    """

    codec: str = "auto"
    crf: int | None = None
    fps: float | None = None
    partial_ok: bool = True
    place: WindowPlacement | None = None
    encode: str = "cpu"
    overlay: str | None = None
    pixel_um: float | None = None
    rule: WriteRule = NEW
    pixel_aspect: Fraction = Fraction(1)
    mosaic_memory: float = MOSAIC_MB
    site: BrowserPage | None = None
    live: bool = False


DEFAULTS = SinkOptions()
_PARTS = {
    "window": "window.window:DisplayWindow",
    "browser": "browser.sink:BrowserSink",
    "null": "null:Null",
    "zmq+": "zeromq:Publisher",
    "igtl": "openigtlink.sink:SlicerSink",
    "mosaic": "mosaic:MosaicFile",
    **dict.fromkeys((".mkv", ".mp4", ".mov", ".avi"), "video:VideoFile"),
}
SINKS: Registry[Callable[[str, SinkOptions], Sink]] = Registry(
    "clesr.sinks", {name: f"clesr.pipeline.sinks.{place}" for name, place in _PARTS.items()}, SinkError
)
"""What opens an address, by its scheme (``igtl``) or its begin (``zmq+``), by the whole of it (``window``), or by
the suffix of a file (``.mkv``)."""


@taking(SinkOptions)
def open_sink(address: str, **options: Any) -> Sink:
    """The sink that ``address`` names: ``window``, ``browser``, ``null``, ``zmq+tcp://*:5555``, ``zmq+ipc:///run/sr``,
    ``igtl://*:18944``, ``mosaic:map.ome.tif``, the path of a video file, or what other packages add (``SINKS``).
    ``options`` are those of `SinkOptions`, by name. ::

        sink = open_sink("sr.mkv", fps=12.0)
        sink.write(result)

    Raises UsageError for an address or codec that cannot work, SinkError where the sink cannot be opened here.
    """
    with hiding_secrets(address):
        return SINKS[_find(address)](address, SinkOptions(**options))


def _find(address: str) -> str:
    """The name in SINKS of what opens ``address``."""
    scheme = address.partition(":")[0]
    suffix = PurePath(address).suffix.lower() if "://" not in address else ""
    for name in (scheme, "".join(scheme.partition("+")[:2]), suffix):
        if name in SINKS and (name is suffix or not name.startswith(".")):
            return name
    added = "".join(f", or {name}" for name in SINKS if name not in _PARTS)
    raise UsageError(f"output {address!r} is unknown; allowed are {ALLOWED}{added}")
