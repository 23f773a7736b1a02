"""OpenVINO on the CPU or an Intel GPU."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from clesr.engines.backends.openvino.winograd import TiledDenseNet
from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.errors import EngineError
from clesr.engines.common.image import Image
from clesr.engines.engine import EngineInfo
from clesr.engines.models.densenet import DenseNet
from clesr.engines.models.weights import Model
from clesr.engines.worker import WorkerEngine

if TYPE_CHECKING:
    import openvino as ov  # type: ignore[import-untyped]

INSTALL = "pip install openvino"
HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
RANKS = {("gpu", "fp16"): 20, ("gpu", "fp32"): 25, ("cpu", "bf16"): 30, ("cpu", "fp32"): 40}


def candidates() -> list[EngineCandidate]:
    """Every device and precision that OpenVINO has here; one that is not available where it has none."""
    try:
        devices = _core().available_devices
    except (ImportError, RuntimeError) as error:
        reason = f"OpenVINO does not start ({_last_line(error)}); {INSTALL}"
        rank = RANKS["cpu", "fp32"]
        return [
            EngineCandidate(
                name="openvino", kind="cpu", device="the CPU", precision="fp32", rank=rank, reason=reason
            )
        ]
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
        graph = build_graph(model.module, shape, precision)
        compiled = _core().compile_model(graph, device.upper(), properties)
        request = compiled.create_infer_request()
        words = _words(device)
    except (ImportError, RuntimeError) as error:
        raise EngineError(f"OpenVINO cannot run {model} on {device}: {_last_line(error)}") from error
    info = EngineInfo("openvino", words, precision, model.name, model.sha256, model.scale, shape)
    return WorkerEngine(info, functools.partial(_infer, request))


def build_graph(network: nn.Module, shape: tuple[int, int], precision: str) -> ov.Model:
    """``network`` with the conversion from and to integers: inputs ``lr`` (H, W) and ``levels``, the dtype's
    largest value, output (sH, sW) rounded, halves to even, all float32 with integer values.

    One graph serves 8 and 16 bit. For fp32 DenseNet's up-sampling is rewritten (see winograd.py), for bf16 the image is
    read in parts, since it would be rounded to a grey level.
    """
    import openvino as ov
    import openvino.opset13 as ops  # type: ignore[import-untyped]

    from clesr.engines.backends.openvino.graph import Symbol, apply, in_parts

    height, width = shape
    if precision == "fp32" and isinstance(network, DenseNet):
        network = TiledDenseNet(network, height, width)
    lr = ops.parameter([height, width], np.float32, "lr")
    levels = ops.parameter([], np.float32, "levels")
    x = (Symbol(lr) / Symbol(levels))[None, None]
    y = apply(network, in_parts(x) if precision == "bf16" else x)[0, 0] * Symbol(levels)
    y = ops.round(ops.relu(ops.minimum(y.output, levels)), "half_to_even")
    return ov.Model([y.output(0)], [lr, levels], "clesr")


def _infer(request: ov.InferRequest, lr: Image) -> Image:
    request.get_input_tensor(0).data[...] = lr
    request.get_input_tensor(1).data[...] = np.iinfo(lr.dtype).max
    request.infer(share_inputs=True)
    sr: Image = request.get_output_tensor().data.astype(lr.dtype)
    return sr


@functools.cache
def _core() -> ov.Core:
    import openvino as ov

    return ov.Core()


def _words(device: str) -> str:
    return str(_core().get_property(device.upper(), "FULL_DEVICE_NAME")).strip()


def _last_line(error: Exception) -> str:
    return str(error).strip().split("\n")[-1]
