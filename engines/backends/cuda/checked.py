"""The consistency check on the device: part of a network's work, so that it lies in the same CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clesr.engines.backends.cuda.buffers import DTYPES, CudaSlot, GuidedInputs, Network, SlotEngine
from clesr.engines.common.errors import EngineError, first_line
from clesr.engines.degrade import Bands, correcting, degrading
from clesr.engines.engine import EngineInfo
from clesr.engines.gpu import full_precision

BLOCK = 16  # LR pixels that one small matrix product makes


def open_slots(info: EngineInfo, make_network: Callable[[torch.dtype], Network]) -> SlotEngine:
    """An engine of two slots, each with a network of ``make_network(dtype)`` for LR images of ``info.lr_shape``,
    ready for 8-bit images. Its ``report`` is the network's. Raises EngineError where the GPU cannot run them."""

    def make_slots(dtype: np.dtype[Any]) -> list[CudaSlot]:
        try:
            networks = [make_network(DTYPES[dtype]) for _ in range(engine.depth)]
            slots = [CudaSlot(CheckedNetwork(network, correct=engine.correcting)) for network in networks]
            engine.report = getattr(networks[0], "report", list)()
            return slots
        except Exception as error:
            model = f"{info.model} x{info.scale} ({info.model_hash[:12]})"
            raise EngineError(
                f"{info.device} cannot run {model} at {info.lr_shape}: {first_line(error)}"
            ) from error

    engine = SlotEngine(info, make_slots)
    engine.prepare(np.dtype(np.uint8))
    return engine


class CheckedNetwork:
    """``network``, whose image is degraded again, and with ``correct`` corrected first, by torch on its device.

    ``reprojected`` (n, H, W), of the dtype of ``lr``, is the network's image degraded, and with ``correct`` the
    corrected one as well. The same numbers as :class:`~clesr.engines.degrade.Degrader` and ``Corrector``, so without
    TF32: a graph keeps what was chosen while it was captured.
    """

    def __init__(self, network: Network, *, correct: bool = False) -> None:
        self.network, self.lr, self.sr, self.status = network, network.lr, network.sr, network.status
        self.simplify: Callable[[], bool] = getattr(network, "simplify", bool)
        self.guided: GuidedInputs | None = getattr(network, "guided", None)
        self._correct = correct
        shape, scale = self.lr.shape, self.sr.shape[0] // self.lr.shape[0]
        self._levels = torch.iinfo(self.lr.dtype).max
        self.reprojected = torch.zeros((1 + correct, *shape), dtype=self.lr.dtype, device=self.lr.device)
        self._degrade = _Both([degrading(n, scale, BLOCK) for n in shape], self.lr)
        if correct:
            self._enlarge = _Both([correcting(n, scale, BLOCK) for n in shape], self.sr)

    @torch.inference_mode()
    def run(self) -> None:
        """Read ``lr``, write ``sr`` and ``reprojected``."""
        self.network.run()
        self.check()

    @torch.inference_mode()
    @full_precision()
    def check(self) -> None:
        """Read ``lr`` and ``sr``, write ``reprojected``, and with ``correct`` ``sr`` too."""
        sr = self.sr.float()
        reprojected = self._rounded(self._degrade(sr))
        self.reprojected[0].copy_(reprojected)
        if self._correct:
            sr = self._rounded(sr + self._enlarge(self.lr.float() - reprojected))
            self.sr.copy_(sr)
            self.reprojected[1].copy_(self._rounded(self._degrade(sr)))

    @property
    def parts(self) -> dict[str, Callable[[], None]]:
        return {"device": self.network.run, "check": self.check}

    def _rounded(self, image: Tensor) -> Tensor:
        return torch.clamp(torch.round(image), 0, self._levels)


class _Both:
    """The matrices of rows and columns of ``bands`` on the device of ``like``, whose shape comes out."""

    def __init__(self, bands: list[Bands], like: Tensor) -> None:
        self._rows, self._columns = bands
        self._shape = like.shape
        self._down = torch.from_numpy(self._rows.weights).to(like.device)
        self._across = torch.from_numpy(self._columns.transposed).to(like.device)

    def __call__(self, image: Tensor) -> Tensor:
        """``image`` (H, W) float32 times both matrices."""
        rows, columns = self._rows, self._columns
        height, width = image.shape
        margins = (
            columns.reach, columns.length - columns.reach - width,
            rows.reach, rows.length - rows.reach - height,
        )  # fmt: skip
        padded = F.pad(image, margins)
        line = columns.length
        windows = padded.as_strided((len(self._down), self._down.shape[2], line), (rows.step * line, line, 1))
        half = (self._down @ windows).reshape(rows.size, line)
        windows = half.as_strided(
            (len(self._across), rows.size, self._across.shape[1]), (columns.step, line, 1)
        )
        whole = (windows @ self._across).permute(1, 0, 2).reshape(rows.size, columns.size)
        return whole[: self._shape[0], : self._shape[1]]
