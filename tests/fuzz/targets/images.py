"""Pictures: a camera's Motion-JPEG, TIFF stacks, folders of images."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image as Pillow

from clesr.engines.common.errors import ClesrError
from clesr.pipeline.frame import Image
from clesr.pipeline.sources.registry import open_source
from clesr.pipeline.sources.v4l2.jpeg import Damaged, decode_jpeg, open_jpeg
from fuzz.mutations import flip
from fuzz.target import Target, drain

SUFFIXES = (".png", ".jpg", ".bmp", ".pgm", ".ppm", ".webp", ".jp2")
TEXTS = (b"P2\n# a\n3 2\n1023\n1 2 3 4 5 1023", b"P1 4 2 01010 101", b"P3 1 1 9 1 2 3", b"P4 9 2 abcd")


def noise(*shape: int, dtype: type = np.uint8) -> Image:
    image: Image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    return image


class Jpeg(Target):
    allowed = (ClesrError, Damaged)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._context = open_jpeg()

    def seeds(self) -> list[bytes]:
        smooth = np.add.outer(np.arange(48), 3 * np.arange(64)).astype(np.uint8)
        return [cv2.imencode(".jpg", np.stack([smooth] * 3, -1))[1].tobytes()]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        changed = flip(rng, data)
        return b"\xff\xd8" + changed[2:-2] + b"\xff\xd9" if rng.random() < 0.8 else changed

    def run(self, data: bytes) -> None:
        decode_jpeg(self._context, data, (64, 48))


class Tiff(Target):
    def seeds(self) -> list[bytes]:
        gray, colour = noise(3, 16, 20), noise(16, 20, 3)
        kinds: list[tuple[Any, Mapping[str, Any]]] = [
            (gray, {}),
            (noise(4, 16, 20, dtype=np.uint16), {"imagej": True, "metadata": {"fps": 12.0}}),
            (gray, {"compression": "zlib"}),
            (colour, {"photometric": "rgb"}),
            (gray.astype(np.int16), {"bigtiff": True}),
            (noise(40, 40), {"tile": (16, 16)}),
            (gray, {"planarconfig": "separate", "photometric": "rgb"}),
            (gray, {"ome": True}),
            (gray, {"compression": "lzw", "predictor": True}),
            (gray, {"compression": "zstd"}),
            (gray, {"compression": "lzma"}),
            (gray, {"compression": "packbits"}),
            (gray, {"compression": "png"}),
            (gray, {"compression": "jpegxr"}),
            (gray, {"compression": "jpegxl"}),
            (gray, {"compression": "lerc"}),
            (gray, {"compression": "jpeg"}),
            (gray, {"compression": "jpeg2000"}),
            (gray >> 4, {"bitspersample": 4, "photometric": "miniswhite"}),
            (gray > 99, {}),
            (noise(16, 20, 4), {"photometric": "separated"}),
            (gray.astype(np.float32), {"predictor": True, "compression": "zlib"}),
        ]
        return [tiff_bytes(image, **options) for image, options in kinds] + [
            cv2.imencode(".tif", noise(16, 20))[1].tobytes()
        ]

    def run(self, data: bytes) -> None:
        path = self.folder / "a.tif"
        path.write_bytes(data)
        drain(open_source(str(path), pace="max", window=(0.0, 1.0) if len(data) % 2 else None))


class Images(Target):
    """A first byte that says the suffix, then an image that is in the folder twice."""

    def seeds(self) -> list[bytes]:
        kinds = {suffix: noise(16, 20) if suffix == ".pgm" else noise(16, 20, 3) for suffix in SUFFIXES[:-1]}
        made = [cv2.imencode(suffix, image)[1].tobytes() for suffix, image in kinds.items()]
        deep = cv2.imencode(".png", noise(16, 20, dtype=np.uint16))[1].tobytes()
        turned = Pillow.Exif()
        turned[274] = 6
        photo = io.BytesIO()
        Pillow.fromarray(noise(16, 20)).save(photo, "JPEG", exif=turned.tobytes())
        texts = [bytes([SUFFIXES.index(".pgm")]) + text for text in TEXTS]
        made = [bytes([kind % len(SUFFIXES)]) + content for kind, content in enumerate([*made, b"", deep])]
        return [*made, *texts, bytes([SUFFIXES.index(".jpg")]) + photo.getvalue() + b"more"]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        kind = data[:1] if rng.random() < 0.9 else bytes([int(rng.random() * 256)])
        return kind + flip(rng, data[1:])

    def run(self, data: bytes) -> None:
        suffix = SUFFIXES[(data[0] if data else 0) % len(SUFFIXES)]
        paths = [self.folder / f"{name}{suffix}" for name in "ab"]
        try:
            for path in paths:
                path.write_bytes(data[1:])
            drain(open_source(str(self.folder), pace="max"), 4)
        finally:
            for path in paths:
                path.unlink()


def tiff_bytes(image: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, image, **options)
    return file.getvalue()
