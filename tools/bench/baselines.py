"""What a GPU does without clesr's engines: PyTorch in FP16 and channels-last, eager, in a CUDA graph, and compiled.

All get the same pinned slots as clesr's own engines, and all but the eager one the same CUDA graph around copies and
network, so that only the network's kernels differ.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clesr.engines.backends.cuda.buffers import DTYPES, CudaSlot, SlotEngine
from clesr.engines.backends.cuda.engine import TorchNetwork, half_precision
from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.errors import EngineError, first_line
from clesr.engines.engine import EngineInfo
from clesr.engines.gpu import NO_GPU, gpu_name
from clesr.engines.models.registry import level_names
from clesr.engines.models.weights import Model

EAGER, GRAPH, COMPILED = "torch-eager", "torch-graph", "torch-compile"
NAMES = (COMPILED, GRAPH, EAGER)  # fastest first
SLOTS = 2


def candidates() -> list[EngineCandidate]:
    """PyTorch in FP16 on the first NVIDIA GPU: by torch.compile in its usual mode, by the fastest kernels of cuDNN in a
    CUDA graph, and eager."""
    reason = "" if torch.cuda.is_available() else NO_GPU
    return [
        EngineCandidate(
            name=name, kind="cuda", device=gpu_name(), precision="fp16", rank=rank, reason=reason,
            open=functools.partial(open_baseline, name=name),
        )
        for rank, name in enumerate(NAMES, 11)
    ]  # fmt: skip


def open_baseline(
    model: Model, shape: tuple[int, int], threads: int | None = None, *, name: str
) -> SlotEngine:
    """``threads`` means nothing here. Raises EngineError where the GPU or the compiler cannot."""
    if not torch.cuda.is_available():
        raise EngineError(f"{name} cannot start: {NO_GPU}")
    words, levels = torch.cuda.get_device_name(), level_names(model.module)
    info = EngineInfo(name, words, "fp16", model.name, model.sha256, model.scale, shape, levels=levels)
    half = half_precision(model.module, "cuda")
    network: Any = torch.compile(half, dynamic=False) if name == COMPILED else by_cudnn(half)

    def make_slots(dtype: np.dtype[Any]) -> list[CudaSlot]:
        try:
            networks = [
                TorchNetwork(network, shape, model.scale, DTYPES[dtype], "cuda", len(levels))
                for _ in range(SLOTS)
            ]
            return [CudaSlot(each, captured=name != EAGER) for each in networks]
        except Exception as error:
            raise EngineError(f"{name} cannot run {model} at {shape}: {first_line(error)}") from error

    engine = SlotEngine(info, make_slots, depth=SLOTS)
    engine.prepare(np.dtype(np.uint8))
    return engine


def by_cudnn(network: nn.Module) -> Callable[..., Tensor]:
    """``network``, for whose convolutions cuDNN tries all of its kernels at the first run."""

    def run(*inputs: Tensor) -> Tensor:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):
            y: Tensor = network(*inputs)
            return y

    return run
