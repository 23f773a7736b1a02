"""`clesr calibrate`, and `--cores` of what up-scales."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from bundles import draw_bundle
from commands import Run, one_line

from clesr.pipeline.cores.calibration import load_cores, save_cores
from clesr.pipeline.cores.removal import CoreRemoval

BUNDLE = draw_bundle((160, 176), 8.0)
FAST = ("--model", "bicubic", "--scale", "2")


@pytest.fixture
def stills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("flat.png", BUNDLE.show(noise=1))
    cv2.imwrite("tissue.png", BUNDLE.show(60 + 0.3 * BUNDLE.places[:, 0]))
    cv2.imwrite("other.png", np.full((64, 64), 90, np.uint8))
    save_cores(Path("drawn.cores"), BUNDLE.calibration())
    return tmp_path


def test_a_flat_field_becomes_a_calibration_once(stills: Path, run: Run) -> None:
    code, out, err = run("clesr", "calibrate", "flat.png", "-o", "probe.cores")
    assert code == 0, err
    assert f"probe.cores: {load_cores('probe.cores')}; mean of 1 frame\n" == out
    before = Path("probe.cores").read_bytes()
    code, _, err = run("clesr", "calibrate", "flat.png", "-o", "probe.cores")
    assert (code, Path("probe.cores").read_bytes()) == (1, before)
    assert "probe.cores exists; give another name, or --overwrite" in one_line(err)


def test_what_makes_none_leaves_no_file(stills: Path, run: Run) -> None:
    code, _, err = run("clesr", "calibrate", "other.png", "-o", "probe.cores")
    assert code == 2
    assert "no pattern of fibre cores is seen" in one_line(err)
    assert not Path("probe.cores").exists()


def test_stills_are_up_scaled_without_their_cores(stills: Path, run: Run) -> None:
    removed = CoreRemoval(BUNDLE.calibration())(np.asarray(cv2.imread("tissue.png", cv2.IMREAD_GRAYSCALE)))
    cv2.imwrite("removed.png", removed)
    for name, more in (("tissue.png", ("--cores", "drawn.cores")), ("removed.png", ())):
        code, _, err = run("clesr", "upscale", name, "-o", f"sr-{name}", *FAST, *more)
        assert code == 0, err
    first, second = (cv2.imread(f"sr-{name}.png", cv2.IMREAD_GRAYSCALE) for name in ("tissue", "removed"))
    np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


def test_frames_of_another_size_and_what_is_no_calibration_are_refused_in_a_line(
    stills: Path, run: Run
) -> None:
    code, _, err = run("clesr", "upscale", "other.png", "-o", "a.png", *FAST, "--cores", "drawn.cores")
    assert code == 2
    assert "frames are 64x64, but the calibration drawn.cores is for 176x160" in one_line(err)
    code, _, err = run("clesr", "upscale", "other.png", "-o", "a.png", *FAST, "--cores", "flat.png")
    assert code == 1
    assert "flat.png is no calibration of cores that can be read" in one_line(err)
    assert not Path("a.png").exists()


def test_a_calibration_is_never_written_over(stills: Path, run: Run) -> None:
    code, _, err = run(
        "clesr", "upscale", "tissue.png", "-o", "tissue.png", *FAST, "--cores", "drawn.cores", "--overwrite"
    )
    assert code == 2, err
    words = ("--display", "none", "--cores", "drawn.cores", "--overwrite", "--summary", "drawn.cores")
    code, _, err = run("clesr-live", "--source", "tissue.png", *FAST, *words)
    assert code == 2
    assert "drawn.cores is an input of this command" in one_line(err)


def test_a_session_and_what_is_made_of_it_again(stills: Path, run: Run) -> None:
    Path("images").mkdir()
    for n in range(4):
        cv2.imwrite(f"images/{n}.png", BUNDLE.show(60 + n + 0.3 * BUNDLE.places[:, 0], noise=2, seed=n))
    words = ("--display", "none", "--pace", "max")
    recorded = ("--cores", "drawn.cores", "--record", "session", "--output", "live.mkv", "--codec", "ffv1")
    code, _, err = run("clesr-live", "--source", "images", *FAST, *words, *recorded)
    assert code == 0, err
    Path("drawn.cores").unlink()
    assert json.loads(Path("session/session.json").read_text("utf-8"))["settings"]["cores"] == "drawn.cores"
    code, _, err = run("clesr", "verify", "session")
    assert code == 0, err
    code, _, err = run("clesr", "render", "session")
    assert code == 0, err
    assert "4 frames rendered again, 4 of them the same to the bit" in err
    again = (*words, "--output", "again.mkv", "--codec", "ffv1")
    code, _, err = run("clesr", "replay", "session", *again)
    assert code == 0, err
    code, _, err = run("clesr", "upscale", "session/", "-o", "up.mkv", *FAST, "--codec", "ffv1")
    assert code == 0, err
    frames = [_frames(name) for name in ("live.mkv", "again.mkv", "up.mkv")]
    np.testing.assert_array_equal(frames[0], frames[1])
    np.testing.assert_array_equal(frames[0], frames[2])


def _frames(name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    video, found = cv2.VideoCapture(name), []
    while (read := video.read())[0]:
        found.append(read[1])
    assert len(found) == 4
    return np.stack(found).astype(np.uint8)


def test_an_archive_is_up_scaled_by_it_and_remembers_which(stills: Path, run: Run) -> None:
    Path("archive").mkdir()
    Path("tissue.png").rename("archive/tissue.png")
    words = ("clesr", "upscale", "archive", "-o", "out", *FAST)
    for more in (("--cores", "drawn.cores"), ("--cores", "drawn.cores")):
        code, _, err = run(*words, *more)
        assert code == 0, err
    assert "1 found finished" in err
    first = cv2.imread("out/tissue.png", cv2.IMREAD_GRAYSCALE)
    code, _, err = run(*words)
    assert code == 0, err
    assert "1 files up-scaled" in err, "without it the result is another"
    second = cv2.imread("out/tissue.png", cv2.IMREAD_GRAYSCALE)
    assert np.abs(np.asarray(first).astype(int) - np.asarray(second)).max() > 20
