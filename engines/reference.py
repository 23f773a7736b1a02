"""The reference that every engine is checked against: PyTorch in FP32."""

from __future__ import annotations

import numpy as np
import torch

from clesr.engines.common.errors import EngineError
from clesr.engines.common.image import Image


def upscale(network: torch.nn.Module, lr: Image, *, device: str = "cpu") -> Image:
    """``lr`` (H, W) uint8 or uint16 through ``network`` in FP32, on a GPU without TF32: (sH, sW) in its dtype,
    halves to even.

    Raises EngineError where the network gives anything that is not finite.
    """
    levels = float(np.iinfo(lr.dtype).max)
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        x = torch.from_numpy(lr.astype(np.float32)).to(device)
        y = network((x / levels)[None, None])[0, 0]
        if not bool(torch.isfinite(y).all()):
            raise EngineError("the network's output is not finite")
        y = torch.clamp(torch.round(y * levels), 0, levels)
        sr: Image = y.cpu().numpy().astype(lr.dtype)
        return sr
