"""What a GPU does without clesr's engines: PyTorch in FP16 and channels-last, eager, in a CUDA graph, and compiled.

All get the same pinned slots as clesr's own engines, and all but the eager one the same CUDA graph around copies and
network. clesr's own also degrade their image in that graph, to check it: what compares networks is ``device_ms``.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from clesr.engines.backends.cuda.buffers import DTYPES, CudaSlot, SlotEngine
from clesr.engines.backends.cuda.engine import TorchNetwork, half_precision
from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.errors import EngineError, first_line
from clesr.engines.engine import EngineInfo
from clesr.engines.gpu import NO_GPU, gpu_name
from clesr.engines.models.densenet import UpStage
from clesr.engines.models.weights import Model

if TYPE_CHECKING:
    from clesr.engines.backends.cuda.kernels.tuner import Tuner

EAGER, GRAPH, COMPILED, SEARCHED = "torch-eager", "torch-graph", "torch-compile", "torch-max-autotune"
NAMES = (SEARCHED, COMPILED, GRAPH, EAGER)  # fastest first
SLOW = (SEARCHED, COMPILED)  # to open: they compile
SLOTS = 2


def candidates() -> list[EngineCandidate]:
    """PyTorch in FP16 on the first NVIDIA GPU: by torch.compile, in its mode max-autotune and in its usual one, by the
    fastest kernels of cuDNN in a CUDA graph, and eager."""
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
    info = EngineInfo.of(name, torch.cuda.get_device_name(), "fp16", model, shape)
    half = half_precision(model.module, "cuda")
    mode = "max-autotune-no-cudagraphs" if name == SEARCHED else None  # slots have a graph of their own

    def make_slots(dtype: np.dtype[Any]) -> list[CudaSlot]:
        try:
            network: Any = torch.compile(half, dynamic=False, mode=mode) if name in SLOW else by_cudnn(half)
            if name == GRAPH:
                from clesr.engines.backends.cuda.kernels.tuner import card_tuner

                tuner = card_tuner("cuda")
                assert tuner is not None
                network = faster(half, model, shape, DTYPES[dtype], tuner, "cuda")
            networks = [
                TorchNetwork(network, shape, model.scale, DTYPES[dtype], "cuda", len(info.levels))
                for _ in range(SLOTS)
            ]
            return [CudaSlot(each, captured=name != EAGER) for each in networks]
        except Exception as error:
            raise EngineError(f"{name} cannot run {model} at {shape}: {first_line(error)}") from error

    engine = SlotEngine(info, make_slots, depth=SLOTS)
    engine.prepare(np.dtype(np.uint8))
    return engine


def faster(
    half: nn.Module, model: Model, shape: tuple[int, int], dtype: torch.dtype, tuner: Tuner, device: str
) -> Callable[..., Tensor]:
    """``half`` by cuDNN as it is, or kept channels-last, whichever ``tuner`` finds faster."""
    forms = {"as it is": by_cudnn(half), "channels-last": by_cudnn(kept_channels_last(half))}
    levels = len(model.levels)
    networks = {
        form: TorchNetwork(run, shape, model.scale, dtype, device, levels) for form, run in forms.items()
    }
    key = f"{GRAPH} {model} {shape[0]}x{shape[1]} {dtype}"
    return forms[tuner.choose(key, tuple(forms), lambda form: networks[form].run())]


def kept_channels_last(network: nn.Module) -> nn.Module:
    """A copy of ``network`` whose doublings give channels-last images: a pixel shuffle alone does not."""
    found = copy.deepcopy(network)
    for module in found.modules():
        if isinstance(module, UpStage):
            module.register_forward_hook(
                lambda _module, _inputs, y: y.contiguous(memory_format=torch.channels_last)
            )
    return found


def by_cudnn(network: nn.Module) -> Callable[..., Tensor]:
    """``network``, for whose convolutions cuDNN tries all of its kernels at the first run."""

    def run(*inputs: Tensor) -> Tensor:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):
            y: Tensor = network(*inputs)
            return y

    return run
