"""DICOM files as a source: written here by pydicom, and by clesr's own export."""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    RLELossless,
    generate_uid,
)
from recordings import drifting, noise, read_all, write_video

from clesr.engines.common.errors import MissingDependencyError, SourceError, UsageError
from clesr.pipeline.prepare import IntensityWindow
from clesr.pipeline.sources.registry import open_source

DEEP = np.stack(noise(4, (16, 22), np.uint16))
BYTES = np.stack(noise(4, (16, 22)))


def write(path: Path, pixels: bytes, shape: tuple[int, int], *, frames: int = 4, syntax: Any = ExplicitVRLittleEndian,
          **words: Any) -> Path:  # fmt: skip
    """A multi-frame object of 8-bit gray, but for the attributes in ``words``."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MultiFrameGrayscaleByteSecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    dataset = FileDataset(
        str(path), {}, file_meta=meta, preamble=bytes(128), is_implicit_VR=implicit, is_little_endian=little
    )  # fmt: skip
    dataset.SOPClassUID, dataset.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = *shape, frames
    usual = {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 8,
        "PixelRepresentation": 0,
    }
    for name, value in (usual | words).items():
        setattr(dataset, name, value)
    dataset.BitsStored = words.get("BitsStored", dataset.BitsAllocated)
    dataset.HighBit = words.get("HighBit", dataset.BitsStored - 1)
    dataset.PixelData = pixels
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)
    return path


def gray(path: Path, images: NDArray[Any], **words: Any) -> Path:
    return write(
        path,
        images.tobytes(),
        images.shape[1:],
        frames=len(images),
        BitsAllocated=8 * images.itemsize,
        **words,
    )


def images(path: Path, **options: Any) -> NDArray[Any]:
    frames, corrupt = read_all(open_source(str(path), pace="max", **options))
    assert not corrupt, corrupt
    return np.stack([frame.image for frame in frames])


def seconds(path: Path) -> list[float]:
    frames, _ = read_all(open_source(str(path), pace="max"))
    return [
        float(frame.pts * frame.time_base) for frame in frames if frame.pts is not None and frame.time_base
    ]


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_depths_signs_and_directions(tmp_path: Path, bits: int, signed: bool, inverse: bool) -> None:
    right = DEEP >> (16 - bits)
    stored = (1 << bits) - 1 - right if inverse else right
    if signed:
        stored = ((stored.astype(int) - (1 << (bits - 1))) & ((1 << bits) - 1)).astype(np.uint16)
    stored = stored.astype(np.uint8) if bits == 8 else stored
    kind = "MONOCHROME1" if inverse else "MONOCHROME2"
    path = gray(
        tmp_path / "a.dcm",
        stored,
        BitsStored=bits,
        PixelRepresentation=int(signed),
        PhotometricInterpretation=kind,
    )
    np.testing.assert_array_equal(images(path), right if bits == 8 else right << (16 - bits))


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2", "RGB"])
@pytest.mark.parametrize(
    ("allocated", "bits"), [(word, bits) for word in (8, 16, 32) for bits in range(1, min(word, 16) + 1)]
)
def test_every_depth_has_the_full_range_in_every_word(
    tmp_path: Path, allocated: int, bits: int, kind: str
) -> None:
    values = DEEP >> (16 - bits)
    stored = ((1 << bits) - 1 - values if kind == "MONOCHROME1" else values).astype(f"u{allocated // 8}")
    samples = 3 if kind == "RGB" else 1
    path = write(
        tmp_path / "a.dcm", np.stack([stored] * samples, -1).tobytes(), (16, 22), BitsAllocated=allocated,
        BitsStored=bits, SamplesPerPixel=samples, PhotometricInterpretation=kind, PlanarConfiguration=0,
    )  # fmt: skip
    found = images(path)
    assert found.dtype == (np.uint8 if bits <= 8 else np.uint16)
    right = np.rint(values * (255 / ((1 << bits) - 1))) if bits <= 8 else values << (16 - bits)
    np.testing.assert_allclose(found, right, atol=kind == "RGB")


def test_bits_that_are_not_of_the_image_are_left_out(tmp_path: Path) -> None:
    """Twelve bits at the top of a word, with an overlay below; and others above."""
    value = DEEP >> 4
    path = gray(tmp_path / "a.dcm", value << 4 | 0xB, BitsStored=12, HighBit=15)
    np.testing.assert_array_equal(images(path), value << 4)
    path = gray(tmp_path / "a.dcm", value | 0xA000, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(images(path), value << 4)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_transfer_syntaxes_without_compression(tmp_path: Path, syntax: str) -> None:
    big = syntax == ExplicitVRBigEndian
    stored = DEEP.byteswap() if big else DEEP
    path = gray(tmp_path / "a.dcm", stored, syntax=syntax)
    np.testing.assert_array_equal(images(path), DEEP)


def deflated(path: Path, unpacked: bytes) -> Path:
    """``path``, whose data set is replaced by ``unpacked``, deflated."""
    write(path, bytes(16 * 22), (16, 22), frames=1, syntax=DeflatedExplicitVRLittleEndian)
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, 140)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    path.write_bytes(data[: 144 + length] + packer.compress(unpacked) + packer.flush())
    return path


def test_a_deflated_data_set(tmp_path: Path) -> None:
    path = gray(tmp_path / "a.dcm", DEEP, syntax=DeflatedExplicitVRLittleEndian)
    np.testing.assert_array_equal(images(path), DEEP)
    with pytest.raises(SourceError, match="unpacks to more than"):
        open_source(str(deflated(tmp_path / "b.dcm", bytes(200 << 20))))


CODECS: dict[str, tuple[str, Any]] = {
    "jpeg-ls": (JPEGLSLossless, imagecodecs.jpegls_encode),
    "jpeg 2000": (JPEG2000Lossless, lambda image: imagecodecs.jpeg2k_encode(image, level=0)),
    "lossless jpeg": (JPEGLosslessSV1, imagecodecs.ljpeg_encode),
}


@pytest.mark.parametrize("several", [False, True], ids=["a fragment a frame", "several fragments a frame"])
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_compressed_frames(tmp_path: Path, codec: str, bits: int, several: bool) -> None:
    syntax, encode = CODECS[codec]
    right = DEEP >> (16 - bits)
    stored = right.astype(np.uint8) if bits == 8 else right
    data = encapsulate([bytes(encode(image)) for image in stored], fragments_per_frame=3 if several else 1)
    path = write(
        tmp_path / "a.dcm", data, (16, 22), syntax=syntax, BitsAllocated=8 * stored.itemsize, BitsStored=bits
    )
    np.testing.assert_array_equal(images(path), right if bits == 8 else right << (16 - bits))


@pytest.mark.parametrize("frames", [BYTES, DEEP], ids=["8 bit", "16 bit"])
def test_run_lengths(tmp_path: Path, frames: NDArray[Any]) -> None:
    data = encapsulate([_rle(image) for image in frames])
    path = write(tmp_path / "a.dcm", data, (16, 22), syntax=RLELossless, BitsAllocated=8 * frames.itemsize)
    np.testing.assert_array_equal(images(path), frames)


def _rle(*samples: NDArray[Any]) -> bytes:
    """Segments of PackBits, each a byte of all pixels, the most significant of each sample first."""
    planes = [
        plane
        for image in samples
        for plane in image.astype(image.dtype.newbyteorder(">")).view(np.uint8).reshape(-1, image.itemsize).T
    ]
    segments = [bytes(imagecodecs.packbits_encode(plane.tobytes())) for plane in planes]
    segments = [segment + bytes(len(segment) % 2) for segment in segments]
    offsets = [64 + sum(map(len, segments[:number])) for number in range(len(segments))]
    return struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


@pytest.mark.parametrize("planar", [0, 1])
def test_colour_is_its_luma(tmp_path: Path, planar: int) -> None:
    colour = np.stack(noise(6, (16, 22))).reshape(2, 3, 16, 22)
    stored = colour if planar else np.moveaxis(colour, 1, -1)
    path = write(
        tmp_path / "a.dcm", stored.tobytes(), (16, 22), frames=2, SamplesPerPixel=3, PlanarConfiguration=planar,
        PhotometricInterpretation="RGB",
    )  # fmt: skip
    for found, image in zip(images(path), np.moveaxis(colour, 1, -1), strict=True):
        np.testing.assert_array_equal(found, cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY))


@pytest.mark.parametrize("kind", ["YBR_FULL", "YBR_FULL_422"])
def test_what_has_luma_keeps_it(tmp_path: Path, kind: str) -> None:
    y, cb, cr = BYTES[:1], BYTES[1:2], BYTES[2:3]
    if kind == "YBR_FULL":
        stored = np.stack([y, cb, cr], -1)
    else:
        stored = np.stack([y[..., ::2], y[..., 1::2], cb[..., ::2], cr[..., ::2]], -1)
    path = write(
        tmp_path / "a.dcm", stored.tobytes(), (16, 22), frames=1, SamplesPerPixel=3, PlanarConfiguration=0,
        PhotometricInterpretation=kind,
    )  # fmt: skip
    np.testing.assert_array_equal(images(path), y)


def test_jpeg_of_colour(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(16), 3 * np.arange(22)).astype(np.uint8)
    jpeg = cv2.imencode(".jpg", np.stack([smooth] * 3, -1), [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    path = write(
        tmp_path / "a.dcm", encapsulate([jpeg]), (16, 22), frames=1, syntax=JPEGBaseline8Bit, SamplesPerPixel=3,
        PlanarConfiguration=0, PhotometricInterpretation="YBR_FULL_422",
    )  # fmt: skip
    assert np.abs(images(path)[0].astype(int) - smooth).max() < 5


def _jpeg(stored: NDArray[Any], **words: Any) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(stored, level=100, subsampling="444", **words))


def _without_markers(jpeg: bytes) -> bytes:
    """``jpeg`` without the segments of JFIF and Adobe, which say what its samples are."""
    kept, at = jpeg[:2], 2
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        kept += b"" if jpeg[at + 1] in (0xE0, 0xEE) else jpeg[at:end]
        at = end
    return kept + jpeg[at:]


def _as_they_are(stored: NDArray[Any]) -> bytes:
    """A JPEG whose components have the numbers 1 to 3, and nothing that says what they are."""
    return _without_markers(_jpeg(stored, colorspace="YCBCR", outcolorspace="YCBCR"))


def _jpeg2000(stored: NDArray[Any], *, transformed: bool) -> bytes:
    return bytes(
        imagecodecs.jpeg2k_encode(stored, level=0, reversible=True, codecformat="j2k", mct=transformed)
    )


# Syntax, photometric interpretation, whether Y, Cb and Cr are handed to the encoder (else RGB), and the encoder.
COLOURS: dict[str, tuple[Any, str, bool, Any]] = {
    "jpeg-ls, ybr": (JPEGLSLossless, "YBR_FULL", True, imagecodecs.jpegls_encode),
    "jpeg-ls, rgb": (JPEGLSLossless, "RGB", False, imagecodecs.jpegls_encode),
    "jpeg 2000, ybr": (JPEG2000Lossless, "YBR_FULL", True, partial(_jpeg2000, transformed=False)),
    "jpeg 2000, rgb": (JPEG2000Lossless, "RGB", False, partial(_jpeg2000, transformed=False)),
    "jpeg 2000, rct": (JPEG2000Lossless, "YBR_RCT", False, partial(_jpeg2000, transformed=True)),
    "jpeg 2000, called ybr": (JPEG2000Lossless, "YBR_FULL", False, partial(_jpeg2000, transformed=True)),
    "htj2k, ybr": (HTJ2KLossless, "YBR_FULL", True, partial(_jpeg2000, transformed=False)),
    "run lengths, ybr": (RLELossless, "YBR_FULL", True, lambda image: _rle(*np.moveaxis(image, -1, 0))),
    "run lengths, rgb": (RLELossless, "RGB", False, lambda image: _rle(*np.moveaxis(image, -1, 0))),
    "jpeg, rgb, unmarked": (JPEGBaseline8Bit, "RGB", False, _as_they_are),
    "jpeg, ybr, unmarked": (JPEGBaseline8Bit, "YBR_FULL", True, _as_they_are),
    "jpeg, ybr, jfif": (JPEGBaseline8Bit, "YBR_FULL", False, partial(_jpeg, colorspace="RGB", outcolorspace="YCBCR")),
    "jpeg, jfif called rgb": (JPEGBaseline8Bit, "RGB", False, partial(_jpeg, colorspace="RGB", outcolorspace="YCBCR")),
    "jpeg, rgb, adobe": (JPEGBaseline8Bit, "RGB", False, partial(_jpeg, colorspace="RGB", outcolorspace="RGB")),
    "jpeg, adobe called ybr": (
        JPEGBaseline8Bit, "YBR_FULL_422", False, partial(_jpeg, colorspace="RGB", outcolorspace="RGB"),
    ),
    "lossless jpeg, rgb": (JPEGLosslessSV1, "RGB", False, partial(_jpeg, lossless=True, predictor=1)),
    "lossless jpeg, ybr": (JPEGLosslessSV1, "YBR_FULL", True, partial(_jpeg, lossless=True, predictor=1)),
}  # fmt: skip


@pytest.mark.parametrize("name", COLOURS)
def test_luma_of_every_syntax_and_photometric_interpretation(tmp_path: Path, name: str) -> None:
    syntax, kind, converted, encode = COLOURS[name]
    rows, columns = np.mgrid[:16, :22]
    colour = np.stack([255 - 11 * columns, 3 * rows + 20, 9 * columns], -1).astype(np.uint8)
    luma = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    stored = cv2.cvtColor(colour, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]] if converted else colour
    path = write(
        tmp_path / "a.dcm", encapsulate([encode(np.ascontiguousarray(stored))] * 2), (16, 22), frames=2,
        syntax=syntax, SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation=kind,
    )  # fmt: skip
    for found in images(path):
        assert np.abs(found.astype(int) - luma).max() <= (3 if syntax == JPEGBaseline8Bit else 0)


def test_palettes(tmp_path: Path) -> None:
    words: dict[str, Any] = {}
    for colour in ("Red", "Green", "Blue"):
        words[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        words[f"{colour}PaletteColorLookupTableData"] = (np.arange(255, -1, -1) * 257).astype("<u2").tobytes()
    path = gray(tmp_path / "a.dcm", BYTES, PhotometricInterpretation="PALETTE COLOR", **words)
    np.testing.assert_array_equal(images(path), (255 - BYTES).astype(np.uint16) * 257)


def test_one_bit(tmp_path: Path) -> None:
    """Frames follow each other bit by bit: the second begins in the middle of a byte."""
    bits = np.stack(noise(3, (5, 7))) > 128
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    path = write(tmp_path / "a.dcm", packed + bytes(len(packed) % 2), (5, 7), frames=3, BitsAllocated=1)
    np.testing.assert_array_equal(images(path), bits * np.uint8(255))


BOTH_TIMES: dict[str, Any] = {"FrameTimeVector": ["0", "10", "20", "30"], "FrameTime": "80"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"FrameTime": "80"}, [0, 0.08, 0.16, 0.24]),
        ({"FrameTimeVector": ["0", "10", "20", "30"]}, [0, 0.01, 0.03, 0.06]),
        ({"FrameTimeVector": ["0", "0", "30", "20"]}, [0, 1e-6, 0.03, 0.05]),
        ({"FrameTimeVector": ["0", "0", "0", "0"]}, [0, 0.04, 0.08, 0.12]),
        ({"FrameTimeVector": ["0", "30", "-20", "30"]}, [0, 0.04, 0.08, 0.12]),
        ({"FrameTimeVector": ["0", "10"], "FrameTime": "80"}, [0, 0.08, 0.16, 0.24]),
        ({**BOTH_TIMES}, [0, 0.01, 0.03, 0.06]),
        ({**BOTH_TIMES, "FrameIncrementPointer": 0x00181063}, [0, 0.08, 0.16, 0.24]),
        ({**BOTH_TIMES, "FrameIncrementPointer": [0x00181063, 0x00181065]}, [0, 0.08, 0.16, 0.24]),
        ({**BOTH_TIMES, "FrameIncrementPointer": 0x00181065}, [0, 0.01, 0.03, 0.06]),
        ({**BOTH_TIMES, "FrameTime": None, "FrameIncrementPointer": 0x00181063}, [0, 0.01, 0.03, 0.06]),
        ({"RecommendedDisplayFrameRate": "8"}, [0, 0.125, 0.25, 0.375]),
        ({"CineRate": "10"}, [0, 0.1, 0.2, 0.3]),
        ({"FrameTime": "0", "CineRate": "10"}, [0, 0.1, 0.2, 0.3]),
        ({}, [0, 0.04, 0.08, 0.12]),
    ],
)
def test_times(tmp_path: Path, words: dict[str, Any], expected: list[float]) -> None:
    assert seconds(gray(tmp_path / "a.dcm", BYTES, **words)) == pytest.approx(expected)


def functional_groups(**rescale: str) -> Sequence[Dataset]:
    group, values, window = Dataset(), Dataset(), Dataset()
    values.RescaleSlope, values.RescaleIntercept = "2", "-1000"
    window.WindowCenter, window.WindowWidth = "600.5", "401"
    group.PixelValueTransformationSequence, group.FrameVOILUTSequence = [values], [window]
    return [group]


@pytest.mark.parametrize(
    "words",
    [
        {"RescaleSlope": "2", "RescaleIntercept": "-1000", "WindowCenter": "600.5", "WindowWidth": "401"},
        {"RescaleSlope": "2", "RescaleIntercept": "-1000", "WindowCenter": ["600.5", "9"], "WindowWidth": ["401", "2"]},
        {"SharedFunctionalGroupsSequence": functional_groups()},
        {
            "RescaleSlope": "2", "RescaleIntercept": "-1000", "WindowCenter": "600", "WindowWidth": "400",
            "VOILUTFunction": "LINEAR_EXACT",
        },
    ],
    ids=["plain", "several windows", "functional groups", "exact"],
)  # fmt: skip
def test_the_window_that_the_file_states(tmp_path: Path, words: dict[str, Any]) -> None:
    """400 to 800 of its unit, which are 700 to 900 as stored in 12 bits."""
    path = gray(tmp_path / "a.dcm", DEEP >> 4, BitsStored=12, **words)
    source = open_source(str(path))
    source.close()
    assert source.info.window == (700 * 16, 900 * 16)
    assert IntensityWindow().or_stated(source.info.window) == IntensityWindow("fixed", 11200, 14400)
    for mode in ("full", "percentile"):
        assert IntensityWindow(mode).or_stated(source.info.window) == IntensityWindow(mode)
    own = open_source(str(path), window=(0.0, 1000.0))
    own.close()
    assert own.info.window == (500 * 16, 1000 * 16)
    np.testing.assert_array_equal(images(path), DEEP >> 4 << 4)


def per_frame(slopes: Sequence[float], centres: Sequence[float] = ()) -> Sequence[Dataset]:
    """Functional groups of frames, each with a slope and, where there are some, a window 100 wide of its own."""
    groups = []
    for number, slope in enumerate(slopes):
        group, values, window = Dataset(), Dataset(), Dataset()
        values.RescaleSlope, values.RescaleIntercept = slope, 0
        group.PixelValueTransformationSequence = [values]
        if centres:
            window.WindowCenter, window.WindowWidth, window.VOILUTFunction = (
                centres[number],
                100,
                "LINEAR_EXACT",
            )
            group.FrameVOILUTSequence = [window]
        groups.append(group)
    return groups


def spread(values: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    return np.asarray(np.rint(np.clip((values - low) / (high - low), 0, 1) * 65535))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_a_window_is_in_the_unit_of_each_frame(tmp_path: Path, dtype: Any, kind: str) -> None:
    slopes = [1.0, 2.0, 0.5, -1.0]
    pixels = BYTES.astype(dtype)
    groups = per_frame(slopes)
    path = gray(
        tmp_path / "a.dcm", pixels, PhotometricInterpretation=kind, PerFrameFunctionalGroupsSequence=groups
    )
    with closing(open_source(str(path), window=(-100.0, 300.0))) as source:
        assert source.info.window == (0, 65535)
    for found, values, slope in zip(images(path, window=(-100.0, 300.0)), BYTES, slopes, strict=True):
        right = spread(values * slope, -100, 300)
        assert np.abs(found - (65535 - right if kind == "MONOCHROME1" else right)).max() <= 1


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_window_is_in_the_unit_of_each_file_of_a_folder(tmp_path: Path, bits: int) -> None:
    slopes = ["1", "2", "0.5", "-1"]
    values = DEEP >> (16 - bits)
    for number, slope in enumerate(slopes):
        stored = values[number : number + 1].astype(np.uint8 if bits == 8 else np.uint16)
        gray(tmp_path / f"{number}.dcm", stored, BitsStored=bits, RescaleSlope=slope, RescaleIntercept="0")
    for found, image, slope in zip(images(tmp_path, window=(-100.0, 300.0)), values, slopes, strict=True):
        assert np.abs(found - spread(image * float(slope), -100, 300)).max() <= 1


@pytest.mark.parametrize("slope", ["1e-300", "1e300", "-1e300"])
def test_a_slope_that_leaves_no_window_is_told_in_a_line(
    tmp_path: Path, slope: str, caplog: pytest.LogCaptureFixture
) -> None:
    stated = {"WindowCenter": "20", "WindowWidth": "9"}
    path = gray(tmp_path / "a.dcm", BYTES, RescaleSlope=slope, RescaleIntercept="7", **stated)
    with closing(open_source(str(path))) as source:
        assert source.info.window is None
    assert f"{path} states a window that is not taken: slope {float(slope):g} and intercept 7" in caplog.text
    with pytest.raises(SourceError, match=r"slope .*e.300 and intercept 7 leave no window") as raised:
        open_source(str(path), window=(10.0, 20.0))
    assert "\n" not in str(raised.value)
    np.testing.assert_array_equal(images(path), 255 - BYTES if slope.startswith("-") else BYTES)
    groups = per_frame([1, 1, float(slope), 1])
    path = gray(tmp_path / "b.dcm", BYTES, PerFrameFunctionalGroupsSequence=groups)
    _, corrupt = read_all(open_source(str(path), pace="max", window=(10.0, 20.0)))
    assert [item.number for item in corrupt] == [2]


def test_a_window_of_colour_is_in_values_of_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.dcm", np.stack([DEEP >> 4] * 3, -1).tobytes(), (16, 22), BitsAllocated=16, BitsStored=12,
        SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0,
    )  # fmt: skip
    with closing(open_source(str(path), window=(100.0, 900.0))) as source:
        assert source.info.window == (1600, 14400)


def windows_told(
    path: Path, caplog: pytest.LogCaptureFixture
) -> tuple[tuple[float, float] | None, list[str]]:
    """The window of the frames of ``path``, and what is told of it."""
    caplog.clear()
    with caplog.at_level("INFO"), closing(open_source(str(path))) as source:
        return source.info.window, [text for text in caplog.messages if "a window of" in text]


@pytest.mark.parametrize(
    ("centres", "slopes", "says"),
    [
        ([150, 150, 150], [1, 1, 1], "which --window auto takes (--window full: not)"),
        ([150, 160, 150], [1, 1, 1], "(--window full: not) for all 3 {}; 1 of them state another or none"),
        ([150, 150, 150], [1, 2, 1], "which is not taken: the {} have different units or depths"),
    ],
)
def test_one_window_of_several_that_are_stated_is_taken_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, centres: list[float], slopes: list[float], says: str
) -> None:
    groups = per_frame(slopes, centres)
    frames = gray(tmp_path / "a.dcm", BYTES[:3], PerFrameFunctionalGroupsSequence=groups)
    (tmp_path / "f").mkdir()
    for number in range(3):
        one = groups[number : number + 1]
        gray(tmp_path / "f" / f"{number}.dcm", BYTES[:1], PerFrameFunctionalGroupsSequence=one)
    for path, what in ((frames, "frames"), (tmp_path / "f", "images")):
        window, (told,) = windows_told(path, caplog)
        assert window == (None if "not taken" in says else (100, 200))
        assert told.endswith(says.format(what)) or says.format(what) in told
        assert "a.dcm states a window of 100 to 200" in told or "0.dcm states a window of 100 to 200" in told


def pixel_measures() -> Sequence[Dataset]:
    group, measures = Dataset(), Dataset()
    measures.PixelSpacing = ["0.0015", "0.0016"]
    group.PixelMeasuresSequence = [measures]
    return [group]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"PixelAspectRatio": ["15", "16"]}, Fraction(16, 15)),
        ({"PixelSpacing": ["0.3", "0.25"]}, Fraction(5, 6)),
        ({"PixelSpacing": ["0.3", "0.3"], "PixelAspectRatio": ["15", "16"]}, Fraction(1)),
        ({"SharedFunctionalGroupsSequence": pixel_measures()}, Fraction(16, 15)),
        ({"PixelAspectRatio": ["0", "16"]}, Fraction(1)),
        ({"PixelAspectRatio": "16"}, Fraction(1)),
        ({}, Fraction(1)),
    ],
)
def test_the_form_of_pixels(tmp_path: Path, words: dict[str, Any], expected: Fraction) -> None:
    (tmp_path / "folder").mkdir()
    gray(tmp_path / "folder" / "a.dcm", BYTES, **words)
    for path in (tmp_path / "folder" / "a.dcm", tmp_path / "folder"):
        with closing(open_source(str(path))) as source:
            assert source.info.pixel_aspect == expected


def test_a_falling_slope_is_an_inverse(tmp_path: Path) -> None:
    path = gray(tmp_path / "a.dcm", 255 - BYTES, RescaleSlope="-1", RescaleIntercept="255")
    np.testing.assert_array_equal(images(path), BYTES)


def test_deep_integers_and_floats_need_a_window(tmp_path: Path) -> None:
    path = gray(tmp_path / "a.dcm", DEEP.astype(np.uint32) * 1000)
    with pytest.raises(SourceError, match=r"uint32 pixels.*--window LOW,HIGH"):
        open_source(str(path))
    found = images(path, window=(0.0, 65_535_000.0))
    np.testing.assert_array_equal(found, DEEP)


def test_a_cut_file_gives_what_is_there(tmp_path: Path) -> None:
    path = gray(tmp_path / "a.dcm", DEEP)
    path.write_bytes(path.read_bytes()[: -DEEP[0].nbytes * 2 + 100])
    frames, corrupt = read_all(open_source(str(path), pace="max"))
    assert [frame.number for frame in frames] == [0, 1]
    assert [item.reason for item in corrupt] == [
        "the file ends early: 2 of the 4 frames that it states are there"
    ]


@pytest.mark.parametrize("form", ["plain", "bits", "jpeg-ls", "run lengths"])
@pytest.mark.parametrize(("stated", "held"), [(1, 4), (3, 4), (3, 3), (1, 1)])
def test_frames_behind_those_that_are_stated_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str, stated: int, held: int
) -> None:
    """An odd number of bytes is filled up by one, which is no frame."""
    pixels = BYTES[:held, :15, :21]
    coded: dict[str, Any] = {"jpeg-ls": imagecodecs.jpegls_encode, "run lengths": _rle}
    if form in coded:
        data = encapsulate([bytes(coded[form](np.ascontiguousarray(image))) for image in pixels])
    else:
        data = pixels.tobytes() if form == "plain" else np.packbits(pixels > 128, bitorder="little").tobytes()
        data += bytes(len(data) % 2)
    syntax = {"jpeg-ls": JPEGLSLossless, "run lengths": RLELossless}.get(form, ExplicitVRLittleEndian)
    allocated = 1 if form == "bits" else 8
    path = write(tmp_path / "a.dcm", data, (15, 21), frames=stated, syntax=syntax, BitsAllocated=allocated)
    right = (pixels > 128) * np.uint8(255) if form == "bits" else pixels
    np.testing.assert_array_equal(images(path), right[:stated])
    told = [text for text in caplog.messages if "holds" in text]
    assert told == (
        [f"{path} holds {held} frames and states {stated}: those behind are left out"] * (held > stated)
    )


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("several", [2, 3])
def test_fragments_without_a_table_of_offsets(tmp_path: Path, codec: str, frames: int, several: int) -> None:
    syntax, encode = CODECS[codec]
    coded = [bytes(encode(image)) for image in DEEP[:frames]]
    data = encapsulate(coded, fragments_per_frame=several, has_bot=False)
    path = write(tmp_path / "a.dcm", data, (16, 22), frames=frames, syntax=syntax, BitsAllocated=16)
    np.testing.assert_array_equal(images(path), DEEP[:frames])


def test_a_damaged_frame_is_corrupt(tmp_path: Path) -> None:
    coded = [bytes(imagecodecs.jpegls_encode(image)) for image in DEEP]
    coded[1] = bytes(imagecodecs.jpegls_encode(DEEP[0][:8]))  # another size
    coded[2] = coded[2][:40] + bytes(len(coded[2]) - 40)
    path = write(tmp_path / "a.dcm", encapsulate(coded), (16, 22), syntax=JPEGLSLossless, BitsAllocated=16)
    frames, corrupt = read_all(open_source(str(path), pace="max"))
    assert [frame.number for frame in frames] == [0, 3]
    assert [item.number for item in corrupt] == [1, 2]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"Rows": 65535, "Columns": 65535}, "pixels; allowed are 8192"),
        ({"Rows": 8192, "Columns": 8192, "SamplesPerPixel": 9}, "more than its"),
        ({"BitsAllocated": 24}, "24 bits a sample"),
        ({"PhotometricInterpretation": "HSV"}, "'HSV'"),
        ({"SamplesPerPixel": 0}, "has 0 samples a pixel; allowed are 1, 3 and 4"),
        ({"SamplesPerPixel": 2}, "has 2 samples a pixel"),
        ({"Rows": None}, "Rows is missing or no whole number"),
        ({"Columns": [4, 5]}, "Columns is missing or no whole number"),
        ({"NumberOfFrames": 2_000_000_000}, "at most 1000000"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_line(tmp_path: Path, words: dict[str, Any], says: str) -> None:
    path = write(tmp_path / "a.dcm", bytes(400), (4, 5), **words)
    with pytest.raises(SourceError, match=says) as raised:
        open_source(str(path))
    assert "\n" not in str(raised.value)


def test_no_dicom_file_and_options_that_it_has_not(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"text" * 99)
    with pytest.raises(SourceError, match="no DICOM file"):
        open_source(str(tmp_path / "a.dcm"))
    for channel, plane in ((1, None), (None, 1)):
        with pytest.raises(UsageError, match="allowed is 0"):
            open_source(str(gray(tmp_path / "c.dcm", BYTES)), channel=channel, plane=plane)


@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
@pytest.mark.parametrize("timed", [False, True])
def test_a_video_in_a_dicom_file(tmp_path: Path, suffix: str, timed: bool) -> None:
    scene = drifting(6, (48, 64))
    write_video(tmp_path / f"a{suffix}", scene, codec="libx264", pixel_format="yuv420p")
    plain, _ = read_all(open_source(str(tmp_path / f"a{suffix}"), pace="max"))
    stream = (tmp_path / f"a{suffix}").read_bytes()
    words: dict[str, Any] = {"FrameTime": "80"} if timed else {}
    colour = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "YBR_PARTIAL_420"}
    data = encapsulate([stream], fragments_per_frame=2)
    path = write(tmp_path / "a.dcm", data, (48, 64), frames=6, syntax=MPEG4HP41, **colour, **words)
    source = open_source(str(path), pace="max")
    assert source.info.address == str(path)
    with pytest.raises(UsageError, match="no video track 7") as raised:
        open_source(str(path), track=7)
    assert str(raised.value).startswith(f"{path} ")
    frames, corrupt = read_all(source)
    assert not corrupt
    for frame, right in zip(frames, plain, strict=True):
        np.testing.assert_array_equal(frame.image, right.image)
    if timed:
        assert seconds(path)[:3] == pytest.approx([0, 0.08, 0.16])
    (tmp_path / "b").mkdir()
    path.rename(tmp_path / "b" / "a.dcm")
    with pytest.raises(SourceError, match="give the file itself"):
        open_source(str(tmp_path / "b"))


def test_a_damaged_video_in_a_dicom_file_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "b.dcm", encapsulate([b"\0\0\1\xb3" * 9]), (16, 22), frames=1, syntax=MPEG4HP41)
    with pytest.raises(SourceError, match="its video") as raised:
        open_source(str(path))
    assert "/proc" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_imagecodecs_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.dcm", encapsulate([b"\xff\xd8"]), (16, 22), frames=1, syntax=JPEGLSLossless)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(MissingDependencyError, match="run: pip install imagecodecs"):
        open_source(str(path))


def test_a_folder_is_a_series_in_the_order_of_its_instances(tmp_path: Path) -> None:
    """Files without a suffix too, whose names say nothing of their order."""
    series = generate_uid()
    for name, number in (("IM3", 1), ("IM1", 2), ("b.dcm", 3), ("IM2", 4)):
        gray(tmp_path / name, DEEP[number - 1 : number], InstanceNumber=number, SeriesInstanceUID=series)
    (tmp_path / "README").write_text("no image")
    np.testing.assert_array_equal(images(tmp_path), DEEP)
    np.testing.assert_array_equal(images(tmp_path / "IM1"), DEEP[1:2])
