"""Options on how video is read reach the reader, from each command that has them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from commands import Run, one_line
from numpy.typing import NDArray
from recordings import drifting, read_all, write_video

from clesr.pipeline.sources.video.file import VideoSource

FEW = ("--model", "nearest", "--scale", "2", "--temporal", "off")


def write(path: Path, *tracks: list[NDArray[np.uint8]], options: dict[str, str]) -> None:
    with av.open(path, "w") as out:
        for images in tracks:
            stream = out.add_stream("libx264", rate=25, options={"qp": "0", "preset": "ultrafast"} | options)
            assert isinstance(stream, av.VideoStream)
            stream.height, stream.width, stream.pix_fmt = *images[0].shape, "gray"
        for images, stream in zip(tracks, out.streams.video, strict=True):
            for number, image in enumerate(images):
                frame = av.VideoFrame.from_ndarray(image, "gray")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))


def measured(path: Path) -> list[NDArray[np.generic]]:
    """What ``path``, enlarged by two by the nearest pixel, was made of."""
    return [frame.image[::2, ::2] for frame in read_all(VideoSource(path))[0]]


def made(run: Run, how: str, source: Path, folder: Path, *options: str) -> list[NDArray[np.generic]]:
    out = folder / f"{how}.mkv"
    if how == "upscale":
        assert run("clesr", "upscale", source, "-o", out, *FEW, *options)[0] == 0
    elif how == "live":
        live = ("--source", source, "--pace", "max", "--display", "none", "--output", out)
        assert run("clesr-live", *live, *FEW, *options)[0] == 0
    else:
        inside = folder / "in"
        inside.mkdir()
        source.rename(inside / source.name)
        out = folder / "archive"
        assert run("clesr", "upscale", inside, "-o", out, *FEW, *options)[0] == 0
        out = out / f"{source.stem}.mkv"
    return measured(out)


@pytest.mark.parametrize("how", ["upscale", "live", "archive"])
def test_track_and_range(run: Run, tmp_path: Path, how: str) -> None:
    first = [np.full((48, 64), 100, np.uint8)] * 3
    second = [np.tile(np.arange(64, dtype=np.uint8) * 4, (32, 1))] * 4
    source = tmp_path / "a.mp4"
    write(source, first, second, options={})
    found = made(run, how, source, tmp_path, "--track", "2", "--range", "full")
    assert len(found) == 4
    assert all(np.array_equal(image, second[0]) for image in found)


@pytest.mark.parametrize("how", ["upscale", "live", "archive"])
def test_deinterlace(run: Run, tmp_path: Path, how: str) -> None:
    scene = drifting(1, (48, 64))[0].astype(np.uint8)
    moments = [np.roll(scene, 3 * step, axis=1) for step in range(12)]
    images = [moment.copy() for moment in moments[1::2]]
    for image, moment in zip(images, moments[::2], strict=True):
        image[::2] = moment[::2]
    source = tmp_path / "a.mp4"
    write(source, images, options={"x264-params": "tff=1"})
    found = made(run, how, source, tmp_path, "--deinterlace", "--range", "full")
    inner = np.s_[8:-8, 8:-8]
    errors = [
        [np.abs(a[inner].astype(int) - b[inner]).mean() for a, b in zip(shown, moments[::2], strict=True)]
        for shown in (found, images)
    ]
    assert np.mean(errors[0]) < np.mean(errors[1]) / 3


def test_what_cannot_be_is_refused(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    write_video(source, drifting(2, (16, 16)))
    code, _, err = run("clesr", "upscale", source, "-o", tmp_path / "o.mkv", *FEW, "--track", "2")
    assert (code, "has no video track 2; it has 1 video track: 1 (16x16 ffv1)" in one_line(err)) == (2, True)
    assert run("clesr", "upscale", source, "-o", tmp_path / "o.mkv", "--range", "wide")[0] == 2


def test_info_tells_the_times_that_frames_have(run: Run, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", drifting(4, (16, 16)), times_ms=[0, 40, 1000, 2000])
    lines = dict(line.split(maxsplit=1) for line in run("clesr", "info", tmp_path / "a.mkv")[1].splitlines())
    assert lines["frames"] == "4"
    assert 2.0 < float(lines["seconds"]) < 2.7  # how long the last is shown nobody knows
    assert float(lines["fps"]) == pytest.approx(4 / float(lines["seconds"]), rel=0.01)
