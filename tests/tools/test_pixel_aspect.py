"""Pixels that are wider than high stay so: through up-scaling, live output, recording, replay and export."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import tifffile
from commands import Run
from recordings import drifting, write_video

from clesr.pipeline.sources.registry import open_source

ASPECT = Fraction(16, 15)


@pytest.fixture
def oblong(tmp_path: Path) -> Path:
    path = tmp_path / "oblong.mp4"
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"qp": "0"})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuvj420p"
        stream.codec_context.sample_aspect_ratio = ASPECT
        for number, image in enumerate(drifting(6, (48, 64))):
            frame = av.VideoFrame.from_ndarray(image.astype(np.uint8, copy=False), "gray").reformat(
                format="yuvj420p"
            )
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def aspect_of(path: Path) -> Fraction:
    with closing(open_source(str(path), pace="max")) as source:
        return source.info.pixel_aspect


def test_through_every_command(run: Run, oblong: Path, tmp_path: Path) -> None:
    up, live, archive = tmp_path / "up.mkv", tmp_path / "live.mp4", tmp_path / "archive"
    few = ("--model", "nearest", "--scale", "2")
    assert run("clesr", "upscale", oblong, "-o", up, *few)[0] == 0
    session = tmp_path / "session"
    assert (
        run(
            *("clesr-live", "--source", oblong, "--pace", "max", "--display", "none", *few),
            *("--output", live, "--record", session),
        )[0]
        == 0
    )
    folder = tmp_path / "in"
    folder.mkdir()
    oblong.rename(folder / oblong.name)
    assert run("clesr", "upscale", folder, "-o", archive, *few)[0] == 0
    for images in ("raw", "sr"):
        assert run("clesr", "export", session, "--what", images, "-o", tmp_path / f"{images}.mp4")[0] == 0
    made = [up, live, archive / "oblong.mkv", session / "raw.mkv", session / "sr.mkv", session]
    made += [tmp_path / "raw.mp4", tmp_path / "sr.mp4"]
    assert {str(path): aspect_of(path) for path in made} == {str(path): ASPECT for path in made}
    code, said, _ = run("clesr", "info", up)
    assert (code, "pixel aspect  16/15" in said) == (0, True)


def test_square_pixels_are_not_stated(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_video(path, drifting(2, (16, 16)))
    assert "pixel aspect" not in run("clesr", "info", path)[1]
    with av.open(path) as container:
        assert container.streams.video[0].sample_aspect_ratio is None


@pytest.mark.parametrize("size", [(), ("--pixel-size", "0.83")], ids=["aspect", "size"])
def test_in_dicom_and_tiff(run: Run, oblong: Path, tmp_path: Path, size: tuple[str, ...]) -> None:
    import pydicom

    dicom, tiff = tmp_path / "a.dcm", tmp_path / "a.ome.tif"
    for path in (dicom, tiff):
        assert run("clesr", "export", oblong, "-o", path, *size)[0] == 0
    stated = pydicom.dcmread(dicom)
    with tifffile.TiffFile(tiff) as file:
        tags = file.pages.first.tags
        across, down = (Fraction(*tags[name].value) for name in ("XResolution", "YResolution"))
        pixels = str(file.ome_metadata)
    assert aspect_of(dicom) == ASPECT
    assert float(down / across) == pytest.approx(float(ASPECT))
    assert aspect_of(tiff) == ASPECT
    if size:
        sides = [float(side) for side in stated.PixelSpacing]
        assert sides == pytest.approx([0.00083 * 15 / 16, 0.00083])
        assert "PixelAspectRatio" not in stated
        assert 'PhysicalSizeX="0.83"' in pixels
        assert 'PhysicalSizeY="0.778125"' in pixels
    else:
        assert list(stated.PixelAspectRatio) == [15, 16], "the height comes first"
        assert "PixelSpacing" not in stated


def test_through_stacks(run: Run, oblong: Path, tmp_path: Path) -> None:
    few = ("--model", "nearest", "--scale", "2")
    made = [tmp_path / "in" / "a.tif", tmp_path / "b.ome.tif", tmp_path / "c.mkv", tmp_path / "out" / "a.tif"]
    made[0].parent.mkdir()
    assert run("clesr", "upscale", oblong, "-o", made[0], *few)[0] == 0
    for before, after in pairwise(made[:3]):
        assert run("clesr", "upscale", before, "-o", after, *few)[0] == 0
    assert run("clesr", "upscale", made[0].parent, "-o", made[3].parent, *few)[0] == 0
    assert {str(path): aspect_of(path) for path in made} == {str(path): ASPECT for path in made}
