"""OpenVINO on the CPU or an Intel GPU."""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import nn

from clesr.engines.backends.openvino.winograd import TiledDenseNet
from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.errors import EngineError
from clesr.engines.common.image import Image
from clesr.engines.engine import EngineInfo
from clesr.engines.guidance import Guidance, guide
from clesr.engines.models.densenet import DenseNet
from clesr.engines.models.layers import Settled
from clesr.engines.models.weights import Model
from clesr.engines.worker import WorkerEngine

if TYPE_CHECKING:
    import openvino as ov  # type: ignore[import-untyped]

    from clesr.engines.backends.openvino.degrade import GraphDegrader

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
RUNS = {2: np.uint16, 4: np.uint32, 8: np.uint64, 16: np.complex128}  # what is copied at once, by its bytes
RANKS = {("gpu", "fp16"): 20, ("gpu", "fp32"): 25, ("cpu", "bf16"): 30, ("cpu", "fp32"): 40}


def candidates() -> list[EngineCandidate]:
    """Every device and precision that OpenVINO has here. Raises EngineError where it does not start."""
    try:
        devices = _core().available_devices
    except (ImportError, RuntimeError) as error:
        raise EngineError(f"OpenVINO does not start ({_last_line(error)}); pip install openvino") from error
    found = []
    for (device, precision), rank in RANKS.items():
        if device.upper() not in devices:
            continue
        words = _words(device)
        capable = _core().get_property(device.upper(), "OPTIMIZATION_CAPABILITIES")
        has = precision == "fp32" or precision.upper() in capable
        found.append(
            EngineCandidate(
                name="openvino", kind=device, device=words, precision=precision, rank=rank, present=has,
                reason="" if has else f"{words} has no {precision.upper()} arithmetic",
                open=functools.partial(open_openvino, device=device, precision=precision),
            )
        )  # fmt: skip
    return found


def open_openvino(
    model: Model, shape: tuple[int, int], threads: int | None, *, device: str, precision: str
) -> WorkerEngine:
    """Compile ``model`` for LR ``shape``. Raises EngineError where OpenVINO cannot."""
    properties: dict[str, object] = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY",
    }
    if threads and device == "cpu":
        properties["INFERENCE_NUM_THREADS"] = threads
    try:
        settled = Settled(model.module) if model.levels else None
        graph = build_graph(settled or model.module, shape, precision)
        request = _core().compile_model(graph, device.upper(), properties).create_infer_request()
        words = _words(device)
    except (ImportError, RuntimeError) as error:
        raise EngineError(f"OpenVINO cannot run {model} on {device}: {_last_line(error)}") from error
    info = EngineInfo.of("openvino", words, precision, model, shape)
    if device != "cpu":
        return WorkerEngine(info, Inference(request, settled))
    return ProcessorEngine(info, Inference(request, settled), properties)


def build_graph(network: nn.Module | Settled, shape: tuple[int, int], precision: str) -> ov.Model:
    """``network`` with the conversion from and to integers: inputs ``lr`` (H, W) and ``peak``, the dtype's
    largest value, output (sH, sW) rounded, halves to even, all float32 with integer values. A settled network has
    further inputs: ``trust`` (H, W) in [0, 1], and what is ``moving``.

    A pixel shuffle at the end is left to :func:`shuffled`, which moves the rounded pixels in whole runs: the output is
    then (H, W, s, s). One graph serves 8 and 16 bit. For fp32 DenseNet's up-sampling is rewritten (see winograd.py),
    for bf16 the image is read in parts, since it would be rounded to a grey level.
    """
    import openvino as ov
    import openvino.opset13 as ops  # type: ignore[import-untyped]

    from clesr.engines.backends.openvino.graph import Symbol, apply, in_parts, with_inputs

    height, width = shape
    lr = ops.parameter([height, width], np.float32, "lr")
    peak = ops.parameter([], np.float32, "peak")
    inputs, trust = [lr, peak], None
    if isinstance(network, Settled):
        plain, moving = with_inputs(network)
        inputs += [*moving, ops.parameter([height, width], np.float32, "trust")]
        network, trust = plain, Symbol(inputs[-1])[None, None]
    if precision == "fp32" and isinstance(network, DenseNet):
        network = TiledDenseNet(network, height, width)
    x = (Symbol(lr) / Symbol(peak))[None, None]
    y = apply(network, in_parts(x) if precision == "bf16" else x, trust)
    last = y.output.get_node()
    if last.get_type_name() == "DepthToSpace":
        phases = Symbol(last.input_value(0)).permute(0, 2, 3, 1)
        y = phases.reshape(*phases.shape[1:3], *[math.isqrt(phases.shape[3])] * 2)
    else:
        y = y[0, 0]
    y = y * Symbol(peak)
    y = ops.round(ops.relu(ops.minimum(y.output, peak)), "half_to_even")
    return ov.Model([y.output(0)], inputs, "clesr")


def shuffled(phases: Image) -> Image:
    """``phases`` (H, W, s, s), which is C-contiguous, as pixels (s * H, s * W); another image as it is."""
    if phases.ndim == 2:
        return phases
    height, width, scale, _ = phases.shape
    sr = np.empty((height * scale, width * scale), phases.dtype)
    run = RUNS[scale * phases.itemsize]
    lines: NDArray[np.generic] = sr.view(run).reshape(height, scale, width)
    np.copyto(lines.transpose(0, 2, 1), phases.view(run)[..., 0])
    return sr


class Inference:
    """LR images through ``request``, one at a time. With ``degrade`` each SR image is degraded again, to the end of
    ``degraded``. Those of a ``settled`` network have a guidance, or one is made."""

    def __init__(self, request: ov.InferRequest, settled: Settled | None = None) -> None:
        self.degrade: GraphDegrader | None = None
        self.degraded: deque[Image] = deque()
        self._request, self._sr = request, request.get_output_tensor()
        self._lr, self._peak = (request.get_input_tensor(i).data for i in (0, 1))
        self._settled, self._levels = settled, np.empty(0, np.float32)
        if settled is not None:
            rest = (request.get_input_tensor(i + 2).data for i in range(len(settled.moving) + 1))
            *moving, self._trust = rest
            self._moving = dict(zip(settled.moving, moving, strict=True))

    def __call__(self, lr: Image, guidance: Guidance | None = None) -> Image:
        self._lr[...], self._peak[...] = lr, np.iinfo(lr.dtype).max
        if self._settled is not None:
            self._settle(self._settled, guidance or guide(lr))
        self._request.infer(share_outputs=True)
        sr = shuffled(self._sr.data.astype(lr.dtype))
        if self.degrade is not None:
            self.degraded.append(self.degrade(sr))
        return sr

    def _settle(self, settled: Settled, guidance: Guidance) -> None:
        np.multiply(guidance.trust, np.float32(1 / 255), out=self._trust)
        if not np.array_equal(guidance.levels, self._levels):
            for name, values in settled(guidance.levels).items():
                self._moving[name][...] = values.numpy()
            self._levels = guidance.levels.copy()


class ProcessorEngine(WorkerEngine):
    """The engine on a CPU, which is :class:`~clesr.engines.engine.CheckingOnRequest`: a graph of its own, in FP32
    whatever the precision of the network, degrades each image on the same threads."""

    def __init__(self, info: EngineInfo, inference: Inference, properties: dict[str, object]) -> None:
        self.reprojected: Sequence[Image] = ()
        self._inference, self._properties = inference, properties
        self._degrade: GraphDegrader | None = None
        super().__init__(info, self._inference)

    def check(self, on: bool = True) -> None:
        if on and self._degrade is None:
            self._degrade = self._make_degrader()
        self._inference.degrade = self._degrade if on else None

    def collect(self) -> Image:
        sr = super().collect()
        degraded = self._inference.degraded
        self.reprojected = (degraded.popleft(),) if degraded else ()
        return sr

    def _make_degrader(self) -> GraphDegrader:
        from clesr.engines.backends.openvino.degrade import GraphDegrader

        info, properties = self.info, self._properties | {"INFERENCE_PRECISION_HINT": HINTS["fp32"]}

        def prepared(graph: ov.Model) -> ov.InferRequest:
            return _core().compile_model(graph, "CPU", properties).create_infer_request()

        try:
            return GraphDegrader(info.lr_shape, info.scale, prepared)
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO cannot degrade images of {info.lr_shape}: {_last_line(error)}"
            ) from error


@functools.cache
def _core() -> ov.Core:
    import openvino as ov

    return ov.Core()


def _words(device: str) -> str:
    return str(_core().get_property(device.upper(), "FULL_DEVICE_NAME")).strip()


def _last_line(error: Exception) -> str:
    return str(error).strip().split("\n")[-1]
