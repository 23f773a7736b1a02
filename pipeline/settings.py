"""The settings of a live run, checked once, wherever they came from."""

from __future__ import annotations

from dataclasses import dataclass

from clesr.engines.common.errors import UsageError
from clesr.pipeline.pipeline import Limits
from clesr.pipeline.prepare import Roi, Window
from clesr.pipeline.source import Pace


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings:
    """Everything that a stream of a live run needs to know; ``stream`` is its name where there are several. Raises
    UsageError for what cannot work on any machine."""

    source: str
    stream: str = ""
    scale: int = 4
    model: str = "auto"
    engine: str = "auto"
    device: str | None = None
    precision: str | None = None
    threads: int | None = None
    consistent: bool = False
    roi: Roi | None = None
    window: Window = Window()
    pace: Pace = "original"
    loop: bool = False
    decode: str = "auto"
    display: str = "window"
    overlay: str | None = None
    output: str | None = None
    codec: str = "auto"
    encode: str = "auto"
    send: str | None = None
    summary: str | None = None
    overwrite: bool = False
    record: str | None = None
    record_codec: str = "ffv1"
    retro: float | None = None
    pixel_size: float | None = None
    masks: tuple[Roi, ...] = ()
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        _positive("--threads", self.threads)
        _positive("--pixel-size", self.pixel_size)
        if self.retro is not None and not self.retro >= 0:
            raise UsageError(
                f"--retro {self.retro} is negative; give seconds, or 0 to record from the key press on"
            )
        _positive("--frames", self.limits.frames)
        _positive("--seconds", self.limits.seconds)


def _positive(option: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise UsageError(f"{option} {value} is not positive")
