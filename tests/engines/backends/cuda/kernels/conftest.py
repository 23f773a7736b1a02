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
    """Triton's interpreter multiplies FP16 arrays as NumPy does, element by element; as FP32 BLAS does it, ten times
    faster, with the same products: FP32 holds those of FP16 exactly."""
    if torch.cuda.is_available():  # no interpreter, and no need that this Triton's can be mended
        return
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    slow = InterpreterBuilder.create_dot

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        def wide(handle: Any) -> Any:
            half = handle.data.dtype == np.float16
            return TensorHandle(handle.data.astype(np.float32), tl.float32) if half else handle

        return slow(self, wide(a), wide(b), *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", create_dot)
