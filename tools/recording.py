"""Recording while live: the folder of each recording, key r and SIGUSR1."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

import rich_click as click

from clesr.pipeline.prepare import Prepare
from clesr.pipeline.session.recorder import Recorder, RecorderSettings
from clesr.pipeline.session.video import CODECS
from clesr.pipeline.settings import LiveSettings
from clesr.pipeline.sink import Sink
from clesr.pipeline.sinks.window.window import DisplayWindow
from clesr.pipeline.source import SourceInfo
from clesr.tools.naming import Repeated
from clesr.tools.options import Command, apply_options
from clesr.tools.signals import on_signals

OPTIONS = ("--record", "--record-codec", "--retro", "--pixel-size", "--mask")


def recording_options() -> Callable[[Command], Command]:
    """--record, --record-codec, --retro, --pixel-size, --mask."""
    options = [
        click.option(
            "--record",
            multiple=True,
            type=Repeated(),
            metavar="DIR",
            help="Record a session into this new folder: raw and up-scaled frames, lossless, with proof that none is "
            "missing. Key r and SIGUSR1 end it and begin others.",
        ),
        click.option(
            "--record-codec",
            type=click.Choice(CODECS),
            default="ffv1",
            show_default=True,
            help="Codec of the up-scaled frames; hevc is smaller and lossy. Raw is always ffv1.",
        ),
        click.option(
            "--retro",
            type=float,
            metavar="S",
            help="Do not record at once: key r or SIGUSR1 begins, and the recording contains the S seconds before.",
        ),
        click.option(
            "--pixel-size",
            type=float,
            metavar="UM",
            help="Micrometres of a captured pixel, for recordings and 3D Slicer.",
        ),
        click.option(
            "--mask",
            multiple=True,
            metavar="X,Y,W,H",
            help="Blank this rectangle of each captured frame before it is shown or written. May be repeated.",
        ),
    ]
    return apply_options(options)


def make_recorder(
    settings: LiveSettings, source: SourceInfo, prepare: Prepare, say: Callable[[str], None]
) -> Recorder:
    """The recorder of a stream; ``say`` gets its messages."""
    return Recorder(
        source,
        scale=settings.scale,
        sr_shape=lambda raw: _scaled(prepare.shape(raw), settings.scale),
        settings=RecorderSettings(
            codec=settings.record_codec,
            retro_s=settings.retro or 0.0,
            pixel_um=settings.pixel_size,
            settings={
                "roi": None if settings.roi is None else str(settings.roi),
                "window": str(settings.window),
                "masks": [str(mask) for mask in settings.masks],
                "consistent": settings.consistent,
                "model": settings.model,
                "engine": settings.engine,
                "device": settings.device,
                "precision": settings.precision,
                "threads": settings.threads,
            },
        ),
        tell=say,
    )


class Recordings:
    """Begins and ends the recordings of a stream, each in a folder of its own: ``first``, then ``first-2`` and so on;
    without ``first`` named by the time and ``stream``."""

    def __init__(
        self, recorder: Recorder, first: str | None, stream: str | None = None, sinks: Iterable[Sink] = ()
    ) -> None:
        self._recorder, self._stream = recorder, stream
        self._first = Path(first) if first is not None else None
        for sink in sinks:
            if isinstance(sink, DisplayWindow):
                sink.actions["r"] = self.toggle

    def toggle(self) -> None:
        """End the recording, or begin one. Any thread; never waits for the disk."""
        if self._recorder.recording:
            self._recorder.stop()
            return
        folder = self._first or Path(
            "-".join(filter(None, ("clesr", datetime.now().strftime("%Y%m%d-%H%M%S"), self._stream)))
        )
        self._recorder.start(folder, or_next=True)


def on_signal(recordings: Sequence[Recordings]) -> AbstractContextManager[None]:
    """SIGUSR1 toggles ``recordings``."""

    def handle(_number: int) -> None:
        for each in recordings:
            each.toggle()

    return on_signals(handle, [signal.SIGUSR1])


def _scaled(shape: tuple[int, int], scale: int) -> tuple[int, int]:
    return shape[0] * scale, shape[1] * scale
