"""Every method on every image at every scale: one row each, and what the rows come to."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.errors import UsageError
from clesr.engines.common.image import Pixels
from clesr.engines.view import field_of_view
from clesr.tools.data.degradations import Degradation
from clesr.tools.data.degrade import crop_to_multiple, halve
from clesr.tools.data.pairs import noise_of
from clesr.tools.evaluation.methods import label_methods, open_method
from clesr.tools.evaluation.metrics import RADIUS, psnr, ssim, wrapped_psnr

log = logging.getLogger(__name__)
BASELINE = "bicubic"
CLEAN = "clean"
RESAMPLES = 10_000
SIZES = {"native": 1, "half": 2}


@dataclass(frozen=True, slots=True)
class ImageScore:
    """One method on one image. ``psnr`` is the true one, ``psnr_wrapped`` the authors' own (see metrics), both in dB;
    ``l1`` the mean distance in grey levels; all inside the field of view. ``ms`` is the time a frame takes.
    ``degradation`` is what befell the LR image, as tools/data/degradations.py writes it."""

    method: str
    scale: int
    size: str
    image: str
    psnr: float
    psnr_wrapped: float
    ssim: float
    l1: float
    ms: float
    engine: str
    degradation: str = CLEAN


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over images, and the 95 % interval of it when the images are drawn anew."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class MethodSummary:
    """What one method comes to at one scale and size. ``gain`` is the paired difference in PSNR to bicubic, dB;
    None where bicubic was not asked for."""

    method: str
    scale: int
    size: str
    images: int
    psnr: Mean
    gain: Mean | None
    psnr_wrapped: float
    ssim: Mean
    l1: float
    ms: float
    degradation: str = CLEAN


@dataclass(frozen=True, slots=True, eq=False)
class EvaluatedImage:
    """One image as HR, LR and every method's SR, for the figures; (H, W) uint8, and where the view is."""

    image: str
    scale: int
    hr: Pixels
    lr: Pixels
    mask: NDArray[np.bool_]
    made: Mapping[str, Pixels]


def evaluate(
    images: Sequence[tuple[str, Pixels]],
    *,
    methods: Sequence[str],
    scales: Iterable[int],
    sizes: Sequence[str],
    degradations: Sequence[Degradation] = (Degradation(),),
    engine: str = "auto",
    pictured: Sequence[str] = (),
    advance: Callable[[int], None] = lambda _done: None,
) -> tuple[list[ImageScore], list[EvaluatedImage]]:
    """Rows for ``images`` (names and gray HR images), and the pictures of those named in ``pictured``, at the first
    size and under the first degradation.

    Images are cropped to a multiple of the scale, degraded by each of ``degradations`` (the clean one: antialiased
    bicubic interpolation) and enlarged again by each of ``methods``. What is drawn at random is the same every time.
    Raises UsageError, before the first is computed, for an image too small to measure.
    """
    images, scales = _distinct(images), list(scales)
    for scale in scales:
        cut = 0
        for size, (name, image) in itertools.product(sizes, images):
            _check_measurable(name, _at(image, size), scale)
            cut += any(length % scale for length in _at(image, size).shape)
        if cut:
            log.warning(f"{cut} images lose up to {scale - 1} rows and columns, to be a multiple of x{scale}")
    called = label_methods(methods)
    rows: list[ImageScore] = []
    pictures: list[EvaluatedImage] = []
    done = 0
    for scale in scales:
        found = [open_method(name, scale, engine=engine, label=called[name]) for name in methods]
        opened = [method for method in found if method is not None]
        done += (len(found) - len(opened)) * len(images) * len(sizes) * len(degradations)
        try:
            for size, degradation in itertools.product(sizes, degradations):
                for number, (name, image) in enumerate(images):
                    hr = np.ascontiguousarray(crop_to_multiple(_at(image, size), scale))
                    lr, mask = degradation(hr, scale, noise_of(number)), field_of_view(hr)
                    made: dict[str, Pixels] = {}
                    for method in opened:
                        first = degradation == degradations[0]
                        sr, ms = method(lr, anew=first)
                        made[method.name], figures = sr, _measure(hr, sr, mask)
                        which, how = (method.name, scale, size, name), (ms, method.engine, str(degradation))
                        rows.append(ImageScore(*which, *figures, *how))
                        done += 1
                        advance(done)
                    if name in pictured and (size, degradation) == (sizes[0], degradations[0]):
                        pictures.append(EvaluatedImage(name, scale, hr, lr, mask, made))
        finally:
            for method in opened:
                method.close()
    return rows, pictures


def _distinct(images: Sequence[tuple[str, Pixels]]) -> list[tuple[str, Pixels]]:
    """``images`` with a number behind names that come again, so that none is taken for another."""
    seen: dict[str, int] = {}
    distinct = []
    for name, image in images:
        seen[name] = seen.get(name, 0) + 1
        distinct.append((name if seen[name] == 1 else f"{name} ({seen[name]})", image))
    return distinct


def _at(image: Pixels, size: str) -> Pixels:
    return halve(image) if size == "half" else image


def _check_measurable(name: str, image: Pixels, scale: int) -> None:
    height, width = image.shape
    if min(height, width) // scale * scale <= max(2 * RADIUS, 4 * scale):
        raise UsageError(
            f"{name} is {width}x{height}: too small to measure at x{scale}; leave it or the scale out"
        )


def _measure(hr: Pixels, sr: Pixels, mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """The figures of an ImageScore that compare images, in its order."""
    distance = np.abs(hr.astype(np.int16) - sr)[mask]
    return psnr(hr, sr, mask), wrapped_psnr(hr, sr, mask), ssim(hr, sr, mask), float(distance.mean())


def summarise(rows: Sequence[ImageScore]) -> list[MethodSummary]:
    """A line for each size, scale, degradation and method, in the order of ``rows``."""
    groups: dict[tuple[str, int, str, str], list[ImageScore]] = {}
    for row in rows:
        groups.setdefault((row.size, row.scale, row.degradation, row.method), []).append(row)
    lines = []
    for (size, scale, degradation, method), group in groups.items():
        base = groups.get((size, scale, degradation, BASELINE))
        pairs = [(row.psnr, b.psnr) for row, b in zip(group, base or group, strict=True)]
        # Both may be exact: infinite.
        gain = [0.0 if ours == theirs else ours - theirs for ours, theirs in pairs]
        lines.append(
            MethodSummary(
                method=method,
                scale=scale,
                size=size,
                images=len(group),
                psnr=bootstrap([row.psnr for row in group]),
                gain=None if base is None else bootstrap(gain),
                ssim=bootstrap([row.ssim for row in group]),
                degradation=degradation,
                **{
                    key: float(np.mean([getattr(row, key) for row in group]))
                    for key in ("psnr_wrapped", "l1", "ms")
                },
            )
        )
    return lines


def bootstrap(values: Sequence[float]) -> Mean:
    """The mean of ``values`` and its 95 % interval over 10,000 draws with replacement (seeded).

    Infinite values, of exact images, are passed through.
    """
    found = np.asarray(values, np.float64)
    draws = np.random.default_rng(0).integers(0, len(found), (RESAMPLES, len(found)))
    low, high = np.percentile(found[draws].mean(axis=1), (2.5, 97.5), method="nearest")
    return Mean(float(found.mean()), float(low), float(high))


def as_json(rows: Sequence[ImageScore]) -> list[dict[str, object]]:
    """Rows as dictionaries, numbers rounded to what they mean; None for the PSNR of an exact image."""
    digits = {"psnr": 4, "psnr_wrapped": 4, "ssim": 5, "l1": 4, "ms": 2}

    def rounded(key: str, value: object) -> object:
        if not isinstance(value, float):
            return value
        return round(value, digits[key]) if math.isfinite(value) else None

    return [{key: rounded(key, value) for key, value in asdict(row).items()} for row in rows]


def from_json(records: Sequence[Mapping[str, Any]]) -> list[ImageScore]:
    """The rows that :func:`as_json` made ``records`` of."""
    exact: Any = math.inf
    return [ImageScore(**{k: exact if v is None else v for k, v in record.items()}) for record in records]
