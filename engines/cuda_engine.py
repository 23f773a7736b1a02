"""Our own kernels on an NVIDIA GPU, in FP16, from integer levels to integer levels, as one CUDA graph a frame."""

from __future__ import annotations

import copy
import importlib.util
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clesr.engines.base import EngineInfo
from clesr.engines.buffers import CudaSlot, Network, SlotEngine
from clesr.engines.models import DenseNet
from clesr.engines.offer import Offer
from clesr.engines.weights import Model
from clesr.pipeline.errors import EngineError

RANK = 5
SLOTS = 2
OLDEST = (7, 5)  # compute capability: the first with the matrix units that Triton writes for
DTYPES = {np.dtype(np.uint8): torch.uint8, np.dtype(np.uint16): torch.uint16}


def offers() -> list[Offer]:
    """The first NVIDIA GPU."""
    reason = _why_not()
    words = torch.cuda.get_device_name() if torch.cuda.is_available() else "an NVIDIA GPU"
    return [
        Offer(
            name="cuda", kind="cuda", device=words, precision="fp16", rank=RANK,
            available=not reason, reason=reason, open=open_cuda,
        )
    ]  # fmt: skip


def _why_not() -> str:
    if not torch.cuda.is_available():
        return "torch finds no NVIDIA GPU"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; pip install triton"
    found = torch.cuda.get_device_capability()
    if found < OLDEST:
        return f"compute capability {found[0]}.{found[1]} is below {OLDEST[0]}.{OLDEST[1]}"
    return ""


def open_cuda(
    model: Model, shape: tuple[int, int], threads: int | None = None, *, slots: int = SLOTS
) -> SlotEngine:
    """``threads`` means nothing here. Raises EngineError where the GPU cannot run ``model`` at ``shape``."""
    reason = _why_not()
    if reason:
        raise EngineError(f"the cuda engine cannot start: {reason}")
    words = torch.cuda.get_device_name()
    info = EngineInfo("cuda", words, "fp16", model.name, model.sha256, model.scale, shape)

    def make_slots(dtype: np.dtype[Any]) -> list[CudaSlot]:
        try:
            return [CudaSlot(build_network(model.module, shape, DTYPES[dtype], "cuda")) for _ in range(slots)]
        except Exception as error:
            raise EngineError(f"{words} cannot run {model} at {shape}: {_first_line(error)}") from error

    engine = SlotEngine(info, make_slots, depth=slots)
    engine.prepare(np.dtype(np.uint8))
    return engine


def build_network(
    module: nn.Module, shape: tuple[int, int], dtype: torch.dtype, device: torch.device | str
) -> Network:
    """``module`` for LR images of ``shape`` (H, W) and ``dtype``: by our kernels where they know it, else by torch."""
    from clesr.engines.kernels.densenet import DenseNetKernels, UnsupportedNetworkError

    if isinstance(module, DenseNet):
        try:
            return DenseNetKernels(module, shape, dtype, device)
        except UnsupportedNetworkError:
            pass
    return TorchNetwork(module, shape, dtype, device)


class TorchNetwork:
    """``module`` in FP16 and channels-last by torch's own kernels; integers to FP16 and back on the device."""

    def __init__(
        self, module: nn.Module, shape: tuple[int, int], dtype: torch.dtype, device: torch.device | str
    ) -> None:
        scale = int(module.scale)  # type: ignore[arg-type]
        self.lr = torch.zeros(shape, dtype=dtype, device=device)
        self.sr = torch.zeros((shape[0] * scale, shape[1] * scale), dtype=dtype, device=device)
        half = copy.deepcopy(module).to(device, torch.float16)
        self._module = half.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._levels = torch.iinfo(dtype).max

    @torch.inference_mode()
    def run(self) -> None:
        """Read ``lr``, write ``sr``. What it needs in between comes from torch's pool, in a graph from the graph's."""
        x = (self.lr.float() / self._levels).half()[None, None]
        y: Tensor = self._module(x)[0, 0].float() * self._levels
        self.sr.copy_(torch.clamp(torch.round(y), 0, self._levels))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
