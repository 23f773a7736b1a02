"""Our own kernels on an NVIDIA GPU, in FP16, from integer levels to integer levels, as one CUDA graph a frame."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from clesr.engines.backends.cuda.buffers import GuidedInputs, Network, SlotEngine, store
from clesr.engines.backends.cuda.checked import open_slots
from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.errors import EngineError
from clesr.engines.common.packages import version_of
from clesr.engines.engine import EngineInfo
from clesr.engines.gpu import NO_GPU, gpu_name
from clesr.engines.models.registry import level_names
from clesr.engines.models.weights import Model

RANK = 5
OLDEST = (7, 5)  # compute capability: the first with matrix units
OLDEST_OF_KERNELS = (8, 0)  # below it Triton multiplies without matrix units


def candidates() -> list[EngineCandidate]:
    """The first NVIDIA GPU, in FP16."""
    return [
        EngineCandidate(
            name="cuda", kind="cuda", device=gpu_name(), precision="fp16", rank=RANK, reason=_why_not(),
            present=_is_present(), library=_library(), open=open_cuda,
        )
    ]  # fmt: skip


def _why_not() -> str:
    if not torch.cuda.is_available():
        return NO_GPU
    if not _library():
        return "Triton is not installed; pip install triton"
    if not _is_present():
        found = torch.cuda.get_device_capability()
        return (
            f"compute capability {found[0]}.{found[1]} is below {OLDEST[0]}.{OLDEST[1]}, the first with fp16"
        )
    return ""


def _is_present() -> bool:
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= OLDEST


def _library() -> str:
    """The installed Triton with its version; empty where there is none."""
    version = version_of("triton")
    return f"triton {version}" if version else ""


def open_cuda(model: Model, shape: tuple[int, int], threads: int | None = None) -> SlotEngine:
    """``threads`` means nothing here. The engine's ``report`` says what the kernels' measurements chose.

    Raises EngineError where the GPU cannot run ``model`` at ``shape``.
    """
    reason = _why_not()
    if reason:
        raise EngineError(f"the cuda engine cannot start: {reason}")
    info = EngineInfo.of("cuda", torch.cuda.get_device_name(), "fp16", model, shape)
    return open_slots(info, lambda dtype: build_network(model.module, shape, dtype, "cuda"))


def build_network(
    module: nn.Module, shape: tuple[int, int], dtype: torch.dtype, device: torch.device | str
) -> Network:
    """``module`` for LR images of ``shape`` (H, W) and ``dtype``: by our kernels where they know it and the card is one
    for them, else by torch."""
    from clesr.engines.backends.cuda.kernels.densenet import DenseNetKernels
    from clesr.engines.backends.cuda.kernels.pack import UnsupportedNetworkError

    if torch.device(device).type != "cuda" or torch.cuda.get_device_capability(device) >= OLDEST_OF_KERNELS:
        with contextlib.suppress(UnsupportedNetworkError):
            return DenseNetKernels(module, shape, dtype, device)
    scale, levels = int(module.scale), len(level_names(module))  # type: ignore[arg-type]
    return TorchNetwork(half_precision(module, device), shape, scale, dtype, device, levels)


def half_precision(module: nn.Module, device: torch.device | str) -> nn.Module:
    """A copy of ``module`` in FP16 and channels-last on ``device``."""
    half = copy.deepcopy(module).to(device, torch.float16)
    return half.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class TorchNetwork:
    """``network``, which maps FP16 (1, 1, H, W) to (1, 1, sH, sW), by torch; integers to FP16 and back there.
    ``levels`` is how many it takes beside the image."""

    def __init__(
        self,
        network: Callable[..., Tensor],
        shape: tuple[int, int],
        scale: int,
        dtype: torch.dtype,
        device: torch.device | str,
        levels: int = 0,
    ) -> None:
        self.lr = torch.zeros(shape, dtype=dtype, device=device)
        self.sr = torch.zeros((shape[0] * scale, shape[1] * scale), dtype=dtype, device=device)
        self.status = torch.zeros(1, dtype=torch.int32, device=device)
        self.guided = GuidedInputs.of(shape, levels, device) if levels else None
        self._network = network
        self._peak = torch.iinfo(dtype).max

    @torch.inference_mode()
    def run(self) -> None:
        """Read ``lr``, write ``sr`` and ``status``. What it needs in between comes from torch's pool, in a graph from
        the graph's."""
        x = (self.lr.float() / self._peak).half()[None, None]
        told: tuple[Tensor, ...] = ()
        if self.guided is not None:
            trust = (self.guided.trust.float() / 255).half()
            told = self.guided.numbers.half()[None], trust[None, None]
        store(self._network(x, *told)[0, 0].float() * self._peak, self)
