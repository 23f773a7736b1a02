"""What the header of a DICOM file says of its frames: unit, window, form of pixels, times (PS3.3 C.7.6.3, C.7.6.5,
C.10.7, C.11)."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import accumulate
from typing import Any

from pydicom import Dataset

from clesr.pipeline.sources.images.aspect import aspect_of
from clesr.pipeline.sources.images.times import FrameTimes, plausible

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_FRAME_TIME = 0x00181063


def _group(header: Dataset, name: str) -> Dataset:
    """Where a functional group of all frames, or the header itself, has what is in ``name``."""
    shared = header.get("SharedFunctionalGroupsSequence")
    return (_own(shared[0], name) if shared else None) or header


def _groups(header: Dataset, name: str, count: int) -> list[Dataset]:
    """Where each of ``count`` frames has what is in the functional group ``name``; one where no frame has its own."""
    usual = _group(header, name)
    own = [_own(frame, name) for frame in (header.get("PerFrameFunctionalGroupsSequence") or ())[:count]]
    if not any(own):
        return [usual]
    return [*(group or usual for group in own), *[usual] * (count - len(own))]


def _own(groups: Dataset, name: str) -> Dataset | None:
    return Dataset(groups[name].value[0]) if name in groups and groups[name].value else None


def _several(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str | bytes)


def _first(value: Any) -> Any:
    """``value``, or the first of several."""
    return next(iter(value), None) if _several(value) else value


def _number(value: Any) -> float | None:
    """``value``, or the first of several; None where it is no number."""
    try:
        number = float(_first(value))
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def rescales(header: Dataset, count: int) -> list[tuple[float, float]]:
    """Slope and intercept from what is stored to the unit of ``count`` frames, one for all or one each."""
    groups = _groups(header, "PixelValueTransformationSequence", count)
    found = [(_number(group.get("RescaleSlope")), _number(group.get("RescaleIntercept"))) for group in groups]
    return [(slope or 1.0, intercept or 0.0) for slope, intercept in found]


def stated_windows(header: Dataset, count: int) -> list[tuple[float, float] | None]:
    """Which values are black and white by the windows that the file states (PS3.3, C.11.2.1.2) for ``count`` frames,
    one for all or one each."""
    return [_window(group) for group in _groups(header, "FrameVOILUTSequence", count)]


def _window(group: Dataset) -> tuple[float, float] | None:
    centre, width = _number(group.get("WindowCenter")), _number(group.get("WindowWidth"))
    if centre is None or width is None or width < 1:
        return None
    if str(group.get("VOILUTFunction", "LINEAR")).strip() == "LINEAR_EXACT":
        return centre - width / 2, centre + width / 2
    low = centre - 0.5 - (width - 1) / 2
    return low, low + max(1.0, width - 1)


def times_of(header: Dataset, count: int) -> FrameTimes | None:
    """When frames are to be seen (PS3.3, C.7.6.5), None where it is not stated. Of a constant and a list of times that
    one counts to which the FrameIncrementPointer points."""
    if count < 2:
        return None
    by_list, constant = _listed_times(header, count), _number(header.get("FrameTime"))
    if constant and by_list and _increment(header) == _FRAME_TIME and (fps := plausible(1000 / constant)):
        return FrameTimes.constant(fps, count)
    if by_list is not None:
        return by_list
    rates = [1000 / constant if constant else None]
    rates += [_number(header.get(name)) for name in ("RecommendedDisplayFrameRate", "CineRate")]
    for rate in rates:
        if (fps := plausible(rate)) is not None:
            return FrameTimes.constant(fps, count)
    return None


def _increment(header: Dataset) -> int | None:
    """The tag of what counts frames, the first of several."""
    pointer = _first(header.get("FrameIncrementPointer"))
    return int(pointer) if isinstance(pointer, int) else None


def _listed_times(header: Dataset, count: int) -> FrameTimes | None:
    vector = header.get("FrameTimeVector")
    if vector is None or not hasattr(vector, "__len__") or len(vector) != count:
        return None
    steps = [_number(step) or 0.0 for step in vector]
    return FrameTimes.listed([time / 1000 for time in accumulate([0.0, *steps[1:]])])


def aspect_in_header(header: Dataset) -> Fraction | None:
    """Width of a pixel over its height, None where it is not stated. The standard names the height first."""
    group = _group(header, "PixelMeasuresSequence")
    stated = [group.get("PixelSpacing"), *(header.get(name) for name in (*_SPACINGS, "PixelAspectRatio"))]
    for pair in stated:
        if _several(pair) and len(pair) == 2 and (aspect := aspect_of(_number(pair[1]), _number(pair[0]))):
            return aspect
    return None
