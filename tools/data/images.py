"""What training and evaluation read: images, TIFF stacks, Cellvizio files, videos, phantoms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clesr.engines.common.errors import ClesrError, EndOfSource, UsageError
from clesr.engines.common.image import Pixels
from clesr.pipeline.frame import Frame
from clesr.pipeline.source import Source
from clesr.pipeline.sources.registry import IMAGE_SUFFIXES, RECORDINGS, open_source

SUFFIXES = (*IMAGE_SUFFIXES, *RECORDINGS)
MOST_FRAMES = 64  # of one recording: neighbouring frames teach the same


def image_files(entry: str) -> list[Path]:
    """The images and recordings of a folder, a glob pattern or one file, sorted by name.

    Raises UsageError where there are none.
    """
    path = Path(entry)
    if path.is_file():
        return [path]
    candidates = path.iterdir() if path.is_dir() else path.parent.glob(path.name)
    found = sorted(p for p in candidates if _is_wanted(p))
    if not found:
        raise UsageError(f"no images at {entry}; give a folder or pattern with {', '.join(SUFFIXES)}")
    return found


def _is_wanted(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def named_files(entries: Sequence[str]) -> list[Path]:
    """The files and folders that ``entries``, with a weight or not, name."""
    names = {name for entry in entries for name in (entry, entry.rpartition("=")[0]) if name}
    found = [Path(name) for name in names]
    for path in list(found):
        with suppress(OSError, ValueError):  # no pattern
            found += path.parent.glob(path.name)
    return found


def read_entry(entry: str) -> Iterator[tuple[str, Pixels]]:
    """Names and gray images (H, W) uint8 of a folder, pattern or file, or of a ``demo:`` address (phantoms).

    Of a recording come at most 64 frames, evenly spread. Raises UsageError for what cannot be read.
    """
    if entry.startswith("demo:"):
        from clesr.tools.data.phantoms import phantom_images

        yield from phantom_images(entry)
        return
    for path in image_files(entry):
        yield from _frames(path)


def read_gray(path: Path) -> Pixels:
    """The first image in ``path``, as ``read_entry`` gives it."""
    return next(read_entry(str(path)))[1]


def frames_of(source: Source) -> Iterator[Frame]:
    """The frames of a recording, but those that cannot be decoded, or build on one that was damaged."""
    with suppress(EndOfSource):
        while True:
            item = source.read(1.0)
            if isinstance(item, Frame) and not item.damaged:
                yield item


def _frames(path: Path) -> list[tuple[str, Pixels]]:
    """At most MOST_FRAMES frames of a recording, each unlike the one before it."""
    kept: list[tuple[int, NDArray[np.generic]]] = []
    every, last = 1, None
    try:
        with closing(open_source(str(path), pace="max")) as source:
            for frame in frames_of(source):
                if frame.number % every or (last is not None and np.array_equal(frame.image, last)):
                    continue
                last = frame.image
                kept.append((frame.number, frame.image))
                if len(kept) > MOST_FRAMES:
                    every *= 2
                    kept = kept[::2]
    except ClesrError as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if not kept:
        raise UsageError(f"{path} cannot be read: it has no frame that can be decoded")
    images = _to_8_bits([image for _, image in kept])
    if len(kept) == 1:
        return [(path.name, images[0])]
    return [(f"{path.name} frame {number}", im) for (number, _), im in zip(kept, images, strict=True)]


def _to_8_bits(images: list[NDArray[np.generic]]) -> list[Pixels]:
    """``images`` as uint8; deeper ones by their common maximum."""
    if all(image.dtype == np.uint8 for image in images):
        return [np.ascontiguousarray(image, np.uint8) for image in images]
    most = max(1.0, *(float(np.max(image)) for image in images))
    return [np.rint(image.astype(np.float64) * (255 / most)).astype(np.uint8) for image in images]
