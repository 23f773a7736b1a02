"""What a GPU does without clesr's engines: PyTorch in FP16, eager and compiled.

Both get the same pinned slots as clesr's own engines, and the compiled network the same CUDA graph around copies and
network, so that only the network's kernels differ.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from clesr.engines.backends.cuda.buffers import DTYPES, CudaSlot, SlotEngine
from clesr.engines.backends.cuda.engine import TorchNetwork, half_precision
from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.errors import EngineError, first_line
from clesr.engines.engine import EngineInfo
from clesr.engines.gpu import NO_GPU, gpu_name
from clesr.engines.models.weights import Model

EAGER, COMPILED = "torch-eager", "torch-compile"
SLOTS = 2


def candidates() -> list[EngineCandidate]:
    """PyTorch in FP16 on the first NVIDIA GPU, eager and by torch.compile with max-autotune."""
    reason = "" if torch.cuda.is_available() else NO_GPU
    return [
        EngineCandidate(
            name=name, kind="cuda", device=gpu_name(), precision="fp16", rank=rank, reason=reason,
            open=functools.partial(open_baseline, compiled=name == COMPILED),
        )
        for name, rank in ((COMPILED, 11), (EAGER, 12))
    ]  # fmt: skip


def open_baseline(
    model: Model, shape: tuple[int, int], threads: int | None = None, *, compiled: bool
) -> SlotEngine:
    """``threads`` means nothing here. Raises EngineError where the GPU or the compiler cannot."""
    name = COMPILED if compiled else EAGER
    if not torch.cuda.is_available():
        raise EngineError(f"{name} cannot start: {NO_GPU}")
    words = torch.cuda.get_device_name()
    info = EngineInfo(name, words, "fp16", model.name, model.sha256, model.scale, shape)
    half = half_precision(model.module, "cuda")
    network: Any = torch.compile(half, mode="max-autotune-no-cudagraphs", dynamic=False) if compiled else half

    def make_slots(dtype: np.dtype[Any]) -> list[CudaSlot]:
        try:
            return [
                CudaSlot(TorchNetwork(network, shape, model.scale, DTYPES[dtype], "cuda"), captured=compiled)
                for _ in range(SLOTS)
            ]
        except Exception as error:
            raise EngineError(f"{name} cannot run {model} at {shape}: {first_line(error)}") from error

    engine = SlotEngine(info, make_slots, depth=SLOTS)
    engine.prepare(np.dtype(np.uint8))
    return engine
