"""Stacks: OME-TIFF of several files, animations, DICOM."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from random import Random
from typing import Any

import cv2
import imagecodecs
import numpy as np
from PIL import Image as Pillow
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG4HP41,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    RLELossless,
)

from clesr.pipeline.sources.registry import open_source
from fuzz.mutations import flip
from fuzz.target import Target, drain
from fuzz.targets import CORPUS
from fuzz.targets.images import noise, tiff_bytes


class Ome(Target):
    """An OME-TIFF beside another that its description names, by its own name and in a folder."""

    def seeds(self) -> list[bytes]:
        document = (
            b"<?xml version='1.0'?><OME xmlns='http://www.openmicroscopy.org/Schemas/OME/2016-06' UUID='urn:uuid:1'>"
            b"<Image><Pixels DimensionOrder='XYCZT' Type='uint16' SizeX='20' SizeY='16' SizeC='2' SizeZ='1' SizeT='3' "
            b"TimeIncrement='80' TimeIncrementUnit='ms'><TiffData FirstT='0' IFD='0' PlaneCount='2'>"
            b"<UUID FileName='a.ome.tif'>urn:uuid:1</UUID></TiffData><TiffData FirstT='1' IFD='1' PlaneCount='1'>"
            b"<UUID FileName='b.ome.tif'>urn:uuid:2</UUID></TiffData>"
            b"<Plane TheT='0' TheC='0' TheZ='0' DeltaT='1.5' DeltaTUnit='ms'/></Pixels></Image></OME>"
        )
        blank = document.split(b"<TiffData")[0] + b"<TiffData/></Pixels></Image></OME>"
        deep = noise(3, 16, 20, dtype=np.uint16)
        return [
            tiff_bytes(deep, description=text, metadata=None, photometric="minisblack")
            for text in (document, blank, b"<OME><BinaryOnly MetadataFile='b.ome.tif'/></OME>")
        ] + [
            tiff_bytes(
                noise(2, 3, 2, 16, 20),
                imagej=True,
                metadata={"axes": "TZCYX", "finterval": 80.0, "tunit": "ms"},
            )
        ]

    def run(self, data: bytes) -> None:
        for name in "ab":
            (self.folder / f"{name}.ome.tif").write_bytes(data)
        for place in (self.folder / "a.ome.tif", self.folder):
            drain(
                open_source(str(place), pace="max", channel=1 if len(data) % 2 else None, window=(0.0, 1.0)),
                8,
            )


class Animated(Target):
    """An animation, of which a first byte says how it is named."""

    def seeds(self) -> list[bytes]:
        made = []
        for kind, options in (
            (0, {"lossless": True}),
            (0, {"quality": 50}),
            (1, {}),
            (1, {"default_image": True}),
            (2, {}),
            (2, {"disposal": 2, "transparency": 0}),
        ):
            file = io.BytesIO()
            first, *rest = (Pillow.fromarray(image) for image in noise(4, 16, 20))
            form = ("WEBP", "PNG", "GIF")[kind]
            first.save(file, form, save_all=True, append_images=rest, duration=[40, 80, 20, 7], **options)
            made.append(bytes([kind]) + file.getvalue())
        return made

    def mutate(self, rng: Random, data: bytes) -> bytes:
        """Half of the changed PNG files get checksums that hold."""
        changed = data[:1] + flip(rng, data[1:])
        if data[:1] == b"\1" and rng.random() < 0.5:
            changed = data[:1] + _checked(changed[1:])
        return changed

    def run(self, data: bytes) -> None:
        path = self.folder / f"a{('.webp', '.png', '.gif')[(data[0] if data else 0) % 3]}"
        path.write_bytes(data[1:])
        drain(open_source(str(path), pace="max"), 12)


def _checked(data: bytes) -> bytes:
    """A PNG file with its checksums made anew."""
    made, at = data[:8], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + length]
        made += data[at : at + 4] + body + zlib.crc32(body).to_bytes(4, "big")
        at += 12 + length
    return made


class Dicom(Target):
    """DICOM files of several kinds."""

    def seeds(self) -> list[bytes]:
        gray, deep = noise(3, 16, 20), noise(3, 16, 20, dtype=np.uint16)
        rle = struct.pack("<16I", 1, 64, *[0] * 14) + bytes(imagecodecs.packbits_encode(gray[0].tobytes()))
        lossless = [bytes(imagecodecs.jpeg2k_encode(image, level=0)) for image in gray]
        twelve = {"BitsStored": 12, "HighBit": 11, "FrameTimeVector": [0, 8, 9]}
        plain: Mapping[str, Any] = {"FrameTime": "80", "WindowCenter": "90", "WindowWidth": "20"}
        groups, values = Dataset(), Dataset()
        values.RescaleSlope, values.RescaleIntercept = "2", "-5"
        groups.PixelValueTransformationSequence = [values]
        ybr = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "YBR_FULL"}
        coloured = [cv2.imencode(".jpg", image)[1].tobytes() for image in noise(3, 16, 20, 3)]
        whole = [bytes(imagecodecs.jpeg2k_encode(image, level=0, mct=False)) for image in noise(3, 16, 20, 3)]
        made: list[tuple[Any, bytes, int, Mapping[str, Any]]] = [
            (ExplicitVRLittleEndian, gray.tobytes(), 8, plain),
            (ImplicitVRLittleEndian, deep.tobytes(), 16, twelve),
            (ExplicitVRLittleEndian, deep.tobytes(), 16, {"SharedFunctionalGroupsSequence": [groups]}),
            (ExplicitVRLittleEndian, noise(3, 16, 20, 3).tobytes(), 8, {"SamplesPerPixel": 3, "PlanarConfiguration": 0,
                                                                       "PhotometricInterpretation": "RGB"}),
            (ExplicitVRLittleEndian, deep.tobytes(), 16, {"PerFrameFunctionalGroupsSequence": [groups, Dataset()]}),
            (JPEGBaseline8Bit, encapsulate(coloured, fragments_per_frame=2, has_bot=False), 8, ybr),
            (JPEG2000Lossless, encapsulate(whole, fragments_per_frame=2, has_bot=False), 8, ybr),
            (DeflatedExplicitVRLittleEndian, gray.tobytes(), 8, {}),
            (RLELossless, encapsulate([rle] * 3), 8, {}),
            (JPEGLSLossless, encapsulate([bytes(imagecodecs.jpegls_encode(image)) for image in deep]), 16, {}),
            (JPEG2000Lossless, encapsulate(lossless), 8, {}),
            (JPEGBaseline8Bit, encapsulate([cv2.imencode(".jpg", image)[1].tobytes() for image in gray]), 8, {}),
        ]  # fmt: skip
        video = (CORPUS / "video" / "seed-libx264-yuv420p").read_bytes()[1:]
        colour = {
            "SamplesPerPixel": 3,
            "PlanarConfiguration": 0,
            "PhotometricInterpretation": "YBR_PARTIAL_420",
        }
        made.append((MPEG4HP41, encapsulate([video]), 8, colour))
        return [_dicom(*each) for each in made]

    def run(self, data: bytes) -> None:
        path = self.folder / "a.dcm"
        path.write_bytes(data)
        drain(open_source(str(path), pace="max", window=(0.0, 1.0) if len(data) % 3 == 0 else None), 8)


def _dicom(syntax: Any, pixels: bytes, bits: int, words: Mapping[str, Any]) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MultiFrameGrayscaleByteSecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    meta.TransferSyntaxUID = syntax
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    usual = {
        "Rows": 16, "Columns": 20, "NumberOfFrames": 3, "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1,
        "PixelRepresentation": 0, "PixelData": pixels,
    }  # fmt: skip
    for name, value in {**usual, **words}.items():
        setattr(dataset, name, value)
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    dataset["PixelData"].is_undefined_length = meta.TransferSyntaxUID.is_encapsulated
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()
