"""TensorRT on an NVIDIA GPU, in FP16: compiled once for a model and a shape, kept on disk, run in our own slots."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from typing import Any

import torch

from clesr import __version__
from clesr.engines.backends.cuda.buffers import GuidedInputs, SlotEngine, store
from clesr.engines.backends.cuda.checked import open_slots
from clesr.engines.backends.tensorrt import build as tensorrt_build
from clesr.engines.backends.tensorrt.graph import TypedNetwork, check_precision, export, input_shapes
from clesr.engines.cache import Cache, Key, cache_folder
from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.errors import EngineError, first_line
from clesr.engines.engine import EngineInfo
from clesr.engines.gpu import NO_GPU, gpu_key, gpu_name
from clesr.engines.models.weights import Model, find_model, shipped

log = logging.getLogger(__name__)
RANK = 3
DEVICE = "cuda"
PRECISION = "fp16"
INSTALL = "pip install 'clesr[tensorrt]', or 'clesr[rtx]' for a GeForce or RTX card"


def candidates() -> list[EngineCandidate]:
    """The first NVIDIA GPU."""
    return [
        EngineCandidate(
            name="tensorrt", kind="cuda", device=gpu_name(), precision=PRECISION, rank=RANK, reason=why_no_tensorrt(),
            present=torch.cuda.is_available(), install="" if _installed() else _install(),
            library=tensorrt_build.library(), open=open_tensorrt, wait=to_build_first,
        )
    ]  # fmt: skip


def why_no_tensorrt() -> str:
    """Why TensorRT cannot run here; empty where it may."""
    if not torch.cuda.is_available():
        return NO_GPU
    if not _installed():
        return f"torch-tensorrt is not installed; {_install()}"
    return ""


def _installed() -> bool:
    return importlib.util.find_spec("torch_tensorrt") is not None


def _install() -> str:
    """The command for this machine's card."""
    if not torch.cuda.is_available():
        return INSTALL
    name = torch.cuda.get_device_name()
    return f"pip install 'clesr[{'rtx' if 'RTX' in name or 'GeForce' in name else 'tensorrt'}]'"


@dataclass(frozen=True, slots=True)
class CompiledEngine:
    """The compiled engine that ``model`` at LR ``shape`` (H, W) needs on this GPU."""

    model: Model
    shape: tuple[int, int]

    @property
    def name(self) -> str:
        return f"{self.model.name}-x{self.model.scale}-{self.shape[1]}x{self.shape[0]}"

    @property
    def key(self) -> Key:
        """Everything that the engine depends on, the code that makes the graph too."""
        what = {"shape": f"{self.shape[1]}x{self.shape[0]}", "precision": PRECISION, "engine": "tensorrt"}
        return {**self.model.key, **what, **_surroundings()}

    def find(self) -> bytes | None:
        """The engine on disk; a warning says why one that is there is not used."""
        return _engines().read(self.name, self.key)

    def build(self) -> Any:
        """Make the engine (an ``ICudaEngine``), check that it runs in FP16 and keep it. Raises EngineError."""
        timings = Cache(cache_folder() / "tensorrt", "the timing cache", ".timings")
        try:
            program = export(self.model.module, self.shape, DEVICE)
            content = tensorrt_build.build(program, timings, _surroundings())
            engine = tensorrt_build.deserialise(content)
            layers = tensorrt_build.layers_as_json(engine)
        except Exception as error:
            raise EngineError(
                f"TensorRT cannot build {self.model} at {self.shape}: {first_line(error)}"
            ) from error
        check_precision(layers, TypedNetwork(self.model.module).convolutions)
        _engines().write(self.name, self.key, content)
        return engine


def to_build_first(model: Model, shape: tuple[int, int]) -> str:
    """Why opening would take minutes; empty where the engine is on disk."""
    height, width = shape
    if CompiledEngine(model, shape).find() is not None:
        return ""
    named = (model.name, model.scale) in shipped() and find_model(model.name, model.scale)
    name = model.name if named and named.sha256 == model.sha256 else "FILE.safetensors"
    command = f"clesr build {name} --scale {model.scale} --size {width}x{height}"
    return f"not built for {width}x{height} yet; `{command}` does it, in minutes"


def open_tensorrt(model: Model, shape: tuple[int, int], threads: int | None = None) -> SlotEngine:
    """``threads`` means nothing here. Takes the engine on disk, else builds it first, which takes minutes.

    Raises EngineError where the GPU cannot run ``model`` at ``shape``.
    """
    reason = why_no_tensorrt()
    if reason:
        raise EngineError(f"the tensorrt engine cannot start: {reason}")
    compiled = _load(CompiledEngine(model, shape))
    info = EngineInfo.of("tensorrt", torch.cuda.get_device_name(), PRECISION, model, shape)
    return open_slots(info, lambda dtype: TensorRTNetwork(compiled, model, shape, dtype, DEVICE))


def _load(wanted: CompiledEngine) -> Any:
    """The compiled engine that is ``wanted``, from disk or built now."""
    content = wanted.find()
    if content is not None:
        try:
            return tensorrt_build.deserialise(content)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with what was kept, it is built anew
            log.warning(f"the compiled engine {wanted.name} is not used: {first_line(error)}")
    log.info(
        f"building the compiled engine {wanted.name}, which takes minutes and is kept; `clesr build` does it beforehand"
    )
    return wanted.build()


class TensorRTNetwork:
    """An execution context of ``compiled`` (an ``ICudaEngine``) with buffers of its own: a
    :class:`~clesr.engines.backends.cuda.buffers.Network` for LR images of ``shape`` and ``dtype``."""

    def __init__(
        self,
        compiled: Any,
        model: Model,
        shape: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        self.lr = torch.zeros(shape, dtype=dtype, device=device)
        self.sr = torch.zeros([model.scale * side for side in shape], dtype=dtype, device=device)
        self.status = torch.zeros(1, dtype=torch.int32, device=device)
        self.guided = GuidedInputs.of(shape, len(model.levels), device) if model.levels else None
        self._inputs = {
            name: torch.zeros(size, device=device)
            for name, size in input_shapes(shape, len(model.levels)).items()
        }
        self._y = torch.zeros((1, 1, *self.sr.shape), device=device)
        self._peak = torch.iinfo(dtype).max
        self._compiled = compiled  # must outlive its context
        self._context = compiled.create_execution_context()
        if self._context is None:
            raise EngineError("TensorRT gives no execution context: the GPU is out of memory")
        self._bind()

    def run(self) -> None:
        """Read ``lr`` and what it is told of it, write ``sr`` and ``status`` on the current stream."""
        self._inputs["x"].copy_(self.lr[None, None]).div_(self._peak)
        if self.guided is not None:
            self._inputs["levels"].copy_(self.guided.numbers[None])
            self._inputs["trust"].copy_(self.guided.trust[None, None]).div_(255)
        stream = torch.cuda.current_stream().cuda_stream if self.lr.is_cuda else 0
        if not self._context.execute_async_v3(stream):
            raise EngineError("TensorRT could not start the network")
        store(self._y[0, 0].mul_(self._peak), self)

    def _bind(self) -> None:
        """Give the context the addresses of our buffers; its tensors must be what :func:`export` made."""
        names = [self._compiled.get_tensor_name(i) for i in range(self._compiled.num_io_tensors)]
        outputs = [name for name in names if self._compiled.get_tensor_mode(name).name == "OUTPUT"]
        if set(names) - set(outputs) != set(self._inputs) or len(outputs) != 1:
            raise EngineError(
                f"the compiled engine has the tensors {', '.join(names)}, not {', '.join(self._inputs)} and one output"
            )
        for name, buffer in (*self._inputs.items(), (outputs[0], self._y)):
            shape = tuple(self._compiled.get_tensor_shape(name))
            dtype = self._compiled.get_tensor_dtype(name).name
            if shape != tuple(buffer.shape) or dtype != "FLOAT":
                raise EngineError(
                    f"the compiled engine's {name} is {dtype} {shape}, not FLOAT {tuple(buffer.shape)}"
                )
            if not self._context.set_tensor_address(name, buffer.data_ptr()):
                raise EngineError(f"TensorRT does not take the buffer for {name}")


def _engines() -> Cache:
    return Cache(cache_folder() / "tensorrt", "the compiled engine", ".engine")


def _surroundings() -> Key:
    return {"library": tensorrt_build.library(), "clesr": __version__, **gpu_key()}
