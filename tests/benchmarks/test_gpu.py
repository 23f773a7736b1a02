"""The script for GPUs: what it runs, how it judges, and the whole of it on a processor with little installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cards
import gpu
import numpy as np
import parity
import pytest
import stage
import steady

BLOCKED = (
    "av", "zmq", "openvino", "linuxpy", "tifffile", "rich_click", "platformdirs", "hypothesis", "lightning",
    "matplotlib", "sklearn", "skimage", "onnx", "onnxscript", "onnxruntime", "PIL", "pytest_timeout", "scipy",
)  # fmt: skip
BLOCKER = f"""
from functools import partial
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in {BLOCKED!r} else find(name, path, target)
PathFinder.find_spec = partial(find_spec)  # pytest keeps it in a class, where a function would become a method
"""


BENCHES = {"bench", *(f"bench-{rival}" for rival in cards.RIVALS)}


@pytest.fixture(autouse=True)
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results go."""
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    return tmp_path / "out"


def test_what_is_run() -> None:
    found = gpu.stages(dry=False, train=0, only=())
    assert [one.name for one in found] == [
        "tests", "parity", "cards", "kernels", "steady", "torch-compile", "tensorrt"
    ]  # fmt: skip
    assert not any("--dry" in one.command for one in found)
    assert all("--dry" in one.command for one in gpu.stages(dry=True, train=2, only=()))
    assert [one.name for one in gpu.stages(dry=False, train=2, only=("steady", "paper"))] == [
        "steady",
        "paper",
    ]
    for one in found:
        assert Path(one.command[1]).is_file()


def test_all_stages_together_end_within_nine_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: dict[str, float] = {}

    def perform(one: gpu.Stage) -> gpu.Outcome:
        limits[one.name] = one.limit
        return gpu.Outcome(one.name, "LATE", one.limit, [])

    monkeypatch.setattr(gpu, "perform", perform)
    outcomes = gpu.perform_all(gpu.stages(dry=False, train=30, only=()), gpu.TOTAL)
    assert [outcome.status for outcome in outcomes] == ["LATE"] * 8
    assert outcomes[6].headline == ["no time was left for it"]
    assert limits.pop("paper") == 31 * 60
    assert sum(limits.values()) <= gpu.TOTAL < 540


def test_a_stage_takes_what_it_started_with_it(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    parent = (
        "import pathlib, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(told)!r}).write_text(str(child.pid))"
    )
    assert gpu.run_within([sys.executable, "-c", parent], 60) == 0
    state = Path("/proc") / told.read_text() / "stat"
    end = time.monotonic() + 20
    while (
        time.monotonic() < end and state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"
    ):
        time.sleep(0.01)
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def leaving(passed: bool, code: int) -> list[str]:
    """A stage's command that leaves a result and ends with ``code``."""
    program = (
        "import json, os, pathlib\n"
        "path = pathlib.Path(os.environ['OUT'], 'stage.json')\n"
        f"path.write_text(json.dumps({{'passed': {passed}, 'headline': ['a line']}}))\n"
        f"raise SystemExit({code})"
    )
    return [sys.executable, "-c", program]


@pytest.mark.parametrize(
    ("command", "limit", "status", "headline"),
    [
        (leaving(True, 0), 60, "passed", "a line"),
        (leaving(False, 1), 60, "FAILED", "a line"),
        (leaving(False, 0), 60, "FAILED", "a line"),
        ([sys.executable, "-c", "raise SystemExit(0)"], 60, "FAILED", "it left no result"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], 0.2, "LATE", "it left no result"),
    ],
)
def test_how_a_stage_ends(out: Path, command: list[str], limit: float, status: str, headline: str) -> None:
    out.mkdir()
    (out / "stage.json").write_text('{"passed": true, "headline": ["of an earlier run"]}')
    outcome = gpu.perform(gpu.Stage("stage", command, limit))
    assert (outcome.status, outcome.headline) == (status, [headline])
    assert outcome.passed == (status == "passed")
    assert gpu.summary([outcome]).row_count == 1


def test_what_a_stage_leaves(out: Path) -> None:
    assert stage.leave("some", True, ["one"], rows=[1]) == 0
    assert stage.leave("other", False, []) == 1
    found = json.loads((out / "some.json").read_text())
    assert (found["benchmark"], found["passed"], found["headline"], found["rows"]) == (
        "some",
        True,
        ["one"],
        [1],
    )
    assert {"machine", "versions", "commit"} <= set(found)


def test_dry_figures_do_not_go_among_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUT")
    monkeypatch.setattr(sys, "argv", ["kernels.py", "--dry"])
    assert stage.RESULTS not in (stage.folder(), *stage.folder().parents)


def test_tests_are_counted(tmp_path: Path) -> None:
    report = tmp_path / "r.xml"
    report.write_text(
        '<testsuites><testsuite tests="5" failures="1" errors="0" skipped="2"/>'
        '<testsuite tests="1" failures="0" errors="1" skipped="0"/></testsuites>'
    )
    assert gpu.count_tests(report) == {"tests": 6, "failures": 1, "errors": 1, "skipped": 2}
    assert gpu.count_tests(tmp_path / "none.xml")["tests"] == 0


def test_the_tests_that_are_run_on_a_card() -> None:
    files = [Path(selected[-1]) for selected in gpu.test_files(dry=False)]
    names = {path.name for path in files}
    assert all(path.is_file() for path in files)
    assert {"test_cuda_gpu.py", "test_kernels.py", "test_plans.py", "test_tuner.py"} <= names
    assert "test_compile.py" not in names
    assert {Path(selected[-1]).name for selected in gpu.test_files(dry=True)} < names


def test_a_steady_state_neither_allocates_nor_waits() -> None:
    calls = {"cudaGraphLaunch": 200, "cudaEventSynchronize": 200, "cudaEventRecord": 400}
    assert steady.judge(calls, {"allocation.all.allocated": 0}, 200) == []
    assert steady.judge(calls | {"cudaStreamSynchronize": 3}, {}, 200) == [
        "cudaStreamSynchronize was called 3 times"
    ]
    assert steady.judge(calls, {"num_device_alloc": 2}, 200) == ["num_device_alloc grew by 2"]
    assert steady.judge(calls, {}, 199) == ["cudaEventSynchronize was called 200 times for 199 frames"]


def card_row(**changes: Any) -> dict[str, Any]:
    row = {
        "model": "densenet", "scale": 4, "lr": [256, 256], "label": "cuda fp16", "depth_gain": 1.2,
        "device_ms": {"p50": 0.9}, "latency_ms": {"p99.9": 1.8},
        "over": {"torch-compile fp16": 1.6, "tensorrt fp16": 1.4, "torch fp32": 9.0},
    }  # fmt: skip
    return row | changes


def test_promises_are_held_against_the_figures() -> None:
    case = "densenet x4, 256x256 to 1024x1024"
    assert cards.promises([card_row()]) == [
        f"{case}: device 0.90 ms: met (at most 1.1)",
        "1.60 times torch-compile fp16: met (at least 1.5)",
        "1.40 times tensorrt fp16: NOT MET (at least 1.5)",
        "end to end p99.9 1.80 ms: met (within 1 ms of the device's)",
        "densenet: two slots 1.20 times one: met (at least 1.1)",
    ]
    slow = cards.promises(
        [card_row(device_ms={"p50": 1.2}, depth_gain=1.0, over={}, latency_ms={"p99.9": 2.3})]
    )
    assert [line.count("NOT MET") for line in slow] == [1, 1, 1]
    assert cards.promises([card_row(model="fast")]) == [
        "fast: two slots 1.20 times one: NOT MET (at least 1.3)"
    ]
    assert cards.promises([card_row(label="torch fp32"), card_row(scale=2)]) == []


def test_crops_have_one_size() -> None:
    images = [np.zeros((50, 41), np.uint8), np.zeros((43, 60), np.uint8)]
    images[0][25, 20] = 255
    crops = parity.common_crops(images)
    assert [crop.shape for crop in crops] == [(40, 40), (40, 40)]
    assert crops[0][20, 20] == 255
    assert parity.common_crops(images, 16)[0].shape == (16, 16)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_script_on_a_processor_with_little_installed(tmp_path: Path, out: Path) -> None:
    """Every stage, tiny, with all modules blocked that a GPU machine may lack."""
    blocker = tmp_path / "blocker"
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text(BLOCKER)
    environment = os.environ | {
        "PYTHON": sys.executable,
        "PYTHONPATH": str(blocker),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "OUT": str(out),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("CLESR_DATA", None)
    script = Path(gpu.__file__).with_name("gpu.sh")
    done = subprocess.run(
        [str(script), "--dry", "--train", "1"], env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "all passed" in done.stdout
    found = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    assert set(found) == {"tests", "parity", "cards", "kernels", "steady", "paper", *cards.RIVALS, *BENCHES}
    assert (out / "paper-x4.safetensors").is_file()
    assert all(result["passed"] for name, result in found.items() if name not in BENCHES)
    checked = {(row["label"], row["model"], row["scale"]) for row in found["parity"]["rows"]}
    assert {("cuda fp16 cpu", "densenet", scale) for scale in (2, 4, 8)} <= checked
    assert {row["scale"] for row in found["bench"]["rows"]} == {2, 4, 8}
    kernels = [row["kernel"] for row in found["kernels"]["rows"]]
    assert {"first_conv3", "conv3", "up_conv3", "project", "finish"} <= {name.split()[0] for name in kernels}
    assert any("looking ahead" in name for name in kernels)
    assert all(row["found_us"] > 0 for row in found["kernels"]["rows"])
    assert len(found["kernels"]["rewrites"]) == 5
