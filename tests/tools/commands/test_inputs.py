"""How images, stacks and DICOM files come through the commands that a user types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import tifffile
from commands import Run, one_line
from numpy.typing import NDArray
from PIL import Image as Pillow
from recordings import noise, read_all

from clesr.pipeline.sources.registry import open_source

DEEP = np.stack(noise(6, (24, 32), np.uint16))
GRAY: dict[str, Any] = {"photometric": "minisblack"}
MODEL = ("--model", "nearest", "--scale", 2)


def upscaled(run: Run, source: Path, target: Path, *options: object) -> NDArray[Any]:
    """Every second pixel of what `clesr upscale` makes with nearest: the pixels that were read."""
    code, _, err = run("clesr", "upscale", source, "-o", target, *MODEL, "--overwrite", *options)
    assert code == 0, err
    frames, corrupt = read_all(open_source(str(target), pace="max", window=(0.0, 65535.0)))
    assert not corrupt
    return np.stack([frame.image[::2, ::2] for frame in frames])


def times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        return sorted(float(packet.pts * packet.time_base) for packet in packets if packet.pts is not None)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".tif"])
@pytest.mark.parametrize("window", ["auto", "full"])
def test_the_same_file_twice_gives_the_same_bytes(run: Run, tmp_path: Path, suffix: str, window: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", DEEP, **GRAY)
    made = []
    for name in ("one", "two"):
        upscaled(run, tmp_path / "a.tif", tmp_path / f"{name}{suffix}", "--window", window, "--fps", 10)
        made.append((tmp_path / f"{name}{suffix}").read_bytes())
    assert made[0] == made[1]
    if suffix != ".tif":
        assert times(tmp_path / f"one{suffix}") == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_channel_and_plane(run: Run, tmp_path: Path) -> None:
    stack = DEEP.reshape(3, 2, 24, 32)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "TCYX"})
    found = upscaled(run, tmp_path / "a.tif", tmp_path / "b.mkv", "--channel", 1, "--window", "full")
    np.testing.assert_array_equal(found, stack[:, 1])
    code, _, err = run("clesr", "info", tmp_path / "a.tif")
    assert code == 0
    assert "has 2 channels: channel 0 is taken (--channel 0 to 1)" in err
    assert "states no times that rise: taken as 25 frames/s (--fps)" in err
    code, _, err = run(
        "clesr", "upscale", tmp_path / "a.tif", "-o", tmp_path / "c.mkv", *MODEL, "--channel", 2
    )
    assert code == 2
    assert "--channel 2" in one_line(err)


@pytest.mark.parametrize("into", ["b.mkv", "folder"])
def test_a_window_in_values_of_the_file(run: Run, tmp_path: Path, into: str) -> None:
    """Of floats, which cannot be read without one, and of integers, whose own numbers count; in archives too."""
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / "a.tif"
    values = DEEP.astype(np.float32) / 1000 - 30
    right = np.clip((values + 30) / 40, 0, 1) * 65535
    for pages in (values, (DEEP.astype(np.int32) - 30_000).astype(np.int16)):
        tifffile.imwrite(source, pages, **GRAY)
        window = "-30,10" if pages is values else "-30000,10000"
        target = tmp_path / into
        given = source if into == "b.mkv" else source.parent
        if pages is not values:
            usable = DEEP <= 62767  # what int16 holds
            assert usable.any()
        code, _, err = run(
            "clesr", "upscale", given, "-o", target, *MODEL, "--overwrite", f"--window={window}"
        )
        assert code == 0, err
        made = target if into == "b.mkv" else target / "a.tif"
        frames, _ = read_all(open_source(str(made), pace="max"))
        found = np.stack([frame.image[::2, ::2] for frame in frames]).astype(float)
        kept = np.ones_like(DEEP, bool) if pages is values else DEEP <= 62767
        assert np.abs(found - right)[kept].max() <= 2
    tifffile.imwrite(source, values, **GRAY)
    code, _, err = run("clesr", "upscale", source, "-o", tmp_path / "c.mkv", *MODEL)
    assert code == 1
    assert "--window LOW,HIGH" in one_line(err)


def test_a_recording_of_floats_is_rendered_again_without_a_difference(run: Run, tmp_path: Path) -> None:
    """What it says of its window is what its raw frames are shown with."""
    tifffile.imwrite(tmp_path / "a.tif", DEEP.astype(np.float32) / 65535, **GRAY)
    live = ("--display", "none", "--pace", "max", *MODEL, "--record", tmp_path / "s", "--window", "0.25,0.75")
    code, _, err = run("clesr-live", "--source", tmp_path / "a.tif", *live)
    assert code == 0, err
    assert json.loads((tmp_path / "s" / "session.json").read_text())["settings"]["window"] == "0,65535"
    frames, _ = read_all(open_source(str(tmp_path / "s"), pace="max"))
    expected = np.rint(np.clip(DEEP / 65535 * 2 - 0.5, 0, 1) * 65535)
    assert max(np.abs(frame.image - image).max() for frame, image in zip(frames, expected, strict=True)) <= 1


@pytest.mark.parametrize("suffix", [".ome.tif", ".dcm", ".mp4"])
def test_exports_have_the_times_of_images_and_play_back_with_them(
    run: Run, tmp_path: Path, suffix: str
) -> None:
    (tmp_path / "in").mkdir()
    for number, page in enumerate(DEEP):
        cv2.imwrite(str(tmp_path / "in" / f"{number}.png"), (page >> 8).astype(np.uint8))
    code, _, err = run("clesr", "export", tmp_path / "in", "-o", tmp_path / f"a{suffix}", "--fps", 8)
    assert code == 0, err
    frames, corrupt = read_all(open_source(str(tmp_path / f"a{suffix}"), pace="max"))
    assert not corrupt
    assert [frame.pts * frame.time_base for frame in frames] == [  # type: ignore[operator]
        pytest.approx(number / 8) for number in range(6)
    ]
    if suffix != ".mp4":
        for frame, page in zip(frames, DEEP, strict=True):
            np.testing.assert_array_equal(frame.image, page >> 8)


def test_a_session_has_its_times_in_its_ome_tiff(run: Run, tmp_path: Path) -> None:
    live = ("--display", "none", *MODEL, "--record", tmp_path / "s", "--frames", 4)
    assert run("clesr-live", "--source", "demo:?size=64&fps=50", *live)[0] == 0
    assert run("clesr", "export", tmp_path / "s", "-o", tmp_path / "a.ome.tif", "--what", "raw")[0] == 0
    recorded, _ = read_all(open_source(str(tmp_path / "s"), pace="max"))
    exported, _ = read_all(open_source(str(tmp_path / "a.ome.tif"), pace="max"))
    begin = recorded[0].pts * recorded[0].time_base  # type: ignore[operator]
    for one, other in zip(recorded, exported, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        seconds = other.pts * other.time_base  # type: ignore[operator]
        assert seconds == pytest.approx(one.pts * one.time_base - begin, abs=2e-6)  # type: ignore[operator]
    for option in (
        ("--fps", 3),
        ("--window", "full"),
        ("--track", 2),
        ("--range", "full"),
        ("--deinterlace",),
    ):
        code, _, err = run("clesr", "export", tmp_path / "s", "-o", tmp_path / "b.mp4", *option)
        assert code == 2
        assert f"{option[0]} is for plain recordings" in one_line(err)


def test_an_export_of_floats_says_how_they_were_stretched(run: Run, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", DEEP.astype(np.float32), **GRAY)
    code, _, err = run(
        "clesr", "export", tmp_path / "a.tif", "-o", tmp_path / "b.ome.tif", "--window", "0,65535"
    )
    assert code == 0, err
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as tiff:
        np.testing.assert_array_equal(tiff.asarray(), DEEP)
        assert "grey levels 0 to 65535 stretched" in str(tiff.ome_metadata)


def test_animations_and_stills_of_an_archive(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    first, *rest = (Pillow.fromarray((page >> 8).astype(np.uint8)) for page in DEEP)
    for name in ("a.webp", "b.png"):
        lossless: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
        first.save(tmp_path / "in" / name, save_all=True, append_images=rest, duration=80, **lossless)
    first.save(tmp_path / "in" / "c.png")
    code, _, err = run("clesr", "upscale", tmp_path / "in", "-o", tmp_path / "out", *MODEL)
    assert code == 0, err
    for name in ("a.mkv", "b.mkv"):
        assert times(tmp_path / "out" / name) == pytest.approx([0.08 * number for number in range(6)])
    assert (tmp_path / "out" / "c.png").is_file()


@pytest.mark.parametrize("length", [246, 251])
def test_long_names(run: Run, tmp_path: Path, length: int) -> None:
    for name in ("n" * length, "ü" * (length // 2)):
        source = tmp_path / f"{name}.png"
        cv2.imwrite(str(tmp_path / "a.png"), (DEEP[0] >> 8).astype(np.uint8))
        (tmp_path / "a.png").rename(source)
        code, _, err = run("clesr", "upscale", source, "-o", tmp_path / "out", *MODEL)
        assert code == 0, err
        assert (tmp_path / "out" / f"{name}.png").is_file()


def test_a_long_name_of_what_is_not_whole_is_shortened(run: Run, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), (DEEP[0] >> 8).astype(np.uint8))
    tifffile.imwrite(tmp_path / "b.tif", DEEP, **GRAY)
    target = tmp_path / ("n" * 251 + ".png")
    code, _, err = run("clesr", "upscale", tmp_path / "b.tif", "-o", target, *MODEL)
    assert code == 1
    assert "holds one image and the input has more" in one_line(err)
    assert "too long" not in err


@pytest.mark.parametrize("name", ["b.ome.tif", "b.OME.TIFF", "b.ome.tf8.tif"])
def test_a_tiff_of_any_name_is_written(run: Run, tmp_path: Path, name: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", DEEP[:3], **GRAY)
    found = upscaled(run, tmp_path / "a.tif", tmp_path / name, "--window", "full")
    np.testing.assert_array_equal(found, DEEP[:3])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", name]


@pytest.mark.parametrize("suffix", [".ome.tif", ".OME.TIFF"])
def test_an_ome_tiff_states_the_times_of_its_pages(run: Run, tmp_path: Path, suffix: str) -> None:
    first, *rest = (Pillow.fromarray(image) for image in noise(4, (24, 32)))
    first.save(tmp_path / "a.png", save_all=True, append_images=rest, duration=[40, 200, 40, 60])
    upscaled(run, tmp_path / "a.png", tmp_path / f"b{suffix}", "--window", "full")
    frames, _ = read_all(open_source(str(tmp_path / f"b{suffix}"), pace="max"))
    found = [
        float(frame.pts * frame.time_base) for frame in frames if frame.pts is not None and frame.time_base
    ]
    assert found == pytest.approx([0, 0.04, 0.24, 0.28])
    with tifffile.TiffFile(tmp_path / f"b{suffix}") as tiff:
        assert tiff.is_ome
        assert tiff.series[0].shape == (4, 48, 64)


def test_an_ome_tiff_of_an_archive_keeps_its_times(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    metadata = {"axes": "TYX", "TimeIncrement": 0.2, "TimeIncrementUnit": "s"}
    tifffile.imwrite(tmp_path / "in" / "x.ome.tif", DEEP[:4], ome=True, metadata=metadata, **GRAY)
    code, _, err = run("clesr", "upscale", tmp_path / "in", "-o", tmp_path / "out", *MODEL)
    assert code == 0, err
    source = open_source(str(tmp_path / "out" / "x.ome.tif"))
    source.close()
    assert source.info.fps == pytest.approx(5)
    assert source.info.frames == 4
