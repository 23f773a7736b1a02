"""`clesr export` as a user types it: sessions recorded here, and plain recordings, in every format."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import commands
import cv2
import numpy as np
import pydicom
import pytest
import tifffile
from recordings import drifting, noise, write_video

from clesr.pipeline.session.reader import SessionReader, read_session
from clesr.tools import cli

Run = Callable[..., tuple[int, str]]
Recorded = tuple[SessionReader, dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"]]


@pytest.fixture
def run(run: commands.Run) -> Run:
    """Run `clesr ARGUMENTS`: exit status and standard error."""
    return lambda *arguments: run("clesr", *arguments)[::2]


def record(folder: Path, *arguments: object) -> Recorded:
    """Record with `clesr-live`; the session, and its images as its own reader gives them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "sys.argv", ["clesr-live", *map(str, arguments), "--display", "none", "--record", str(folder)]
        )
        with pytest.raises(SystemExit) as ended:
            cli.live_main()
    assert ended.value.code == 0
    session = read_session(folder)
    return session, {kind: np.array([i for _, i in session.images(kind)]) for kind in ("raw", "sr")}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Twenty frames of the phantom, some of which the source lost, of a region of interest, x2."""
    address = "demo:?size=80&fps=12&seed=3&drop=0.1"
    arguments = ["--source", address, "--scale", 2, "--model", "fast", "--frames", 20, "--pixel-size", 0.8]
    return record(tmp_path_factory.mktemp("sessions") / "demo", *arguments, "--roi", "8,4,64,72")


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Five frames with all 16 bits used, x2."""
    folder = tmp_path_factory.mktemp("deep")
    tifffile.imwrite(folder / "in.tif", np.array(noise(5, (32, 48), np.uint16)), photometric="minisblack")
    return record(
        folder / "deep", "--source", folder / "in.tif", "--scale", 2, "--model", "nearest", "--window", "full"
    )


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A lossless video of 12 frames, 40x32, at uneven times, whose container names a patient."""
    path = tmp_path / "in.mkv"
    write_video(path, drifting(12, (32, 40)), times_ms=[40 * i + 3 * (i % 2) for i in range(12)])
    return path


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """A folder for what is exported, in which nothing hidden may stay."""
    folder = tmp_path / "out"
    folder.mkdir()
    yield folder
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []


def first_sr(session: SessionReader) -> int:
    """The number of the first frame that was super-resolved."""
    return next(record.number for record in session.records() if record.sr_index is not None)


def capture_times(session: SessionReader, kind: str) -> list[int]:
    """Nanoseconds since the first captured frame."""
    numbered = [(r.raw_index if kind == "raw" else r.sr_index, r.captured_ns) for r in session.records()]
    return [time - session.info.started_ns for index, time in numbered if index is not None]


@pytest.mark.parametrize("recorded", ["demo", "deep"])
def test_a_session_in_every_format(
    recorded: str, request: pytest.FixtureRequest, run: Run, out: Path
) -> None:
    session, images = request.getfixturevalue(recorded)
    for name in ("a.mp4", "a.ome.tif", "a.dcm"):
        code, err = run("export", session.folder, "-o", out / name, "--what", "both")
        assert code == 0, err
    for kind in ("raw", "sr"):
        times = capture_times(session, kind)
        assert len(times) == len(images[kind]) > 4
        with av.open(str(out / f"a.{kind}.mp4")) as container:
            shown = [(frame.time, frame.height, frame.width) for frame in container.decode(video=0)]
        assert [shape for _, *shape in shown] == [list(images[kind][0].shape)] * len(times)
        np.testing.assert_allclose([time or 0.0 for time, *_ in shown], np.array(times) / 1e9, atol=1e-6)
        with tifffile.TiffFile(out / f"a.{kind}.ome.tif") as tiff:
            np.testing.assert_array_equal(tiff.asarray(), images[kind])
            xml = tiff.ome_metadata or ""
        deltas = [float(delta) for delta in re.findall(r'DeltaT="([^"]+)"', xml)]
        np.testing.assert_allclose(deltas, np.array(times) / 1e9, atol=1e-9)
        dataset = pydicom.dcmread(out / f"a.{kind}.dcm")
        np.testing.assert_array_equal(dataset.pixel_array, images[kind])
        steps = [float(step) for step in dataset.FrameTimeVector]
        np.testing.assert_allclose(np.cumsum(steps), (np.array(times) - times[0]) / 1e6, atol=1e-4)


def test_pixel_sizes_and_derivation_of_a_session(demo: Recorded, run: Run, out: Path) -> None:
    session, _ = demo
    assert run("export", session.folder, "-o", out / "a.ome.tif")[0] == 0
    xml = str(tifffile.tiffcomment(out / "a.ome.tif"))
    assert 'PhysicalSizeX="0.4"' in xml, "half of a captured pixel"
    assert f"x2 by model fast (SHA-256 {session.info.model_hash}), engine {session.info.engine}" in xml
    assert run("export", session.folder, "-o", out / "a.dcm", "--pixel-size", 1)[0] == 0
    raw, sr = pydicom.dcmread(out / "a.raw.dcm"), pydicom.dcmread(out / "a.sr.dcm")
    assert ([float(x) for x in raw.PixelSpacing], [float(x) for x in sr.PixelSpacing]) == (
        [0.001] * 2,
        [0.0005] * 2,
    )
    assert sr.SourceImageSequence[0].ReferencedSOPInstanceUID == raw.SOPInstanceUID
    assert raw.ConversionType == "SYN", "nothing of the phantom was ever in a patient"
    assert session.info.model_hash in sr.DerivationDescription


def test_frames_are_selected_by_number(demo: Recorded, run: Run, out: Path) -> None:
    session, images = demo
    numbers = [r.number for r in session.records() if r.raw_index is not None]
    assert run("export", session.folder, "-o", out / "a.ome.tif", "--what", "raw", "--frames", "5-9")[0] == 0
    chosen = [index for index, number in enumerate(numbers) if 5 <= number <= 9]
    np.testing.assert_array_equal(tifffile.imread(out / "a.ome.tif"), images["raw"][chosen])


def test_stills(demo: Recorded, run: Run, out: Path) -> None:
    session, images = demo
    records = [r for r in session.records() if r.sr_index is not None]
    code, err = run("export", session.folder, "-o", out / "one.png", "--frame", records[3].number)
    assert code == 0, err
    still = cv2.imread(str(out / "one.png"), cv2.IMREAD_UNCHANGED)
    assert still is not None
    np.testing.assert_array_equal(still[:144], images["sr"][3])
    assert len(still) > 144, "the scale bar"
    code, err = run("export", session.folder, "-o", out / "many.png", "--every", 0.3)
    assert code == 0, err
    first_of: dict[int, int] = {}  # frame by its piece of 0.3 s
    for record in records:
        first_of.setdefault((record.captured_ns - records[0].captured_ns) // 300_000_000, record.number)
    assert sorted(p.name for p in out.glob("many.*.png")) == [f"many.{n:06d}.png" for n in first_of.values()]


def test_burn_in_is_off_unless_asked_for(demo: Recorded, run: Run, out: Path) -> None:
    session, images = demo
    first = first_sr(session)
    small = ("export", session.folder, "--what", "sr", "--frames", f"{first}-{first}")
    code, err = run(*small, "-o", out / "a.ome.tif", "--burn-in")
    assert code == 2
    assert "--burn-in does not fit into images of 128x144 pixels" in err
    assert not list(out.iterdir())
    assert run(*small, "-o", out / "a.ome.tif")[0] == 0
    np.testing.assert_array_equal(tifffile.imread(out / "a.ome.tif"), images["sr"][0])


@pytest.mark.parametrize("name", ["a.ome.tif", "a.dcm", "a.png", "a.mp4"])
def test_a_masked_region_is_black_in_raw_and_sr(name: str, demo: Recorded, run: Run, out: Path) -> None:
    session, images = demo
    which = ("--frame", first_sr(session)) if name == "a.png" else ()
    code, err = run(
        "export", session.folder, "-o", out / name, "--what", "both", "--mask", "20,30,16,12", *which
    )  # fmt: skip
    assert code == 0, err
    suffix = name.removeprefix("a.")
    raw, sr = (_first(out / f"a.{kind}.{suffix}") for kind in ("raw", "sr"))
    black = 8 if name == "a.mp4" else 0  # lossy
    assert raw[30:42, 20:36].max() <= black
    assert sr[2 * 26 : 2 * 38, 2 * 12 : 2 * 28].max() <= black
    assert images["sr"][0][2 * 26 : 2 * 38, 2 * 12 : 2 * 28].min() > 10, "there was something"
    assert sr[:40].mean() > 10


def _first(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    if path.suffix == ".mp4":
        with av.open(str(path)) as container:
            return next(container.decode(video=0)).to_ndarray(format="gray")
    if path.suffix == ".dcm":
        return np.asarray(pydicom.dcmread(path).pixel_array[0])
    image = tifffile.imread(path)[0] if path.suffix == ".tif" else cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return np.asarray(image)


@pytest.mark.parametrize("name", ["a.mp4", "a.ome.tif", "a.dcm"])
def test_a_plain_video_has_no_derivation(name: str, video: Path, run: Run, out: Path) -> None:
    code, err = run("export", video, "-o", out / name)
    assert code == 0, err
    assert [p.name for p in out.iterdir()] == [name]
    data = (out / name).read_bytes()
    assert b"derived by" not in data
    assert b"in.mkv" not in data
    if name == "a.dcm":
        dataset = pydicom.dcmread(out / name)
        assert list(dataset.ImageType) == ["ORIGINAL", "PRIMARY"]
        assert dataset.ConversionType == "DI", "as far as anybody knows it shows something real"
        assert dataset.LossyImageCompression == "00"
        assert [float(s) for s in dataset.FrameTimeVector[:4]] == [0, 43, 37, 43]
        assert len(dataset.pixel_array) == 12


def test_metadata_is_copied_only_when_asked_for(video: Path, run: Run, out: Path, tmp_path: Path) -> None:
    named = tmp_path / "named.mkv"
    with av.open(str(video)) as source, av.open(str(named), "w") as target:
        target.metadata.update({"title": "Erika Mustermann", "creation_time": "1987-01-02T03:04:05Z"})
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    for name in ("a.mp4", "a.ome.tif", "a.dcm"):
        assert run("export", named, "-o", out / name)[0] == 0
        data = (out / name).read_bytes()
        assert b"Mustermann" not in data
        assert b"1987" not in data
        assert run("export", named, "-o", out / name, "--keep-metadata", "--overwrite")[0] == 0
        assert b"Mustermann" in (out / name).read_bytes()


def test_real_video(data: Path, run: Run, out: Path) -> None:
    source = data / "video" / "colon_pcle.mpeg"
    code, err = run("export", source, "-o", out / "a.dcm", "--frames", "10-14", "--mask", "0,0,90,40")
    assert code == 0, err
    dataset = pydicom.dcmread(out / "a.dcm")
    assert dataset.pixel_array.shape == (5, 592, 576)
    assert dataset.LossyImageCompression == "01"
    assert dataset.pixel_array[:, :40, :90].max() == 0
    done = subprocess.run(
        ["dciodvfy", "-new", os.fspath(out / "a.dcm")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "a.avi"), "ends in none of .mp4, .ome.tif, .ome.tiff, .dcm, .png"),
        (("-o", "a.tif"), "ends in none of .mp4, .ome.tif"),
        (("-o", "absent/a.mp4"), "there is no folder absent"),
        (("-o", "a.png"), "say which stills: --frame N, or --every S"),
        (("-o", "a.png", "--every", "0"), "--every 0.0 is not positive"),
        (("-o", "a.png", "--frame", "99"), "has no sr image of frame 99 (not captured); nothing was written"),
        (("-o", "a.mp4", "--patient", "p.toml"), "--patient is for .dcm, not for .mp4"),
        (("-o", "a.dcm", "--patient", "p.toml"), "the patient file p.toml cannot be read"),
        (("-o", "a.dcm", "--codec", "hevc"), "--codec and --crf are for --sop-class video-endoscopic"),
        (("-o", "a.mp4", "--frames", "9-5"), "the end is before the beginning"),
        (("-o", "a.mp4", "--frames", "five"), "is not A-B, A- or -B"),
        (("-o", "a.mp4", "--frames", "500-"), "has no sr image in --frames 500-"),
        (("-o", "a.mp4", "--mask", "70,0,20,20"), "--mask 70,0,20,20 leaves the 80x80 frame"),
        (("-o", "a.mp4", "--mask", "1,2,3"), "--mask '1,2,3' is not X,Y,WIDTH,HEIGHT"),
        (("-o", "a.mp4", "--pixel-size", "-1"), "--pixel-size -1.0 is not positive"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: tuple[str, ...],
    words: str,
    demo: Recorded,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, err = run("export", demo[0].folder, *arguments)
    assert code in (1, 2)
    assert err.count("\n") == 1
    assert words in err
    assert list(tmp_path.iterdir()) == []


def test_the_recording_itself_is_not_replaced(video: Path, run: Run, tmp_path: Path) -> None:
    same = tmp_path / "in.mp4"
    video.rename(same)
    code, err = run("export", same, "-o", same)
    assert code == 2
    assert "is an input of this command and is never replaced; give another name" in err


@pytest.mark.parametrize("name", ["a.dcm", "a.mp4", "a.ome.tif"])
def test_a_file_that_is_there_is_refused_before_work_begins(
    name: str, video: Path, run: Run, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (out / name).write_text("mine")
    monkeypatch.setattr("clesr.tools.export.run.progress_bar", lambda *_, **__: pytest.fail("it began"))
    code, err = run("export", video, "-o", out / name, "--what", "raw")
    assert (code, "--overwrite" in err) == (1, True)
    assert (out / name).read_text() == "mine"


def test_a_patient_file_brings_the_date_but_not_the_source(
    demo: Recorded, run: Run, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "p.toml").write_text('name = "Doe^Jane"\nid = "17"\n')
    session, _ = demo
    code, err = run("export", session.folder, "-o", out / "a.dcm", "--patient", tmp_path / "p.toml")
    assert code == 0, err
    for kind in ("raw", "sr"):
        dataset = pydicom.dcmread(out / f"a.{kind}.dcm")
        assert str(dataset.PatientName) == "Doe^Jane"
        assert dataset.StudyDate == session.info.started[:10].replace("-", "")
        assert "demo:" not in str(dataset)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("absent", "absent: no such session or file"),
        ("demo:", "demo:: no such session or file"),
        ("{video} --what sr", "is no session and has one kind of images"),
    ],
)
def test_what_is_no_recording_is_one_line(address: str, words: str, video: Path, run: Run, out: Path) -> None:
    code, err = run("export", *address.format(video=video).split(), "-o", out / "a.mp4")
    assert code in (1, 2)
    assert err.count("\n") == 1
    assert words in err


@pytest.mark.parametrize("kind", ["raw", "sr"])
def test_images_that_were_changed_after_recording_are_not_exported(
    demo: Recorded, run: Run, out: Path, tmp_path: Path, kind: str
) -> None:
    session, images = demo
    forged = tmp_path / "forged"
    shutil.copytree(session.folder, forged)
    changed = [*images[kind]]
    changed[7] = changed[7] ^ 1
    times = [record.ticks for record in session.records() if record.ticks is not None]
    write_video(forged / f"{kind}.mkv", changed, times_ms=times)
    code, err = run("export", forged, "-o", out / "a.dcm", "--what", kind)
    assert code == 1
    *_, said = err.splitlines()
    assert re.search(rf"the {kind} image of frame \d+ is not the one that was recorded; `clesr verify`", said)
    assert not list(out.iterdir())


def test_a_damaged_session_leaves_no_file_and_the_older_one(
    demo: Recorded, run: Run, out: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in demo[0].folder.iterdir():
        data = file.read_bytes()
        (broken / file.name).write_bytes(data[: len(data) // 2] if file.name == "sr.mkv" else data)
    (out / "a.ome.tif").write_bytes(b"older")
    code, err = run("export", broken, "-o", out / "a.ome.tif", "--overwrite")
    assert code == 1
    assert re.search(r"sr.mkv.*`clesr verify` tells more|missing from the video file; `clesr verify`", err)
    assert err.count("\n") == 1
    assert (out / "a.ome.tif").read_bytes() == b"older"
