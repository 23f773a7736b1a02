"""A model as an ONNX file, for TensorRT and every other runtime that reads ONNX."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import torch

from clesr.engines.common.errors import MissingDependencyError, UsageError
from clesr.engines.common.files import NEW, WriteRule, write_file
from clesr.engines.common.quiet import quiet
from clesr.engines.models.weights import Model

PRECISIONS = {"fp16": torch.float16, "fp32": torch.float32}
INPUT, OUTPUT = "lr", "sr"
TOLD = ("levels", "trust")  # further inputs of a network that is told of each image
SMALLEST = 8  # pixels a side
LARGEST = 4096
TRACED = 64  # pixels a side of the image that the graph is recorded with where any size is wanted


def export_onnx(
    model: Model,
    path: Path,
    *,
    precision: str = "fp16",
    shape: tuple[int, int] | None = None,
    rule: WriteRule = NEW,
) -> None:
    """Write ``model`` to ``path`` as ONNX; never half-written.

    Input ``lr`` is (1, 1, H, W) in [0, 1], output ``sr`` (1, 1, sH, sW) in [0, 1], both FP16 or FP32 as
    ``precision`` says, and so is all that is computed between them: the types are in the graph, so a strongly
    typed TensorRT network keeps them. A network that is told of each image has two more inputs: ``levels`` (1, L), as
    ``Levels.as_input`` gives them, and ``trust`` (1, 1, H, W) in [0, 1]. ``shape`` fixes (H, W); without it they may be
    8 to 4096. The file's metadata names the model, its scale and its identity.

    Raises UsageError for a shape or precision that cannot be, MissingDependencyError without the packages, SinkError
    where the file cannot be written, or ``rule`` forbids it.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r} is unknown; choose {' or '.join(PRECISIONS)}")
    if shape is not None and not all(SMALLEST <= side <= LARGEST for side in shape):
        raise UsageError(
            f"{shape[0]} x {shape[1]} pixels cannot be exported; each side is {SMALLEST} to {LARGEST}"
        )
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"ONNX export needs {error.name}; install it with: pip install 'clesr[export]'"
        ) from error

    dtype = PRECISIONS[precision]
    module = copy.deepcopy(model.module).to(dtype)
    height, width = (torch.export.Dim(name, min=SMALLEST, max=LARGEST) for name in ("height", "width"))
    image = torch.zeros(1, 1, *(shape or (TRACED, TRACED)), dtype=dtype)
    sizes = {2: height, 3: width}
    examples: tuple[torch.Tensor, ...] = (image,)
    names, dynamic = [INPUT], [sizes]
    if levels := model.levels:
        examples = image, torch.zeros(1, len(levels), dtype=dtype), torch.ones_like(image)
        names, dynamic = [INPUT, *TOLD], [sizes, {}, sizes]
    with quiet("torch.onnx", logging.ERROR):
        program = torch.onnx.export(
            module,
            examples,
            dynamo=True,
            input_names=names,
            output_names=[OUTPUT],
            dynamic_shapes=tuple(dynamic) if shape is None else None,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    known = {"model": model.name, "scale": str(model.scale), "sha256": model.sha256, "precision": precision}
    onnx.helper.set_model_props(proto, known)
    onnx.checker.check_model(proto)
    write_file(path, proto.SerializeToString(), rule)
