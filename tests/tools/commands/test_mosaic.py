"""`clesr mosaic` and `clesr-live --mosaic`: maps of recordings and of live streams."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from commands import Run, one_line
from probe import along, circle, tissue
from recordings import write_video

from clesr.pipeline.mosaic.ome import frames_of

UPSCALING = ("--scale", "2", "--model", "bicubic", "--temporal", "off")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of tissue under a moving probe."""
    path = tmp_path_factory.mktemp("video") / "way.mkv"
    write_video(path, along(tissue(), circle(24)[:12]), fps=12)
    return path


def test_a_video_and_its_session_give_the_same_map(run: Run, video: Path, tmp_path: Path) -> None:
    of_video, of_session, session = (
        tmp_path / name for name in ("video.ome.tif", "session.ome.tif", "session")
    )
    code, _, err = run("clesr", "mosaic", video, *UPSCALING, "--pixel-size", "1.2", "-o", of_video)
    assert code == 0, err
    assert f"wrote {of_video}: a map of 12 frames" in err
    code, _, err = run(
        "clesr-live", "--source", video, *UPSCALING, "--pace", "max", "--display", "none",
        "--record", session, "--pixel-size", "1.2",
    )  # fmt: skip
    assert code == 0, err
    code, _, err = run("clesr", "mosaic", session, "-o", of_session)
    assert code == 0, err
    assert f"wrote {of_session}: a map of 12 frames" in err
    np.testing.assert_array_equal(tifffile.imread(of_video), tifffile.imread(of_session))
    assert frames_of(of_video)["frames"][-1]["seconds"] == pytest.approx(11 / 12, abs=0.001)
    for path in (of_video, of_session):
        with tifffile.TiffFile(path) as tiff:
            assert 'PhysicalSizeX="0.6"' in (tiff.ome_metadata or "")


def test_options_that_a_session_has_no_use_for_are_refused(run: Run, video: Path, tmp_path: Path) -> None:
    session = tmp_path / "session"
    run(
        "clesr-live", "--source", video, *UPSCALING, "--pace", "max", "--display", "none", "--record", session
    )
    code, _, err = run("clesr", "mosaic", session, "--model", "fast", "-o", tmp_path / "map.ome.tif")
    assert code == 2
    assert "--model is not for" in one_line(err)
    code, _, err = run("clesr", "mosaic", session, "-o", session / "map.ome.tif", "--frames", "3")
    assert code == 0, err
    assert not (tmp_path / "map.ome.tif").exists()


def test_a_name_that_cannot_be_is_refused_before_the_work(run: Run, video: Path, tmp_path: Path) -> None:
    for name, said in (("map.tif", "ends in .ome.tif"), ("old.ome.tif", "--overwrite")):
        (tmp_path / "old.ome.tif").write_bytes(b"old")
        code, _, err = run("clesr", "mosaic", video, *UPSCALING, "-o", tmp_path / name)
        assert code != 0
        assert said in one_line(err)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_live_run_writes_its_map_at_the_end(run: Run, video: Path, tmp_path: Path) -> None:
    path = tmp_path / "way.ome.tif"
    code, _, err = run(
        "clesr-live", "--source", video, *UPSCALING, "--display", "none", "--mosaic", tmp_path / "{stream}.ome.tif",
    )  # fmt: skip
    assert code == 0, err
    assert f"wrote {path}: a map of" in err
    assert frames_of(path)["frames"][0]["outcome"] == "drawn"


def test_a_map_in_a_session_that_is_recorded_is_refused(run: Run, video: Path, tmp_path: Path) -> None:
    code, _, err = run(
        "clesr-live", "--source", video, "--display", "none", "--record", tmp_path / "session",
        "--mosaic", tmp_path / "session" / "map.ome.tif",
    )  # fmt: skip
    assert code == 2
    assert "would lie in the session" in one_line(err)
