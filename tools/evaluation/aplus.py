"""A+: adjusted anchored neighbourhood regression (Timofte, De Smet and Van Gool, ACCV 2014).

Each patch of the bicubic image is described by its first and second derivatives, reduced by PCA, and given to the
ridge regressor of the dictionary's nearest atom, which predicts what bicubic interpolation lacks. Overlapping
predictions are averaged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import safetensors
import safetensors.numpy
from msgspec import Meta
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from clesr.engines.common.errors import WeightsError
from clesr.engines.common.files import NEW, WriteRule, write_file
from clesr.engines.common.image import Floats, Pixels
from clesr.engines.common.parsing import check_depth, one_line
from clesr.engines.common.processor import cpu_name
from clesr.engines.common.resample import quantise, resize
from clesr.engines.engine import Engine, EngineInfo
from clesr.engines.models.registry import SCALES
from clesr.engines.models.safetensors_file import Shape, parse_metadata, read_file, read_tensors_header
from clesr.engines.worker import WorkerEngine

ARCHITECTURE = "a+"
WINDOW = 3  # LR pixels a side of a patch; patches lie one LR pixel apart
FEATURES = 4 * (2 * WINDOW) ** 2  # four derivatives, twice an LR pixel
TENSORS = ("basis", "atoms", "regressors", "details")
METADATA_KEY = "clesr-a+"


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a set of regressors is and how it came to be."""

    scale: int
    name: Annotated[str, Meta(max_length=200)] = ARCHITECTURE
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    licence: str = "Apache-2.0"


@dataclass(frozen=True, slots=True, eq=False)
class APlus:
    """A trained A+ for one scale s.

    ``basis`` (144, d) projects features, ``atoms`` (K, d) have unit length, ``regressors`` (K, r, d) lead from
    projected features to the residual of the HR patch, in terms of ``details`` (r, 9 s**2). All float32.
    """

    about: About
    basis: Floats
    atoms: Floats
    regressors: Floats
    details: Floats

    @property
    def scale(self) -> int:
        return self.about.scale

    def upscale(self, lr: Pixels) -> Pixels:
        """The SR image (sH, sW) uint8 of ``lr`` (H, W) uint8; H and W at least 3, else it is bicubic."""
        height, width = lr.shape
        enlarged = resize(lr, height * self.scale, width * self.scale)
        if min(lr.shape) >= WINDOW:
            enlarged += self._residual(enlarged)
        return quantise(enlarged, lr.dtype)

    def save(self, path: Path, rule: WriteRule = NEW) -> None:
        """Write a safetensors file, never half-written; regressors in half precision. Raises SinkError."""
        tensors = {key: getattr(self, key) for key in TENSORS}
        tensors["regressors"] = self.regressors.astype(np.float16)
        write_file(
            path, safetensors.numpy.save(tensors, {METADATA_KEY: json.dumps(asdict(self.about))}), rule
        )

    def _residual(self, enlarged: Floats) -> Floats:
        """What is added to the bicubic image: the mean of all patches that cover a pixel."""
        scale = self.scale
        found = features(enlarged, scale)
        rows, columns = found.shape[:2]
        projected = found.reshape(rows * columns, -1) @ self.basis
        nearest = np.abs(projected @ self.atoms.T).argmax(axis=1)
        amounts = np.empty((rows * columns, len(self.details)), np.float32)
        for atom, members in _groups(nearest):
            amounts[members] = projected[members] @ self.regressors[atom].T
        patches = amounts @ self.details
        return overlap_mean(patches.reshape(rows, columns, WINDOW, scale, WINDOW, scale))


def load(path: Path) -> APlus:
    """The A+ in ``path``; raises WeightsError where it holds none."""
    header = read_tensors_header(path)
    if METADATA_KEY not in header.metadata:
        raise WeightsError(f"{path} holds no A+ regressors; train them with --architecture a+")
    about = parse_metadata(path, header.metadata[METADATA_KEY], About)
    if about.scale not in SCALES or not _fit(header.shapes, about.scale):
        raise WeightsError(
            f"the tensors in {path} are not those of A+ x{about.scale}; train them with --architecture a+"
        )
    try:
        check_depth([about.training, about.metrics])
        tensors = safetensors.numpy.load(read_file(path))
    except (ValueError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path} is damaged ({one_line(error)}); copy it again") from error
    return APlus(about, *(tensors[key].astype(np.float32) for key in TENSORS))


def _fit(shapes: Mapping[str, Shape], scale: int) -> bool:
    """Whether tensors of these shapes are those of A+, all for one number of features, atoms and details."""
    if set(shapes) != set(TENSORS) or [len(shapes[name]) for name in TENSORS] != [2, 2, 3, 2]:
        return False
    kept, atoms, details = shapes["basis"][1], shapes["atoms"][0], shapes["details"][0]
    return min(kept, atoms, details) > 0 and [shapes[name] for name in TENSORS] == [
        (FEATURES, kept),
        (atoms, kept),
        (atoms, details, kept),
        (details, (WINDOW * scale) ** 2),
    ]


def shipped() -> dict[int, Path]:
    """The A+ files in the package, by scale."""
    folder = Path(__file__).parent / "weights"
    return {scale: path for scale in SCALES if (path := folder / f"aplus-x{scale}.safetensors").exists()}


def open_aplus(model: APlus, shape: tuple[int, int]) -> Engine:
    """``model`` as an engine for LR images of ``shape`` (H, W), uint8 only."""
    info = EngineInfo("numpy", cpu_name(), "fp32", model.about.name, "", model.scale, shape)
    return WorkerEngine(info, model.upscale)


def is_aplus(path: Path) -> bool:
    """Whether ``path`` is a safetensors file of A+ regressors."""
    try:
        return METADATA_KEY in read_tensors_header(path).metadata
    except WeightsError:
        return False


def features(enlarged: Floats, scale: int) -> Floats:
    """Features of every patch of a bicubic image (sH, sW): (H - 2, W - 2, 144) float32.

    First and second differences along rows and columns, over one and two LR pixels (Zeyde 2010), sampled twice
    per LR pixel: the image holds nothing finer.
    """
    padded = np.pad(enlarged, 2 * scale, mode="edge")
    maps = []
    for axis in (0, 1):
        first = np.roll(padded, -scale, axis) - np.roll(padded, scale, axis)
        second = (np.roll(padded, -2 * scale, axis) + np.roll(padded, 2 * scale, axis)) / 2 - padded
        maps += [first, second]
    inner = slice(2 * scale, -2 * scale)
    step = scale // 2
    parts = [patches_of(one[inner, inner], scale)[:, :, ::step, ::step] for one in maps]
    stacked = np.stack(parts, axis=2)
    return np.ascontiguousarray(stacked.reshape(*stacked.shape[:2], -1), np.float32)


def patches_of(image: Floats, scale: int) -> Floats:
    """The patches of an image (sH, sW), as a view: (H - 2, W - 2, 3s, 3s)."""
    size = WINDOW * scale
    return np.asarray(sliding_window_view(image, (size, size))[::scale, ::scale])


def overlap_mean(patches: Floats) -> Floats:
    """The image (sH, sW) of which ``patches`` (H - 2, W - 2, 3, s, 3, s) are parts: their mean where they overlap."""
    rows, columns, _, scale, _, _ = patches.shape
    total = np.zeros((rows + WINDOW - 1, scale, columns + WINDOW - 1, scale), np.float32)
    count = np.zeros((rows + WINDOW - 1, 1, columns + WINDOW - 1, 1), np.float32)
    for i in range(WINDOW):
        for j in range(WINDOW):
            total[i : i + rows, :, j : j + columns] += patches[:, :, i, :, j].transpose(0, 2, 1, 3)
            count[i : i + rows, :, j : j + columns] += 1
    mean = total / count
    return np.asarray(mean.reshape(len(mean) * scale, -1), np.float32)


def _groups(labels: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Each label that occurs, with the positions where it does."""
    order = np.argsort(labels, kind="stable")
    found, starts = np.unique(labels[order], return_index=True)
    for label, members in zip(found, np.split(order, starts[1:]), strict=True):
        yield int(label), members
