"""PyTorch in FP32, on any device: the reference that every other engine is checked against."""

from __future__ import annotations

import copy
import functools
import platform
from pathlib import Path

import numpy as np
import torch

from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.errors import EngineError, first_line
from clesr.engines.engine import EngineInfo
from clesr.engines.models.weights import Model
from clesr.engines.worker import WorkerEngine
from clesr.pipeline.frame import Image

RANKS = {"cuda": 10, "cpu": 90}


def candidates() -> list[EngineCandidate]:
    """The CPU, and the first NVIDIA GPU where torch reaches one."""
    has_cuda = torch.cuda.is_available()
    reason = "" if has_cuda else "torch finds no NVIDIA GPU"
    words = torch.cuda.get_device_name() if has_cuda else "an NVIDIA GPU"
    cuda, cpu = functools.partial(open_torch, device="cuda"), functools.partial(open_torch, device="cpu")
    return [
        EngineCandidate(
            name="torch", kind="cuda", device=words, precision="fp32", rank=RANKS["cuda"],
            available=has_cuda, reason=reason, open=cuda,
        ),
        EngineCandidate(
            name="torch", kind="cpu", device=cpu_name(), precision="fp32", rank=RANKS["cpu"], open=cpu
        ),
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
    words = torch.cuda.get_device_name() if device == "cuda" else cpu_name()
    info = EngineInfo("torch", words, "fp32", model.name, model.sha256, model.scale, shape)
    return WorkerEngine(info, functools.partial(upscale, network, device=device))


def upscale(network: torch.nn.Module, lr: Image, *, device: str = "cpu") -> Image:
    """``lr`` (H, W) uint8 or uint16 through ``network`` in FP32, on a GPU without TF32: (sH, sW) in its dtype,
    halves to even.

    Raises EngineError where the network gives anything that is not finite.
    """
    levels = float(np.iinfo(lr.dtype).max)
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        x = torch.from_numpy(lr.astype(np.float32)).to(device)
        y = network((x / levels)[None, None])[0, 0]
        if not bool(torch.isfinite(y).all()):
            raise EngineError("the network's output is not finite")
        y = torch.clamp(torch.round(y * levels), 0, levels)
        sr: Image = y.cpu().numpy().astype(lr.dtype)
        return sr


@functools.cache
def cpu_name() -> str:
    """The processor's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine() or "CPU"
