"""The script for GPUs: what it runs, how it judges, what is left where it is killed, and the whole of it on a processor
with little installed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import bare
import card_tests
import cards
import gpu
import numpy as np
import parity
import pytest
import stage
import steady
from support import until
from timed_engines import Bench

from clesr.tools.bench import baselines, run

BLOCKED = (
    "av", "zmq", "openvino", "linuxpy", "tifffile", "rich_click", "platformdirs", "hypothesis", "lightning",
    "matplotlib", "sklearn", "skimage", "onnx", "onnxscript", "onnxruntime", "PIL", "pytest_timeout", "scipy",
    "pycuda", "tensorrt", "tensorrt_rtx", "torch_tensorrt", "imagecodecs", "pydicom", "psutil",
)  # fmt: skip
BLOCKER = """
from functools import partial
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in {blocked!r} else find(name, path, target)
PathFinder.find_spec = partial(find_spec)  # pytest keeps it in a class, where a function would become a method
"""
SCRIPT = Path(gpu.__file__).with_name("gpu.sh")
MOST_SAID = 12_000  # characters that a caller keeps of the end of standard output


@pytest.fixture(autouse=True)
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results go."""
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    return tmp_path / "out"


@pytest.fixture
def fake() -> Bench:
    return Bench()


def test_what_is_run() -> None:
    found = gpu.stages(dry=False, train=0, only=())
    names = [one.name for one in found]
    assert names == [
        "smoke", "kernels", "parity", "bench", "torch-graph", "torch-compile", "tensorrt", "steady", "slots",
        "rewrites", "torch-max-autotune", "sizes", "tests",
    ]  # fmt: skip
    assert [one.limit for one in found if one.name == "smoke"] == [60]
    assert [one.limit for one in gpu.stages(dry=False, train=0, only=("smoke",))] == [140]
    assert [one.name for one in gpu.stages(dry=False, train=0, only=(), skip=("smoke", "sizes"))] == [
        name for name in names if name not in ("smoke", "sizes")
    ]
    assert sum(one.limit for one in found) <= 15 * 60 - 90
    assert {name for name in names if name in cards.RIVALS} == set(cards.RIVALS)
    assert not any("--dry" in one.command for one in found)
    assert all("--dry" in one.command for one in gpu.stages(dry=True, train=2, only=()))
    assert [one.name for one in gpu.stages(dry=False, train=2, only=("steady", "paper"))] == [
        "steady",
        "paper",
    ]
    for one in found:
        assert Path(one.command[1]).is_file()


def performed(name: str, seconds: float) -> gpu.Outcome:
    return gpu.Outcome(name, "LATE", seconds, ["x" * 500])


def test_all_stages_together_end_within_nine_minutes(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    limits: dict[str, float] = {}
    told: dict[str, tuple[float, float]] = {}

    def perform(one: gpu.Stage, _results: gpu.Results) -> gpu.Outcome:
        limits[one.name] = one.limit
        if "--limit" in one.command:
            told[one.name] = (float(one.command[-1]), one.limit)
        return performed(one.name, one.limit)

    monkeypatch.setattr(gpu, "perform", perform)
    todo = gpu.stages(dry=False, train=30, only=())
    outcomes = list(gpu.perform_all(todo, gpu.TOTAL, gpu.Results(out, out)))
    assert [outcome.status for outcome in outcomes] == ["LATE"] * 14
    assert outcomes[12].headline == ["no time was left for it"]
    assert limits.pop("paper") == 31 * 60
    assert sum(limits.values()) <= gpu.TOTAL < 540
    told.clear()
    list(gpu.perform_all(todo, 150, gpu.Results(out, out)))
    assert told == {"parity": (15, 30)}
    list(gpu.perform_all([one for one in todo if one.name == "tests"], 525, gpu.Results(out, out)))
    assert told["tests"] == (80 - gpu.GRACE, 80)


def test_a_case_of_the_bench_fits_into_what_a_stage_may_take_longer(fake: Bench) -> None:
    """By what it measures and a guess for each opening."""
    names = ("cuda", "torch", baselines.EAGER, *cards.RIVALS)
    having = [fake.candidate(name) for name in names]
    for rival, sizes in ((None, False), (None, True), (baselines.GRAPH, False)):
        for settings, candidates in cards.runs(having, rival, sizes, dry=False):
            assert run.estimate_s(settings, candidates) <= gpu.GRACE < gpu.STAGES["bench"][0] / 2


@pytest.mark.parametrize("name", ["bench", *cards.RIVALS])
def test_the_bench_and_each_rival_have_a_minute_or_more(name: str) -> None:
    assert gpu.STAGES[name][0] >= 60


def test_a_machine_that_lacks_something_has_not_passed(
    monkeypatch: pytest.MonkeyPatch, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def todo(**_: object) -> list[gpu.Stage]:
        return [
            gpu.Stage("there", leaving(True, 0, "there"), 60, 500),
            gpu.Stage("tensorrt", leaving(True, 0, "tensorrt", measured=False), 60, 500),
        ]

    monkeypatch.setattr(gpu, "stages", todo)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert gpu.main([]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-3].startswith("= there passed, ")
    assert said[-2].startswith("= tensorrt not measured, ")
    assert said[-2].endswith(": a line")
    assert said[-1].startswith("all that was measured passed; not measured: tensorrt; ")


def test_rows_that_others_sum_up_leave_room_for_those(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = (
        "import json, os\n"
        "with open(os.environ['CLESR_GPU_ROWS'], 'a') as file:\n"
        "    for n in range(20):\n"
        "        print(json.dumps({'text': f'turn {n:04}', 'passing': True}), file=file)\n"
        "    print(json.dumps({'text': 'the verdict'}), file=file)\n"
    )
    gpu.perform(gpu.Stage("stage", [sys.executable, "-c", program], 60, 100), gpu.Results(out, out / "w"))
    said = capsys.readouterr().out.splitlines()
    assert said == [*(f"turn {n:04}" for n in range(5)), "the verdict"]


def test_how_large_the_files_are_that_go_along() -> None:
    found = re.fullmatch(r"the repository's files: (\S+) MiB; not needed (\S+): .*", gpu.carried())
    assert found is not None
    assert float(found[1]) - float(found[2]) < 60
    assert float(found[2]) > 15


def test_what_is_said_fits_where_every_stage_says_too_much(
    monkeypatch: pytest.MonkeyPatch, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All is in the file of rows."""

    def run_within(
        command: list[str], _seconds: float, *, meanwhile: Any, env: dict[str, str], **_options: object
    ) -> int:
        for _ in range(100):
            stage.append_row(Path(env[stage.ROWS]), stage=env[stage.STAGE], text="ä" * 400)
            meanwhile()
        return 1

    monkeypatch.setattr(gpu, "run_within", run_within)
    monkeypatch.setattr(gpu, "machine", lambda: "x" * 500)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert gpu.main(["--train", "1"]) == 1
    said = capsys.readouterr().out
    assert len(said) <= MOST_SAID
    assert all(f"= {name} FAILED" in said for name in (*gpu.STAGES, gpu.PAPER))
    assert said.splitlines()[-1].startswith("NOT ALL PASSED: smoke, kernels, ")
    assert len((out / "rows.jsonl").read_text().splitlines()) == 101 * 14 + 4
    assert {path.name for path in out.iterdir()} == {"rows.jsonl", "results.tar.gz"}


def gone(pid: int) -> bool:
    state = Path("/proc") / str(pid) / "stat"
    try:
        return state.read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_stage_takes_what_it_started_with_it(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    parent = (
        "import pathlib, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(told)!r}).write_text(str(child.pid))"
    )
    assert bare.run_within([sys.executable, "-c", parent], 60) == 0
    until(partial(gone, int(told.read_text())))


def leaving(passed: bool, code: int, name: str = "stage", measured: bool = True) -> list[str]:
    """A stage's command that leaves a result and ends with ``code``."""
    left = {"passed": passed, "headline": ["a line"], "measured": measured}
    program = (
        "import json, os, pathlib\n"
        f"path = pathlib.Path(os.environ['OUT'], '{name}.json')\n"
        f"path.write_text(json.dumps({left}))\n"
        f"raise SystemExit({code})"
    )
    return [sys.executable, "-c", program]


@pytest.mark.parametrize(
    ("command", "limit", "status", "headline"),
    [
        (leaving(True, 0), 60, "passed", "a line"),
        (leaving(False, 1), 60, "FAILED", "a line"),
        (leaving(False, 0), 60, "FAILED", "a line"),
        ([sys.executable, "-c", "raise SystemExit(0)"], 60, "FAILED", "it said nothing"),
        ([sys.executable, "-c", "import nowhere_at_all"], 60, "FAILED",
         "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        (["bash", "-c", "echo here; kill -SEGV $$"], 60, "FAILED", "here (signal 11)"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], 0.2, "LATE", "it said nothing"),
    ],
)  # fmt: skip
def test_how_a_stage_ends(out: Path, command: list[str], limit: float, status: str, headline: str) -> None:
    results = gpu.Results(out, out)
    (out / "stage.json").write_text('{"passed": true, "headline": ["of an earlier run"]}')
    outcome = gpu.perform(gpu.Stage("stage", command, limit, 500), results)
    assert (outcome.status, outcome.headline) == (status, [headline])
    assert outcome.passed == (status == "passed")


def test_the_archive_has_what_there_is_room_for(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = gpu.Results(out, out / "work")
    monkeypatch.setattr(gpu, "LARGEST", 5000)
    for name, size in (("large", 6000), ("small", 3000), ("middle", 4000)):
        (out / "work" / name).write_bytes(os.urandom(size))
    results.note("a row", stage="s")
    results.keep()
    with tarfile.open(out / "results.tar.gz") as archive:
        assert archive.getnames() == ["rows.jsonl", "small"]
    assert {path.name for path in out.iterdir()} == {"rows.jsonl", "results.tar.gz", "work"}


# What gpu.py runs in place of its own stages: each tells a row and leaves a file, but for the one that hangs.
PROGRAM = """
import sys
import gpu
hanging = sys.argv[1]
def command(name):
    row = '{"stage": "%s", "text": "a row of %s"}' % (name, name)
    left = '{"passed": true, "headline": ["done"]}'
    quiet = "echo $$ > $OUT/pid; exec sleep 600" if name == hanging else "echo '%s' > $OUT/%s.json" % (left, name)
    return ["bash", "-c", "echo '%s' >> $CLESR_GPU_ROWS; %s" % (row, quiet)]
gpu.stages = lambda **_: [gpu.Stage(name, command(name), 60.0, 300) for name in gpu.STAGES]
raise SystemExit(gpu.main([]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["KILL", "TERM"])
@pytest.mark.parametrize("hanging", gpu.STAGES)
def test_a_run_that_is_killed_has_told_what_it_found(
    hanging: str, number: signal.Signals, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any stage, with its whole process group; the stage ends too."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(SCRIPT.parent))
    names = list(gpu.STAGES)
    before = names[: names.index(hanging)]
    run = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, hanging], stdout=subprocess.PIPE, text=True, process_group=0
    )
    assert run.stdout is not None
    said = []
    for line in run.stdout:
        said.append(line.rstrip())
        if line == f"a row of {hanging}\n":
            break
    until(lambda: any(path.read_text() for path in tmp_path.glob("clesr-gpu-*/pid")))
    (written,) = tmp_path.glob("clesr-gpu-*/pid")
    pid = int(written.read_text())
    os.killpg(run.pid, number)
    said += run.stdout.read().splitlines()
    run.wait(60)
    run.stdout.close()
    until(partial(gone, pid))
    assert [line.partition(",")[0] for line in said if line.startswith("=")] == [
        f"= {name} passed" for name in before
    ]
    assert [line for line in said if line.startswith("a row")] == [
        f"a row of {n}" for n in (*before, hanging)
    ]
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in rows if row["text"].startswith("a row")] == [*before, hanging]
    with tarfile.open(out / "results.tar.gz") as archive:
        assert {f"{name}.json" for name in before} | {"rows.jsonl"} <= set(archive.getnames())
        kept = archive.extractfile("rows.jsonl")
        assert kept is not None
        told = kept.read().decode()
    assert all(f"= {name} passed" in told for name in before)
    if number == signal.SIGTERM:
        assert run.returncode == 143
        assert said[-1].startswith("CUT SHORT; ")
        assert f"a row of {hanging}" in told
        assert not list(tmp_path.glob("clesr-gpu-*"))
    assert len(list(out.iterdir())) <= 3


def test_what_a_stage_leaves(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(stage.BEFORE, "345 MHz")
    monkeypatch.setattr(stage, "card_says", lambda *fields: f"1700 MHz of {fields[0]}")
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
    assert found["clocks"] == {"before": "345 MHz", "after": "1700 MHz of clocks.sm"}


def test_dry_figures_do_not_go_among_the_results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OUT")
    monkeypatch.setattr(sys, "argv", ["kernels.py", "--dry"])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert stage.RESULTS not in (stage.folder(), *stage.folder().parents)
    for place in gpu.places(dry=True):
        assert stage.RESULTS not in (place, *place.parents)
    results, work = gpu.places(dry=False)
    assert results == stage.RESULTS
    assert work.parent == tmp_path
    assert not list(work.iterdir())


def test_tests_are_counted(tmp_path: Path) -> None:
    report = tmp_path / "r.xml"
    report.write_text(
        '<testsuites><testsuite tests="5" failures="1" errors="0" skipped="2">'
        '<testcase name="test_a"><failure message="assert 1 == 2&#10;more"/></testcase></testsuite>'
        '<testsuite tests="1" failures="0" errors="1" skipped="0"/></testsuites>'
    )
    assert card_tests.count_tests(report) == {"tests": 6, "failures": 1, "errors": 1, "skipped": 2}
    assert card_tests.failures(report) == ["test_a: assert 1 == 2"]
    assert card_tests.count_tests(tmp_path / "none.xml")["tests"] == 0
    assert card_tests.failures(tmp_path / "none.xml") == []


def test_the_tests_that_are_run_on_a_card() -> None:
    files = [Path(selected[-1]) for selected in card_tests.test_files(dry=False)]
    names = {path.name for path in files}
    assert all(path.is_file() for path in files)
    assert {"test_cuda_gpu.py", "test_kernels.py", "test_plans.py", "test_tuner.py"} <= names
    assert "test_compile.py" not in names
    assert {Path(selected[-1]).name for selected in card_tests.test_files(dry=True)} < names


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
        "model": "densenet", "scale": 4, "lr": [256, 256], "label": "cuda fp16", "depth_gain": 1.2, "frames_s": 800.0,
        "device_ms": {"p50": 0.9}, "latency_ms": {"p50": 1.2, "p99": 1.5, "p99.9": 1.8},
        "beside_device_ms": {"check": 0.02, "copies": 0.06, "launch": 0.031},
    }  # fmt: skip
    return row | changes


def test_promises_are_held_against_the_figures() -> None:
    case = "densenet x4, 256x256 to 1024x1024"
    assert cards.promises([card_row()]) == [
        f"{case}: device 0.90 ms: met (at most 1.2, goal 0.95)",
        "end to end p99.9 1.80 ms: met (within 1 ms of the device's)",
        "densenet: two slots 1.20 times one: met (at least 1.1)",
    ]
    slow = cards.promises([card_row(device_ms={"p50": 1.21}, depth_gain=1.0, latency_ms={"p99.9": 2.3})])
    assert [line.count("NOT MET") for line in slow] == [1, 1, 1]
    assert cards.promises([card_row(latency_ms={"p99.9": None})])[1] == (
        "end to end p99.9: not measured, too few frames"
    )
    assert cards.promises([card_row(model="fast")]) == [
        "fast: two slots 1.20 times one: NOT MET (at least 1.3)"
    ]
    assert cards.promises([card_row(label="torch fp32"), card_row(scale=2)]) == []


@pytest.mark.parametrize(
    ("rival", "device_ms", "line"),
    [
        ("torch-graph", {"p50": 1.36}, "1.51 times torch-graph fp16, the networks alone: met (at least 1.5)"),
        ("torch-compile", {"p50": 1.3}, "1.44 times torch-compile fp16, the networks alone: NOT MET (at least 1.5)"),
        ("tensorrt", {"p50": 0.9}, "1.00 times tensorrt fp16, the networks alone"),
        ("torch-max-autotune", {"p50": 0.99}, "1.10 times torch-max-autotune fp16, the networks alone"),
        ("torch-graph", None, "torch-graph fp16: what its network takes was not measured"),
    ],
)  # fmt: skip
def test_networks_are_compared_alone(rival: str, device_ms: dict[str, float] | None, line: str) -> None:
    """Whatever the frames a second are, of which ours have a check that the rival's have not."""
    other = card_row(label=f"{rival} fp16", device_ms=device_ms, frames_s=1.0)
    assert cards.promises([card_row(), other]) == [line]


def test_what_a_frame_takes_beside_the_network_has_lines_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cards.tell_row(card_row())
    cards.tell_parts(card_row())
    assert capsys.readouterr().out.splitlines() == [
        "densenet x4, 256x256 to 1024x1024: cuda fp16: 800 frames/s, ms p50 1.20, p99 1.50; device alone 0.900 ms",
        "  cuda fp16: check 0.020 ms",
        "  cuda fp16: copies 0.060 ms",
        "  cuda fp16: launch 0.031 ms",
    ]


def test_cases_are_added_to_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = card_row(device_ms=None, beside_device_ms=None)
    monkeypatch.setattr(cards, "bench", lambda *_, **__: {"rows": [row], "left_out": [], "peak_gflop_s": {}})
    plans = cards.runs([], None, sizes=False, dry=False)
    result, late = cards.measured(plans, 60, tmp_path / "bench.json")
    assert (len(result["rows"]), late) == (2, [])
    assert json.loads((tmp_path / "bench.json").read_text()) == result


def test_a_case_is_told_as_it_comes_and_verdicts_before_parts(
    out: Path, fake: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def bench(*_: object, told: Callable[[str], None], **__: object) -> dict[str, Any]:
        told("a turn")
        return {"rows": [card_row()], "left_out": [], "peak_gflop_s": {}}

    monkeypatch.setattr(cards, "bench", bench)
    (out / "rows").parent.mkdir(exist_ok=True)
    monkeypatch.setenv(stage.ROWS, str(out / "rows"))
    plans = cards.runs([fake.candidate("cuda")], None, sizes=False, dry=False)[:1]
    cards.measured(plans, 60, out / "bench.json")
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "a turn"
    assert [line.partition(":")[0] for line in said[2:]] == [
        "densenet x4, 256x256 to 1024x1024", "densenet x4, 256x256 to 1024x1024",
        "end to end p99.9 1.80 ms", "densenet", *["  cuda fp16"] * 3,
    ]  # fmt: skip
    rows = [json.loads(line) for line in (out / "rows").read_text().splitlines()]
    assert [row.get("passing", False) for row in rows] == [True, True, *[False] * 7]


def test_crops_have_one_size() -> None:
    images = [np.zeros((50, 41), np.uint8), np.zeros((43, 60), np.uint8)]
    images[0][25, 20] = 255
    crops = parity.common_crops(images)
    assert [crop.shape for crop in crops] == [(40, 40), (40, 40)]
    assert crops[0][20, 20] == 255
    assert parity.common_crops(images, 16)[0].shape == (16, 16)


def dry_run(
    tmp_path: Path, out: Path, blocked: tuple[str, ...], *words: str
) -> subprocess.CompletedProcess[str]:
    """gpu.sh on a processor without the modules ``blocked``."""
    blocker = tmp_path / "blocker"
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text(BLOCKER.format(blocked=blocked))
    environment = os.environ | {
        "PYTHON": sys.executable,
        "PYTHONPATH": str(blocker),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "OUT": str(out),
        "TMPDIR": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("CLESR_DATA", None)
    command = [str(SCRIPT), "--dry", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1700)


@pytest.mark.slow
def test_what_cannot_be_done_without_is_named(tmp_path: Path, out: Path) -> None:
    done = dry_run(tmp_path, out, (*BLOCKED, "msgspec"), "--only", "smoke", "--only", "bench")
    assert done.returncode == 1
    first, *_, smoke, bench, last = done.stdout.splitlines()
    assert first.startswith("LACKING msgspec, gpu.sh says how to bring it; Python 3.")
    assert "; without av, zmq, pycuda, torch_tensorrt, " in first
    assert smoke.startswith("= smoke FAILED, ")
    assert bench.startswith("= bench FAILED, ")
    assert smoke.endswith(": ModuleNotFoundError: No module named 'msgspec'")
    assert last.startswith("NOT ALL PASSED: smoke, bench; ")
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_script_on_a_processor_with_little_installed(tmp_path: Path, out: Path) -> None:
    """Every stage, tiny, with all modules blocked that a GPU machine may lack."""
    done = dry_run(tmp_path, out, BLOCKED, "--train", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout) <= MOST_SAID
    assert "all passed" in done.stdout
    assert done.stderr == ""
    assert {path.name for path in out.iterdir()} == {"rows.jsonl", "results.tar.gz"}
    with tarfile.open(out / "results.tar.gz") as archive:
        archive.extractall(tmp_path / "found", filter="data")
    found = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "found").glob("*.json")}
    benches = {f"clesr-{name}" for name in ("bench", "sizes", *cards.RIVALS)}
    assert set(found) == {*gpu.STAGES, gpu.PAPER, *benches}
    assert (tmp_path / "found" / "paper-x4.safetensors").is_file()
    assert all(result["passed"] for name, result in found.items() if name not in benches)
    checked = {(row["label"], row["model"], row["scale"]) for row in found["parity"]["rows"]}
    assert {("cuda fp16 cpu", "densenet", scale) for scale in (2, 4, 8)} <= checked
    assert found["parity"]["images"] == ["phantom"]
    assert len(found["smoke"]["errors"]) >= 5
    assert {"clocks", "versions", "commit"} <= set(found["smoke"])
    assert {row["scale"] for row in found["clesr-bench"]["rows"]} == {2, 4, 8}
    kernels = [row["kernel"] for row in found["kernels"]["rows"]]
    assert {"first_conv3", "conv3", "up_conv3", "project", "finish"} <= {name.split()[0] for name in kernels}
    assert any("looking ahead" in name for name in kernels)
    assert all(row["found_us"] > 0 for row in found["kernels"]["rows"])
    assert {row["key"].split("-")[0] for row in found["kernels"]["plans"]} == {
        "narrow", "ahead", "wide", "up", "project"
    }  # fmt: skip
    assert len(found["rewrites"]["rewrites"]) == 5
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert {row["kernel"].split()[0] for row in rows if "kernel" in row} == {
        "first_conv3", "conv3", "up_conv3", "project", "finish"
    }  # fmt: skip
    assert {row["stage"] for row in rows} == {"machine", *gpu.STAGES, gpu.PAPER, "end"}
