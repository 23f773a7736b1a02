"""The planes of a stack, and which of them are shown: one channel, one depth, or all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

from clesr.pipeline.sources.images.indexed import Note, chosen
from clesr.pipeline.sources.images.ome import Index, PageOfFile
from clesr.pipeline.sources.images.times import FrameTimes, plausible
from clesr.pipeline.sources.registry import SourceOptions

# That ImageJ composes. Where nobody says more, tifffile calls the images of any stack channels.
MOST_CHANNELS = 7


@dataclass
class Planes:
    """The planes of a stack in the order of its file: ``indices`` say what each is, where that is known, ``places`` in
    which file and on which page it lies. ``sizes`` are what is stated, ``interval`` the seconds from one time to the
    next, 0 where unknown; ``times`` the seconds of single planes; ``notes`` what is to be told of them;
    ``pixel_aspect`` the width of a pixel over its height, where that is stated."""

    sizes: Index
    indices: Sequence[Index]
    places: Sequence[PageOfFile]
    interval: float = 0.0
    times: dict[Index, float] = field(default_factory=dict)
    others: int = 0
    notes: list[Note] = field(default_factory=list)
    pixel_aspect: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """The planes that are shown, as positions in ``Planes``, the sample of each that is, and their times."""

    positions: Sequence[int]
    sample: int
    times: FrameTimes | None


def choose_planes(planes: Planes, samples: int, options: SourceOptions, name: str) -> Shown:
    """One channel, and one plane of depth at each time; all planes of depth, where there is one time alone, and all
    channels, where there are also too many for channels. ``samples`` is how many channels lie in each page. What was
    chosen for the user is added to the notes of ``planes``.

    Raises UsageError.
    """
    sizes, channels = planes.sizes, planes.sizes.c * samples
    channel, sample = divmod(chosen("--channel", "channel", options.channel, channels, name), samples)
    plane = chosen("--plane", "plane", options.plane, sizes.z, name)
    along = "t"  # what the frames follow each other in
    if sizes.t == 1 and sizes.z > 1 and options.plane is None:
        along = "z"
    elif sizes.t == sizes.z == 1 and sizes.c > MOST_CHANNELS and options.channel is None:
        along = "c"
    _note(planes, channels, options, along)
    positions = [
        position
        for position, index in enumerate(planes.indices)
        if (along == "c" or index.c == channel) and (along == "z" or index.z == plane)
    ]
    shown = [planes.indices[position] for position in positions]
    return Shown(positions, sample, _times(planes, shown, [getattr(index, along) for index in shown]))


def _note(planes: Planes, channels: int, options: SourceOptions, along: str) -> None:
    depth, notes = planes.sizes.z, planes.notes
    every = "all are taken, one after the other"
    if channels > 1 and options.channel is None:
        taken = every if along == "c" else "channel 0 is taken"
        notes.append(Note(logging.INFO, f"has {channels} channels: {taken} (--channel 0 to {channels - 1})"))
    if depth > 1 and options.plane is None:
        taken = every if along == "z" else "plane 0 is taken"
        notes.append(Note(logging.INFO, f"has {depth} planes of depth: {taken} (--plane 0 to {depth - 1})"))
    if planes.others:
        images = f"{planes.others} more image{'s' * (planes.others > 1)}"
        notes.append(Note(logging.WARNING, f"holds {images}, of other places: the first alone is taken"))


def _times(planes: Planes, shown: Sequence[Index], steps: Sequence[int]) -> FrameTimes | None:
    """When the planes ``shown``, at ``steps`` of the interval, were taken, None where nobody says."""
    listed = [planes.times[index] for index in shown if index in planes.times]
    if shown and len(listed) == len(shown) and (times := FrameTimes.listed(listed)):
        return times
    if not planes.interval or not plausible(1 / planes.interval):
        return None
    if any(later <= earlier for earlier, later in pairwise(steps)):
        return None
    constant = FrameTimes.constant(1 / planes.interval, len(shown))
    return FrameTimes([step - steps[0] for step in steps], constant.base, constant.fps)
