"""One image on its way through the live path, when it is shown, and what became of it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from clesr.engines.common.image import Image as Image  # also for all that handles frames
from clesr.engines.common.image import Pixels

if TYPE_CHECKING:
    from clesr.engines.engine import EngineInfo
    from clesr.engines.guidance import Guidance
    from clesr.engines.levels import Levels
    from clesr.pipeline.cores.calibration import CoreCalibration


class Outcome(StrEnum):
    """What became of a captured frame; every frame has exactly one."""

    UPSCALED = "upscaled"
    STALE = "stale"  # replaced by a newer one before the engine took it
    LOST = "lost-at-source"  # a gap in the source's numbers, or in the times of a network stream
    FAILED = "failed"  # the engine raised: the bicubic image was shown, marked
    CORRUPT = "corrupt"  # the source could not decode it


class InvalidFrame(ValueError):
    """A frame is not of the form that Frame promises."""


def whole(what: str, value: int) -> int:
    """``value`` as an int, whatever library's it is; raises InvalidFrame where it is no whole number."""
    try:
        return operator.index(value)
    except TypeError:
        raise InvalidFrame(f"a frame's {what} is a whole number, not a {type(value).__name__}") from None


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image from a source.

    ``image`` is (H, W) uint8 or uint16, C-contiguous, over the full range of its dtype: sources shift
    10- and 12-bit samples to the top, and add 32768 to signed ones. It cannot be written to. ``number`` counts from the
    source, so that gaps show. ``time_ns`` is the monotonic capture time, the driver's where it gives one.
    ``pts`` in units of ``time_base`` seconds is the presentation time of recorded input, else None. ``damaged``: it was
    decoded, but builds on a picture that was damaged or never came, so that parts of it may be wrong.

    Raises InvalidFrame where the image is not of this form: checked here, and nowhere else.
    """

    image: Image
    number: int
    time_ns: int
    pts: int | None = None
    time_base: Fraction | None = None
    damaged: bool = False

    def __post_init__(self) -> None:
        image = self.image
        if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16) or not image.size:
            raise InvalidFrame(f"a frame is (H, W) uint8 or uint16, not {image.shape} {image.dtype}")
        if not image.flags.c_contiguous:
            raise InvalidFrame("a frame's image must be C-contiguous")
        shared = image.view()
        shared.flags.writeable = False  # whoever writes into it gets a ValueError
        object.__setattr__(self, "image", shared)
        object.__setattr__(self, "number", whole("number", self.number))
        object.__setattr__(self, "time_ns", whole("time", self.time_ns))
        if self.number < 0:
            raise InvalidFrame(f"frame number {self.number} is negative")
        if (self.pts is None) != (self.time_base is None):
            raise InvalidFrame("pts and time_base go together")
        if self.pts is not None:
            object.__setattr__(self, "pts", whole("presentation time", self.pts))


@dataclass(frozen=True, slots=True)
class Corrupt:
    """A frame that the source had but could not decode; ``reason`` is one line. Raises InvalidFrame where number or
    time are no whole numbers."""

    number: int
    time_ns: int
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "number", whole("number", self.number))
        object.__setattr__(self, "time_ns", whole("time", self.time_ns))


@dataclass(frozen=True, slots=True)
class Outage:
    """A source was away before the frame that it gives next, for a ``reason`` in a few words. ``known``: the numbers of
    the frames tell how many are missing; else nobody knows. ``over`` is False where it is away now: told once, and
    again, with True, before the first frame after it."""

    reason: str
    over: bool = True
    known: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """What an outage cost: ``count`` frames from ``number`` on, None where nobody knows how many, between ``begin_ns``
    and ``end_ns``, the times of the last frame before it and the first one after it."""

    number: int
    count: int | None
    begin_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.begin_ns) / 1e9


class Fused(NamedTuple):
    """An image that rests on so many ``frames``, and the ``noise`` of its own, in 8-bit grey levels, that it may lack
    for it."""

    image: Image
    frames: float
    noise: float


class Temporal(Protocol):
    """What makes images of one stream rest on several of its frames, but not where ``trust`` (H, W) is 0; None where
    one stands alone."""

    def __call__(self, lr: Image, sr: Image, number: int, trust: Pixels | None = None) -> Fused | None: ...

    def reset(self) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What the network is told of a frame, and what is recorded of that: its ``levels``, and ``trusted``, the share of
    the image that the network's part counts on: 0 for a bicubic image, 1 where it counts everywhere. ``confidence`` is
    how much it counts on tissue: less than 1 where the frame is too noisy for it."""

    guidance: Guidance
    levels: Levels
    trusted: float
    confidence: float = 1.0


@dataclass(slots=True)
class PreparedFrame:
    """A frame on its way through the engine: ``lr`` (H, W) is cut to the region of interest and windowed; ``levels`` of
    the source became its black and white, None where it was not stretched; ``cores`` is the calibration by which fibre
    cores were removed, None where they were not. Nobody may write to it. ``guide`` is the
    stream's; ``told`` what it said of the frame, where the network was told anything. ``temporal`` is the stream's,
    None where frames stand alone; ``alone`` where this one does, whatever came before. ``corner`` (x, y) is the
    captured pixel that became the first one of ``lr``. ``choice`` is the engine (EngineChoice) that it is for, None for
    that with which the run began."""

    frame: Frame
    lr: Image
    prepared_ns: int
    submitted_ns: int = 0
    levels: tuple[float, float] | None = None
    guide: Callable[[Frame, Image], Told] | None = None
    told: Told | None = None
    temporal: Temporal | None = None
    alone: bool = False
    corner: tuple[int, int] = (0, 0)
    choice: object = None
    cores: CoreCalibration | None = None


class Times(NamedTuple):
    """Monotonic nanoseconds at which a frame passed each stage."""

    captured: int
    prepared: int
    submitted: int
    collected: int


@dataclass(frozen=True, slots=True, eq=False)
class Fidelity:
    """How well an SR image, degraded again, agrees with the measured LR image (pipeline/fidelity.py), in dB.

    ``db`` is over the field of view, of the image that is given on; ``before_db`` that of the engine's own image where
    it was corrected, else None. The rest is of the engine's own image: ``worst_db`` of the tile that agrees least,
    whose upper left corner is ``worst_at`` (row, column of the LR image), both None where no tile lies in the field of
    view; ``limit_db``, what tiles are held against, None without one; ``reprojected`` (H, W), the image degraded.
    """

    db: float
    before_db: float | None
    worst_db: float | None
    worst_at: tuple[int, int] | None
    limit_db: float | None
    reprojected: Image

    @property
    def below_limit(self) -> bool:
        return self.worst_db is not None and self.limit_db is not None and self.worst_db < self.limit_db


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What goes to the sinks: the captured frame as it was, and the image made from it.

    ``lr`` (H, W) is the prepared image that the engine read: gray, cut to the region of interest, windowed by
    ``levels``, its first pixel the captured one at ``corner`` (x, y) (as in PreparedFrame), without the fibre cores
    that ``cores`` says.
    ``image`` (scale * H, scale * W) is what came of it, in the same dtype. ``outcome`` is UPSCALED, or FAILED
    with the bicubic image. ``model`` is the model's name. ``fidelity`` is the PSNR in dB of the image, degraded again,
    against ``lr``, and ``check`` what else was found; None where it was not measured. ``told`` is what the network
    was told of the frame, None where it takes nothing but the image. ``frames`` is how many frames the image rests
    on, as a mean over the field of view, None where each stands alone. ``reason`` is why the engine failed.
    ``engine`` is what made it, or failed on it, None where none was ever open; ``settings`` are those of the run
    that were switched to with it, against those with which the run began. All sinks share the arrays: none can
    write to them.
    """

    frame: Frame
    lr: Image
    image: Image
    outcome: Outcome
    scale: int
    times: Times
    model: str
    fidelity: float | None = None
    check: Fidelity | None = None
    levels: tuple[float, float] | None = None
    told: Told | None = None
    frames: float | None = None
    reason: str = ""
    cores: CoreCalibration | None = None
    corner: tuple[int, int] = (0, 0)
    engine: EngineInfo | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def period_of(fps: float) -> Fraction:
    """Seconds of a frame at ``fps`` a second, as a simple fraction, however fast or slow: 1001/30000 or 3600."""
    if fps >= 1:
        return 1 / Fraction(fps).limit_denominator(1001)
    return Fraction(1 / fps).limit_denominator(1001)


class Timeline:
    """Presentation times of a recording, from its frames: whole ``tick`` seconds, 0 for the first, strictly rising.

    A frame's ``pts`` is taken where it has one, else its capture time. Where time goes back by half a
    ``period`` or more (a recording that loops), or changes between the two kinds, the frame follows the one
    before it at the last distance seen; ``period`` (seconds) is that distance until there is one.
    """

    def __init__(self, tick: Fraction, period: Fraction) -> None:
        self.tick, self._step, self._slack = tick, period, period / 2
        self._origin = Fraction(0)
        self._last: Fraction | None = None  # seconds of the last frame on its own clock
        self._recorded = False
        self._last_ticks = -1

    def place(self, frame: Frame) -> int:
        """Ticks since the first frame."""
        if frame.pts is not None and frame.time_base is not None:
            recorded, seconds = True, frame.pts * frame.time_base
        else:
            recorded, seconds = False, Fraction(frame.time_ns, 10**9)
        if self._last is None:
            self._origin = seconds
        elif recorded != self._recorded or self._last - seconds >= self._slack:
            self._origin = seconds - (self._last - self._origin + self._step)
        elif seconds > self._last:
            self._step = seconds - self._last
        self._last, self._recorded = seconds, recorded
        self._last_ticks = max(round((seconds - self._origin) / self.tick), self._last_ticks + 1)
        return self._last_ticks

    @property
    def seconds(self) -> float:
        """From the first frame's begin to the last one's end."""
        return float(self._last_ticks * self.tick + self._step) if self._last_ticks >= 0 else 0.0
