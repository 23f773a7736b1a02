"""The kernels run on a GPU where there is one, else in Triton's interpreter, which must be chosen before the import."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture
def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def mended_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's interpreter with two things mended.

    It multiplies FP16 arrays as NumPy does, element by element; as FP32 BLAS does it, ten times faster, with the
    same products: FP32 holds those of FP16 exactly. And where rounding to E4M3 carries into the exponent it halves the
    value; torch rounds in its place.
    """
    if torch.cuda.is_available():  # no interpreter, and no need that this Triton's can be mended
        return
    import triton.language as tl
    from triton.runtime import interpreter
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    convert = interpreter._convert_float

    def convert_float(values: Any, source: Any, target: Any, rounding: Any) -> Any:
        if (source, target) != (tl.float32, tl.float8e4nv):
            return convert(values, source, target, rounding)
        rounded = torch.from_numpy(values.view(np.float32).copy()).to(torch.float8_e4m3fn)
        return rounded.view(torch.uint8).numpy()

    monkeypatch.setattr(interpreter, "_convert_float", convert_float)

    slow = InterpreterBuilder.create_dot

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        def wide(handle: Any) -> Any:
            half = handle.data.dtype == np.float16
            return TensorHandle(handle.data.astype(np.float32), tl.float32) if half else handle

        return slow(self, wide(a), wide(b), *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", create_dot)
