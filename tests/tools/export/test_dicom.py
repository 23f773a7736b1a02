"""Checked by dciodvfy (dicom3tools) and read by pydicom."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pydicom
import pytest
from heard import hear
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from recordings import noise

from clesr.engines.common.errors import MissingDependencyError, UsageError
from clesr.pipeline.frame import Image
from clesr.tools.export import dicom, dicom_header
from clesr.tools.export.clip import Clip, Still
from clesr.tools.export.dicom import DicomExporter
from clesr.tools.export.dicom_video import choose_syntax
from clesr.tools.export.files import all_or_none
from clesr.tools.export.patient import Patient

MakeClip = Callable[..., Clip]
Program = Callable[[str, str], str]
PATIENT = Patient(
    name="Müller^Zoë", id="4711", birth_date="1960-12-31", sex="F", study_id="S7", institution="Clinic",
    accession_number="A1", referring_physician="Doe^J", study_description="CLE of the colon",
)  # fmt: skip
STARTED = "2026-03-04T05:06:07.250000+00:00"


def write(clips: dict[Path, Clip], **options: Any) -> list[str]:
    with all_or_none() as files:
        exporter = DicomExporter(**options)
        return [line for path, clip in clips.items() for line in exporter.write(clip, path, files)]


def pair(make_clip: MakeClip, dtype: type, frames: int = 5, **about: Any) -> tuple[Clip, Clip]:
    """Raw images, and SR images of all but the second of them."""
    raw = noise(frames, (31, 42), dtype)
    sr = noise(frames, (124, 168), dtype, seed=1)
    numbers = [n for n in range(frames) if n != 1]
    times = [(0, 40_000_000, 80_123_000, 520_000_000, 560_000_456)[n] for n in numbers]
    derived = make_clip([sr[n] for n in numbers], times, numbers=numbers, sr=True, **about)
    return make_clip(raw, **about), derived


VIDEO, VL = "video-endoscopic", "vl-endoscopic"
KINDS = {
    None: "Multi-frame Grayscale {} Secondary Capture Image Storage",
    "secondary-capture": "Multi-frame Grayscale {} Secondary Capture Image Storage",
    VL: "VL Endoscopic Image Storage",
    VIDEO: "Video Endoscopic Image Storage",
}


def check(dciodvfy: str, path: Path) -> Dataset:
    """``path`` read, after dciodvfy found nothing wrong."""
    done = subprocess.run([dciodvfy, "-new", str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stdout + done.stderr
    return pydicom.dcmread(path)


@pytest.mark.parametrize("patient", [None, PATIENT])
@pytest.mark.parametrize(
    ("dtype", "frames", "lossless", "region", "sop_class"),
    [
        (np.uint8, 1, True, "colon", VL),
        (np.uint8, 1, False, "colon", VL),
        (np.uint8, 5, True, None, None),
        (np.uint8, 5, True, "colon", None),
        (np.uint8, 5, False, "colon", "secondary-capture"),
        (np.uint16, 5, True, "colon", None),
        (np.uint16, 1, False, None, None),
    ],
)
def test_dciodvfy_passes_it_and_pydicom_reads_the_pixels(
    dtype: type, frames: int, lossless: bool, region: str | None, sop_class: str | None, patient: Patient | None,
    make_clip: MakeClip, program: Program, tmp_path: Path,
) -> None:  # fmt: skip
    about = {
        "pixel_um": 0.83,
        "started": STARTED if patient else None,
        "lossy": not lossless or None,
    }
    clips = dict(
        zip((tmp_path / "raw.dcm", tmp_path / "sr.dcm"), pair(make_clip, dtype, frames, **about), strict=True)
    )
    write(clips, patient=patient, region=region, sop_class=sop_class)
    for path, clip in clips.items():
        dataset = check(program("dciodvfy", "dicom3tools"), path)
        assert dataset.SOPClassUID.name == KINDS[sop_class].format("Byte" if dtype == np.uint8 else "Word")
        np.testing.assert_array_equal(dataset.pixel_array, np.squeeze([s.image for s in clip.stills]))
        assert dataset.pixel_array.dtype == dtype


def test_vl_endoscopic_is_an_object_for_each_image(
    make_clip: MakeClip, images: list[Image], program: Program, tmp_path: Path
) -> None:
    write({tmp_path / "a.dcm": make_clip(images)}, sop_class=VL, region="colon")
    names = ["a.dcm", *(f"a.{number}.dcm" for number in range(2, 6))]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(names)
    found = [check(program("dciodvfy", "dicom3tools"), tmp_path / name) for name in names]
    np.testing.assert_array_equal([dataset.pixel_array for dataset in found], images)
    assert [dataset.InstanceNumber for dataset in found] == [1, 2, 3, 4, 5]
    assert len({dataset.SeriesInstanceUID for dataset in found}) == 1
    assert len({dataset.SOPInstanceUID for dataset in found}) == 5


@pytest.mark.parametrize(("codec", "syntax"), [("h264", "102"), (None, "102"), ("hevc", "107")])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_video_endoscopic_holds_a_stream_that_players_decode(
    codec: str | None, syntax: str, dtype: type, make_clip: MakeClip, program: Program, tmp_path: Path
) -> None:
    ramp: Image = np.linspace(0, np.iinfo(dtype).max, 48 * 63).reshape(48, 63).astype(dtype)
    clip = make_clip(
        [ramp, np.ascontiguousarray(ramp[::-1]), ramp], (0, 40_000_000, 200_000_000), pixel_um=0.8
    )
    (said,) = write({tmp_path / "a.dcm": clip}, sop_class=VIDEO, region="colon", codec=codec, patient=PATIENT)
    assert said.endswith(f"3 frames, 64x48, {codec or 'h264'}, Video Endoscopic Image")
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    uid = dataset.file_meta.TransferSyntaxUID.encode()
    looked_at = tmp_path / "looked-at.dcm"  # Debian's dciodvfy does not know the name of HEVC alone
    looked_at.write_bytes((tmp_path / "a.dcm").read_bytes().replace(uid, b"1.2.840.10008.1.2.4.102", 1))
    check(program("dciodvfy", "dicom3tools"), looked_at)
    assert dataset.SOPClassUID.name == KINDS[VIDEO]
    assert dataset.file_meta.TransferSyntaxUID == f"1.2.840.10008.1.2.4.{syntax}"
    assert (dataset.NumberOfFrames, dataset.FrameTime, dataset.CineRate) == (3, 100, 10)
    assert (dataset.Rows, dataset.Columns, dataset.LossyImageCompression) == (48, 64, "01")
    (stream,) = generate_frames(dataset.PixelData, number_of_frames=1)
    with av.open(BytesIO(stream), "r") as container:
        (video,) = container.streams.video
        assert video.codec_context.name == (codec or "h264")
        if codec != "hevc":
            assert video.codec_context.profile == "High"
        frames = list(container.decode(video=0))
    assert [round(frame.time or 0.0, 3) for frame in frames] == [0, 0.04, 0.2]
    shift = 8 * (np.dtype(dtype).itemsize - 1)
    for frame, still in zip(frames, clip.stills, strict=True):
        gray = frame.to_ndarray()[:48, :63].astype(int)
        assert np.abs(gray - (still.image >> shift)).mean() < 2


def test_only_a_size_that_a_level_allows_is_encoded() -> None:
    assert choose_syntax((1080, 1920), 30.0, None).level == "4.1"
    assert choose_syntax((1080, 1920), 60.0, None).level == "4.2"
    assert choose_syntax((2048, 2048), 25.0, None).codec == "hevc"
    assert choose_syntax((1024, 1024), 25.0, "hevc").transfer_syntax.endswith(".107")
    for shape, fps, codec in (
        ((2048, 2048), 25.0, "h264"),
        ((4096, 4096), 25.0, None),
        ((1080, 1920), 500.0, None),
    ):
        with pytest.raises(UsageError, match=r"more than a DICOM video of .* may have; choose another"):
            choose_syntax(shape, fps, codec)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sop_class": VIDEO}, "has to say what was looked at; give --region"),
        ({"sop_class": VL}, "give --region"),
        ({"codec": "h264"}, "--codec and --crf are for --sop-class video-endoscopic"),
        ({"sop_class": VL, "region": "colon", "crf": 0}, "keeps the pixels as they are"),
        (
            {"sop_class": VIDEO, "region": "colon", "codec": "hevc12"},
            "is not one that DICOM knows: h264, hevc",
        ),
    ],
)
def test_options_that_do_not_fit_the_class_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        DicomExporter(**options)


def test_vl_endoscopic_takes_no_16_bit_images(
    make_clip: MakeClip, deep_images: list[Image], tmp_path: Path
) -> None:
    with pytest.raises(
        UsageError, match=r"holds 8 bits, and the images have 16; choose --sop-class secondary"
    ):
        write({tmp_path / "a.dcm": make_clip(deep_images)}, sop_class=VL, region="colon")
    assert list(tmp_path.iterdir()) == []


def read_pair(make_clip: MakeClip, folder: Path, **options: Any) -> tuple[Dataset, Dataset]:
    raw, sr = pair(make_clip, np.uint8, pixel_um=0.8)
    write({folder / "raw.dcm": raw, folder / "sr.dcm": sr}, region="colon", **options)
    return pydicom.dcmread(folder / "raw.dcm"), pydicom.dcmread(folder / "sr.dcm")


@pytest.mark.parametrize(("dtype", "bits", "length"), [(np.uint8, 8, 36), (np.uint16, 16, 70)])
def test_a_value_has_an_even_length_and_the_line_says_what_was_written(
    make_clip: MakeClip, tmp_path: Path, dtype: type, bits: int, length: int
) -> None:
    path = tmp_path / "one.dcm"
    (said,) = write({path: make_clip(noise(1, (5, 7), dtype))})
    assert said.startswith(f"{path}: 1 frames, 7x5, {bits} bit, ")
    assert len(pydicom.dcmread(path).PixelData) == length


def test_an_sr_object_without_its_source_images_is_told_of(make_clip: MakeClip, tmp_path: Path) -> None:
    said = hear()
    raw, sr = pair(make_clip, np.uint8)
    write({tmp_path / "raw.dcm": raw, tmp_path / "sr.dcm": sr})
    assert said == []
    write({tmp_path / "alone.dcm": sr})
    assert [line.partition(", ")[0] for line in said] == ["the captured images are not exported with them"]


def test_raw_and_sr_are_two_objects_of_one_study_the_second_derived(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    raw, sr = read_pair(make_clip, tmp_path)
    assert raw.StudyInstanceUID == sr.StudyInstanceUID
    assert raw.SeriesInstanceUID != sr.SeriesInstanceUID
    assert raw.SOPInstanceUID != sr.SOPInstanceUID
    assert list(raw.ImageType) == ["ORIGINAL", "PRIMARY"]
    assert sr.ImageType[0] == "DERIVED"
    assert sr.DerivationDescription.startswith(
        "derived by super-resolution: x4 by model fast (SHA-256 a2de0bda22cf"
    )
    (code,) = sr.DerivationCodeSequence
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("113085", "DCM")
    (source,) = sr.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == raw.SOPInstanceUID
    assert source.ReferencedSOPClassUID == raw.SOPClassUID
    assert list(source.ReferencedFrameNumber) == [1, 3, 4, 5], "the second was never super-resolved"
    assert source.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    (equipment,) = sr.ContributingEquipmentSequence
    assert equipment.ManufacturerModelName == "fast x4"
    assert equipment.SoftwareVersions[1].startswith("a2de0bda22cf")
    assert "SourceImageSequence" not in raw


def test_times_and_pixel_sizes_are_true(make_clip: MakeClip, tmp_path: Path) -> None:
    raw, sr = read_pair(make_clip, tmp_path)
    assert raw.FrameIncrementPointer == 0x00181065
    assert [float(step) for step in raw.FrameTimeVector] == [0, 40, 40.123, 439.877, 40.000456]
    assert [float(step) for step in sr.FrameTimeVector] == [0, 80.123, 439.877, 40.000456]
    assert [float(side) for side in raw.PixelSpacing] == [0.0008, 0.0008]


def test_without_a_patient_file_it_is_anonymous_and_undated(make_clip: MakeClip, tmp_path: Path) -> None:
    for dataset in read_pair(make_clip, tmp_path):
        assert dataset.PatientIdentityRemoved == "YES"
        assert dataset.DeidentificationMethod
        assert dataset.LongitudinalTemporalInformationModified == "REMOVED"
        assert (str(dataset.PatientName), dataset.PatientID) == ("Anonymous^Patient", "ANONYMOUS")
        dates = [e for e in dataset.iterall() if e.VR in ("DA", "DT") and e.value]
        assert dates == []
        assert "InstitutionName" not in dataset


def test_the_patient_file_s_data_are_in_it(make_clip: MakeClip, tmp_path: Path) -> None:
    write({tmp_path / "a.dcm": make_clip(noise(2, (8, 8)), started=STARTED)}, patient=PATIENT)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    assert str(dataset.PatientName) == "Müller^Zoë"
    assert (dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex) == ("4711", "19601231", "F")
    assert (dataset.StudyDate, dataset.StudyTime) == ("20260304", "050607.250000")
    assert (dataset.StudyID, dataset.AccessionNumber, dataset.InstitutionName) == ("S7", "A1", "Clinic")
    assert "PatientIdentityRemoved" not in dataset


def test_new_identifiers_each_time_and_a_given_study_is_kept(make_clip: MakeClip, tmp_path: Path) -> None:
    patient = Patient(name="A^B", id="1", study_instance_uid="1.2.826.0.1.42")
    for name in ("a.dcm", "b.dcm"):
        write({tmp_path / name: make_clip(noise(2, (8, 8)))}, patient=patient)
    a, b = pydicom.dcmread(tmp_path / "a.dcm"), pydicom.dcmread(tmp_path / "b.dcm")
    assert a.StudyInstanceUID == b.StudyInstanceUID == "1.2.826.0.1.42"
    assert len({a.SOPInstanceUID, b.SOPInstanceUID, a.SeriesInstanceUID, b.SeriesInstanceUID}) == 4


def test_burnt_in_names_are_denied_only_on_the_user_s_word(make_clip: MakeClip, tmp_path: Path) -> None:
    capture = {tmp_path / "a.dcm": make_clip(noise(2, (8, 8)))}
    write(capture)
    assert pydicom.dcmread(tmp_path / "a.dcm").BurnedInAnnotation == "YES"
    write({tmp_path / "b.dcm": make_clip(noise(2, (8, 8)))}, text_free=True)
    assert pydicom.dcmread(tmp_path / "b.dcm").BurnedInAnnotation == "NO"


def test_frames_on_which_the_engine_failed_are_named(make_clip: MakeClip, tmp_path: Path) -> None:
    write({tmp_path / "a.dcm": make_clip(noise(3, (8, 8)), sr=True, bicubic=[1])})
    words = pydicom.dcmread(tmp_path / "a.dcm").DerivationDescription
    assert words.endswith("1 frames are bicubic interpolation, because the engine failed: 2")


def test_too_many_frames_for_one_object_go_into_several(
    make_clip: MakeClip, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom, "MOST_FRAMES", 2)
    raw, sr = pair(make_clip, np.uint8)
    said = write({tmp_path / "raw.dcm": raw, tmp_path / "sr.dcm": sr})
    names = ["raw.2.dcm", "raw.3.dcm", "raw.dcm", "sr.2.dcm", "sr.dcm"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert len(said) == 5
    objects = {name: pydicom.dcmread(tmp_path / name) for name in names}
    pixels = [objects[name].pixel_array for name in ("raw.dcm", "raw.2.dcm")]
    np.testing.assert_array_equal(np.concatenate(pixels), [still.image for still in raw.stills][:4])
    assert [objects[n].InstanceNumber for n in ("raw.dcm", "raw.2.dcm", "raw.3.dcm")] == [1, 2, 3]
    assert len({objects[n].SeriesInstanceUID for n in names if n.startswith("raw")}) == 1
    first, second = objects["sr.dcm"].SourceImageSequence  # frames 0 and 2, which lie in two objects
    assert first.ReferencedSOPInstanceUID == objects["raw.dcm"].SOPInstanceUID
    assert first.ReferencedFrameNumber == 1
    assert second.ReferencedSOPInstanceUID == objects["raw.2.dcm"].SOPInstanceUID
    done = subprocess.run(
        [program("dciodvfy", "dicom3tools"), str(tmp_path / "sr.dcm")], capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_an_object_holds_pixels_up_to_two_gibibytes() -> None:
    image: Image = np.broadcast_to(np.uint8(0), (900 * 2**10, 2**10))  # bytes that nobody has
    parts = dicom._parts(iter([Still(number, 0, image) for number in range(5)]))
    assert [len(list(part)) for part in parts] == [2, 2, 1]


def test_a_frame_time_vector_fits_its_element_whatever_the_times_are() -> None:
    longest = dicom_header._decimal(10_000 * 3600e3 + 0.123456)
    assert len(longest) <= 16
    assert dicom.MOST_FRAMES * 16 <= 65534


def test_without_pydicom_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "clesr.tools.export.dicom_header")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    monkeypatch.setitem(sys.modules, "pydicom.dataset", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'clesr\[dicom\]'"):
        dicom.DicomExporter()


def test_a_name_in_the_source_is_nowhere_in_the_file(
    make_clip: MakeClip, images: list[Image], tmp_path: Path
) -> None:
    write({tmp_path / "a.dcm": make_clip(images, notes="source Mustermann.avi")})
    assert b"Mustermann" in (tmp_path / "a.dcm").read_bytes(), "kept, when it was asked for"
    write({tmp_path / "b.dcm": make_clip(images)})
    assert b"Mustermann" not in (tmp_path / "b.dcm").read_bytes()
