"""What an engine can do on this machine, before it is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clesr.engines.common.errors import EngineError
from clesr.engines.engine import Engine

if TYPE_CHECKING:
    from clesr.engines.models.weights import Model

PRECISIONS = ("fp32", "bf16", "fp16")


def _cannot_open(*_: object) -> Engine:
    raise EngineError("this engine cannot run here")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCandidate:
    """An engine on one device in one precision.

    ``kind`` of device is cpu, cuda or gpu (Intel); ``device`` is what it is called. ``reason`` says why it is
    not ``available`` and what to do about it; where the device itself or its arithmetic is not ``present``, nothing can
    be done. ``rank`` orders the candidates, fastest first. ``open`` makes the engine: ``open(model, shape, threads)``;
    it raises EngineError where it cannot start. ``wait(model, shape)`` says why opening would take minutes, and what
    shortens it; empty where it would not. ``install`` is the command for a package that is missing, ``library`` the
    installed one with its version, where the engine's speed depends on it.
    """

    name: str
    kind: str
    device: str
    precision: str
    rank: int
    reason: str = ""
    present: bool = True
    install: str = ""
    library: str = ""
    open: Callable[[Model, tuple[int, int], int | None], Engine] = field(repr=False, default=_cannot_open)
    wait: Callable[[Model, tuple[int, int]], str] = field(repr=False, default=lambda _model, _shape: "")

    def __post_init__(self) -> None:
        for each in ("name", "kind", "device", "precision", "reason"):
            if not isinstance(getattr(self, each), str):
                raise EngineError(f"an engine's {each} is {getattr(self, each)!r}, not a text")
        if type(self.rank) is not int:
            raise EngineError(f"the rank of {self.name} is {self.rank!r}, not a whole number")

    @property
    def available(self) -> bool:
        return not self.reason

    def __str__(self) -> str:
        return f"{self.name} {self.precision} on {self.device}"
