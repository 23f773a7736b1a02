"""The graph that TensorRT gets: types, result, and that TensorRT for RTX builds it. What a built engine must show."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_models import SMALL_DENSENET, random_image, random_model
from torch import nn

from clesr.engines.backends.tensorrt.graph import TypedNetwork, check_precision, export
from clesr.engines.common.errors import EngineError
from clesr.engines.guidance import guide
from clesr.engines.models.layers import BicubicUp
from clesr.engines.models.registry import LEVELS
from clesr.engines.models.weights import find_model
from clesr.engines.reference import reference_image

SHAPE = (11, 13)
MODELS = {
    "densenet x4": random_model("densenet", 4, **SMALL_DENSENET, skip="add", base="bicubic"),
    "densenet x2, paper's text": random_model("densenet", 2, **SMALL_DENSENET),
    "densenet x2, all": random_model("densenet", 2, **SMALL_DENSENET, skip="all"),
    "fast x8": random_model("fast", 8, channels=8, depth=3),
    "srcnn x2": random_model("srcnn", 2),
    "densenet x2, told": random_model("densenet", 2, **SMALL_DENSENET, base="bicubic", levels=LEVELS),
    "fast x4, told": random_model("fast", 4, channels=8, depth=3, levels=LEVELS),
}


@pytest.mark.parametrize("name", MODELS)
def test_learned_convolutions_are_fp16_and_the_base_is_not(name: str) -> None:
    module = MODELS[name].module
    graph = export(module, SHAPE, "cpu").graph
    types: Counter[tuple[str, str]] = Counter()
    for node in graph.nodes:
        if "conv2d" in str(node.target):
            operands = {str(n.meta["val"].dtype) for n in node.all_input_nodes}
            assert len(operands) == 1, "TensorRT takes no convolution of mixed types"
            types[operands.pop(), str(node.meta["val"].dtype)] += 1
    learned = sum(isinstance(m, nn.Conv2d) for m in module.modules())
    assert types["torch.float16", "torch.float16"] == learned == TypedNetwork(module).convolutions
    assert types["torch.float32", "torch.float32"] == (getattr(module, "base", None) is not None)
    (output,) = graph.output_node().args[0]
    (lr,) = (node for node in graph.nodes if node.op == "placeholder" and node.name == "x")
    assert lr.meta["val"].dtype == output.meta["val"].dtype == torch.float32


@pytest.mark.parametrize("name", MODELS)
def test_it_computes_what_the_network_does(name: str) -> None:
    model, lr = MODELS[name], random_image(SHAPE)
    with torch.inference_mode():
        told = guide(lr).as_tensors("cpu") if model.levels else ()
        y = TypedNetwork(model.module)(torch.from_numpy(lr.astype(np.float32) / 255)[None, None], *told)
    reference = reference_image(model.module, lr)
    assert reference.std() > 2
    assert np.abs(np.rint(255 * y[0, 0].numpy()) - reference).max() <= 1
    assert next(model.module.parameters()).dtype == torch.float32, "the model itself must stay as it was"


def test_a_black_network_loses_no_level_of_16_bits() -> None:
    """Where the network adds nothing, the bicubic base in FP32 decides; in FP16 it would be 32 levels off."""
    model = random_model("fast", 2, channels=4, depth=2)
    network = TypedNetwork(model.module)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    lr = random_image((9, 9), np.uint16)
    x = torch.from_numpy(lr.astype(np.float32) / 65535)[None, None]
    with torch.inference_mode():
        y = network(x)
        base = torch.clamp(BicubicUp(2)(x), 0, 1)
    assert 65535 * (y - base).abs().max() < 0.5


def layer(name: str, kind: str, types: list[str], **more: object) -> dict[str, Any]:
    inputs = [
        {"Name": "t", "Location": "Device", "Dimensions": [1, 4, 8, 8], "Format/Datatype": t} for t in types
    ]
    return {"Name": name, "LayerType": kind, "Inputs": inputs, "Outputs": [], **more}


def conv(module: str) -> str:
    return f"[CONVOLUTION]-[aten_ops.convolution.default]-[network.{module}/convolution_3]"


GOOD = [
    layer("Reformatting CopyNode for Input Tensor 0 to " + conv("low.0.conv"), "Reformat", ["Row major linear FP32"]),
    layer(conv("low.0.conv"), "CaskConvolution", ["Channel major FP16 format where channel % 8 == 0"]),
    layer(conv("up.0.conv.conv") + " + [RELU]", "fusion", ["Half", "Half"], TacticName="sm90"),
    layer("__myl_CastConv_0x1", "kgen", ["Float"], Metadata=conv("last.conv"), Weights={"Type": "Half", "Count": 9}),
    layer(conv("base"), "CaskConvolution", ["Float"]),
    layer("[ELEMENTWISE]-[aten_ops.add.Tensor]-[network/add]", "PointWise", ["Float", "Float"]),
    "a layer without details",
]  # fmt: skip


def test_an_engine_in_fp16_passes() -> None:
    check_precision(json.dumps({"Layers": GOOD}), 3)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([*GOOD, layer(conv("blocks.0.layers.0.conv"), "CaskConvolution", ["Float"])], "runs 1 of 4 .*in Float"),
        ([*GOOD, layer(conv("blocks.0.layers.0.conv"), "CaskConvolution", ["Int8"])], "in Int8"),
        ([*GOOD, layer(conv("last.conv"), "CaskConvolution", [])], "in an unknown one"),
        ([*GOOD, layer("Conv_7", "CaskConvolution", ["Row major linear FP32 format"])], "'Conv_7' in Row major"),
        ([GOOD[0], GOOD[4], GOOD[6]], "shows none of the network's 3 convolutions"),
        ([conv("low.0.conv")], "shows none"),
        ([], "shows none"),
    ],
)  # fmt: skip
def test_any_other_does_not(layers: list[object], words: str) -> None:
    with pytest.raises(EngineError, match=words):
        check_precision(json.dumps({"Layers": layers}), 3)


@pytest.mark.parametrize("text", ["", "[]", "{}", "not JSON"])
def test_an_inspector_without_layers_is_an_error(text: str) -> None:
    with pytest.raises(EngineError, match="gives no list of layers"):
        check_precision(text, 3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scale"), [("densenet", 4), ("srcnn", 2)])
def test_tensorrt_for_rtx_keeps_the_types_and_builds(name: str, scale: int, tmp_path: Path) -> None:
    """The same graph by way of ONNX; test_tensorrt_pairs.py has torch_tensorrt's own way."""
    trt = pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    network, path = TypedNetwork(find_model(name, scale).module).eval(), tmp_path / "m.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the exporter says about its own code
        torch.onnx.export(network, (torch.zeros(1, 1, 48, 64),), str(path), dynamo=True, verbose=False)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    parsed = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(parsed, logger)
    assert parser.parse_from_file(str(path)), [str(parser.get_error(i)) for i in range(parser.num_errors)]
    layers = [parsed.get_layer(i) for i in range(parsed.num_layers)]
    types = Counter(one.get_output(0).dtype for one in layers if one.type == trt.LayerType.CONVOLUTION)
    assert types == {trt.DataType.HALF: network.convolutions, trt.DataType.FLOAT: 1}
    assert parsed.get_output(0).dtype == trt.DataType.FLOAT

    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.builder_optimization_level = 5
    config.tiling_optimization_level = trt.TilingOptimizationLevel.FULL
    config.clear_flag(trt.BuilderFlag.TF32)
    config.num_compute_capabilities = 1
    assert config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    engine = builder.build_serialized_network(parsed, config)
    assert engine is not None
    assert engine.nbytes > 1e5
