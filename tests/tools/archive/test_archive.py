"""`clesr upscale FOLDER --out FOLDER` on one machine: what is written, resumed, refused, and survives a kill."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import commands
import cv2
import numpy as np
import pytest
import tifffile
from archive_support import Start, results, wait_until
from recordings import drifting, noise, read_all, write_video
from waits import PATIENCE_S

from clesr.engines.common.errors import SourceError
from clesr.engines.models.weights import find_model
from clesr.pipeline.frame import Image
from clesr.pipeline.prepare import steady_window, stretch
from clesr.pipeline.sources.video.file import VideoSource
from clesr.tools import cli
from clesr.tools.archive.messages import Done, Failure, SegmentPlan, Step, Task
from clesr.tools.archive.settings import Settings
from clesr.tools.archive.tree import InputFile
from clesr.tools.archive.worker import Worker, work_folder
from clesr.tools.data.degrade import degrade
from clesr.tools.data.images import read_gray

PIECE = 15
EXPECTED = {
    "a/long.mkv", "a/b/h264.mkv", "short.mkv", "s.mkv", "x.png", "stack.tif", "deep.mkv",
}  # fmt: skip
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(run: commands.Run) -> Run:
    """`clesr upscale ARCHIVE --out OUT ...` in this process: exit status and standard error."""
    return lambda archive, out, *more: run("clesr", "upscale", archive, "--out", out, *QUICK, *more)[::2]


QUICK = ("--scale", 2, "--model", "nearest", "--piece", PIECE)


def records(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "archive.jsonl").read_text().splitlines()]
    return [line for line in lines if "run" not in line]


def decoded(path: Path) -> tuple[list[Image], list[Fraction]]:
    frames, damaged = read_all(VideoSource(path))
    assert not damaged
    times = [Fraction(f.pts or 0) * (f.time_base or 1) for f in frames]
    return [f.image for f in frames], [t - times[0] for t in times]


def test_a_tree_becomes_a_tree_of_every_frame_at_its_time(run: Run, archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (archive / "notes.txt").write_text("no image")
    code, err = run(archive, out, "--summary", tmp_path / "summary.json")
    assert code == 0, err
    assert "7 files up-scaled, 0 found finished, 0 broken" in err
    assert "left out, no kind of image or video known here: 1 .txt" in err
    assert set(results(out)) == EXPECTED
    for name, source in (
        ("a/long.mkv", "a/long.mkv"),
        ("a/b/h264.mkv", "a/b/h264.mp4"),
        ("short.mkv", "short.avi"),
    ):
        got, times = decoded(out / name)
        given, given_times = decoded(archive / source)
        np.testing.assert_array_equal(np.stack(got)[:, ::2, ::2], np.stack(given))
        np.testing.assert_array_equal(np.stack(got)[:, 1::2, 1::2], np.stack(given))
        assert [round(t * 1000) for t in times] == [round(t * 1000) for t in given_times]
        with av.open(str(out / name)) as container:
            assert container.streams.video[0].codec_context.name == "ffv1"
            assert container.streams.video[0].average_rate == 25
    png = cv2.imread(str(archive / "x.png"), cv2.IMREAD_UNCHANGED)
    sr = cv2.imread(str(out / "x.png"), cv2.IMREAD_UNCHANGED)
    assert png is not None
    assert sr is not None
    np.testing.assert_array_equal(sr[::2, ::2], png)
    assert not work_folder(out).exists()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["done"], summary["broken"], summary["frames"]) == (7, 0, 50 + 40 + 7 + 30 + 1 + 5 + 25)


def test_16_bits_get_one_window_for_the_whole_recording(run: Run, archive: Path, tmp_path: Path) -> None:
    code, err = run(archive, tmp_path / "out")
    assert code == 0, err
    given, _ = decoded(archive / "s" / "raw.mkv")
    got, _ = decoded(tmp_path / "out" / "s.mkv")
    window = steady_window(given)
    levels = np.array(
        [
            np.abs(stretch(a, window.low, window.high).astype(int) - b[::2, ::2]).max()
            for a, b in zip(given, got, strict=True)
        ]
    )
    assert levels.max() < 700  # of 65535: sixteen of thirty frames were measured
    dark, bright = np.stack(given).reshape(-1), np.stack(got)[:, ::2, ::2].reshape(-1)
    order = np.argsort(dark)
    assert np.all(np.diff(bright[order].astype(int)) >= 0)  # the same level is the same in every frame
    stack, deep = tifffile.imread(tmp_path / "out" / "stack.tif"), tifffile.imread(archive / "stack.tif")
    order = np.argsort(deep.reshape(-1))
    assert np.all(np.diff(stack[:, ::2, ::2].reshape(-1)[order].astype(int)) >= 0)


def test_the_same_command_again_does_nothing_and_changes_are_done_again(
    run: Run, archive: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(archive, out)
    before = {path: path.stat().st_mtime_ns for path in map(out.joinpath, EXPECTED)}
    code, err = run(archive, out)
    assert code == 0
    assert "0 files up-scaled, 7 found finished" in err
    os.utime(archive / "x.png")  # touched only
    write_video(archive / "short.avi", drifting(7, (48, 64), seed=9), codec="mpeg4", pixel_format="yuv420p")
    (out / "deep.mkv").unlink()
    code, err = run(archive, out)
    assert code == 0
    assert "2 files up-scaled, 5 found finished" in err
    changed = {str(p.relative_to(out)) for p, when in before.items() if p.stat().st_mtime_ns != when}
    assert changed == {"short.mkv", "deep.mkv"}
    assert "other settings" not in err
    (archive / "x.png").unlink()
    code, err = run(archive, out, "--roi", "0,0,16,2")
    assert "6 files up-scaled" in err
    assert "6 results of earlier runs with other settings are made anew and replaced" in err


@pytest.mark.slow
def test_the_engine_of_a_model_that_was_chosen_is_named_once(
    run: Run, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clesr.engines.opener.choose_model", lambda scale, *_trial: find_model("fast", scale))
    code, err = run(archive, tmp_path / "out", "--model", "auto", "--engine", "torch")
    assert code == 0, err
    assert sum(line.startswith("engine: ") for line in err.splitlines()) == 1, err
    record = records(tmp_path / "out")[0]
    assert record["model_sha256"] == find_model("fast", 2).sha256


def test_consistent_images_agree_with_what_was_measured(run: Run, tmp_path: Path) -> None:
    """Nearest made smaller again is not the image; corrected it is, to a fraction of a level."""
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (48, 64), np.uint8), (0, 0), 1.5)
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "x.png"), image)
    errors = []
    for more in ((), ("--consistent",)):
        code, err = run(tmp_path / "in", tmp_path / "out", *more)
        assert code == 0, err
        assert "1 files up-scaled" in err, "another setting makes another file"
        again = degrade(read_gray(tmp_path / "out" / "x.png"), 2)
        errors.append(float(np.abs(again.astype(int) - image).mean()))
    assert errors[1] < min(0.5, errors[0] / 2)


def test_reread_finds_a_change_that_size_and_time_do_not_show(
    run: Run, archive: Path, tmp_path: Path
) -> None:
    out, path = tmp_path / "out", archive / "stack.tif"
    run(archive, out)
    state, data = path.stat(), path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert "0 files up-scaled, 7 found" in run(archive, out)[1]
    assert "1 files up-scaled, 6 found" in run(archive, out, "--reread")[1]


def test_broken_files_are_listed_and_the_rest_is_done(run: Run, archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (archive / "bad.mkv").write_bytes(b"no video" * 99)
    (archive / "empty.png").write_bytes(b"")
    long = (archive / "a" / "long.mkv").read_bytes()
    (archive / "cut.mkv").write_bytes(long[: len(long) // 2])
    flipped = bytearray(long)
    flipped[len(long) // 2] ^= 255
    (archive / "flipped.mkv").write_bytes(flipped)
    code, err = run(archive, out)
    assert code == 1
    assert "7 files up-scaled, 0 found finished, 4 broken" in err
    assert "broken: bad.mkv: not a video that FFmpeg can read" in err
    assert "broken: empty.png: " in err
    assert "1 of 50 frames are corrupt" in err
    assert "clesr: error: 4 files were not up-scaled whole" in err
    assert set(results(out)) == EXPECTED | {"cut.partial.mkv", "flipped.partial.mkv"}
    whole, _ = decoded(out / "a" / "long.mkv")
    hurt, _ = decoded(out / "flipped.partial.mkv")
    assert len(hurt) == 49
    assert sum(not any(np.array_equal(a, b) for b in hurt) for a in whole) == 1
    code, err = run(archive, out)
    assert code == 1
    assert "0 files up-scaled, 9 found finished, 4 broken" in err  # the partial ones are not done again
    (archive / "cut.mkv").write_bytes(long)
    (archive / "bad.mkv").unlink()
    code, err = run(archive, out)
    assert "1 files up-scaled" in err
    assert set(results(out)) == EXPECTED | {"cut.mkv", "flipped.partial.mkv"}


def test_a_change_of_size_within_a_video_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    sizes = [drifting(12, (48, 64)), drifting(12, (96, 128))]
    for number, images in enumerate(sizes):
        write_video(tmp_path / f"{number}.ts", images, codec="mpeg2video", pixel_format="yuv420p")
    joined = b"".join((tmp_path / f"{number}.ts").read_bytes() for number in range(2))
    (tmp_path / "in" / "a.mpg").write_bytes(joined)
    code, err = run(tmp_path / "in", tmp_path / "out")
    assert code == 1
    assert "the frame size or depth changes at frame" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("{a}", "--out", "{a}"), "holds the archive"),
        (("{a}/s/..", "--out", "{a}/.."), "holds the archive"),
        (("{a}", "{a}/x.png", "--out", "{o}"), "cannot be one input of 2; give it alone"),
        (("{a}/x.png", "--out", "{o}", "--cluster", "local"), "--cluster is for one folder"),
        (("{a}/x.png", "--out", "{o}", "--workers", "2"), "--workers is for one folder"),
        (("{a}/x.png", "--out", "{o}", "--gpus", "1"), "--gpus is for one folder"),
        (("{a}/s", "--out", "{o}.mkv", "--piece", "9"), "--piece is for one folder"),
        (("{a}/x.png", "--out", "{o}.png", "--reread"), "--reread is for one folder"),
        (("{a}", "--out", "{o}", "--workers", "2"), "--workers is for a cluster; give --cluster too"),
        (("{a}", "--out", "{o}", "--gpus", "0.5"), "--gpus is for a cluster; give --cluster too"),
        (("{a}", "--out", "{o}", "--decode", "gpu"), "--decode gpu is not for archives"),
        (("{a}", "--out", "{o}", "--encode", "gpu"), "--encode gpu is not for archives"),
        (("{a}/empty", "--out", "{o}"), "holds nothing to up-scale; known are .mkv"),
        (("{a}", "--out", "{o}", "--model", "none"), "model 'none' is unknown"),
        (("{a}", "--out", "{o}", "--piece", "0"), "0 is not in the range"),
    ],
)
def test_what_cannot_work_is_one_line(
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    (archive / "empty").mkdir()
    given = [text.format(a=archive, o=tmp_path / "out") for text in arguments]
    monkeypatch.setattr("sys.argv", ["clesr", "upscale", "--model", "nearest", *given])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    err = capfd.readouterr().err
    assert words in err
    assert len([line for line in err.splitlines() if "error:" in line]) == 1


def test_an_output_within_the_archive_is_no_input(run: Run, archive: Path) -> None:
    code, err = run(archive, archive / "sr")
    assert code == 0, err
    before = results(archive / "sr")
    code, err = run(archive, archive / "sr")
    assert "0 files up-scaled, 7 found finished" in err
    assert results(archive / "sr") == before


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def pieces_in(out: Path) -> int:
    return len([p for p in work_folder(out).rglob("0*.mkv") if p.stat().st_size])


def many(archive: Path) -> Path:
    """More files, so that there is a middle."""
    for number in range(12):
        shutil.copy(archive / "a" / "long.mkv", archive / f"{number}.mkv")
    return archive


@pytest.mark.slow
def test_killed_in_the_middle_no_file_is_done_twice_and_none_is_missing(
    start: Start, run: Run, archive: Path, tmp_path: Path
) -> None:
    out, plain = tmp_path / "out", tmp_path / "plain"
    many(archive)
    for _ in range(2):
        seen = lines_in(out / "archive.jsonl")
        after = seen + random.Random(os.getpid()).randint(2, 6)
        process = start("upscale", archive, "--out", out, *QUICK)
        wait_until(lambda: lines_in(out / "archive.jsonl") > after, process)  # noqa: B023 - waited for here
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == -signal.SIGKILL
    first = {r["input"]: (out / r["output"]).stat() for r in records(out)}
    assert 0 < len(first) < 19
    assert not [name for name in results(out) if Path(name).name.startswith(".")]
    code, err = run(archive, out)
    assert code == 0, err
    count = Counter(record["input"] for record in records(out))
    assert set(count.values()) == {1}
    assert len(count) == 7 + 12
    for record in records(out):
        state = (out / record["output"]).stat()
        if record["input"] in first:
            assert (state.st_ino, state.st_mtime_ns) == (
                first[record["input"]].st_ino,
                first[record["input"]].st_mtime_ns,
            )
    run(archive, plain)
    assert results(out) == results(plain)


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished(start: Start, run: Run, archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_video(archive / "0.mkv", drifting(400, (48, 64)), options={"g": "1"})
    process = start("upscale", archive, "--out", out, *QUICK)
    wait_until(lambda: pieces_in(out) > 2, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopped: the same command goes on from here" in err
    kept = {p: p.stat().st_mtime_ns for p in work_folder(out).rglob("0*.mkv")}
    assert kept
    assert "Traceback" not in err
    settings = Settings(scale=2, model="nearest", model_sha256="", piece=PIECE)
    worker = Worker(settings, out)
    state = (archive / "0.mkv").stat()
    file = InputFile("0.mkv", archive / "0.mkv", "0.mkv", state.st_size, state.st_mtime_ns)
    plan = worker.do(Task(file))
    assert isinstance(plan, SegmentPlan)
    assert {path.parent.name for path in kept} >= {plan.key}  # the resumed run looks for them there
    for index in range(plan.segments):
        worker.do(Task(file, Step.SEGMENT, plan, index))
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    code, err = run(archive, out)
    assert code == 0, err
    assert set(results(out)) == EXPECTED | {"0.mkv"}


def test_a_file_finished_just_before_the_kill_is_not_done_again(archive: Path, tmp_path: Path) -> None:
    """Its result has its name, or not yet; the journal has no line."""
    settings = Settings(scale=2, model="nearest", model_sha256="", piece=PIECE)
    for published in (True, False):
        for name, target in (("short.avi", "short.mkv"), ("x.png", "x.png")):
            out = tmp_path / f"{target}-{published}"
            work_folder(out).mkdir(parents=True)
            state = (archive / name).stat()
            file = InputFile(name, archive / name, target, state.st_size, state.st_mtime_ns)
            first = Worker(settings, out)
            if not published:
                first._publish = lambda *_arguments: None  # type: ignore[method-assign]
            done = first.do(Task(file))
            assert isinstance(done, Done)
            assert (out / target).exists() == published
            second = Worker(settings, out)
            second.segment = None  # type: ignore[method-assign, assignment]  # nothing may be computed
            assert second.do(Task(file)) == done
            assert results(out) == {target: done.entry.output_sha256}


def test_an_input_that_changes_meanwhile_is_not_taken_for_done(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    work_folder(out).mkdir(parents=True)
    path = archive / "x.png"
    worker = Worker(Settings(scale=2, model="nearest", model_sha256=""), out)
    with pytest.raises(SourceError, match="it changed while it was read"):
        worker.begin(InputFile("x.png", path, "x.png", path.stat().st_size, 1))
    assert not (out / "x.png").exists()


def test_an_input_that_is_not_seen_is_told_with_the_machine(archive: Path, tmp_path: Path) -> None:
    worker = Worker(Settings(scale=2, model="nearest", model_sha256=""), tmp_path)
    answer = worker.do(Task(InputFile("y.png", archive / "y.png", "y.png", 1, 1)))
    assert isinstance(answer, Failure)
    assert answer.again
    assert f"does not see {archive}/y.png: it is gone, or not on a shared file system" in answer.reason


def test_a_full_disk_ends_the_run_in_one_line(
    run: Run, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clesr.tools.archive.segments.VideoWriter.write", full)
    code, err = run(archive, tmp_path / "out")
    assert code == 1
    assert "No space left on device" in err
    assert "what is finished is kept" in err
    monkeypatch.undo()


def test_joined_pieces_are_the_frames_of_the_pieces(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    images = noise(50, (32, 32))
    write_video(
        tmp_path / "in" / "a.mkv", images, options={"g": "1"}, times_ms=[7 * i + i % 3 for i in range(50)]
    )
    for out, piece in (("one", 1000), ("many", 7)):
        code, err = run(tmp_path / "in", tmp_path / out, "--piece", piece, "--model", "nearest")
        assert code == 0, err
    one, many_ = decoded(tmp_path / "one" / "a.mkv"), decoded(tmp_path / "many" / "a.mkv")
    np.testing.assert_array_equal(np.stack(one[0]), np.stack(many_[0]))
    assert one[1] == many_[1] == decoded(tmp_path / "in" / "a.mkv")[1]
