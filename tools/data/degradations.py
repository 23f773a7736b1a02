"""How a probe's image comes to be worse than a clean reduction: sampling, noise, compression; each seeded.

A degradation is written as ``PART+PART``, a part as ``NAME`` or ``NAME=VALUE``; in a recipe a value may be a range
``LOW..HIGH``, and ``@WEIGHT`` behind the whole says how often it is drawn.

| part | what it is | value |
|---|---|---|
| clean | nothing but the reduction | |
| bicubic, area, point, gauss | the kernel of the reduction | gauss: deviation, LR pixels |
| cores | fibre cores in place of a kernel, linearly interpolated | spacing, LR pixels |
| lines | scan lines displaced sideways | deviation, LR pixels |
| noise | Gaussian noise | deviation, grey levels |
| shot | noise whose variance grows with the signal | variance for each grey level |
| jpeg | JPEG | quality, 1 to 100 |
| mpeg | an MPEG-2 intra frame | quantiser, 1 to 31 |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from clesr.engines.common.errors import UsageError
from clesr.engines.common.image import Floats, Pixels
from clesr.engines.common.resample import quantise, resize
from clesr.tools.data.compression import jpeg, mpeg
from clesr.tools.data.cores import check_available, pattern_files, sampling

KERNELS = ("bicubic", "area", "point", "gauss", "cores")
LIMITS: dict[str, tuple[float, float] | None] = {
    "clean": None, "bicubic": None, "area": None, "point": None, "gauss": (0.1, 2.0), "cores": (1.0, 4.0),
    "lines": (0.0, 2.0), "noise": (0.0, 64.0), "shot": (0.0, 8.0), "jpeg": (1.0, 100.0), "mpeg": (1.0, 31.0),
}  # fmt: skip
SPACING_STEP = 0.05  # LR pixels: cores are worked out for these spacings, and kept

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Degradation:
    """One degradation with its parameters; ``pattern`` is the raw frame of a bundle whose cores are taken."""

    parts: tuple[tuple[str, float], ...] = ()
    pattern: str | None = None

    def __str__(self) -> str:
        written = [name if LIMITS[name] is None else f"{name}={value:g}" for name, value in self.parts]
        return "+".join(written) or "clean"

    def __call__(self, hr: Pixels, scale: int, rng: np.random.Generator) -> Pixels:
        """The LR image (H, W) uint8 of ``hr`` (scale * H, scale * W) uint8."""
        values = dict(self.parts)
        image = hr.astype(np.float32)
        if values.get("lines"):
            image = displace_lines(image, scale, values["lines"], rng)
        noise = values.get("noise", 0.0), values.get("shot", 0.0)
        kernel = next((name for name in values if name in KERNELS), "bicubic")
        if kernel == "cores":
            lr = self._through_cores(image, scale, values["cores"], noise, rng)
        else:
            lr = add_noise(reduce(image, scale, kernel, values.get(kernel, 0.0)), *noise, rng)
        measured = quantise(lr, np.dtype(np.uint8))
        if "jpeg" in values:
            measured = jpeg(measured, round(values["jpeg"]))
        if "mpeg" in values:
            measured = mpeg(measured, round(values["mpeg"]))
        return measured

    def _through_cores(
        self, image: Floats, scale: int, spacing: float, noise: tuple[float, float], rng: np.random.Generator
    ) -> Floats:
        """Noise arises in the cores; interpolation spreads it."""
        shape = image.shape[0] // scale, image.shape[1] // scale
        spacing = round(round(spacing / SPACING_STEP) * SPACING_STEP, 4)
        cores = sampling(shape, scale, spacing, self.pattern)
        return cores.interpolate(add_noise(cores.gather(image), *noise, rng))


@dataclass(frozen=True, slots=True)
class DegradationChoice:
    """A degradation whose parameters lie in ranges, and how often it is drawn."""

    parts: tuple[tuple[str, Range], ...]
    weight: float = 1.0

    def draw(self, rng: np.random.Generator, patterns: Sequence[str] = ()) -> Degradation:
        """One degradation; cores lie as in the made bundle or in one of ``patterns``, each as often."""
        drawn = tuple((name, float(rng.uniform(low, high))) for name, (low, high) in self.parts)
        which = int(rng.integers(len(patterns) + 1))
        return Degradation(drawn, patterns[which - 1] if which and "cores" in dict(drawn) else None)


@dataclass(frozen=True, slots=True)
class Mix:
    """Degradations to draw from, and raw frames of the bundles whose cores are among them."""

    choices: tuple[DegradationChoice, ...]
    patterns: tuple[str, ...] = field(default=())

    def draw(self, rng: np.random.Generator) -> Degradation:
        weights = np.array([choice.weight for choice in self.choices])
        return self.choices[rng.choice(len(weights), p=weights / weights.sum())].draw(rng, self.patterns)


def parse_mix(texts: Sequence[str], pattern_folder: str | None = None) -> Mix | None:
    """The mix that ``texts`` describe, one entry each; None where there is none or it is nothing but clean.

    Raises UsageError for an entry that is not understood.
    """
    mix = Mix(tuple(parse_choice(text) for text in texts), pattern_files(pattern_folder))
    if all(name in ("clean", "bicubic") for choice in mix.choices for name, _ in choice.parts):
        return None
    return mix


def parse_degradations(text: str) -> list[Degradation]:
    """The degradations in ``text``, separated by commas; raises UsageError for what is not understood or a range."""
    found = []
    for word in filter(None, text.split(",")):
        choice = parse_choice(word)
        if "@" in word or any(low != high for _, (low, high) in choice.parts):
            raise UsageError(
                f"--degradation {word} is not one degradation; give numbers, not ranges or weights"
            )
        found.append(Degradation(tuple((name, low) for name, (low, _) in choice.parts)))
    return found


def parse_choice(text: str) -> DegradationChoice:
    """``noise=1..8+jpeg=50@2`` as a choice; raises UsageError for what is not understood, or cannot be had here."""
    written, at, weight = text.partition("@")
    parts = tuple(_parse_part(text, part) for part in written.split("+"))
    names = [name for name, _ in parts]
    if len(set(names)) < len(names) or sum(name in KERNELS for name in names) > 1:
        raise UsageError(f"--degradation {text}: a part may come once, and one of {', '.join(KERNELS)}")
    try:
        weight_value = float(weight) if at else 1.0
    except ValueError:
        weight_value = 0.0
    if not 0 < weight_value < 1e6:
        raise UsageError(f"--degradation {text}: the weight {weight!r} is not a positive number")
    return DegradationChoice(parts, weight_value)


def _parse_part(text: str, part: str) -> tuple[str, Range]:
    name, given, value = part.partition("=")
    if name not in LIMITS:
        raise UsageError(f"--degradation {text}: {name!r} is not one of {', '.join(LIMITS)}")
    limits = LIMITS[name]
    if limits is None:
        if given:
            raise UsageError(f"--degradation {text}: {name} takes no value")
        return name, (0.0, 0.0)
    low_text, ranged, high_text = value.partition("..")
    try:
        low, high = float(low_text), float(high_text if ranged else low_text)
    except ValueError:
        low, high = 1.0, 0.0
    if not limits[0] <= low <= high <= limits[1]:
        raise UsageError(
            f"--degradation {text}: {name} takes a value or range LOW..HIGH from {limits[0]:g} to {limits[1]:g}"
        )
    if name == "cores":
        check_available()
    return name, (low, high)


def reduce(image: Floats, scale: int, kernel: str, width: float = 0.0) -> Floats:
    """``image`` (sH, sW) as (H, W) float32 by the kernel bicubic (antialiased), area, point or gauss, whose standard
    deviation is ``width`` LR pixels. Points and Gaussians lie on the centres of the LR pixels."""
    height, width_lr = image.shape[0] // scale, image.shape[1] // scale
    if kernel == "bicubic":
        return resize(image, height, width_lr)
    if kernel == "gauss":
        image = np.asarray(
            cv2.GaussianBlur(image, (0, 0), width * scale, borderType=cv2.BORDER_REPLICATE), np.float32
        )
    blocks = image.reshape(height, scale, width_lr, scale)
    if kernel != "area":
        middle = slice(scale // 2 - 1, scale // 2 + 1)
        blocks = blocks[:, middle, :, middle]
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)


def add_noise(values: Floats, noise: float, shot: float, rng: np.random.Generator) -> Floats:
    """``values`` in grey levels with Gaussian noise of variance ``noise``**2 + ``shot`` * value."""
    if not noise and not shot:
        return values
    deviation = np.sqrt(noise**2 + shot * np.maximum(values, 0)) if shot else np.float32(noise)
    return np.asarray(values + deviation * rng.standard_normal(values.shape, np.float32), np.float32)


def displace_lines(image: Floats, scale: int, deviation: float, rng: np.random.Generator) -> Floats:
    """``image`` with each LR line, ``scale`` rows high, displaced sideways by a normal share of ``deviation`` LR
    pixels."""
    height, width = image.shape
    shifts = np.repeat(rng.normal(0, deviation * scale, -(-height // scale)), scale)[:height]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x += shifts[:, None].astype(np.float32)
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)
