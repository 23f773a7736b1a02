"""Which engines are measured, and what a result is on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from timed_engines import Bench

from clesr.engines.common.errors import ClesrError, EngineError, UsageError
from clesr.tools.bench import baselines, run
from clesr.tools.bench.run import BenchSettings, all_candidates, completed, estimate_s, wanted_candidates
from clesr.tools.bench.stored import read, write

Result = Callable[..., dict[str, Any]]


def card(fake: Bench, *, available: bool) -> list[Any]:
    """What a machine offers with and without a GPU."""
    gpu: dict[str, Any] = {"reason": "" if available else "torch finds no NVIDIA GPU"}
    return [
        fake.candidate("cuda", **gpu),
        fake.candidate("torch", **gpu, precision="fp32"),
        *(fake.candidate(name, **gpu) for name in baselines.SLOW),
        fake.candidate(baselines.GRAPH, **gpu),
        fake.candidate(baselines.EAGER, **gpu),
        fake.candidate("openvino", kind="cpu", precision="bf16"),
        fake.candidate("openvino", kind="cpu", precision="fp32"),
        fake.candidate("torch", kind="cpu", precision="fp32"),
    ]


def named(candidates: list[Any]) -> list[str]:
    return [f"{candidate.name} {candidate.precision} {candidate.kind}" for candidate in candidates]


def test_without_a_gpu_the_cpus_engines_are_measured(fake: Bench) -> None:
    available, missing = wanted_candidates(BenchSettings(), card(fake, available=False))
    assert named(available) == ["openvino bf16 cpu", "openvino fp32 cpu", "torch fp32 cpu"]
    assert named(missing) == ["cuda fp16 cuda", "torch fp32 cuda"]


def test_with_a_gpu_its_engines_and_one_of_the_cpu(fake: Bench) -> None:
    available, missing = wanted_candidates(BenchSettings(), card(fake, available=True))
    assert named(available) == [
        "cuda fp16 cuda",
        "torch fp32 cuda",
        "torch-graph fp16 cuda",
        "torch-eager fp16 cuda",
        "openvino bf16 cpu",
    ]
    assert missing == []


def test_what_is_named_is_measured_on_the_device_named(fake: Bench) -> None:
    having = card(fake, available=True)
    available, _ = wanted_candidates(
        BenchSettings(engines=("torch", baselines.COMPILED), device="cuda"), having
    )
    assert named(available) == ["torch fp32 cuda", "torch-compile fp16 cuda"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["cuda", *baselines.NAMES])
def test_an_engine_for_a_gpu_without_one(name: str) -> None:
    with pytest.raises(
        EngineError, match=f"there is no NVIDIA GPU here, so the {name} engine cannot be measured"
    ):
        wanted_candidates(BenchSettings(engines=(name,)), all_candidates())


def test_an_engine_that_is_not_installed_says_what_to_do(fake: Bench) -> None:
    missing = fake.candidate("other", kind="cpu", reason="pip install other")
    with pytest.raises(EngineError, match="the other engine cannot be measured: pip install other"):
        wanted_candidates(BenchSettings(engines=("other",)), [missing])


def test_a_precision_narrows(fake: Bench) -> None:
    having = card(fake, available=True)
    available, _ = wanted_candidates(BenchSettings(precision="fp32", device="cpu"), having)
    assert named(available) == ["openvino fp32 cpu", "torch fp32 cpu"]


def test_names_that_cannot_be(fake: Bench) -> None:
    having = card(fake, available=True)
    with pytest.raises(UsageError, match="engine 'tensorflow' is unknown; choose from cuda, openvino, torch"):
        wanted_candidates(BenchSettings(engines=("tensorflow",)), having)
    with pytest.raises(UsageError, match="there is no engine cuda cpu; leave --device"):
        wanted_candidates(BenchSettings(engines=("cuda",), device="cpu"), having)


def test_what_was_left_open_depends_on_the_machine(fake: Bench) -> None:
    gpu, cpu = fake.candidate("cuda"), fake.candidate("torch", kind="cpu")
    assert completed(BenchSettings(), [gpu, cpu]).cases == run.GPU_CASES
    assert completed(BenchSettings(), [gpu]).seconds == 2
    assert completed(BenchSettings(), [cpu]).cases == run.CPU_CASES
    assert completed(BenchSettings(seconds=5, cases=run.GPU_CASES[:1]), [cpu]).seconds == 5
    assert {case[1] for case in run.GPU_CASES} == {case[1] for case in run.CPU_CASES} == {2, 4, 8}
    assert estimate_s(completed(BenchSettings(), [cpu] * 3), [cpu] * 3) <= 60


def test_a_result_comes_back_from_disk(fake: Bench, result: Result, tmp_path: Path) -> None:
    made = result(fake.candidate("right"), fake.candidate("wrong", off=9))
    path = tmp_path / "new" / "bench.json"
    write(path, made)
    assert read(path) == made
    assert {"benchmark", "format", "machine", "versions", "commit", "settings", "peak_gflop_s"} <= set(made)
    assert [row["engine"] for row in made["rows"]] == ["right"]
    assert [line["engine"] for line in made["left_out"]] == ["wrong"]
    assert made["bandwidth_gb_s"] == 3000
    assert made["machine"]["cores"] >= 1
    assert made["versions"]["torch"] == torch.__version__


def test_files_that_are_no_results(fake: Bench, result: Result, tmp_path: Path) -> None:
    made, path = result(fake.candidate("right")), tmp_path / "a.json"
    for text, words in (
        ("{", "cannot be read"),
        ("[]", "holds no result"),
        ('{"benchmark": "engines"}', "holds no result"),
        (json.dumps(made | {"format": 2}), "format 2; this clesr reads 1"),
        (json.dumps(made | {"rows": [{"model": "fast"}]}), "damaged"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=words):
            read(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "missing.json")
    with pytest.raises(ClesrError, match="cannot be written"):
        write(path / "below-a-file.json", made)
