"""Patches of the training images, drawn at random and degraded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.errors import UsageError
from clesr.engines.common.image import Floats, Pixels
from clesr.engines.levels import estimate_levels
from clesr.engines.models.registry import LEVELS
from clesr.tools.data.degradations import Degradation, Mix
from clesr.tools.data.degrade import degrade_part, halve, surroundings
from clesr.tools.data.images import read_entry
from clesr.tools.data.pairs import Pair, make_pair
from clesr.tools.training.recipe import Recipe

BLANK = 2.0  # standard deviation in 8-bit grey levels under which a patch teaches nothing
SEEN = 0.5  # of a patch that must lie in the field of view
TRIES = 20  # draws of a patch before a blank one is taken after all

VARIANTS = 32  # degradations of each image that are drawn once and for all; each patch takes one of them
JUDGED = 384  # LR pixels a side of the middle of an image, whose levels stand for the whole
AROUND = 8  # LR pixels around a patch that are degraded with it, one more or up to seven fewer: for the blocks' grid
DOUBT = 0.1  # relative deviation by which levels differ from what the whole image says: no two frames agree
VALIDATED = ("clean", "noise=2", "noise=5", "noise=10", "jpeg=50", "point")

Value = TypeVar("Value", bound=np.generic)


class Batch(NamedTuple):
    """Patches: LR (B, 1, p/s, p/s) and HR (B, 1, p, p) in [0, 1], the field of view, HR's size, 1 inside and 0 outside,
    and the levels of the images that they are from, (B, L), as networks take them; all float32."""

    lr: Floats
    hr: Floats
    mask: Floats
    levels: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """What befalls an image: its grey levels, by a table, then a degradation; and the levels (L,) of the result."""

    degradation: Degradation
    dimmed: Pixels
    levels: Floats


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
            keep = recipe.hold_out
            if not phantoms and len(images) > 2 and keep and index % keep == keep // 2:
                held.append(make_pair(name, image, recipe.scale, recipe.patch, 1.0))
                continue
            pairs.append(make_pair(name, image, recipe.scale, recipe.patch, share))
            if not phantoms and recipe.shrunk and min(image.shape) >= 2 * recipe.patch:
                pairs.append(
                    make_pair(f"{name} / 2", halve(image), recipe.scale, recipe.patch, share * recipe.shrunk)
                )
    return pairs, held


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
    and not only where that of the whole image does: scale**2 times as many patches. With a ``mix`` each is degraded by
    one of its image's VARIANTS, with noise of its own, and has the levels that the whole image so degraded has.
    ``contrast``, where it is below 1, dims each variant by a factor between it and 1: without that a network learns
    which levels each training image has, and not what they mean for others.
    """

    def __init__(
        self,
        pairs: list[Pair],
        *,
        scale: int,
        patch: int,
        seed: int,
        shift: bool = False,
        mix: Mix | None = None,
        contrast: float = 1.0,
    ) -> None:
        if not pairs:
            raise UsageError("there are no training images; give --data")
        self.pairs, self.scale, self.patch, self.seed, self.shift = pairs, scale, patch, seed, shift
        self.mix, self.contrast = mix, contrast
        weights = np.array([pair.weight for pair in pairs], np.float64)
        self.odds = weights / weights.sum()
        self._variants: dict[tuple[int, int], Variant] = {}

    @property
    def covering(self) -> int:
        """How many patches cover every field of view once."""
        return max(1, round(sum(int(pair.mask.sum()) for pair in self.pairs) / self.patch**2))

    def __call__(self, step: int, which: range) -> Batch:
        """Patches ``which`` of ``step``."""
        drawn = [self._draw(np.random.default_rng((self.seed, step, index))) for index in which]
        lr, hr, mask = (
            np.stack(part)[:, None].astype(np.float32) for part in list(zip(*drawn, strict=True))[:3]
        )
        levels = np.stack([one[3] for one in drawn])
        return Batch(lr / np.float32(255), hr / np.float32(255), mask, levels)

    def _draw(self, rng: np.random.Generator) -> tuple[Pixels, Pixels, NDArray[np.bool_], Floats]:
        scale, size = self.scale, self.patch // self.scale
        for _ in range(TRIES):
            which = int(rng.choice(len(self.pairs), p=self.odds))
            pair = self.pairs[which]
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
        levels = np.zeros(len(LEVELS), np.float32)
        if self.mix is not None:
            variant = self.variant(which, int(rng.integers(VARIANTS)))
            before = AROUND + 1 - int(rng.integers(8)), AROUND + 1 - int(rng.integers(8))
            around, kept = surroundings(pair.hr, inside, scale, before, AROUND)
            lr = variant.degradation(variant.dimmed[pair.hr[around]], scale, rng)[kept]
            hr = variant.dimmed[hr]
            levels = variant.levels * rng.normal(1, DOUBT, levels.shape).astype(np.float32)
        elif self.shift:
            lr = degrade_part(pair.hr, inside, scale)
        else:
            lr = pair.lr[y : y + size, x : x + size]
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        return _turned(lr, turns, flip), _turned(hr, turns, flip), _turned(mask, turns, flip), levels

    def variant(self, which: int, number: int) -> Variant:
        """Variant ``number`` of image ``which``."""
        assert self.mix is not None
        found = self._variants.get((which, number))
        if found is None:
            rng = np.random.default_rng((self.seed, which, number, 1))
            degradation = self.mix.draw(rng)
            factor = np.exp(rng.uniform(np.log(self.contrast), 0))
            dimmed = np.rint(factor * np.arange(256)).astype(np.uint8)
            middle = _middle(self.pairs[which].hr, JUDGED * self.scale)
            lr = degradation(dimmed[middle], self.scale, rng)
            found = Variant(degradation, dimmed, estimate_levels(lr).as_input())
            self._variants[which, number] = found
        return found


def _middle(image: Pixels, side: int) -> Pixels:
    """At most ``side`` pixels each way of the middle of ``image``."""
    top, left = (max(0, (length - side) // 2) for length in image.shape)
    return image[top : top + side, left : left + side]


def _turned(patch: NDArray[Value], turns: int, flip: bool) -> NDArray[Value]:
    turned = np.rot90(patch, turns)
    return np.fliplr(turned) if flip else turned
