"""Where results go. ``open_sink`` turns an address into a sink."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from clesr.engines.common.errors import UsageError
from clesr.engines.common.files import NEW, WriteRule
from clesr.engines.common.text import hiding_secrets
from clesr.pipeline.sinks.base import LiveSink, Sink

if TYPE_CHECKING:
    from clesr.pipeline.sinks.video.hardware import Encode
    from clesr.pipeline.sinks.window.window import Place

__all__ = ["LiveSink", "Sink", "open_sink"]

ALLOWED = (
    "window, null, zmq+tcp://ADDRESS:PORT, zmq+ipc://PATH, igtl://ADDRESS:PORT, or a file that ends in .mkv, .mp4, "
    ".mov or .avi"
)


def open_sink(
    address: str,
    *,
    codec: str = "auto",
    crf: int | None = None,
    fps: float | None = None,
    partial_ok: bool = True,
    place: Place | None = None,
    encode: Encode | None = None,
    overlay: str | None = None,
    pixel_um: float | None = None,
    rule: WriteRule = NEW,
) -> Sink:
    """The sink that ``address`` names: ``window``, ``null``, ``zmq+tcp://*:5555``, ``zmq+ipc:///run/sr``,
    ``igtl://*:18944``, or the path of a video file.

    ``place`` and ``overlay`` ("fidelity") are for the window; ``pixel_um``, the side of a captured pixel in
    micrometres, for ``igtl``; the other keywords are for video files (``VideoFile`` says what they mean). Raises
    UsageError for an address or codec that cannot work, SinkError where the sink cannot be opened here.
    """
    with hiding_secrets(address):
        if address == "null":
            from clesr.pipeline.sinks.null import Null

            return Null()
        if address == "window":
            from clesr.pipeline.sinks.window.window import Window

            return Window(place, overlay=overlay is not None)
        if address.startswith("zmq+"):
            from clesr.pipeline.sinks.zeromq import Publisher

            return Publisher(address)
        if address.startswith("igtl:"):
            from clesr.pipeline.sinks.openigtlink.sink import SlicerSink

            return SlicerSink(address, pixel_um=pixel_um)
        from clesr.pipeline.sinks.video.encoding import SUFFIXES

        if "://" in address or PurePath(address).suffix.lower() not in SUFFIXES:
            raise UsageError(f"output {address!r} is unknown; allowed are {ALLOWED}")
        from clesr.pipeline.sinks.video.file import VideoFile

        return VideoFile(
            address, codec=codec, crf=crf, fps=fps, partial_ok=partial_ok, encode=encode, rule=rule
        )
