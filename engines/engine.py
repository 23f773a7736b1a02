"""What every engine promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from clesr.engines.common.errors import EngineError, first_line
from clesr.engines.common.image import Image

if TYPE_CHECKING:
    from clesr.engines.guidance import Guidance
    from clesr.engines.models.weights import Model


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine is: ``engine`` (torch, openvino, interpolation, ...), ``device`` in words, ``precision``
    (fp32, bf16, fp16, integer), ``model`` name, ``model_hash`` (SHA-256, empty without weights), ``scale``,
    and the shapes (H, W) it was opened for. ``limit_db`` is the fidelity limit that comes with the weights, None
    without one. ``levels`` names what the engine is to be told of each image (GuidedEngine), none for
    most. ``choice`` says in one line why ``open_engine`` took it."""

    engine: str
    device: str
    precision: str
    model: str
    model_hash: str
    scale: int
    lr_shape: tuple[int, int]
    limit_db: float | None = None
    levels: tuple[str, ...] = ()
    choice: str = field(default="", compare=False)

    @classmethod
    def of(cls, engine: str, device: str, precision: str, model: Model, shape: tuple[int, int]) -> EngineInfo:
        """That of an engine that computes ``model`` for LR ``shape`` (H, W)."""
        made = model.name, model.sha256, model.scale
        return cls(engine, device, precision, *made, shape, levels=model.levels)

    @property
    def sr_shape(self) -> tuple[int, int]:
        height, width = self.lr_shape
        return height * self.scale, width * self.scale

    def check_shape(self, lr: Image) -> None:
        """Raise ValueError where ``lr`` is not of the shape that the engine was opened for."""
        if lr.shape != self.lr_shape:
            raise ValueError(f"this engine was opened for {self.lr_shape}, not {lr.shape}")

    def failed(self, error: BaseException) -> EngineError:
        """What ``collect`` raises for a frame on which the engine raised ``error``."""
        return EngineError(f"the {self.engine} engine failed on a frame: {first_line(error)}")

    def __str__(self) -> str:
        return f"{self.engine} {self.precision} on {self.device}, {self.model} x{self.scale}"


class Engine(Protocol):
    """SR on one device with one model for one LR shape. One thread submits and collects.

    At most ``depth`` frames are in flight: submitted, not yet collected.
    """

    info: EngineInfo
    depth: int

    def submit(self, lr: Image) -> None:
        """Take (H, W) uint8 or uint16 of ``info.lr_shape``, which nobody may write to, and the caller leaves unchanged
        until it has collected the result; waits only when ``depth`` are in flight."""

    def collect(self) -> Image:
        """The oldest result, (sH, sW) in its input's dtype, the caller's to keep.

        Raises what that frame raised (EngineError), and RuntimeError when nothing is in flight.
        """

    def close(self) -> None:
        """Free the device; frames in flight are dropped. May be called twice."""


class GuidedEngine(Engine, Protocol):
    """An engine whose ``info.levels`` names any."""

    def submit(self, lr: Image, guidance: Guidance | None = None) -> None:
        """As above, told ``guidance`` of ``lr``, or what ``guide`` says of it."""


@runtime_checkable
class SelfChecking(Protocol):
    """What an engine offers beside the above where it degrades its images on the device, as part of the same work.

    ``reprojected`` belongs to the result collected last: its image degraded, (H, W) as the LR image.
    """

    reprojected: Sequence[Image]


@runtime_checkable
class CheckingOnRequest(Protocol):
    """What an engine offers to which degrading its images costs so much that whoever needs it asks for it."""

    def check(self, on: bool = True) -> None:
        """From the next frame submitted on, be :class:`SelfChecking`, or no more. Called with nothing in flight."""


@runtime_checkable
class SelfCorrecting(SelfChecking, Protocol):
    """What an engine offers that can correct its images by the measured ones, too."""

    def correct(self) -> None:
        """From the next frame submitted on, correct images on the device so that they degrade to the measured one;
        ``reprojected`` then has the corrected image degraded as well. Called after the self-test, with nothing in
        flight."""
