"""Networks with random weights: engines are tested on these, not on the weights that happen to be shipped."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn

from clesr.engines.models.registry import build_model
from clesr.engines.models.weights import Descriptor, Model, identity
from clesr.pipeline.frame import Image

SMALL_DENSENET: dict[str, object] = {"blocks": 2, "layers": 3, "growth": 4}


@functools.cache
def _random_model(architecture: str, scale: int, arguments: tuple[tuple[str, object], ...]) -> Model:
    generator = torch.Generator().manual_seed(2018)
    module = build_model(architecture, scale, dict(arguments))
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, 0.02, 0.05, generator=generator)
        else:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
    descriptor = Descriptor(
        name=architecture, architecture=architecture, scale=scale, arguments=dict(arguments)
    )
    return Model(descriptor, module, identity(module.state_dict()))


def random_model(architecture: str, scale: int, **arguments: object) -> Model:
    """A model whose activations neither vanish nor explode, the same at every call: read only."""
    model = _random_model(architecture, scale, tuple(sorted(arguments.items())))
    assert identity(model.module.state_dict()) == model.sha256, "a test changed a model that others share"
    return model


def random_image(shape: tuple[int, int], dtype: type = np.uint8, seed: int | None = 7) -> Image:
    """Every level of ``dtype`` is as likely as any other. The same image for the same ``seed``; None: a fresh one."""
    levels = np.iinfo(dtype).max + 1
    image: Image = np.random.default_rng(seed).integers(0, levels, shape).astype(dtype)
    return image
