"""Training images: kept in memory as HR and LR pairs, sampled as patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from clesr.pipeline.errors import UsageError
from clesr.pipeline.view import field_of_view
from clesr.tools.training.degrade import crop_to_multiple, degrade, degrade_part
from clesr.tools.training.images import read_entry
from clesr.tools.training.recipe import Recipe

BLANK = 2.0  # standard deviation in 8-bit grey levels under which a patch teaches nothing
SEEN = 0.5  # of a patch that must lie in the field of view
TRIES = 20  # draws of a patch before a blank one is taken after all

Value = TypeVar("Value", bound=np.generic)
Pixels = NDArray[np.uint8]
Batch = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Pair:
    """One training image: (sH, sW) HR and (H, W) LR, uint8, where the field of view is, and how often it is drawn."""

    name: str
    hr: Pixels
    lr: Pixels
    mask: NDArray[np.bool_]
    weight: float


def make_pair(name: str, image: Pixels, scale: int, patch: int, weight: float) -> Pair:
    """``image`` and its degraded copy; raises UsageError where it is smaller than a patch."""
    hr = np.ascontiguousarray(crop_to_multiple(image, scale))
    if min(hr.shape) < patch:
        height, width = image.shape
        raise UsageError(
            f"{name} is {width}x{height}, smaller than a patch of {patch}; remove it or lower --patch"
        )
    return Pair(name, hr, degrade(hr, scale), field_of_view(hr), weight)


def halve(image: Pixels) -> Pixels:
    """``image`` shrunk by two: finer structure for its pixels than the original has."""
    return degrade(crop_to_multiple(image, 2), 2)


def load_data(recipe: Recipe) -> tuple[list[Pair], list[Pair]]:
    """The training pairs and the held-out ones: of every entry each ``hold_out``-th image, never trained on.

    Phantoms are never held out. Raises UsageError for an entry that is empty, unreadable or too small.
    """
    pairs: list[Pair] = []
    held: list[Pair] = []
    for entry in recipe.data:
        address, weight = split_weight(entry)
        images = list(read_entry(address))
        if not images:
            raise UsageError(f"{address} has no images")
        phantoms = address.startswith("demo:")
        share = weight / len(images) if phantoms else weight
        for index, (name, image) in enumerate(images):
            if not phantoms and len(images) > 2 and _is_held(index, recipe.hold_out):
                held.append(make_pair(name, image, recipe.scale, recipe.patch, 1.0))
                continue
            pairs.append(make_pair(name, image, recipe.scale, recipe.patch, share))
            if not phantoms and recipe.shrunk and min(image.shape) >= 2 * recipe.patch:
                pairs.append(
                    make_pair(f"{name} / 2", halve(image), recipe.scale, recipe.patch, share * recipe.shrunk)
                )
    return pairs, held


def load_pairs(entry: str, scale: int) -> list[Pair]:
    """Every image of a folder, pattern or file as a pair, to measure on."""
    return [make_pair(name, image, scale, scale, 1.0) for name, image in read_entry(entry)]


def split_weight(entry: str) -> tuple[str, float]:
    """``ADDRESS=WEIGHT`` taken apart; the '=' of a demo: address's own last option belongs to the address."""
    address, separator, text = entry.rpartition("=")
    options = address.partition("?")[2]
    if not separator or (options and "=" not in options.rpartition("&")[2]) or address.endswith("?"):
        return entry, 1.0
    try:
        weight = float(text)
    except ValueError:
        return entry, 1.0
    if not weight > 0:
        raise UsageError(f"weight {text} of {address} is not positive")
    return address, weight


class Patches:
    """Random patches from ``pairs``: patch ``i`` of step ``n`` is always the same for the same seed, whatever was
    drawn before and by which process.

    Patches are drawn in proportion to the image's weight, flipped and turned at random. Those that are blank or lie
    mostly outside the field of view are drawn again. With ``shift`` the LR pixels' grid falls anywhere on the image,
    and not only where that of the whole image does: scale**2 times as many patches.
    """

    def __init__(self, pairs: list[Pair], *, scale: int, patch: int, seed: int, shift: bool = False) -> None:
        if not pairs:
            raise UsageError("there are no training images; give --data")
        self.pairs, self.scale, self.patch, self.seed, self.shift = pairs, scale, patch, seed, shift
        weights = np.array([pair.weight for pair in pairs], np.float64)
        self.odds = weights / weights.sum()

    @property
    def covering(self) -> int:
        """How many patches cover every field of view once."""
        return max(1, round(sum(int(pair.mask.sum()) for pair in self.pairs) / self.patch**2))

    def __call__(self, step: int, which: range) -> Batch:
        """Patches ``which`` of ``step``: LR (B, 1, p/s, p/s), HR (B, 1, p, p) float32 in [0, 1], and the field of
        view, HR's size, 1 inside and 0 outside."""
        drawn = [self._draw(np.random.default_rng((self.seed, step, index))) for index in which]
        lr, hr, mask = (np.stack(part)[:, None].astype(np.float32) for part in zip(*drawn, strict=True))
        return lr / np.float32(255), hr / np.float32(255), mask

    def _draw(self, rng: np.random.Generator) -> tuple[Pixels, Pixels, NDArray[np.bool_]]:
        scale, size = self.scale, self.patch // self.scale
        for _ in range(TRIES):
            pair = self.pairs[rng.choice(len(self.pairs), p=self.odds)]
            y = int(rng.integers(pair.lr.shape[0] - size + 1))
            x = int(rng.integers(pair.lr.shape[1] - size + 1))
            top, left = scale * y, scale * x
            if self.shift:
                top = min(top + int(rng.integers(scale)), pair.hr.shape[0] - self.patch)
                left = min(left + int(rng.integers(scale)), pair.hr.shape[1] - self.patch)
            inside = np.s_[top : top + self.patch, left : left + self.patch]
            hr, mask = pair.hr[inside], pair.mask[inside]
            if hr.std() >= BLANK and mask.mean() >= SEEN:
                break
        lr = degrade_part(pair.hr, inside, scale) if self.shift else pair.lr[y : y + size, x : x + size]
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        return _turned(lr, turns, flip), _turned(hr, turns, flip), _turned(mask, turns, flip)


def _turned(patch: NDArray[Value], turns: int, flip: bool) -> NDArray[Value]:
    turned = np.rot90(patch, turns)
    return np.fliplr(turned) if flip else turned


def _is_held(index: int, hold_out: int) -> bool:
    return bool(hold_out) and index % hold_out == hold_out // 2
