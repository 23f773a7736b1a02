"""DICOM images of one or many frames (PS3.3 C.7.6.3, C.7.6.5, C.11)."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut

from clesr.engines.common.errors import ClesrError, SourceError, on_error
from clesr.engines.common.limits import size_problem
from clesr.engines.common.parsing import one_line
from clesr.pipeline.frame import Image
from clesr.pipeline.source import Source
from clesr.pipeline.sources.images.dicom_file import DicomFile
from clesr.pipeline.sources.images.dicom_levels import FrameLevels
from clesr.pipeline.sources.images.dicom_pixels import StoredFrame, check_syntax, decode_frame, is_video
from clesr.pipeline.sources.images.dicom_stated import aspect_in_header, rescales, stated_windows, times_of
from clesr.pipeline.sources.images.dicom_video import DicomVideo
from clesr.pipeline.sources.images.gray import NEEDS_WINDOW, Values, luma_of_colour
from clesr.pipeline.sources.images.indexed import IndexedSource, Note, chosen, tell, timed
from clesr.pipeline.sources.images.unreadable import UnreadableImage
from clesr.pipeline.sources.registry import DEFAULTS, SourceOptions

_GRAY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
MOST_FRAMES = 1_000_000


def open_dicom(path: str | Path, options: SourceOptions = DEFAULTS) -> Source:
    """The frames of a DICOM file: 1 to 16 bit, signed or not, gray, colour (luma) or palette, floats and 32 bit with
    ``options.window``, and those of a video in it; with the times, the window of grey levels and the form of
    pixels that it states.

    A frame that cannot be read is Corrupt. Raises SourceError where there is no image, or one of a kind that is not
    read.
    """
    path = Path(path)
    if (video := _video(path, options)) is not None:
        return video
    images = DicomImages(path, options)
    with on_error(images.close):
        tell(str(path), [*images.notes, *images.window_notes], options)
        times = timed(images.times, len(images), str(path), options)
    return IndexedSource(
        images.image, len(images), str(path), release=images.close, clock=options.clock, times=times,
        shape=images.shape, window=images.window, pixel_aspect=images.pixel_aspect,
    )  # fmt: skip


def _video(path: Path, options: SourceOptions) -> Source | None:
    """The video in the file ``path``, None where it has images."""
    with closing(DicomFile(path)) as file:
        if not is_video(file.syntax):
            return None
        for option, given in (("--channel", options.channel), ("--plane", options.plane)):
            chosen(option, option[2:], given, 1, str(path))
        count = int(file.dataset.get("NumberOfFrames", 1) or 1)
        own = times_of(file.dataset, count) if 1 < count <= MOST_FRAMES else None
        times = timed(own, count, str(path), options) if options.fps is not None else own
        return DicomVideo(path, file, times, options, aspect_in_header(file.dataset))


class DicomImages:
    """The frames of the file ``path``; ``window`` is the grey levels that become black and white by the user's window
    or the first of ``stated_windows``, in the unit of the file, of which there is one for all frames or one each.
    ``unit`` is the grey levels of the values 0 and 1, None where those are not the same in all frames.
    ``pixel_aspect`` is the width of a pixel over its height, ``notes`` what is to be told, ``window_notes`` what of
    ``window``."""

    def __init__(self, path: Path, options: SourceOptions) -> None:
        self._path = path
        self.notes: list[Note] = []
        self._file = DicomFile(path)
        try:
            self._describe(options)
        except Exception as error:
            self._file.close()
            if isinstance(error, ClesrError):
                raise
            raise SourceError(f"{path} is damaged: what it says of its pixels ({one_line(error)})") from error

    def _describe(self, options: SourceOptions) -> None:
        header, name = self._file.dataset, str(self._path)
        self.shape = (_whole(header, "Rows"), _whole(header, "Columns"))
        self._samples = _whole(header, "SamplesPerPixel", 1)
        self._kind = str(header.get("PhotometricInterpretation", "MONOCHROME2")).strip()
        self._take_depth(header)
        decoded = math.prod(self.shape) * self._samples * max(1, self._allocated // 8)
        if problem := size_problem(self.shape, decoded=decoded, stored=self._file.length):
            raise SourceError(f"{name}: {problem}")
        if self._samples not in (1, 3, 4):
            raise SourceError(f"{name} has {self._samples} samples a pixel; allowed are 1, 3 and 4")
        chosen("--channel", "channel", options.channel, 1, name)
        chosen("--plane", "plane", options.plane, 1, name)
        check_syntax(self._file.syntax, name)
        widest = 16 if self._bits <= 16 else 64  # few bits in a wide word are few
        size = max(1, min(self._allocated, widest) // 8)
        kind = np.dtype(self._file.floats or f"{'i' if self._signed else 'u'}{size}")
        self._values = Values(kind, self._bits, inverted=self._kind == "MONOCHROME1")
        if not self._values.ranged and options.window is None:
            raise SourceError(f"{name} has {kind} pixels; {NEEDS_WINDOW}")
        if self._kind not in (*_GRAY, *_COLOUR, "PALETTE COLOR"):
            raise SourceError(
                f"{name} has pixels of the kind {self._kind!r}; allowed are gray, RGB, YBR and palettes"
            )
        self._find_frames(max(1, int(header.get("NumberOfFrames", 1) or 1)))
        self._take_levels(header, options)
        self.times = times_of(header, self._stated)
        self.pixel_aspect = aspect_in_header(header) or Fraction(1)

    def _take_levels(self, header: Dataset, options: SourceOptions) -> None:
        palette = self._kind == "PALETTE COLOR"
        scales = [(1.0, 0.0)] if palette else rescales(header, self._stated)
        self.stated_windows = stated_windows(header, self._stated) if self._kind in _GRAY else [None]
        self._levels = FrameLevels(self._values, scales, options.window, self.stated_windows)
        self.window_notes = self._levels.notes
        self.window, self.unit = (None, None) if palette else (self._levels.window, self._levels.unit)

    def _take_depth(self, header: Dataset) -> None:
        self._allocated = _whole(header, "BitsAllocated", 8)
        if self._allocated not in (1, 8, 16, 32, 64):
            raise SourceError(
                f"{self._path} has {self._allocated} bits a sample; allowed are 1, 8, 16, 32 and 64"
            )
        self._bits = min(max(1, _whole(header, "BitsStored", self._allocated)), self._allocated)
        high = _whole(header, "HighBit", self._bits - 1)
        self._shift = high + 1 - self._bits if self._bits - 1 <= high < self._allocated else 0
        self._signed = bool(_whole(header, "PixelRepresentation", 0)) and not self._file.floats

    def _find_frames(self, stated: int) -> None:
        if stated > MOST_FRAMES:
            raise SourceError(f"{self._path} states {stated} frames, at most {MOST_FRAMES} are read")
        self._stated = stated
        self._frames: Sequence[list[tuple[int, int]]] = []
        if self._file.syntax.is_compressed and not self._file.syntax.is_deflated:
            self._frames = self._file.frames(stated)
            held = len(self._frames)
        else:
            bits = math.prod(self.shape) * self._samples * self._allocated
            if self._kind == "YBR_FULL_422":
                bits = bits * 2 // 3
            self._frame_bits = bits
            held = self._file.length * 8 // bits
            if self._file.length <= -(-stated * bits // 16) * 2:  # a byte that fills up is no frame
                held = min(held, stated)
        self._whole = min(held, stated)
        if held > stated:
            left = f"holds {held} frames and states {stated}: those behind are left out"
            self.notes.append(Note(logging.WARNING, left))

    def __len__(self) -> int:
        return self._whole + (self._whole < self._stated)

    def image(self, index: int) -> Image:
        """(H, W) uint8 or uint16. Raises UnreadableImage."""
        if index >= self._whole:
            raise UnreadableImage(
                f"the file ends early: {self._whole} of the {self._stated} frames that it states are there"
            )
        try:
            return self._gray(self._frame(index), index)
        except UnreadableImage:
            raise
        except Exception as error:
            raise UnreadableImage(f"frame {index} cannot be read ({one_line(error)})") from error

    def close(self) -> None:
        self._file.close()

    def _frame(self, index: int) -> StoredFrame:
        """Frame ``index`` as it is stored."""
        if self._frames:
            data = b"".join(self._file.read(*fragment) for fragment in self._frames[index])
            return decode_frame(
                data, self._file.syntax, self.shape, self._samples, self._allocated, self._kind
            )
        first, rest = divmod(index * self._frame_bits, 8)
        data = self._file.read(self._file.start + first, -(-(rest + self._frame_bits) // 8))
        if self._allocated == 1:
            bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[
                rest : rest + self._frame_bits
            ]
            return StoredFrame(bits.reshape(self.shape), luma_first=False)
        order = "<" if self._file.syntax.is_little_endian else ">"
        pixels = np.frombuffer(data, np.dtype(order + (self._file.floats or f"u{self._allocated // 8}")))
        return StoredFrame(self._arranged(pixels), luma_first=self._kind.startswith("YBR"))

    def _arranged(self, pixels: NDArray[Any]) -> NDArray[Any]:
        height, width = self.shape
        if self._kind == "YBR_FULL_422":  # Y Y Cb Cr
            return np.ascontiguousarray(pixels.reshape(height, width // 2, 4)[..., :2]).reshape(height, width)
        if self._samples == 1:
            return pixels.reshape(height, width)
        if _whole(self._file.dataset, "PlanarConfiguration", 0) == 1:
            return np.moveaxis(pixels.reshape(self._samples, height, width), 0, -1)
        return pixels.reshape(height, width, self._samples)

    def _gray(self, frame: StoredFrame, index: int) -> Image:
        pixels, luma_first = frame
        if pixels.shape[:2] != self.shape:
            raise UnreadableImage(
                f"it has {pixels.shape[1]}x{pixels.shape[0]} pixels in place of those stated"
            )
        if self._kind == "PALETTE COLOR":
            return luma_of_colour(
                apply_color_lut(np.asarray(pixels, pixels.dtype.newbyteorder("=")), self._file.dataset),
                blue_first=False,
            )
        if pixels.ndim == 3 and self._kind not in _GRAY and pixels.shape[2] >= 3:
            if luma_first:
                return self._levels.image(self._numbers(pixels[..., 0]), index)
            planes = [self._levels.image(self._numbers(pixels[..., sample]), index) for sample in range(3)]
            return luma_of_colour(np.stack(planes, -1), blue_first=False)
        return self._levels.image(self._numbers(pixels if pixels.ndim == 2 else pixels[..., 0]), index)

    def _numbers(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """``pixels`` without the bits that are not theirs, signed where they are."""
        if self._file.floats:
            return np.asarray(pixels, self._values.dtype)
        size = pixels.dtype.itemsize
        plain = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("=")).view(f"u{size}")
        bits = min(self._bits, 8 * size)
        if self._shift and not self._frames:
            plain = plain >> plain.dtype.type(self._shift)
        spare = 8 * size - bits
        if spare:
            plain = plain << plain.dtype.type(spare)
        numbers = plain.view(f"i{size}") if self._signed else plain
        return (numbers >> numbers.dtype.type(spare) if spare else numbers).astype(self._values.dtype)


def _whole(header: Dataset, name: str, usual: int | None = None) -> int:
    """The number ``name``, or the ``usual`` one where it is missing or empty. Raises UnreadableImage."""
    value = header.get(name)
    number = usual if value is None or value == "" else value
    if not isinstance(number, int):
        raise UnreadableImage(f"{name} is missing or no whole number")
    return int(number)
