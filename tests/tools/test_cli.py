"""The commands as a user types them: what they print, how they end, what they leave on disk."""

from __future__ import annotations

import itertools
import json
import os
import re
import threading
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from commands import Run, one_line
from numpy.typing import NDArray

from clesr.engines import opener as opening
from clesr.engines import trial
from clesr.engines.backends.cuda import buffers
from clesr.engines.common.errors import SinkError
from clesr.engines.degrade import Degrader
from clesr.engines.factory import engines
from clesr.engines.gpu import PROVEN
from clesr.engines.models import weights
from clesr.engines.models.fast import FastSR
from clesr.engines.models.weights import Descriptor, load_model, save_model
from clesr.pipeline.sinks.window.process import screen_size
from clesr.tools import doctor_report


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A lossless video of 12 frames, 40x32, at uneven times."""
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 40, 32, "gray"
        for i in range(12):
            image = np.random.default_rng(i).integers(0, 256, (32, 40), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="gray")
            frame.pts = 2 * i + i % 2
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def frames(path: Path) -> list[tuple[float, tuple[int, int]]]:
    with av.open(str(path)) as container:
        return [(float(f.time or 0), (f.height, f.width)) for f in container.decode(video=0)]


def gray_frames(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [np.asarray(f.to_ndarray(format="gray"), np.uint8) for f in container.decode(video=0)]


def test_upscale_keeps_every_frame_and_its_time(run: Run, video: Path, tmp_path: Path) -> None:
    code, _, err = run(
        "clesr", "upscale", video, "-o", tmp_path / "out.mkv", "--model", "bicubic", "--scale", "2"
    )
    assert code == 0, err
    assert "12 upscaled" in err
    got, given = frames(tmp_path / "out.mkv"), frames(video)
    assert [shape for _, shape in got] == [(64, 80)] * 12
    times = [time - got[0][0] for time, _ in got]
    np.testing.assert_allclose(times, [time - given[0][0] for time, _ in given], atol=0.0011)


def test_upscale_a_folder_of_images_and_stacks(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    deep = np.random.default_rng(0).integers(0, 65536, (20, 30), np.uint16)
    cv2.imwrite(str(folder / "a.png"), np.full((10, 12), 100, np.uint8))
    cv2.imwrite(str(folder / "b.tif"), deep)
    (folder / "notes.txt").write_text("not an image")
    code, _, err = run(
        "clesr",
        "upscale",
        folder,
        "-o",
        tmp_path / "out",
        "--model",
        "nearest",
        "--scale",
        "2",
        "--window",
        "full",
    )
    assert code == 0, err
    assert "left out, no kind of image or video known here: 1 .txt" in err
    a = cv2.imread(str(tmp_path / "out" / "a.png"), cv2.IMREAD_UNCHANGED)
    b = cv2.imread(str(tmp_path / "out" / "b.tif"), cv2.IMREAD_UNCHANGED)
    assert a is not None
    assert b is not None
    assert a.shape == (20, 24)
    assert b.dtype == np.uint16
    np.testing.assert_array_equal(b[::2, ::2], deep)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        ".archive",
        "a.png",
        "archive.jsonl",
        "b.tif",
    ]


def test_a_stack_of_images_of_several_sizes_names_each(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, shape in (("a", (10, 12)), ("b", (8, 8)), ("c", (10, 12))):
        cv2.imwrite(str(folder / f"{name}.png"), np.full(shape, 100, np.uint8))
    out = tmp_path / "out.tif"
    code, _, err = run("clesr", "upscale", folder, "-o", out, "--model", "nearest", "--scale", "2")
    assert code == 0, err
    assert f"wrote {out}: 3 images (24x20, 16x16)" in err.replace("\n", " ")


@pytest.mark.parametrize("command", ["live", "upscale", "archive"])
def test_an_unknown_model_is_answered_with_every_name_that_would_do(
    run: Run, video: Path, tmp_path: Path, command: str
) -> None:
    given = {
        "live": ("clesr-live", "--source", video, "--display", "none"),
        "upscale": ("clesr", "upscale", video, "-o", tmp_path / "out.mkv"),
        "archive": ("clesr", "upscale", video.parent, "--out", tmp_path / "out"),
    }
    code, _, err = run(*given[command], "--model", "magic")
    assert code == 2
    assert "model 'magic' is unknown; choose one of auto, bicubic, bilinear, nearest, densenet" in err


def test_live_writes_video_and_summary(run: Run, video: Path, tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    code, _, err = run(
        "clesr-live", "--source", video, "--scale", "4", "--model", "fast", "--pace", "max", "--display", "none",
        "--output", tmp_path / "out.mkv", "--summary", summary,
    )  # fmt: skip
    assert code == 0, err
    figures = json.loads(summary.read_text())
    assert figures["captured"] == 12
    assert figures["outcomes"] == {"upscaled": 12, "stale": 0, "lost-at-source": 0, "failed": 0, "corrupt": 0}
    assert set(figures["latency_ms"]["total"]) == {"p50", "p95", "p99", "p99.9"}
    assert figures["scale"] == 4
    assert figures["model"] == "fast"
    assert "x4" in figures["engine"]
    assert figures["fps"] > 0
    assert len(frames(tmp_path / "out.mkv")) == 12


def test_consistent_images_shrink_to_the_measured_ones(run: Run, video: Path, tmp_path: Path) -> None:
    figures = []
    for name, options in {"plain": [], "consistent": ["--consistent"]}.items():
        code, _, err = run(
            "clesr", "upscale", video, "-o", tmp_path / f"{name}.mkv", "--codec", "ffv1", "--scale", "2",
            "--model", "bilinear", "--summary", tmp_path / f"{name}.json", *options,
        )  # fmt: skip
        assert code == 0, err
        assert "fidelity, dB: median" in err
        figures.append(json.loads((tmp_path / f"{name}.json").read_text())["fidelity_db"])
    plain, consistent = figures
    assert plain["frames"] == consistent["frames"] == 12
    assert plain["limit"] is plain["below_limit"] is None
    assert consistent["worst"] > plain["worst"] + 3
    lr, degrader = gray_frames(video), Degrader((32, 40), 2)
    differences = [
        np.mean(
            [np.abs(degrader(sr).astype(int) - measured).mean() for sr, measured in zip(srs, lr, strict=True)]
        )
        for srs in (gray_frames(tmp_path / "plain.mkv"), gray_frames(tmp_path / "consistent.mkv"))
    ]
    assert differences[1] < differences[0] / 3, "but for what is clipped, for these frames are noise"


def test_model_auto_says_what_it_took(run: Run) -> None:
    code, _, err = run(
        "clesr-live", "--source", "demo:?size=96&fps=200", "--display", "none", "--frames", "5"
    )
    assert code == 0, err
    assert (
        "model fast: auto takes it, for densenet was trained on clean images alone, fast on noisy and compressed ones "
        "too; where yours are clean, ask for densenet" in err
    )


def test_a_look_back_says_how_to_begin(run: Run, tmp_path: Path) -> None:
    code, _, err = run(
        "clesr-live", "--source", "demo:?size=64&fps=200", "--model", "nearest", "--display", "none", "--frames", "3",
        "--record", tmp_path / "finding", "--retro", "20",
    )  # fmt: skip
    assert code == 0, err
    assert f"not recording yet: `kill -USR1 {os.getpid()}` begins, with the 20 s before" in err
    assert not (tmp_path / "finding").exists()


@pytest.mark.slow
def test_the_trial_of_a_model_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "clean_only", lambda _best, _light: "")
    code, _, err = run(
        "clesr-live", "--source", "demo:?size=96&fps=200", "--display", "none", "--frames", "5"
    )
    assert code == 0, err
    assert re.search(r"model fast: densenet (takes \d+ ms a frame|does not run) here", err)


def test_a_still_is_up_scaled_by_the_best_model_without_a_trial(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "clean_only", lambda _best, _light: "")
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((20, 24), 100, np.uint8))
    for names, output in (("a",), "sr.png"), (("a", "b"), "sr"):
        given = [tmp_path / f"{name}.png" for name in names]
        code, _, err = run("clesr", "upscale", *given, "-o", tmp_path / output, "--engine", "torch")
        assert code == 0, err
        assert err.count("model densenet: the best there is, for a still has no rate to hold") == 1
        assert "frames/s leave" not in err, "there was no trial"


def test_a_still_is_up_scaled_by_the_small_model_where_the_best_has_no_weights(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    having = {key: path for key, path in weights.shipped().items() if key != ("densenet", 8)}
    for module in (weights, opening):
        monkeypatch.setattr(module, "shipped", lambda: having)
    cv2.imwrite(str(tmp_path / "a.png"), np.full((20, 24), 100, np.uint8))
    code, _, err = run("clesr", "upscale", tmp_path / "a.png", "-o", tmp_path / "sr.png", "--scale", "8")
    assert code == 0, err
    assert "model fast: densenet has no weights for scale 8" in err


def test_settings_come_from_command_line_then_environment_then_file(
    run: Run, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "clesr.toml"
    config.write_text('[live]\nscale = "2"\nmodel = "nearest"\ndisplay = "none"\npace = "max"\n')
    summary = tmp_path / "s.json"

    def used(*more: str) -> tuple[int, str]:
        code, _, err = run(
            "clesr-live", "--config", config, "--source", video, "--summary", summary, "--overwrite", *more
        )
        assert code == 0, err
        figures = json.loads(summary.read_text())
        return figures["scale"], figures["model"]

    assert used() == (2, "nearest")
    monkeypatch.setenv("CLESR_LIVE_SCALE", "4")
    assert used() == (4, "nearest")
    assert used("--scale", "8", "--model", "bilinear") == (8, "bilinear")


def test_a_wrong_settings_file_is_one_line(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "clesr.toml"
    config.write_text("[live]\nscael = 2\n")
    code, _, err = run("clesr-live", "--config", config, "--source", "demo:")
    assert code == 2
    assert "scael" in one_line(err)


def bad_inputs(folder: Path) -> dict[str, tuple[int, list[object]]]:
    """Arguments of clesr-live that must fail, with their exit status, by the word that the message has."""
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("this is no video\n" * 50)
    torch.save({"weight": torch.zeros(3)}, folder / "pickled.pt")
    save_model(folder / "x2.safetensors", FastSR(2), Descriptor(name="mine", architecture="fast", scale=2))
    wrong = Descriptor(name="mine", architecture="densenet", scale=4)
    save_model(folder / "foreign.safetensors", FastSR(4), wrong)
    demo = ["--source", "demo:?size=64"]
    return {
        "missing.mp4": (1, ["--source", folder / "missing.mp4"]),
        "empty.mp4": (1, ["--source", folder / "empty.mp4"]),
        "text.mp4": (1, ["--source", folder / "text.mp4"]),
        "gopher": (2, ["--source", "gopher://host/file"]),
        "/dev/video97": (1, ["--source", "/dev/video97"]),
        "sizes": (2, ["--source", "demo:?sizes=64"]),
        "scale": (2, [*demo, "--scale", "3"]),
        "densenet": (2, [*demo, "--model", "densenet", "--scale", "8"]),
        "nosuch": (2, [*demo, "--model", "nosuch"]),
        "absent.safetensors": (1, [*demo, "--model", folder / "absent.safetensors"]),
        "scale 2": (1, [*demo, "--model", folder / "x2.safetensors", "--scale", "4"]),
        "other model": (1, [*demo, "--model", folder / "foreign.safetensors"]),
        "pickled": (1, [*demo, "--model", folder / "pickled.pt"]),
        "quantum": (2, [*demo, "--engine", "quantum"]),
        "roi": (2, [*demo, "--roi", "60,60,20,20"]),
        "--roi": (2, [*demo, "--roi", "1,2,3"]),
        "--window": (2, [*demo, "--window", "9,1"]),
        "pace is": (2, [*demo, "pace is", "quick"]),
        ".xyz": (2, [*demo, "--output", folder / "out.xyz"]),
        "nofolder": (1, [*demo, "--output", folder / "nofolder" / "out.mkv"]),
        "text.mp4/": (1, [*demo, "--output", folder / "text.mp4" / "out.mkv"]),
        "No such option": (2, [*demo, "--fast"]),
    }


@pytest.mark.parametrize("word", [
    "missing.mp4", "empty.mp4", "text.mp4", "gopher", "/dev/video97", "sizes", "scale", "densenet", "nosuch",
    "absent.safetensors", "scale 2", "other model", "pickled", "quantum", "roi", "--roi", "--window", "pace is", ".xyz",
    "nofolder", "text.mp4/", "No such option",
])  # fmt: skip
def test_bad_input_ends_in_one_clear_line(
    run: Run, tmp_path: Path, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    having = {key: path for key, path in weights.shipped().items() if key != ("densenet", 8)}
    monkeypatch.setattr(weights, "shipped", lambda: having)
    status, arguments = bad_inputs(tmp_path)[word]
    before = sorted(p.name for p in tmp_path.iterdir())
    code, _, err = run("clesr-live", "--display", "none", *arguments)
    assert word.lower() in one_line(err).lower()
    assert code == status, err
    assert sorted(p.name for p in tmp_path.iterdir()) == before, "nothing half-written"


def test_a_traceback_only_with_debug(run: Run, tmp_path: Path) -> None:
    _, _, err = run("clesr-live", "--source", tmp_path / "missing.mp4", "--display", "none", "--debug")
    assert "Traceback" in err


def test_a_file_cut_in_the_middle_is_processed_as_far_as_it_decodes(
    run: Run, video: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(video.read_bytes()[: int(video.stat().st_size * 0.6)])
    code, _, err = run(
        "clesr", "upscale", cut, "-o", tmp_path / "out.mkv", "--model", "bicubic", "--scale", "2"
    )
    assert code == 1
    assert "corrupt" in one_line(err)
    assert 3 <= len(frames(tmp_path / "out.mkv")) < 12


def test_an_output_that_is_the_input_is_refused(run: Run, video: Path) -> None:
    before = video.read_bytes()
    code, _, err = run("clesr", "upscale", video, "-o", video)
    assert code == 2
    assert "is an input of this command and is never replaced" in one_line(err)
    assert video.read_bytes() == before


def test_models_lists_and_describes(run: Run) -> None:
    code, out, _ = run("clesr", "models")
    assert code == 0
    assert "fast" in out
    assert "densenet" in out
    code, out, _ = run("clesr", "models", "--json")
    rows = json.loads(out)
    assert {(row["name"], row["scale"]) for row in rows} >= {
        ("fast", 2),
        ("fast", 4),
        ("fast", 8),
        ("densenet", 4),
    }
    assert all(len(row["sha256"]) == 64 for row in rows)


def test_several_streams_need_as_many_outputs(run: Run, tmp_path: Path) -> None:
    code, _, err = run(
        "clesr-live", "--source", "demo:", "--source", "demo:", "--display", "none", "--output", tmp_path / "a.mkv"
    )  # fmt: skip
    assert code == 2
    assert "--output is given once for 2 streams" in one_line(err)
    assert not list(tmp_path.iterdir())


def test_streams_from_a_settings_file_and_the_environment(
    run: Run, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "clesr.toml"
    config.write_text(
        f'[live]\nsource = ["a={video}", "b={video}"]\nmodel = "nearest"\ndisplay = "none"\npace = "max"\n'
        f'summary = "{tmp_path}/{{stream}}.json"\n'
    )
    code, _, err = run("clesr-live", "--config", config, "--share", "several")
    assert code == 0, err
    assert [json.loads((tmp_path / f"{name}.json").read_text())["captured"] for name in "ab"] == [12, 12]
    monkeypatch.setenv("CLESR_LIVE_SOURCE", f"c={video}\nd={video}")
    code, _, err = run("clesr-live", "--config", config, "--share", "auto")
    assert code == 0, err
    assert "streams: " in err
    assert [json.loads((tmp_path / f"{name}.json").read_text())["captured"] for name in "cd"] == [12, 12]


@pytest.mark.parametrize(
    ("version", "whose"), [("", "torch"), ("2026.1", "pycuda 2026.1, write-combined for inputs")]
)
def test_doctor_says_what_ran_on_an_nvidia_card_and_which_memory_it_uses(
    version: str, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffers, "version_of", lambda _name: version)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert list(doctor_report._nvidia()) == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    said = list(doctor_report._nvidia())
    assert said == [f"    {PROVEN}", f"    page-locked memory for the card: {whose}"]
    monkeypatch.setattr(doctor_report, "_engines", lambda: iter(["the engines"]))
    lines = list(itertools.islice(doctor_report.report(), 7))
    start = lines.index("the engines") + 1
    assert lines[start : start + 2] == said


def test_doctor_goes_on_where_the_screen_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_report, "SCREEN_S", 0.2)
    answering = threading.Event()
    monkeypatch.setattr(doctor_report, "screen_size", lambda: answering.wait(60))
    assert doctor_report._display().endswith("does not answer within 0 s")
    answering.set()


def test_doctor_names_the_engine_that_would_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says of the screen what the window would."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")  # which the window does not use
    code, out, err = run("clesr", "doctor")
    assert code == 0, err
    lines = out.splitlines()
    with pytest.raises(SinkError) as refused:
        screen_size()
    assert f"--  {refused.value}" in lines
    (line,) = [line.strip() for line in lines if line.startswith("    engine: ")]
    assert f"ok  engine {line.removeprefix('engine: ').split(', fast x4')[0]}" in lines
    for candidate in engines():
        (said,) = [
            line for line in lines if re.match(rf"(ok|--)  engine {re.escape(str(candidate))}(:|$)", line)
        ]
        assert candidate.available or candidate.reason in said
    for work in ("decoding", "encoding"):
        for codec in ("H.264", "HEVC"):
            assert len(re.findall(rf"^(?:ok|--)  {codec}: {work} (?:by|on) ", out, re.MULTILINE)) == 1


@pytest.mark.parametrize(
    "command", ["live", "upscale", "train", "evaluate", "models", "build", "doctor", "demo"]
)
def test_help_reads_like_a_manual(run: Run, command: str) -> None:
    code, out, _ = run("clesr", command, "--help")
    assert code == 0
    assert "Usage" in out
    if command in ("live", "upscale", "train", "evaluate"):
        assert "Examples" in out
        assert "default" in out


@pytest.mark.slow
@pytest.mark.usefixtures("few_phantoms")
def test_train_leaves_a_recipe_that_gives_the_same_weights_again(run: Run, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), cv2.GaussianBlur(image, (0, 0), 1.5))
    first = ["--data", str(tmp_path / "a.png"), "--architecture", "fast", "--scale", "2", "--depth", "3"]
    numbers = ["--steps", "6", "--batch", "2", "--patch", "16", "--milestones", "1,2"]
    code, _, err = run("clesr", "train", *first, *numbers, "-o", str(tmp_path / "a"))
    assert code == 0, err
    assert "training 6 steps of 2 patches from 1 images" in err
    recipe = str(tmp_path / "a" / "recipe.toml")
    code, _, err = run("clesr", "train", "--recipe", recipe, "-o", str(tmp_path / "b"))
    assert code == 0, err
    one, two = (load_model(tmp_path / name / "weights.safetensors") for name in "ab")
    assert one.sha256 == two.sha256
    assert one.descriptor.training["milestones"] == [1, 2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("batch = [", "cannot be read"),
        ("batches = 3", "there is no option 'batches'"),
        (None, "cannot be read"),
    ],
)
def test_a_bad_recipe_is_one_line(run: Run, tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "recipe.toml"
    if text is not None:
        path.write_text(text)
    code, _, err = run("clesr", "train", "--data", "x", "--recipe", str(path), "-o", str(tmp_path / "run"))
    assert code == 2
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_export_model(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "fast.onnx"
    code, _, err = run("clesr", "export-model", "fast", "--scale", 2, "--size", "48x32", "-o", path)
    assert code == 0, err
    assert re.search(
        r"wrote .*fast.onnx \(0.\d MB\): fast x2 \(\w{12}\), fp16, size 48x32", err.replace("\n", " ")
    )
    assert path.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fast", "-o", "fast.bin"), "--output fast.bin does not end in .onnx; name the file so"),
        (("fast", "-o", "m.onnx", "--size", "48"), "--size 48 is not WIDTHxHEIGHT, such as 256x256"),
        (("magic", "-o", "m.onnx"), "model 'magic' is unknown"),
        (("none.safetensors", "-o", "m.onnx"), "there is no weights file none.safetensors"),
    ],
)
def test_export_model_says_what_is_wrong(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run("clesr", "export-model", *arguments)
    assert code in (1, 2)
    assert words in one_line(err)
    assert list(tmp_path.iterdir()) == []
