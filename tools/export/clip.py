"""What every format is written from: images of one kind, with their times and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Literal

from clesr.engines.common.files import numbered
from clesr.pipeline.frame import Image

Kind = Literal["raw", "sr"]
Edit = Callable[["Still"], Image]


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """One image (H, W) uint8 or uint16 of a clip. ``number`` is the captured frame's, ``time_ns`` its capture time
    since the recording's first. ``bicubic`` marks a frame on which the engine failed: it is interpolated, not
    super-resolved."""

    number: int
    time_ns: int
    image: Image
    bicubic: bool = False


@dataclass(frozen=True, slots=True)
class Derivation:
    """What made the SR images. ``model_hash`` is the SHA-256 of the weights, empty for interpolation."""

    scale: int
    model: str
    model_hash: str
    engine: str

    def __str__(self) -> str:
        identity = f" (SHA-256 {self.model_hash})" if self.model_hash else ""
        return f"derived by super-resolution: x{self.scale} by model {self.model}{identity}, engine {self.engine}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Images of one kind in the order of capture; ``stills`` can be read once.

    ``total`` is how many there are at most, None where that is not known. ``pixel_um`` is the width of this
    clip's pixels in micrometres, ``pixel_aspect`` that over their height, ``window`` the grey levels of the images
    that are meant to be black and white, where those are known. ``synthetic`` says that nothing real was
    recorded, ``lossy`` that the pixels went through a lossy codec before, None where nobody knows. ``origin_ns`` is
    the time from which a player counts, None for that of the first image.
    ``started`` is the ISO 8601 wall-clock time of the first frame, ``notes`` what the source says of itself: both are
    None or empty unless they were asked for. ``edits`` says, in words, how the pixels differ from the recorded ones.
    """

    kind: Kind
    stills: Iterable[Still]
    total: int | None
    fps: float | None = None
    pixel_aspect: Fraction = Fraction(1)
    pixel_um: float | None = None
    window: tuple[float, float] | None = None
    derivation: Derivation | None = None
    synthetic: bool = False
    origin_ns: int | None = None
    lossy: bool | None = None
    started: str | None = None
    notes: str = ""
    edits: tuple[str, ...] = ()

    @property
    def height_um(self) -> float | None:
        """The height of its pixels in micrometres."""
        return None if self.pixel_um is None else self.pixel_um / float(self.pixel_aspect)

    def edited(self, edit: Edit, words: str) -> Clip:
        """The clip with every image replaced by ``edit`` of it, which must not change the array it gets."""
        stills = (replace(still, image=edit(still)) for still in self.stills)
        return replace(self, stills=stills, edits=(*self.edits, words))


def runs(stills: Iterable[Still]) -> Iterator[Iterator[Still]]:
    """``stills``, cut where the size or dtype of the images changes: a file holds images of one form."""
    for _, run in groupby(stills, lambda still: (still.image.shape, still.image.dtype)):
        yield run


def to_files(runs: Iterable[Iterator[Still]], path: Path) -> Iterator[tuple[Path, Iterator[Still]]]:
    """Each of ``runs`` with the file that it goes to: ``path``, then ``NAME.2.SUFFIX`` and so on."""
    for number, run in enumerate(runs, 1):
        yield path if number == 1 else numbered(path, number), run
