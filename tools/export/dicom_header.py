"""The attributes of exported DICOM objects (PS3.3: A.8.3, A.8.4, A.32.1, A.32.5, C.7.6, C.8.6, C.8.12)."""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    VideoEndoscopicImageStorage,
    VLEndoscopicImageStorage,
    generate_uid,
)

from clesr import __version__
from clesr.engines.common.clock import ASSUMED_FPS
from clesr.tools.export.burn_in import WARNING
from clesr.tools.export.clip import Clip, Still
from clesr.tools.export.dicom_video import Form
from clesr.tools.export.patient import Patient

MAKER = "clesr"
ANONYMOUS = Patient(name="Anonymous^Patient", id="ANONYMOUS")
DEIDENTIFIED = "clesr export: written without anything that the source says of the patient, and without dates"
_ENDOSCOPIC = (VLEndoscopicImageStorage, VideoEndoscopicImageStorage)
_LISTED = 8000  # frame numbers in one reference: at most 7 characters each in 65534 bytes
_FINEST_ASPECT = 1000  # the largest denominator of a pixel's width over its height
_LONG_TEXT, _SHORT_TEXT = 64, 1024
FrameReference = tuple[str, str, int]
"""A frame in an object of the study: SOP class and instance, and its number from 1."""


class Study:
    """One study, to which each object of an export belongs; it remembers the raw frames in them, by number, as the
    sources of SR ones. Its identifiers are new, or where they are ``stable`` made of what the objects contain, so that
    the same export gives the same objects again."""

    def __init__(
        self,
        patient: Patient | None,
        kind: str,
        *,
        region: str | None,
        text_free: bool,
        stable: bool = False,
    ) -> None:
        self._stable, self._kind = stable, kind
        self._patient, self._anonymous = patient or ANONYMOUS, patient is None
        self._region, self._text_free = region, text_free
        self._uid = self._patient.study_instance_uid
        self._series: dict[int, str] = {}
        self._sources: dict[int, FrameReference] = {}

    def describe(
        self, clip: Clip, form: Form, shown: Sequence[Still], place: tuple[int, int], digest: str
    ) -> Dataset:
        """The object of the ``shown`` stills of ``clip``, without pixels.

        ``form`` is that of their pixels, ``place`` the numbers of series and instance, ``digest`` a hash of the pixels.
        """
        self._uid = self._uid or self._identifier("study", digest, self._patient, clip.started, clip.notes)
        if place[0] not in self._series:
            self._series[place[0]] = self._identifier("series", self._uid, place[0], digest)
        dataset = Dataset()
        sop_class = _sop_class(self._kind, form.itemsize)
        _add_identity(dataset, sop_class)
        self._add_patient(dataset)
        self._add_study(dataset, clip, place)
        _add_equipment(dataset, clip, sop_class)
        self._add_image(dataset, clip, sop_class)
        _add_pixels(dataset, clip, form, sop_class)
        _add_frames(dataset, shown, sop_class, clip.fps)
        if clip.derivation is not None:
            _add_derivation(dataset, clip, shown, self._sources)
        elif clip.edits:
            dataset.DerivationDescription = "; ".join(clip.edits)[:_SHORT_TEXT]
        dataset.SOPInstanceUID = self._identifier("instance", digest, dataset.to_json())
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        if clip.kind == "raw":
            for index, still in enumerate(shown, 1):
                self._sources[still.number] = dataset.SOPClassUID, dataset.SOPInstanceUID, index
        return dataset

    def _identifier(self, *about: object) -> str:
        """A UID of PS3.5, B.2: of ``about`` where identifiers are stable, else a new one."""
        if not self._stable:
            return str(generate_uid(prefix=None))
        data = hashlib.sha256("\0".join(map(str, about)).encode()).digest()
        return f"2.25.{UUID(bytes=data[:16], version=5).int}"

    def _add_patient(self, dataset: Dataset) -> None:
        patient = self._patient
        dataset.PatientName, dataset.PatientID = patient.name, patient.id
        dataset.PatientBirthDate, dataset.PatientSex = patient.birth_date.replace("-", ""), patient.sex
        if self._anonymous:
            dataset.PatientIdentityRemoved = "YES"
            dataset.DeidentificationMethod = DEIDENTIFIED[:_LONG_TEXT]

    def _add_study(self, dataset: Dataset, clip: Clip, place: tuple[int, int]) -> None:
        patient = self._patient
        begin = datetime.fromisoformat(clip.started) if clip.started else None
        dataset.StudyInstanceUID = self._uid
        dataset.StudyDate = dataset.ContentDate = f"{begin:%Y%m%d}" if begin else ""
        dataset.StudyTime = f"{begin:%H%M%S.%f}" if begin else ""
        dataset.ContentTime = dataset.StudyTime or "000000"  # endoscopic objects must have one
        if begin and begin.tzinfo:
            dataset.TimezoneOffsetFromUTC = f"{begin:%z}"
        if self._anonymous:
            dataset.LongitudinalTemporalInformationModified = "UNMODIFIED" if begin else "REMOVED"
        dataset.AccessionNumber = patient.accession_number
        dataset.ReferringPhysicianName = patient.referring_physician
        dataset.StudyID = patient.study_id or "1"
        if patient.study_description:
            dataset.StudyDescription = patient.study_description
        if patient.institution:
            dataset.InstitutionName = patient.institution
        dataset.Modality = "ES"
        if self._region:  # all regions that can be named are single ones, which have no side
            name = self._region.title().replace("-", "")
            dataset.AnatomicRegionSequence = [_coded(getattr(codes.SCT, name))]
        else:
            dataset.Laterality = ""
        dataset.SeriesInstanceUID = self._series[place[0]]
        dataset.SeriesNumber, dataset.InstanceNumber = place
        made = f"super-resolved x{clip.derivation.scale}" if clip.derivation else "as captured"
        dataset.SeriesDescription = f"Confocal laser endomicroscopy, {made}"

    def _add_image(self, dataset: Dataset, clip: Clip, sop_class: UID) -> None:
        derived = clip.derivation is not None
        dataset.ImageType = [
            "DERIVED" if derived or clip.edits else "ORIGINAL",
            "SECONDARY" if derived else "PRIMARY",
        ]
        dataset.PatientOrientation = ""
        if sop_class in _ENDOSCOPIC:
            dataset.AcquisitionContextSequence = []
        if self._text_free:
            dataset.BurnedInAnnotation = "NO"
        elif sop_class not in _ENDOSCOPIC:
            dataset.BurnedInAnnotation = "YES"  # has to be stated, and nobody has looked
        comments = [*clip.edits, clip.notes, f"{WARNING}; research use only"]
        dataset.ImageComments = "; ".join(filter(None, comments))
        if clip.lossy is not None:
            dataset.LossyImageCompression = "01" if clip.lossy else "00"
        elif sop_class in _ENDOSCOPIC:
            dataset.LossyImageCompression = ""


def _sop_class(kind: str, itemsize: int) -> UID:
    if kind == "vl-endoscopic":
        return VLEndoscopicImageStorage
    if kind == "video-endoscopic":
        return VideoEndoscopicImageStorage
    if itemsize > 1:
        return MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    return MultiFrameGrayscaleByteSecondaryCaptureImageStorage


def _add_identity(dataset: Dataset, sop_class: UID) -> None:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class


def _add_equipment(dataset: Dataset, clip: Clip, sop_class: UID) -> None:
    dataset.Manufacturer, dataset.ManufacturerModelName = MAKER, "clesr export"
    dataset.SoftwareVersions = __version__
    if sop_class not in _ENDOSCOPIC:
        made = "SYN" if clip.synthetic else "WSD" if clip.derivation else "DI"
        dataset.ConversionType = made  # synthetic, workstation, digital interface


def _add_pixels(dataset: Dataset, clip: Clip, form: Form, sop_class: UID) -> None:
    bits = 8 * form.itemsize
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = form.shape
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
    if sop_class not in _ENDOSCOPIC:
        dataset.PresentationLUTShape = "IDENTITY"
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
        if clip.window is not None:  # what is black and what white (PS3.3, C.11.2.1.2)
            low, high = clip.window
            width = high - low + 1
            dataset.WindowCenter, dataset.WindowWidth = (
                f"{value:.10g}" for value in (low + width / 2, width)
            )
    if clip.pixel_um is not None and clip.height_um is not None:
        dataset.PixelSpacing = [f"{side / 1000:.10g}" for side in (clip.height_um, clip.pixel_um)]
    elif clip.pixel_aspect != 1:
        across, down = clip.pixel_aspect.limit_denominator(_FINEST_ASPECT).as_integer_ratio()
        dataset.PixelAspectRatio = [down, across]
    if form.video is not None:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "YBR_PARTIAL_420"
        dataset.PlanarConfiguration = 0
        dataset.file_meta.TransferSyntaxUID = UID(form.video.syntax.transfer_syntax)
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionMethod = form.video.syntax.method
        dataset.LossyImageCompressionRatio = _decimal(form.video.ratio)


def _add_frames(dataset: Dataset, shown: Sequence[Still], sop_class: UID, fps: float | None) -> None:
    """How many frames, and the milliseconds from each to the next; of a video the mean, as its stream has the times."""
    if sop_class == VLEndoscopicImageStorage:
        return
    dataset.NumberOfFrames = len(shown)
    times = [still.time_ns for still in shown]
    if sop_class == VideoEndoscopicImageStorage:
        mean = (times[-1] - times[0]) / max(1, len(times) - 1) or 1e9 / (fps or ASSUMED_FPS)
        dataset.FrameIncrementPointer = 0x00181063
        dataset.FrameTime = _decimal(mean / 1e6)
        dataset.CineRate = max(1, round(1e9 / mean))
        return
    if len(shown) == 1:
        return
    dataset.FrameIncrementPointer = 0x00181065
    steps = [0, *(b - a for a, b in itertools.pairwise(times))]
    dataset.FrameTimeVector = [_decimal(step / 1e6) for step in steps]


def _add_derivation(
    dataset: Dataset, clip: Clip, shown: Sequence[Still], sources: Mapping[int, FrameReference]
) -> None:
    words = [str(clip.derivation), *clip.edits]
    failed = [str(index) for index, still in enumerate(shown, 1) if still.bicubic]
    if failed:
        named = ", ".join(failed[:40]) + (" and more" if len(failed) > 40 else "")
        words.append(f"{len(failed)} frames are bicubic interpolation, because the engine failed: {named}")
    dataset.DerivationDescription = "; ".join(words)[:_SHORT_TEXT]
    dataset.DerivationCodeSequence = [_coded(codes.DCM.SpatialResampling)]
    assert clip.derivation is not None
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [_coded(codes.DCM.ProcessingEquipment)]
    equipment.Manufacturer = MAKER
    equipment.ManufacturerModelName = f"{clip.derivation.model} x{clip.derivation.scale}"[:_LONG_TEXT]
    equipment.SoftwareVersions = [__version__, clip.derivation.model_hash[:_LONG_TEXT]]
    equipment.ContributionDescription = str(clip.derivation)[:_SHORT_TEXT]
    dataset.ContributingEquipmentSequence = [equipment]
    references = _references(shown, sources)
    if references:
        dataset.SourceImageSequence = references


def _references(shown: Sequence[Still], sources: Mapping[int, FrameReference]) -> list[Dataset]:
    """The raw frames from which the ``shown`` ones came, object by object."""
    frames: dict[tuple[str, str], list[int]] = defaultdict(list)
    whole: dict[str, int] = defaultdict(int)
    for _, instance, _ in sources.values():
        whole[instance] += 1
    for still in shown:
        if still.number in sources:
            sop_class, instance, frame = sources[still.number]
            frames[sop_class, instance].append(frame)
    items = []
    for (sop_class, instance), numbers in frames.items():
        all_of_it = len(numbers) == whole[instance]
        for begin in range(0, 1 if all_of_it else len(numbers), _LISTED):
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
            if not all_of_it:
                item.ReferencedFrameNumber = numbers[begin : begin + _LISTED]
            item.PurposeOfReferenceCodeSequence = [_coded(codes.DCM.SourceImageForImageProcessingOperation)]
            items.append(item)
    return items


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = (
        code.value, code.scheme_designator, code.meaning,
    )  # fmt: skip
    return item


def _decimal(value: float) -> str:
    """A DICOM decimal string: at most 16 characters, no more digits than needed."""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return text if len(text) <= 16 else f"{value:.9e}"
