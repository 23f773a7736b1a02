"""A torch module as an OpenVINO graph, by calling it with a symbol in place of a tensor.

OpenVINO's own converter runs the network several times to trace it, which takes many seconds a start; this
runs nothing. It knows the functions that the networks here use, and names any other one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from types import EllipsisType
from typing import Any

import numpy as np
import openvino as ov  # type: ignore[import-untyped]
import openvino.opset13 as ops  # type: ignore[import-untyped]
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from clesr.engines.backends.openvino.winograd import map_strips
from clesr.engines.common.errors import EngineError
from clesr.engines.common.resample import line_taps
from clesr.engines.models.layers import Settled, bicubic_phases

AxisIndex = int | slice | EllipsisType | None


class Symbol:
    """Stands for a float32 tensor of known shape in the graph that is being built.

    ``parts``, whose sum it is, are what a convolution reads of an image, where that rounds what it reads to bf16.
    """

    def __init__(self, output: ov.Output | ov.Node, parts: Sequence[Symbol] = ()) -> None:
        self.output = output.output(0) if isinstance(output, ov.Node) else output
        self.parts = parts

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.output.get_shape())

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: object, args: tuple[Any, ...], kwargs: Any = None
    ) -> Symbol:
        if function not in FUNCTIONS:
            name = getattr(function, "__name__", str(function))
            raise EngineError(
                f"the openvino engine does not know torch's {name}, which the network uses; "
                "give --engine torch"
            )
        return cls(FUNCTIONS[function](*args, **(kwargs or {})))

    def reshape(self, *shape: int) -> Symbol:
        return Symbol(ops.reshape(self.output, np.array(shape, np.int64), False))

    def permute(self, *axes: int) -> Symbol:
        return Symbol(ops.transpose(self.output, np.array(axes, np.int64)))

    def __getitem__(self, index: AxisIndex | tuple[AxisIndex, ...]) -> Symbol:
        return Symbol(_slice(self, index if isinstance(index, tuple) else (index,)))

    def __add__(self, other: Operand) -> Symbol:
        return Symbol(ops.add(self.output, _node(other)))

    def __sub__(self, other: Operand) -> Symbol:
        return Symbol(ops.subtract(self.output, _node(other)))

    def __rsub__(self, other: Operand) -> Symbol:
        return Symbol(ops.subtract(_node(other), self.output))

    def __mul__(self, other: Operand) -> Symbol:
        return Symbol(ops.multiply(self.output, _node(other)))

    def __truediv__(self, other: Operand) -> Symbol:
        return Symbol(ops.divide(self.output, _node(other)))

    __radd__, __rmul__ = __add__, __mul__


Operand = Symbol | Tensor | float
OneOrMore = int | Sequence[int]


def apply(module: nn.Module, x: Symbol, trust: Symbol | None = None) -> Symbol:
    """What ``module`` makes of ``x``. Raises EngineError where it uses a function that is not known here."""
    with torch.no_grad():
        y = module(x) if trust is None else module(x, trust=trust)
    assert isinstance(y, Symbol)
    return y


def with_inputs(settled: Settled) -> tuple[nn.Module, list[ov.Node]]:
    """The plain network, inputs of the graph in place of what is ``moving``, and these inputs in that order."""
    plain, inputs = copy.deepcopy(settled.plain), []
    for name in settled.moving:
        parent, _, leaf = name.rpartition(".")
        conv = plain.get_submodule(parent)
        inputs.append(ops.parameter(list(getattr(conv, leaf).shape), np.float32, name))
        delattr(conv, leaf)
        setattr(conv, leaf, Symbol(inputs[-1]))
    return plain, inputs


def in_parts(x: Symbol) -> Symbol:
    """``x`` in [0, 1] as multiples of 1/16 and the rest, which bf16 rounds 16 times as finely as the whole.

    OpenVINO leaves them in FP32 as long as the sum, too, reaches the output without a convolution.
    """
    coarse = Symbol(ops.floor((x * 16.0).output)) * (1 / 16)
    fine = x - coarse
    return Symbol((coarse + fine).output, (coarse, fine))


def _node(value: Operand) -> Any:
    if isinstance(value, Symbol):
        return value.output
    if isinstance(value, Tensor):
        return ops.constant(value.detach().cpu().contiguous().numpy())
    return ops.constant(np.float32(value))


def _slice(x: Symbol, index: tuple[AxisIndex, ...]) -> Any:
    """numpy's basic indexing: one Slice, then the axes that integers remove and None adds."""
    rank = len(x.shape)
    if Ellipsis in index:
        at = index.index(Ellipsis)
        missing = rank - sum(i is not None for i in index) + 1
        index = index[:at] + (slice(None),) * missing + index[at + 1 :]
    bounds: list[tuple[int, int, int, int]] = []  # start, stop, step, axis
    shape: list[int] = []
    axis = 0
    for entry in index:
        if entry is None:
            shape.append(1)
            continue
        if isinstance(entry, slice):
            start, stop, step = entry.indices(x.shape[axis])
            shape.append(len(range(start, stop, step)))
        else:
            assert isinstance(entry, int)
            start = range(x.shape[axis])[entry]
            stop, step = start + 1, 1
        if (start, stop, step) != (0, x.shape[axis], 1):
            bounds.append((start, stop, step, axis))
        axis += 1
    shape.extend(x.shape[axis:])
    node = x.output
    if bounds:
        node = ops.slice(node, *np.array(bounds, np.int64).T.copy())
    return ops.reshape(node, np.array(shape, np.int64), False) if len(shape) != rank or axis != rank else node


def _conv2d(
    x: Symbol,
    weight: Tensor | Symbol,
    bias: Tensor | Symbol | None = None,
    stride: OneOrMore = 1,
    padding: OneOrMore = 0,
    dilation: OneOrMore = 1,
    groups: int = 1,
) -> Any:
    if groups != 1:
        raise EngineError("the openvino engine does not know grouped convolutions; give --engine torch")
    strides, pads, dilations = (
        [v, v] if isinstance(v, int) else list(v) for v in (stride, padding, dilation)
    )
    read = x.output
    if x.parts:
        read, weight = _cat(x.parts, 1), torch.cat([weight] * len(x.parts), 1)  # type: ignore[list-item]
    y = ops.convolution(read, _node(weight), strides, pads, pads, dilations)
    return y if bias is None else ops.add(y, _node(bias.reshape(1, -1, 1, 1)))


def _pad(x: Symbol, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    begins, ends = [0] * len(x.shape), [0] * len(x.shape)
    for i in range(len(pad) // 2):
        begins[-1 - i], ends[-1 - i] = pad[2 * i], pad[2 * i + 1]
    widths = np.array(begins, np.int64), np.array(ends, np.int64)
    if mode == "replicate":
        return ops.pad(x.output, *widths, "edge")
    return ops.pad(x.output, *widths, "constant", ops.constant(np.float32(value or 0)))


def _cat(tensors: Sequence[Symbol], dim: int = 0) -> Any:
    return ops.concat([t.output for t in tensors], dim)


def _stack(tensors: Sequence[Symbol], dim: int = 0) -> Any:
    return ops.concat([ops.unsqueeze(t.output, np.int64(dim)) for t in tensors], dim)


def _map_strips(
    function: Callable[[Symbol], Symbol], x: Symbol, *, count: int, step: int, length: int
) -> Any:
    """A loop over the strips: compiled once, and no larger in memory than one of them."""
    if count == 1:
        return function(x[:length]).output
    rows = np.arange(count)[:, None] * step + np.arange(length)
    strips = ops.gather(x.output, rows, np.int64(0))
    strip = ops.parameter([1, *strips.output(0).get_shape()[1:]], np.float32)
    y = function(Symbol(strip)[0])
    loop = ops.tensor_iterator()
    loop.set_body(ov.Model([y.output], [strip], "strip"))
    loop.set_sliced_input(strip, strips.output(0), 0, 1, 1, -1, 0)
    return loop.get_concatenated_slices(y.output, 0, y.shape[0], y.shape[0], -1, 0)


def _bicubic_phases(x: Symbol, taps: Tensor) -> Any:
    """Without a convolution: with bf16 as precision OpenVINO rounds the image at every convolution, but leaves in
    FP32 what lies between the last of them and the output."""
    height, width = x.shape[2:]
    line = line_taps(math.isqrt(taps.shape[0]))
    padded = Symbol(_pad(x, (2, 2, 2, 2), "replicate"))
    rows = [padded[:, :, i : i + height] for i in range(5)]
    phases: list[Symbol] = []
    for down in line:
        between = _weigh(rows, down)
        columns = [between[..., i : i + width] for i in range(5)]
        phases.extend(_weigh(columns, across) for across in line)
    return _cat(phases, 1)


def _weigh(parts: Sequence[Symbol], weights: NDArray[np.float64]) -> Symbol:
    products = [part * float(weight) for part, weight in zip(parts, weights, strict=True) if weight]
    return sum(products[1:], start=products[0])


FUNCTIONS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    F.conv2d: _conv2d,
    F.relu: lambda x, inplace=False: ops.relu(x.output),
    F.pad: _pad,
    F.pixel_shuffle: lambda x, factor: ops.depth_to_space(x.output, "depth_first", factor),
    torch.cat: _cat,
    torch.stack: _stack,
    torch.matmul: lambda a, b: ops.matmul(_node(a), _node(b), False, False),
    torch.clamp: lambda x, low, high: ops.clamp(x.output, low, high),
    torch.log: lambda x: ops.log(x.output),
    torch.round: lambda x: ops.round(x.output, "half_to_even"),
    torch.sigmoid: lambda x: ops.sigmoid(x.output),
    bicubic_phases: _bicubic_phases,
    map_strips: _map_strips,
}
