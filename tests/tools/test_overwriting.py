"""No command replaces an input, a part of a session, or what is no file; another file only with --overwrite."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zmq.auth
from commands import Run, one_line
from recordings import drifting, write_video
from session_runs import frames, record

from clesr.engines.models.fast import FastSR
from clesr.engines.models.weights import Descriptor, save_model

LIVE = ("--scale", 2, "--model", "nearest", "--display", "none", "--pace", "max")
UPSCALE = ("--scale", 2, "--model", "nearest")
BENCH = (
    "--engine",
    "torch",
    "--model",
    "fast",
    "--scale",
    2,
    "--size",
    "16x16",
    "--seconds",
    0.01,
    "--repeats",
    1,
)
EVALUATE = ("--data", "still.png", "--scales", 2, "--methods", "nearest", "--size", "native")
TRAIN = (
    "--data",
    "big.png",
    "--scale",
    2,
    "--architecture",
    "fast",
    "--channels",
    4,
    "--depth",
    2,
    "--steps",
    1,
)

# What is written by a command: its words with OUT where the file stands, and a name that fits.
COMMANDS: dict[str, tuple[tuple[Any, ...], str]] = {
    "live": (("clesr-live", "--source", "in.mkv", *LIVE, "--output", "OUT", "--codec", "ffv1"), "out.mkv"),
    "live --summary": (("clesr-live", "--source", "in.mkv", *LIVE, "--summary", "OUT"), "out.json"),
    "replay": (("clesr", "replay", "s", *LIVE, "--output", "OUT"), "out.mkv"),
    "upscale": (("clesr", "upscale", "in.mkv", *UPSCALE, "-o", "OUT"), "out.mkv"),
    "upscale to TIFF": (("clesr", "upscale", "in.mkv", *UPSCALE, "-o", "OUT"), "out.tif"),
    "upscale an image": (("clesr", "upscale", "still.png", *UPSCALE, "-o", "OUT"), "out.png"),
    "upscale --summary": (
        ("clesr", "upscale", "in.mkv", *UPSCALE, "-o", "sr.mkv", "--summary", "OUT"),
        "out.json",
    ),
    "archive --summary": (
        ("clesr", "upscale", "images", *UPSCALE, "-o", "results", "--summary", "OUT"),
        "out.json",
    ),
    "export to MP4": (("clesr", "export", "in.mkv", "-o", "OUT"), "out.mp4"),
    "export to OME-TIFF": (("clesr", "export", "s", "-o", "OUT"), "out.ome.tif"),
    "export to DICOM": (("clesr", "export", "s", "--what", "raw", "-o", "OUT"), "out.dcm"),
    "export to PNG": (("clesr", "export", "s", "--frame", 2, "-o", "OUT"), "out.png"),
    "verify --json": (("clesr", "verify", "s", "--json", "OUT"), "out.json"),
    "bench --json": (("clesr", "bench", *BENCH, "--json", "OUT"), "out.json"),
    "bench --plot": (("clesr", "bench", *BENCH, "--plot", "OUT"), "out.png"),
    "evaluate --json": (("clesr", "evaluate", *EVALUATE, "--json", "OUT"), "out.json"),
    "export-model": (("clesr", "export-model", "w.safetensors", "-o", "OUT", "--size", "16x16"), "out.onnx"),
}
FOLDERS: dict[
    str, tuple[tuple[Any, ...], str]
] = {  # those that write several files into a folder, and one of them
    "demo": (("clesr", "demo", "--seconds", 0.2, "-o", "OUT"), "demo.png"),
    "evaluate": (("clesr", "evaluate", *EVALUATE, "--no-figures", "-o", "OUT"), "rows.csv"),
    "train": (("clesr", "train", *TRAIN, "-o", "OUT"), "weights.safetensors"),
    "upscale": (("clesr", "upscale", "in.mkv", "still.png", *UPSCALE, "-o", "OUT"), "still.png"),
}
SLOW = {"bench --json", "bench --plot", "export-model"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a video ``in.mkv``, images, weights and a session ``s``, in which commands run."""
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "in.mkv", drifting(6, (32, 48)))
    cv2.imwrite("still.png", drifting(1, (32, 48))[0])
    cv2.imwrite("big.png", np.random.default_rng(0).integers(0, 256, (96, 96)).astype(np.uint8))
    (tmp_path / "images").mkdir()
    shutil.copy("still.png", "images/a.png")
    record(tmp_path / "s", frames(range(5)))
    save_model(tmp_path / "w.safetensors", FastSR(2), Descriptor(name="mine", architecture="fast", scale=2))
    return tmp_path


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_fifo()
    }


def filled(words: tuple[Any, ...], target: object) -> list[object]:
    return [target if word == "OUT" else word for word in words]


def other_file(path: Path) -> None:
    path.write_bytes(b"of somebody")


def link_to_file(path: Path) -> None:
    other_file(path.with_name("theirs"))
    path.symlink_to("theirs")


def session_part(path: Path) -> None:
    other_file(path)
    path.with_name("session.json").write_bytes(b"{}")


def all_commands() -> list[Any]:
    marks = {name: [pytest.mark.slow] for name in SLOW}
    return [pytest.param(name, marks=marks.get(name, [])) for name in COMMANDS]


@pytest.mark.parametrize("name", all_commands())
def test_nothing_that_has_to_stay_is_replaced_by(name: str, place: Path, run: Run) -> None:
    words, file = COMMANDS[name]
    cases: dict[
        str, tuple[Callable[[Path], object], bool]
    ] = {  # what is there, and whether --overwrite helps
        "exists; give another name, or --overwrite": (other_file, True),
        "is a link": (link_to_file, False),
        "is a pipe": (os.mkfifo, False),
        "is a folder": (os.mkdir, False),
        "is part of the session": (session_part, False),
    }
    if words[1] == "upscale" and "--summary" not in words:
        del cases["is a folder"]  # there it is where the result goes
    for index, (reason, (make, helps)) in enumerate(cases.items()):
        folder = place / f"case{index}"
        folder.mkdir()
        target = folder / file
        make(target)
        before, kind = digests(place), stat.S_IFMT(os.lstat(target).st_mode)
        for more in ((), () if helps else ("--overwrite",)):
            code, _, err = run(*filled(words, target), *more)
            assert (code, reason in one_line(err)) == (1, True), err
            assert digests(place) == before, "nothing is begun"
            assert stat.S_IFMT(os.lstat(target).st_mode) == kind
    code, _, err = run(*filled(words, place / "case0" / file), "--overwrite")
    assert code == 0, err
    assert (place / "case0" / file).read_bytes() != b"of somebody"
    assert os.listdir(place / "case0") == [file]


@pytest.mark.parametrize("name", FOLDERS)
def test_files_in_a_folder_stay_before(name: str, place: Path, run: Run) -> None:
    words, file = FOLDERS[name]
    (place / "results").mkdir()
    (place / "results" / file).write_bytes(b"of somebody")
    before = digests(place)
    code, _, err = run(*filled(words, place / "results"))
    assert (code, f"{file} exists; give another name, or --overwrite" in one_line(err)) == (1, True), err
    assert digests(place) == before


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in ("demo", "train"))) for name in FOLDERS]
)
def test_files_in_a_folder_are_replaced_where_the_user_says_so_by(name: str, place: Path, run: Run) -> None:
    words, file = FOLDERS[name]
    (place / "results").mkdir()
    (place / "results" / file).write_bytes(b"of somebody")
    code, _, err = run(*filled(words, place / "results"), "--overwrite")
    assert code == 0, err
    assert (place / "results" / file).read_bytes() != b"of somebody"


def make_names(path: str) -> list[str]:
    """``path`` under other names."""
    suffix = "".join(Path(path).suffixes[-2:])
    os.symlink(path, "link" + suffix)
    os.link(path, "hard" + suffix)
    os.symlink(".", "here")
    return [path, f"./{path}", f"here/{path}", str(Path(path).absolute()), "link" + suffix, "hard" + suffix]


INPUTS: dict[str, tuple[tuple[Any, ...], str]] = {
    "live --output": (("clesr-live", "--source", "in.mkv", *LIVE, "--output", "OUT"), "in.mkv"),
    "live --output by name": (("clesr-live", "--source", "left=in.mkv", *LIVE, "--output", "OUT"), "in.mkv"),
    "live --output by scheme": (("clesr-live", "--source", "FILE:in.mkv", *LIVE, "--output", "OUT"), "in.mkv"),
    "live --summary": (("clesr-live", "--source", "in.mkv", *LIVE, "--summary", "OUT"), "in.mkv"),
    "upscale": (("clesr", "upscale", "in.mkv", *UPSCALE, "-o", "OUT"), "in.mkv"),
    "upscale an image": (("clesr", "upscale", "still.png", *UPSCALE, "-o", "OUT"), "still.png"),
    "upscale --summary": (("clesr", "upscale", "in.mkv", *UPSCALE, "-o", "o.mkv", "--summary", "OUT"), "in.mkv"),
    "weights of upscale": (
        ("clesr", "upscale", "in.mkv", "--scale", 2, "--model", "w.safetensors", "-o", "o.mkv", "--summary", "OUT"),
        "w.safetensors",
    ),
    "archive --summary": (("clesr", "upscale", "images", *UPSCALE, "-o", "o", "--summary", "OUT"), "images/a.png"),
    "export": (("clesr", "export", "in.mp4", "-o", "OUT"), "in.mp4"),
    "patient of export": (
        ("clesr", "export", "s", "--what", "raw", "--patient", "p.dcm", "-o", "OUT"), "p.dcm",
    ),
    "bench": (("clesr", "bench", *BENCH, "--model", "w.safetensors", "--json", "OUT"), "w.safetensors"),
    "evaluate": (("clesr", "evaluate", *EVALUATE, "--json", "OUT"), "still.png"),
    "evaluate a pattern": (("clesr", "evaluate", *EVALUATE, "--data", "st*.png", "--json", "OUT"), "still.png"),
    "export-model": (("clesr", "export-model", "w.onnx", "-o", "OUT"), "w.onnx"),
}  # fmt: skip


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_is_never_replaced_by(name: str, place: Path, run: Run) -> None:
    words, file = INPUTS[name]
    shutil.copy("w.safetensors", "w.onnx")
    write_video(place / "in.mp4", drifting(6, (32, 48)), codec="libx264", pixel_format="yuv420p")
    (place / "p.dcm").write_text('name = "a"\nid = "b"\n')
    before = digests(place)
    names = make_names(file)
    if "/" in file:
        names.remove(
            "hard.png"
        )  # the other name of a file in a folder that is an input: the file itself stays
    for target in names:
        for more in ((), ("--overwrite",)):
            code, _, err = run(*filled(words, target), *more)
            line = one_line(err)
            assert "is an input of this command and is never replaced" in line or "is a link" in line
            assert code == (1 if "link" in line.partition(" is ")[2][:7] else 2)
    assert {key: value for key, value in digests(place).items() if key in before} == before


@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_what_is_linked_in_an_input_is_an_input(
    make: Callable[[Path, Path], object], place: Path, run: Run
) -> None:
    make(place / "still.png", place / "images" / "b.png")
    before = digests(place)
    for words in (
        ("clesr", "evaluate", "--data", "images", *EVALUATE[2:], "--json", "still.png"),
        ("clesr", "upscale", "images", *UPSCALE, "-o", "results", "--summary", "still.png"),
        ("clesr-live", "--source", "images", *LIVE, "--summary", "still.png"),
    ):
        code, _, err = run(*words, "--overwrite")
        assert (code, "still.png is an input of this command" in one_line(err)) == (2, True), err
    assert digests(place) == before


def test_settings_and_keys_are_inputs_too(place: Path, run: Run) -> None:
    (place / "settings.toml").write_text("[live]\nscale = 2\n")
    zmq.auth.create_certificates(place, "mine")
    send = f"zmq+ipc://{place}/sr.ipc?curve_secret={place}/mine.key_secret"
    words = (
        "clesr-live",
        "--config",
        "settings.toml",
        "--source",
        "in.mkv",
        *LIVE,
        "--send",
        send,
        "--overwrite",
    )
    before = digests(place)
    for kept in ("settings.toml", "mine.key_secret"):
        code, _, err = run(*words, "--summary", kept)
        assert code == 2, err
        assert f"{kept} is an input of this command and is never replaced" in err
    assert digests(place) == before


@pytest.mark.parametrize("part", ["session.json", "frames.jsonl", "raw.mkv", "sr.mkv"])
@pytest.mark.parametrize(
    "words",
    [
        ("clesr", "verify", "s", "--json", "OUT"),
        ("clesr-live", "--source", "s", *LIVE, "--output", "OUT"),
        ("clesr-live", "--source", "demo:", "--frames", 3, *LIVE, "--summary", "OUT"),
        ("clesr", "upscale", "s/raw.mkv", *UPSCALE, "-o", "OUT"),
        ("clesr", "upscale", "in.mkv", *UPSCALE, "-o", "o.mkv", "--summary", "OUT"),
    ],
    ids=lambda words: " ".join(words[:3]) if isinstance(words, tuple) else "",
)
def test_no_part_of_a_session_is_replaced(words: tuple[Any, ...], part: str, place: Path, run: Run) -> None:
    before = digests(place)
    for missing in (False, True):
        if missing:
            shutil.copytree("s", "kept")
            (place / "s" / part).unlink()
            before = digests(place)
        code, _, err = run(*filled(words, f"s/{part}"), "--overwrite")
        assert code in (1, 2), err
        one_line(err)
        assert digests(place) == before


def test_a_device_is_never_replaced(place: Path, run: Run) -> None:
    for target in ("/dev/null", "/dev/full", "/dev/stdout"):
        before = os.stat(target).st_mode
        code, _, err = run("clesr", "verify", "s", "--json", target, "--overwrite")
        assert code == 1
        assert "is a device" in one_line(err) or "is a link" in one_line(err) or "is a pipe" in one_line(err)
        assert os.stat(target).st_mode == before


def test_no_output_lies_in_the_session_that_is_recorded(place: Path, run: Run) -> None:
    record_new = ("clesr-live", "--source", "in.mkv", *LIVE, "--record", "new")
    for more in (("--output", "new/sr.mkv"), ("--summary", "new/summary.json")):
        code, _, err = run(*record_new, *more)
        assert (code, "would lie in the session new; give a name outside it" in one_line(err)) == (2, True)
        assert not (place / "new" / "session.json").exists()
    code, _, err = run(*record_new, "--output", "both.mkv", "--summary", "./both.mkv")
    assert (code, "is named for two outputs" in one_line(err)) == (2, True)


def test_a_file_that_appears_during_the_run_stays(
    place: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was made is kept under a name that is free."""
    from clesr.pipeline.pipeline import Pipeline

    whole = Pipeline.open

    def disturbed(pipeline: Pipeline, waited_s: float) -> None:
        (place / "out.mkv").write_bytes(b"of somebody")
        whole(pipeline, waited_s)

    monkeypatch.setattr(Pipeline, "open", disturbed)
    code, _, err = run("clesr", "upscale", "in.mkv", *UPSCALE, "-o", "out.mkv")
    assert code == 1
    assert "out.mkv exists" in err
    assert (place / "out.mkv").read_bytes() == b"of somebody"
    assert "out.partial.mkv: 6 frames" in err
    assert not [name for name in os.listdir(place) if "part." in name]


def test_a_summary_of_several_inputs_is_that_of_the_last(place: Path, run: Run) -> None:
    words = ("clesr", "upscale", "in.mkv", "still.png", *UPSCALE, "-o", "results", "--summary", "all.json")
    assert run(*words)[0] == 0
    assert "still.png" in (place / "all.json").read_text()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_no_input_and_holds_nobody_up(make: Any, place: Path, run: Run) -> None:
    for suffix in ("mkv", "png", "tif", "mkt", "safetensors", "sdp"):
        make(place / f"odd.{suffix}")
        for words in (
            ("clesr", "info", f"odd.{suffix}"),
            ("clesr-live", "--source", f"odd.{suffix}", *LIVE),
            ("clesr", "export", f"odd.{suffix}", "-o", "o.mp4"),
            ("clesr", "upscale", "in.mkv", "--model", f"odd.{suffix}", "-o", "o.mkv"),
        ):
            code, _, err = run(*words)
            assert code in (1, 2)
            assert "unexpected" not in one_line(err)
