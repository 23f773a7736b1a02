"""Our own kernels on an NVIDIA GPU, in FP16, from integer levels to integer levels, as one CUDA graph a frame."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from clesr.engines.backends.cuda.buffers import GuidedInputs, Network, SlotEngine
from clesr.engines.backends.cuda.checked import open_slots
from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.errors import EngineError
from clesr.engines.common.packages import version_of
from clesr.engines.engine import EngineInfo
from clesr.engines.gpu import NO_GPU, gpu_name
from clesr.engines.models.registry import level_names
from clesr.engines.models.weights import Model
from clesr.engines.results import engine_errors

RANKS = {"fp16": 5, "fp8": 6}
OLDEST = {"fp16": (7, 5), "fp8": (8, 9)}  # compute capability: the first with the matrix units that are used
FP8_LOSS = 0.05  # dB below FP16 at most


def candidates() -> list[EngineCandidate]:
    """The first NVIDIA GPU, in FP16, and on request with DenseNet's doublings in FP8."""
    return [
        EngineCandidate(
            name="cuda", kind="cuda", device=gpu_name(), precision=precision, rank=rank, reason=_why_not(precision),
            present=_is_present(precision), library=_library(), on_request=precision == "fp8",
            open=functools.partial(open_cuda, precision=precision),
        )
        for precision, rank in RANKS.items()
    ]  # fmt: skip


def _why_not(precision: str) -> str:
    if not torch.cuda.is_available():
        return NO_GPU
    if not _library():
        return "Triton is not installed; pip install triton"
    if not _is_present(precision):
        found, oldest = torch.cuda.get_device_capability(), OLDEST[precision]
        return f"compute capability {found[0]}.{found[1]} is below {oldest[0]}.{oldest[1]}, the first with {precision}"
    return ""


def _is_present(precision: str) -> bool:
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= OLDEST[precision]


def _library() -> str:
    """The installed Triton with its version; empty where there is none."""
    version = version_of("triton")
    return f"triton {version}" if version else ""


def open_cuda(
    model: Model, shape: tuple[int, int], threads: int | None = None, *, precision: str = "fp16"
) -> SlotEngine:
    """``threads`` means nothing here. The engine's ``report`` says what the kernels' measurements chose.

    Raises EngineError where the GPU cannot run ``model`` at ``shape``, or FP8 costs more than FP8_LOSS.
    """
    reason = _why_not(precision)
    if reason:
        raise EngineError(f"the cuda engine cannot start: {reason}")
    words = torch.cuda.get_device_name()
    levels = level_names(model.module)
    info = EngineInfo("cuda", words, precision, model.name, model.sha256, model.scale, shape, levels=levels)
    if precision == "fp8":
        with engine_errors(f"{words} cannot run {model} in fp8"):
            check_fp8(model.module, shape, "cuda")
    return open_slots(info, lambda dtype: build_network(model.module, shape, dtype, "cuda", precision))


def build_network(
    module: nn.Module,
    shape: tuple[int, int],
    dtype: torch.dtype,
    device: torch.device | str,
    precision: str = "fp16",
) -> Network:
    """``module`` for LR images of ``shape`` (H, W) and ``dtype``: by our kernels where they know it, else by torch.

    Raises UnsupportedNetworkError for FP8 where the kernels do not know it.
    """
    from clesr.engines.backends.cuda.kernels.densenet import DenseNetKernels, UnsupportedNetworkError

    try:
        return DenseNetKernels(module, shape, dtype, device, precision=precision)
    except UnsupportedNetworkError:
        if precision == "fp8":
            raise
    scale, levels = int(module.scale), len(level_names(module))  # type: ignore[arg-type]
    return TorchNetwork(half_precision(module, device), shape, scale, dtype, device, levels)


def half_precision(module: nn.Module, device: torch.device | str) -> nn.Module:
    """A copy of ``module`` in FP16 and channels-last on ``device``."""
    half = copy.deepcopy(module).to(device, torch.float16)
    return half.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def check_fp8(module: nn.Module, shape: tuple[int, int], device: torch.device | str) -> None:
    """Raise EngineError where the kernels' FP8 loses more than FP8_LOSS against FP16 on the calibration images."""
    from clesr.engines.backends.cuda.kernels.densenet import UnsupportedNetworkError
    from clesr.engines.backends.cuda.kernels.quality import fp8_loss

    try:
        loss = fp8_loss(module, shape, device)
    except UnsupportedNetworkError as error:
        raise EngineError(f"fp8 cannot run this model: {error}; use --precision fp16") from error
    if not loss <= FP8_LOSS:
        raise EngineError(
            f"fp8 loses {loss:.2f} dB against fp16 on the calibration images, {FP8_LOSS:g} are allowed; "
            "use --precision fp16"
        )


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
        self.guided: GuidedInputs | None = None
        if levels:
            numbers = torch.zeros(levels, device=device)
            trust = torch.full(shape, 255, dtype=torch.uint8, device=device)
            self.guided = GuidedInputs(numbers, trust, lambda told: told)
        self._network = network
        self._peak = torch.iinfo(dtype).max

    @torch.inference_mode()
    def run(self) -> None:
        """Read ``lr``, write ``sr``. What it needs in between comes from torch's pool, in a graph from the graph's."""
        x = (self.lr.float() / self._peak).half()[None, None]
        told: tuple[Tensor, ...] = ()
        if self.guided is not None:
            trust = (self.guided.trust.float() / 255).half()
            told = self.guided.numbers.half()[None], trust[None, None]
        y = self._network(x, *told)[0, 0].float() * self._peak
        self.sr.copy_(torch.clamp(torch.round(y), 0, self._peak))
