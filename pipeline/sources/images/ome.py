"""OME-XML in a TIFF file: which plane lies where, and when it was taken (OME model 2016-06, OME-TIFF specification)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple
from xml.parsers import expat

from clesr.engines.common.errors import WHY, told_as
from clesr.engines.common.numbers import decimal_number, whole_number
from clesr.pipeline.sources.images.aspect import aspect_of

LONGEST = 64 << 20  # bytes of a description
MOST_PLANES = 1_000_000
MOST_ELSEWHERE = 200_000  # planes in other files
# Seconds of each unit of time in the model, and of what ImageJ and others write.
SECONDS = {
    "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0,
    "ms": 1e-3, "msec": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3,
    "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "usec": 1e-6, "microsecond": 1e-6, "microseconds": 1e-6,
    "ns": 1e-9, "nanosecond": 1e-9, "nanoseconds": 1e-9, "ps": 1e-12,
    "fs": 1e-15, "as": 1e-18, "zs": 1e-21, "ys": 1e-24,
    "cs": 1e-2, "ds": 1e-1, "das": 10.0, "hs": 100.0, "ks": 1e3,
    "min": 60.0, "mins": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hr": 3600.0, "hrs": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "d": 86400.0, "day": 86400.0, "days": 86400.0,
}  # fmt: skip
_GREAT = {"Ms": 1e6, "Gs": 1e9, "Ts": 1e12, "Ps": 1e15, "Es": 1e18, "Zs": 1e21, "Ys": 1e24}
MICROMETRES = {  # by unit of length; the last two have no length, and both sides are in one of them
    "pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "dm": 1e5, "m": 1e6,
    "in": 25_400.0, "pixel": 1.0, "reference frame": 1.0,
}  # fmt: skip


class OmeError(Exception):
    """No OME-XML that can be used; the message is one line."""


class Index(NamedTuple):
    """Where a plane stands in its image: channel, depth, time."""

    c: int
    z: int
    t: int


class PageOfFile(NamedTuple):
    """Where a plane lies: page ``ifd`` of ``file``, by its name, empty for the file that says so."""

    file: str
    ifd: int


@dataclass
class OmeImage:
    """The first image of a description. ``sizes`` are those of channels, depth and time; ``places`` say where its
    planes lie; ``times`` hold the seconds of those planes that have some, ``interval`` those from one time to the next,
    0 where none is stated. ``others`` counts the images behind it. ``pixel_aspect`` is the width of a pixel over its
    height, None where that is not stated."""

    sizes: Index = Index(1, 1, 1)
    order: str = "XYZCT"
    samples: int = 1
    interval: float = 0.0
    places: dict[Index, PageOfFile] = field(default_factory=dict)
    times: dict[Index, float] = field(default_factory=dict)
    others: int = 0
    companion: str = ""
    pixel_aspect: Fraction | None = None


class _Block(NamedTuple):
    """A TiffData element: so many ``planes`` from ``first`` on, None where all pages of the file are meant."""

    first: Index
    place: PageOfFile
    planes: int | None


def seconds_of(unit: str) -> float | None:
    """Seconds of a ``unit`` of time, None for one that is not known."""
    unit = unit.strip()
    return _GREAT.get(unit) or SECONDS.get(unit) or SECONDS.get(unit.lower())


def _side(attributes: Mapping[str, str], axis: str) -> float | None:
    """Micrometres of a pixel along ``axis``, None where they are not stated, or in a unit that is not known."""
    scale = MICROMETRES.get(attributes.get(f"PhysicalSize{axis}Unit", "µm"))
    with suppress(ValueError):
        return decimal_number(attributes.get(f"PhysicalSize{axis}", "")) * scale if scale else None
    return None


def parse_ome(document: bytes, pages: int) -> OmeImage:
    """The first image that ``document`` describes, in a file of ``pages`` pages. Raises OmeError."""
    if len(document) > LONGEST:
        raise OmeError(f"it has {len(document) >> 20} MB, at most {LONGEST >> 20} are read")
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler, parser.EntityDeclHandler = reader.text, _refuse
    with told_as(OmeError, f"it cannot be read ({WHY})", (expat.ExpatError, ValueError, KeyError)):
        parser.Parse(document.rstrip(b"\0 \r\n"), True)
        return reader.image_of(pages)


def _refuse(*_: object) -> None:
    raise OmeError("it declares entities, which OME-XML does not")


class _Reader:
    def __init__(self) -> None:
        self._image = OmeImage()
        self._images = self._pixels = self._channels = 0
        self._uuid = ""
        self._blocks: list[_Block] = []
        self._listening, self._said, self._file = False, "", ""
        self._open: _Block | None = None

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        name = name.rpartition(":")[2]
        if name == "OME":
            self._uuid = attributes.get("UUID", "")
        elif name == "BinaryOnly":
            self._image.companion = attributes.get("MetadataFile", "")
        elif name == "Image":
            self._images += 1
        elif self._images == 1:
            self._of_first(name, attributes)

    def _of_first(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "Pixels" and not self._pixels:
            self._take_pixels(attributes)
        elif name == "Channel":
            self._channels += 1
            self._image.samples = max(1, whole_number(attributes.get("SamplesPerPixel", "1")))
        elif name == "TiffData":
            first = Index(*(whole_number(attributes.get(f"First{axis}", "0")) for axis in "CZT"))
            count = attributes.get("PlaneCount", "1" if "IFD" in attributes else None)
            ifd = whole_number(attributes.get("IFD", "0"))
            self._open = _Block(first, PageOfFile("", ifd), None if count is None else whole_number(count))
            self._said = self._file = ""
        elif name == "UUID" and self._open is not None:
            self._listening, self._file = True, attributes.get("FileName", "")
        elif name == "Plane" and (time := attributes.get("DeltaT")) is not None:
            where = Index(*(whole_number(attributes.get(f"The{axis}", "0")) for axis in "CZT"))
            scale = seconds_of(attributes.get("DeltaTUnit", "s"))
            if scale is not None and len(self._image.times) < MOST_PLANES:
                with suppress(ValueError):  # a plane without a time is one without a time
                    self._image.times[where] = decimal_number(time) * scale

    def _take_pixels(self, attributes: Mapping[str, str]) -> None:
        self._pixels += 1
        image = self._image
        image.sizes = Index(*(whole_number(attributes.get(f"Size{axis}", "1")) for axis in "CZT"))
        if min(image.sizes) < 1:
            raise OmeError("its SizeC, SizeZ or SizeT is below 1")
        image.order = attributes.get("DimensionOrder", image.order)
        if sorted(image.order) != sorted("XYZCT"):
            raise OmeError(f"its DimensionOrder is {image.order[:20]!r}")
        image.pixel_aspect = aspect_of(_side(attributes, "X"), _side(attributes, "Y"))
        scale = seconds_of(attributes.get("TimeIncrementUnit", "s"))
        if scale is not None and "TimeIncrement" in attributes:
            with suppress(ValueError):
                image.interval = decimal_number(attributes["TimeIncrement"]) * scale

    def text(self, data: str) -> None:
        if self._listening:
            self._said += data

    def end(self, name: str) -> None:
        name = name.rpartition(":")[2]
        if name == "UUID":
            self._listening = False
        elif name == "TiffData" and self._open is not None:
            said, own = self._said.strip(), self._uuid.strip()
            file = re.split(r"[\\/]", self._file)[-1]
            if said and not file and said != own:
                file = said  # a file of which nobody knows the name: it will be missing
            place = PageOfFile("" if said and said == own else file, self._open.place.ifd)
            block = self._open._replace(place=place)
            if block.planes is None and (said or self._file):
                block = block._replace(planes=1)
            self._blocks.append(block)
            self._open = None
            if len(self._blocks) > MOST_PLANES:
                raise OmeError(f"it names more than {MOST_PLANES} planes")

    def image_of(self, pages: int) -> OmeImage:
        image = self._image
        if not self._pixels:
            if image.companion:
                return image
            raise OmeError("it describes no image")
        channels = max(1, image.sizes.c // image.samples)
        image.sizes = image.sizes._replace(c=channels)
        image.others = self._images - 1
        if math.prod(image.sizes) > MOST_PLANES:
            raise OmeError(f"it states {math.prod(image.sizes)} planes, at most {MOST_PLANES} are read")
        elsewhere = 0
        for block in self._blocks or [_Block(Index(0, 0, 0), PageOfFile("", 0), None)]:
            there = MOST_ELSEWHERE if block.place.file else max(0, pages - block.place.ifd)
            count = there if block.planes is None else min(there, block.planes)
            for step, where in zip(range(count), _walk(block.first, image.sizes, image.order), strict=False):
                image.places[where] = PageOfFile(block.place.file, block.place.ifd + step)
                elsewhere += bool(block.place.file)
            if elsewhere > MOST_ELSEWHERE or len(image.places) > pages + MOST_ELSEWHERE:
                raise OmeError(f"it names more than {MOST_ELSEWHERE} planes in other files")
        return image


def _walk(first: Index, sizes: Index, order: str) -> Iterator[Index]:
    """The planes of an image from ``first`` on, in the order in which a file holds them."""
    axes = [axis.lower() for axis in order if axis in "CZT"]
    counts = [getattr(sizes, axis) for axis in axes]
    at = [getattr(first, axis) for axis in axes]
    if not all(0 <= place < count for place, count in zip(at, counts, strict=True)):
        return
    flat = at[0] + counts[0] * (at[1] + counts[1] * at[2])
    for number in range(flat, math.prod(counts)):
        yield index_of(number, sizes, axes)


def index_of(number: int, sizes: Index, axes: Iterable[str]) -> Index:
    """Where plane ``number`` of a stack stands whose ``axes`` (c, z and t) run the faster the earlier they come."""
    found = {}
    for axis in axes:
        count = getattr(sizes, axis)
        found[axis], number = number % count, number // count
    return Index(**found)
