"""One process on one device, where Lightning is not installed: what the training loop asks of Fabric."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Moved = TypeVar("Moved", Tensor, nn.Module)


class SingleProcess:
    """The part of ``lightning.fabric.Fabric`` that a single process needs."""

    global_rank, world_size, is_global_zero = 0, 1, True

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)

    def setup(self, module: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[Any, torch.optim.Optimizer]:
        """``module`` on the device; ``optimiser`` goes on holding its parameters."""
        return module.to(self.device), optimiser

    def to_device(self, thing: Moved) -> Moved:
        return thing.to(self.device)

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def all_reduce(self, figures: Tensor, reduce_op: str) -> Tensor:
        return figures

    def broadcast(self, found: Any) -> Any:
        return found

    def barrier(self) -> None:
        """There is nobody to wait for."""
