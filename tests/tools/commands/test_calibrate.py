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
Frames = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
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


def _frames(name: str) -> Frames:
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


def test_a_session_in_an_archive_keeps_its_own_calibration_and_window(stills: Path, run: Run) -> None:
    Path("images").mkdir()
    for n in range(4):
        cv2.imwrite(f"images/{n}.png", BUNDLE.show(60 + n + 0.3 * BUNDLE.places[:, 0], noise=2, seed=n))
    Path("archive").mkdir()
    words = ("--display", "none", "--pace", "max", "--cores", "drawn.cores", "--window", "20,160")
    code, _, err = run("clesr-live", "--source", "images", *FAST, *words, "--record", "archive/session")
    assert code == 0, err
    Path("images").rename("archive/images")

    def up_scaled(*more: object) -> str:
        code, _, err = run("clesr", "upscale", "archive", "-o", "out", *FAST, *more)
        assert code == 0, err
        return str(err)

    def alone(name: str, *more: object) -> Frames:
        code, _, err = run(
            "clesr", "upscale", "archive/session/", "-o", name, *FAST, "--codec", "ffv1", *more
        )
        assert code == 0, err
        return _frames(name)

    assert "5 files up-scaled" in up_scaled()
    assert "5 found finished" in up_scaled()
    own, bare = alone("own.mkv"), alone("bare.mkv", "--cores", "none", "--window", "full")
    np.testing.assert_array_equal(_frames("out/session.mkv"), own)
    lines = [json.loads(line) for line in Path("out/archive.jsonl").read_text("utf-8").splitlines()]
    stated = {line["input"]: line["stated"] for line in lines if "input" in line}
    sha256 = load_cores("drawn.cores").sha256
    assert stated.pop("session") == f"window 20,160 cores {sha256}"
    assert set(stated.values()) == {""}
    assert "5 files up-scaled" in up_scaled("--cores", "none", "--window", "full")
    np.testing.assert_array_equal(_frames("out/session.mkv"), bare)
    assert np.abs(bare.astype(int) - own).max() > 20
    assert "5 found finished" in up_scaled("--cores", "none", "--window", "full")


def test_an_archive_of_before_makes_sessions_with_a_calibration_anew(stills: Path, run: Run) -> None:
    Path("archive").mkdir()
    words = ("--display", "none", "--pace", "max")
    for name, more in (("a", ("--cores", "drawn.cores")), ("b", ())):
        code, _, err = run(
            "clesr-live", "--source", "tissue.png", *FAST, *words, *more, "--record", f"archive/{name}"
        )
        assert code == 0, err
    command = ("clesr", "upscale", "archive", "-o", "out", *FAST)
    code, _, err = run(*command)
    assert code == 0, err
    journal = Path("out/archive.jsonl")
    lines = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    for line in lines:
        line.pop("stated", None)
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, _, err = run(*command)
    assert code == 0, err
    assert "1 files up-scaled, 1 found finished" in err


def test_a_damaged_session_in_an_archive_is_its_raw_video(stills: Path, run: Run) -> None:
    Path("archive").mkdir()
    words = ("--display", "none", "--pace", "max", "--cores", "drawn.cores")
    code, _, err = run("clesr-live", "--source", "tissue.png", *FAST, *words, "--record", "archive/a")
    assert code == 0, err
    Path("archive/a/session.json").write_text("{}")
    code, _, err = run("clesr", "upscale", "archive", "-o", "out", *FAST)
    assert code == 0, err
    assert "a: only the raw video of this session is used: " in err
