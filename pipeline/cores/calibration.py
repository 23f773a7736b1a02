"""The calibration of a probe: where the cores of its fibre bundle lie on a frame, and how bright each is under even
light. Kept in a file, which is not trusted when it is read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import safetensors
import safetensors.numpy
from msgspec import Meta

from clesr.engines.common.errors import SourceError, UsageError
from clesr.engines.common.files import NEW, WriteRule, write_file
from clesr.engines.common.image import Floats
from clesr.engines.common.limits import size_problem
from clesr.engines.common.parsing import Count, Side, one_line, parse_json, read_bounded
from clesr.pipeline.cores.triangles import Indices, barycentric

SUFFIX = ".cores"
VERSION = 1
KEY = "clesr cores"  # of the metadata
FILE_BYTES = 1 << 29
HEADER_BYTES = 1 << 16
MOST_CORES = 1_000_000
WIDER = 4.0  # for lattices with many dead cores, and small ones
DARKEST = 1e-6  # of white, far below the least level of a camera
SLACK = 1e-3  # by which rounded positions may put a pixel outside of its triangle
_ARRAYS = {
    "places": (np.float32, 2),
    "flat": (np.float32, None),
    "dead": (np.float32, 2),
    "triangles": (np.int32, 3),
    "map": (np.int32, None),
}

Distance = Annotated[float, Meta(ge=1, le=65535)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFacts:
    """What is known of a bundle: ``shape`` (H, W) of its frames, mean distance ``spacing`` of its cores in pixels, how
    many ``saturated`` ones the flat field showed, and of how many ``frames`` that is the mean."""

    shape: tuple[Side, Side]
    spacing: Distance
    saturated: Count = 0
    frames: Annotated[int, Meta(ge=1)] = 1
    version: int = VERSION


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CoreCalibration:
    """The cores of a probe. ``places`` (N, 2) float32 are x and y of each in pixels, ``flat`` (N,) float32 its
    brightness under even light, 1 where a pixel is white; ``dead`` (D, 2) float32 are x and y of dead cores. Between
    the cores lie ``triangles`` (T, 3) int32; ``map`` (H, W) int32 has the number of the one that each pixel is in, -1
    outside of the bundle, and ``weights`` (P, 3) float32 what the pixels inside, row by row, take of its corners.
    ``data`` are the bytes of its file and ``sha256`` the hash over them, its identity; ``name`` is for messages."""

    facts: BundleFacts
    places: Floats
    flat: Floats
    dead: Floats
    triangles: Indices
    map: Indices
    weights: Floats
    data: bytes
    name: str
    sha256: str

    def check(self, shape: tuple[int, int]) -> None:
        """Raises UsageError where frames of ``shape`` (H, W) are of another size than those that it was made of."""
        (height, width), (own_height, own_width) = shape, self.facts.shape
        if shape != self.facts.shape:
            raise UsageError(
                f"frames are {width}x{height}, but the calibration {self.name} is for {own_width}x{own_height}; "
                "give that of this probe and camera, or make one by `clesr calibrate`"
            )

    def __str__(self) -> str:
        words = f"{len(self.places)} cores, {self.facts.spacing:.2f} pixels apart, {len(self.dead)} dead"
        return f"{words}, {self.facts.saturated} saturated" if self.facts.saturated else words


def save_cores(path: Path, calibration: CoreCalibration, rule: WriteRule = NEW) -> None:
    """Write ``calibration`` as the file ``path``, whole or not at all. Raises SinkError where it cannot be written, or
    ``rule`` forbids it."""
    write_file(path, calibration.data, rule)


def load_cores(path: str | Path) -> CoreCalibration:
    """The calibration in the file ``path``. Raises SourceError where it is none, or damaged."""
    path = Path(path)
    try:
        return decode(read_bounded(path, FILE_BYTES), path.name)
    except FileNotFoundError as error:
        raise SourceError(f"there is no calibration {path}; `clesr calibrate` makes one") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or one_line(error)
        raise SourceError(
            f"{path} is no calibration of cores that can be read ({why}); copy it again, or make one by "
            "`clesr calibrate`"
        ) from error


def encode_cores(facts: BundleFacts, **arrays: Any) -> bytes:
    """The bytes of a file of what CoreCalibration has under the same names."""
    tensors = {name: np.ascontiguousarray(arrays[name], kind) for name, (kind, _) in _ARRAYS.items()}
    return safetensors.numpy.save(tensors, {KEY: json.dumps(asdict(facts))})


def decode(data: bytes, name: str) -> CoreCalibration:
    """The calibration in ``data``, called ``name``; raises ValueError where something is wrong with it."""
    facts = _facts(data)
    try:
        arrays = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError, TypeError) as error:  # KeyError: of an unknown type
        raise ValueError(one_line(error)) from error
    _check(facts, arrays)
    inside = arrays["map"][arrays["map"] >= 0]
    y, x = np.nonzero(arrays["map"] >= 0)
    corners = arrays["places"].astype(np.float64)[arrays["triangles"][inside]]
    weights = barycentric(corners, np.stack([x, y], 1).astype(np.float64))
    if len(weights) and (weights.min() < -SLACK or weights.max() > 1 + SLACK):
        raise ValueError("pixels do not lie in their triangles")
    clipped = np.clip(weights, 0, 1).astype(np.float32)
    identity = hashlib.sha256(data).hexdigest()
    return CoreCalibration(facts, **arrays, weights=clipped, data=data, name=name, sha256=identity)


class _Header(msgspec.Struct):
    metadata: dict[str, str] = msgspec.field(name="__metadata__")


class _Version(msgspec.Struct):
    version: int


def _facts(data: bytes) -> BundleFacts:
    size = int.from_bytes(data[:8], "little")
    if not 2 <= size <= min(HEADER_BYTES, len(data) - 8):
        raise ValueError("it has no header of a calibration")
    text = parse_json(data[8 : 8 + size], _Header).metadata.get(KEY)
    if text is None:
        raise ValueError("it holds something else")
    version = parse_json(text, _Version).version
    if version != VERSION:
        raise ValueError(f"it has version {version}, this clesr reads {VERSION}")
    facts = parse_json(text, BundleFacts)
    problem = size_problem(facts.shape)
    if problem is not None:
        raise ValueError(problem)
    return facts


def _widest(places: Floats) -> float:
    """The largest spacing in pixels that cores at ``places`` may have: WIDER times that of a lattice which fills their
    box. The time that each frame takes grows with it."""
    wide, high = np.ptp(places.astype(np.float64), axis=0) + 1
    return float(WIDER * np.sqrt(2 / np.sqrt(3) * wide * high / len(places)))


def _check(facts: BundleFacts, arrays: dict[str, Any]) -> None:
    if arrays.keys() != _ARRAYS.keys():
        raise ValueError(f"it holds {', '.join(sorted(arrays))[:100]}, not {', '.join(_ARRAYS)}")
    for name, (kind, width) in _ARRAYS.items():
        shape = facts.shape if name == "map" else (len(arrays[name]), width)[: 1 if width is None else 2]
        if arrays[name].dtype != kind or arrays[name].shape != shape:
            raise ValueError(f"its {name} are {arrays[name].dtype} of {arrays[name].shape}")
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"its {name} are not all finite")
    count, triangles = len(arrays["places"]), len(arrays["triangles"])
    if not 3 <= count <= MOST_CORES or len(arrays["dead"]) > MOST_CORES or len(arrays["flat"]) != count:
        raise ValueError(f"it has {count} cores with the brightness of {len(arrays['flat'])}")
    if facts.spacing > _widest(arrays["places"]):
        raise ValueError(f"its cores lie closer than the {facts.spacing:g} pixels that it states")
    height, width = facts.shape
    within = (arrays["places"] >= 0) & (arrays["places"] <= (width - 1, height - 1))
    if not within.all() or not (arrays["flat"] >= DARKEST).all() or not (arrays["flat"] <= 1).all():
        raise ValueError("its cores lie outside of the frame, or have no brightness")
    for name, least, end in (("triangles", 0, count), ("map", -1, triangles)):
        if arrays[name].size and not least <= arrays[name].min() <= arrays[name].max() < end:
            raise ValueError(f"its {name} name what is not there")
