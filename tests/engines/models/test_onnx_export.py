"""The ONNX file, run by a runtime that knows nothing of clesr, and built by TensorRT for RTX cards."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from random_models import SMALL_DENSENET, random_model

from clesr.engines.common.errors import SinkError, UsageError
from clesr.engines.models.onnx_export import INPUT, TOLD, export_onnx
from clesr.engines.models.registry import LEVELS
from clesr.engines.models.weights import Model, find_model

MODELS = {
    "densenet x4": random_model("densenet", 4, **SMALL_DENSENET, skip="add", base="bicubic"),
    "densenet x2, paper's text": random_model("densenet", 2, **SMALL_DENSENET),
    "fast x8": random_model("fast", 8, channels=8, depth=3),
    "srcnn x2": random_model("srcnn", 2),
    "fast x4, told": random_model("fast", 4, channels=8, depth=3, levels=LEVELS),
    "densenet x2, told": random_model(
        "densenet", 2, **SMALL_DENSENET, skip="add", base="bicubic", levels=LEVELS
    ),
}
RTX = ("SM75", "SM86", "SM89", "SM120")  # Turing, Ampere, Ada and Blackwell cards


def run(path: Path, lr: np.ndarray, *told: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = dict(zip((INPUT, *TOLD), (lr, *told), strict=False))
    result: np.ndarray = session.run(None, inputs)[0]
    return result


def reference(model: Model, *inputs: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        sr: np.ndarray = model.module(*(torch.from_numpy(part).float() for part in inputs)).numpy()
        return sr


@pytest.mark.parametrize(
    ("name", "precision", "limit"),
    [
        ("srcnn x2", "fp16", 2.0),
        pytest.param("densenet x4", "fp16", 2.0, marks=pytest.mark.slow),
        pytest.param("srcnn x2", "fp32", 0.01, marks=pytest.mark.slow),
        pytest.param("densenet x4", "fp32", 0.01, marks=pytest.mark.slow),
        pytest.param("densenet x2, paper's text", "fp16", 2.0, marks=pytest.mark.slow),
        pytest.param("fast x8", "fp16", 2.0, marks=pytest.mark.slow),
        pytest.param("fast x4, told", "fp32", 0.1, marks=pytest.mark.slow),
        pytest.param("densenet x2, told", "fp32", 0.1, marks=pytest.mark.slow),
    ],
)
def test_another_runtime_computes_the_same_at_any_size(
    name: str, precision: str, limit: float, tmp_path: Path
) -> None:
    model, path = MODELS[name], tmp_path / "m.onnx"
    export_onnx(model, path, precision=precision)
    rng = np.random.default_rng()
    for shape in ((8, 8), (13, 21), (40, 33)):
        lr = rng.random((1, 1, *shape)).astype(np.float16 if precision == "fp16" else np.float32)
        told = [np.full((1, len(LEVELS)), 0.3), rng.random((1, 1, *shape))] if "told" in name else []
        sr = run(path, lr, *(part.astype(lr.dtype) for part in told))
        assert sr.dtype == lr.dtype
        assert sr.shape == (1, 1, model.scale * shape[0], model.scale * shape[1])
        assert 255 * np.abs(sr - reference(model, lr, *told)).max() < limit


@pytest.mark.slow
def test_the_file_says_what_it_is_and_holds_one_type(tmp_path: Path) -> None:
    model, path = MODELS["densenet x4"], tmp_path / "m.onnx"
    export_onnx(model, path, shape=(24, 32))
    proto = onnx.load(str(path))
    onnx.checker.check_model(proto)
    props = {prop.key: prop.value for prop in proto.metadata_props}
    assert props == {"model": model.name, "scale": "4", "sha256": model.sha256, "precision": "fp16"}
    assert [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim] == [1, 1, 24, 32]
    floating = {tensor.data_type for tensor in proto.graph.initializer} - {onnx.TensorProto.INT64}
    assert floating == {onnx.TensorProto.FLOAT16}
    assert "Cast" not in {node.op_type for node in proto.graph.node}
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.slow
def test_what_cannot_be_exported(tmp_path: Path) -> None:
    model = MODELS["srcnn x2"]
    with pytest.raises(UsageError, match="4 x 900 pixels cannot be exported; each side is 8 to 4096"):
        export_onnx(model, tmp_path / "m.onnx", shape=(4, 900))
    with pytest.raises(UsageError, match="precision 'fp8' is unknown; choose fp16 or fp32"):
        export_onnx(model, tmp_path / "m.onnx", precision="fp8")
    with pytest.raises(SinkError, match="cannot be written: No such file or directory"):
        export_onnx(model, tmp_path / "nowhere" / "m.onnx", shape=(8, 8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_tensorrt_for_rtx_builds_the_fp16_densenet_for_current_cards(scale: int, tmp_path: Path) -> None:
    """Its builder needs no GPU. Explicit types: every convolution of the parsed network is in FP16."""
    trt = pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    path = tmp_path / "m.onnx"
    export_onnx(find_model("densenet", scale), path)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(path)), [str(parser.get_error(i)) for i in range(parser.num_errors)]
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    types = Counter(layer.get_output(0).dtype for layer in layers if layer.type == trt.LayerType.CONVOLUTION)
    # 2 low-level, 96 dense, one for each doubling, the last, and the bicubic base
    assert types == {trt.DataType.HALF: 2 + 96 + scale.bit_length() - 1 + 1 + 1}

    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("lr", *[(1, 1, 256, 256)] * 3)
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = len(RTX)
    for index, name in enumerate(RTX):
        assert config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None, f"no engine for {', '.join(RTX)}"
    assert engine.nbytes > 1e6
