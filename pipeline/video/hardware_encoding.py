"""Video encoders on a graphics card: one is taken where a trial gives back the images that went in."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np

from clesr.pipeline.frame import Image
from clesr.pipeline.messages import SafeLogger
from clesr.pipeline.video.encoding import EncoderFailed, Encoding, VideoWriter
from clesr.pipeline.video.luma import luma

log = SafeLogger(logging.getLogger(__name__))
LARGE = 1280 * 720  # pixels from which "auto" tries a card: smaller images cost the processor little
TRIED = 8  # images
FAITHFUL_DB = 42.0  # PSNR of the trial's images, at least, where the codec is lossy


@dataclass(frozen=True, slots=True)
class HardwareEncoder:
    """A card's encoder: FFmpeg's name of it, the pixel format it takes, its options without the quality, and the
    option that is the quality (0 best)."""

    library: str
    pixels: str
    options: Mapping[str, str]
    quality: str

    def encoding(self, name: str, quality: str) -> Encoding:
        options = {**self.options, self.quality: quality}
        return Encoding(name, self.library, self.pixels, 0, options, hardware=True)


_NVENC = {"preset": "p4", "tune": "ll", "rc": "constqp", "bf": "0", "delay": "0", "zerolatency": "1"}
_QSV = {"preset": "fast", "async_depth": "1", "bf": "0"}
ENCODERS: dict[str, tuple[HardwareEncoder, ...]] = {
    "h264": (
        HardwareEncoder("h264_nvenc", "yuv420p", _NVENC, "qp"),
        HardwareEncoder("h264_qsv", "nv12", _QSV, "global_quality"),
    ),
    "h264-lossless": (HardwareEncoder("h264_nvenc", "yuv420p", _NVENC | {"tune": "lossless"}, "qp"),),
    "hevc": (
        HardwareEncoder("hevc_nvenc", "yuv420p", _NVENC, "qp"),
        HardwareEncoder("hevc_qsv", "nv12", _QSV, "global_quality"),
    ),
}


def by_hardware(choice: str, encoding: Encoding, shape: tuple[int, int]) -> Encoding:
    """How a graphics card encodes (H, W) images as ``encoding`` does, or ``encoding`` itself where none may or can.
    ``choice`` is ``cpu`` for the processor, ``gpu`` for a card where a trial is faithful, ``auto`` for such a card
    where images are large."""
    small = shape[0] * shape[1] < LARGE
    if choice == "cpu" or (choice == "auto" and small) or encoding.name not in ENCODERS:
        return encoding
    if shape[0] % 2 or shape[1] % 2:
        log.info(f"encoding by the processor (a card takes even sizes, not {shape[1]}x{shape[0]})")
        return encoding
    reasons, quality = [], encoding.options.get("crf", "0")  # 0 where nothing may be lost
    for encoder in ENCODERS[encoding.name]:
        problem = trial(encoder.library, encoding.name, quality, shape)
        if problem is None:
            log.info(f"encoding by {encoder.library}: a trial came back faithfully")
            return encoder.encoding(encoding.name, quality)
        reasons.append(f"{encoder.library}: {problem}")
    log.info(f"encoding by the processor; not by {'; '.join(reasons)}")
    return encoding


@cache
def trial(library: str, name: str, quality: str, shape: tuple[int, int]) -> str | None:
    """Why card encoder ``library`` cannot encode (H, W) images as codec ``name``; None where it can.

    A few images are encoded, decoded by the processor and compared.
    """
    encoder = next(encoder for encoder in ENCODERS[name] if encoder.library == library)
    with tempfile.TemporaryDirectory(prefix="clesr-") as folder:
        path = Path(folder) / "trial.mkv"
        try:
            images = write_pattern(path, encoder.encoding(name, quality), shape)
            with av.open(str(path)) as container:
                decoded = [luma(frame) for frame in container.decode(video=0)]
        except (av.FFmpegError, EncoderFailed) as error:
            return getattr(error, "strerror", None) or str(error)
    return _unfaithful(images, decoded, exactly=name == "h264-lossless")


def write_pattern(path: Path, encoding: Encoding, shape: tuple[int, int]) -> list[Image]:
    """A short video of (H, W) images in ``path``; the images. Raises what VideoWriter raises."""
    images = [_pattern(shape, number) for number in range(TRIED)]
    with closing(VideoWriter(path, encoding, shape, tick=Fraction(1, 1000), fps=25)) as writer:
        for number, image in enumerate(images):
            writer.write(image, 40 * number)
    return images


def _unfaithful(images: list[Image], decoded: list[Image], *, exactly: bool) -> str | None:
    if len(decoded) != len(images):
        return f"{len(decoded)} of {len(images)} images came back"
    if exactly:
        return None if np.array_equal(images, decoded) else "the images came back changed"
    db = min(cv2.PSNR(a, b) for a, b in zip(images, decoded, strict=True))
    return f"the images came back with {db:.0f} dB only" if db < FAITHFUL_DB else None


def _pattern(shape: tuple[int, int], number: int) -> Image:
    """A smooth scene with some grain that moves, from black to white."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    unit = (np.sin(columns / 17 + number / 5) + np.cos(rows / 13)) / 4 + 0.5
    grain = np.random.default_rng(number).normal(0, 2, shape)
    return np.asarray(np.clip(np.rint(unit * 255 + grain), 0, 255), np.uint8)
