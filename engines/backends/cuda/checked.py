"""The consistency check on the device: part of a network's work, so that it lies in the same CUDA graph."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clesr.engines.backends.cuda.buffers import Network
from clesr.engines.degrade import REACH, Bands, correction
from clesr.engines.resample import resampling

BLOCK = 16  # LR pixels that one small matrix product makes


class CheckedNetwork:
    """``network``, whose image is degraded again, and with ``correct`` corrected first, by torch on its device.

    ``reprojected`` (n, H, W), of the dtype of ``lr``, is the network's image degraded, and with ``correct`` the
    corrected one as well. The same numbers as :class:`~clesr.engines.degrade.Degrader` and ``Corrector``.
    """

    def __init__(self, network: Network, *, correct: bool = False) -> None:
        self.network, self.lr, self.sr = network, network.lr, network.sr
        self._correct = correct
        shape, scale = self.lr.shape, self.sr.shape[0] // self.lr.shape[0]
        self._levels = torch.iinfo(self.lr.dtype).max
        self.reprojected = torch.zeros((1 + correct, *shape), dtype=self.lr.dtype, device=self.lr.device)
        down = [
            Bands(resampling(n * scale, n), height=BLOCK, step=BLOCK * scale, reach=2 * scale) for n in shape
        ]
        self._degrade = _Both(down, self.lr)
        if correct:
            up = [
                Bands(
                    correction(n, scale, spread=BLOCK + REACH), height=BLOCK * scale, step=BLOCK, reach=REACH
                )
                for n in shape
            ]
            self._enlarge = _Both(up, self.sr)

    @torch.inference_mode()
    def run(self) -> None:
        """Read ``lr``, write ``sr`` and ``reprojected``."""
        self.network.run()
        sr = self.sr.float()
        reprojected = self._rounded(self._degrade(sr))
        self.reprojected[0].copy_(reprojected)
        if self._correct:
            sr = self._rounded(sr + self._enlarge(self.lr.float() - reprojected))
            self.sr.copy_(sr)
            self.reprojected[1].copy_(self._rounded(self._degrade(sr)))

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
