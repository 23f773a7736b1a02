"""PyTorch in FP32, on any device."""

from __future__ import annotations

import copy
import functools

import torch

from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.errors import EngineError, first_line
from clesr.engines.common.processor import cpu_name
from clesr.engines.engine import EngineInfo
from clesr.engines.gpu import NO_GPU, gpu_name
from clesr.engines.models.weights import Model
from clesr.engines.reference import reference_image
from clesr.engines.worker import WorkerEngine

RANKS = {"cuda": 10, "cpu": 90}


def candidates() -> list[EngineCandidate]:
    """The CPU, and the first NVIDIA GPU where torch reaches one."""
    absent = {"cuda": not torch.cuda.is_available(), "cpu": False}
    return [
        EngineCandidate(
            name="torch", kind=kind, device=_words(kind), precision="fp32", rank=rank, present=not absent[kind],
            reason=NO_GPU if absent[kind] else "", open=functools.partial(open_torch, device=kind),
        )
        for kind, rank in RANKS.items()
    ]  # fmt: skip


def open_torch(model: Model, shape: tuple[int, int], threads: int | None, *, device: str) -> WorkerEngine:
    """``threads`` sets torch's number for the whole process. Raises EngineError where ``device`` is not
    there or too small."""
    if threads:
        torch.set_num_threads(threads)
    try:
        network = copy.deepcopy(model.module).to(device)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    except RuntimeError as error:
        raise EngineError(f"torch cannot use {device}: {first_line(error)}") from error
    info = EngineInfo.of("torch", _words(device), "fp32", model, shape)
    return WorkerEngine(info, functools.partial(reference_image, network, device=device))


def _words(kind: str) -> str:
    return gpu_name() if kind == "cuda" else cpu_name()
