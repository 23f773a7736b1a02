"""The reference that every engine is checked against: PyTorch in FP32."""

from __future__ import annotations

import numpy as np
import torch

from clesr.engines.common.errors import EngineError
from clesr.engines.common.image import Image
from clesr.engines.gpu import full_precision
from clesr.engines.guidance import Guidance, guide
from clesr.engines.models.registry import level_names


def reference_image(
    network: torch.nn.Module, lr: Image, guidance: Guidance | None = None, *, device: str = "cpu"
) -> Image:
    """``lr`` (H, W) uint8 or uint16 through ``network`` in FP32, on a GPU without TF32: (sH, sW) in its dtype,
    halves to even. A network with levels is told those of ``guidance``, or those that ``lr`` itself shows.

    Raises EngineError where the network gives anything that is not finite.
    """
    peak = float(np.iinfo(lr.dtype).max)
    told = (guidance or guide(lr)).as_tensors(device) if level_names(network) else ()
    with torch.inference_mode(), full_precision():
        x = torch.from_numpy(lr.astype(np.float32)).to(device)
        y = network((x / peak)[None, None], *told)[0, 0]
        if not bool(torch.isfinite(y).all()):
            raise EngineError("the network's output is not finite")
        y = torch.clamp(torch.round(y * peak), 0, peak)
        sr: Image = y.cpu().numpy().astype(lr.dtype)
        return sr
