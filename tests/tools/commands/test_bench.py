"""`clesr bench` as a user types it, with the engines of this machine's processor at a tiny size."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from commands import Run

from clesr.engines.common.errors import EngineError

TINY = ("--size", "24x16", "--seconds", "0.03", "--repeats", "2", "--device", "cpu")


@pytest.fixture
def run(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`clesr bench`, without the folder of real images."""
    monkeypatch.delenv("CLESR_DATA", raising=False)
    return partial(run, "clesr", "bench")


@pytest.mark.slow
def test_the_processors_engines(run: Run, tmp_path: Path) -> None:
    file, picture = tmp_path / "a.json", tmp_path / "a.png"
    code, out, err = run(
        *TINY, "--model", "fast", "--scale", "2", "--scale", "4", "--json", file, "--plot", picture
    )
    assert code == 0, err
    found = json.loads(file.read_text())
    rows = {(row["scale"], row["label"]): row for row in found["rows"]}
    assert {label for _, label in rows} >= {"openvino fp32 cpu", "torch fp32 cpu"}
    assert {scale for scale, _ in rows} == {2, 4}
    assert found["left_out"] == []
    precisions = {row["precision"] for row in rows.values()}
    assert set(found["peak_gflop_s"]["cpu"]) == {"fp32", *precisions & {"bf16"}}
    for row in rows.values():
        assert row["lr"] == [16, 24]
        assert row["parity"]["mean"] <= 1
        assert row["parity"]["max"] <= 4
        assert abs(row["psnr_db"]["difference"]) < 0.2
        assert row["frames_s"] > 0
        assert len(row["frames_s_turns"]) == 2
        assert row["latency_ms"]["p50"] <= row["latency_ms"]["max"]
        assert row["of_peak"] > 0
        assert len(row["over"]) == len(rows) / 2 - 1
    assert picture.stat().st_size > 10_000
    assert "fast x2, 24x16 to 48x32" in out
    assert "frames/s" in out
    assert "PSNR on phantom" in " ".join(out.split())

    code, out, err = run("--compare", file, file)
    assert code == 0, err
    assert "1.00" in out.split()


@pytest.mark.slow
def test_a_single_engine_of_a_file(run: Run) -> None:
    from clesr.engines.models.weights import shipped

    code, out, err = run(*TINY, "--model", shipped()["fast", 8], "--engine", "torch")
    assert code == 0, err
    assert "fast x8, 24x16 to 192x128" in out
    assert "openvino" not in out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_cuda_engine_is_one_plain_line(run: Run) -> None:
    code, out, err = run("--engine", "cuda")
    assert code == 1
    assert out == ""
    assert err.splitlines() == [
        "clesr: error: there is no NVIDIA GPU here, so the cuda engine cannot be measured"
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--engine", "cudnn"), "engine 'cudnn' is unknown; choose from cuda, openvino"),
        (("--size", "24"), "--size 24 is not WIDTHxHEIGHT"),
        (("--size", "0x24"), "--size 0x24 is not WIDTHxHEIGHT"),
        (("--model", "unknown", "--device", "cpu"), "model 'unknown' is unknown"),
        (("--compare", "missing.json", "missing.json"), "missing.json cannot be read"),
    ],
)
def test_what_cannot_be_is_one_line(run: Run, arguments: tuple[str, ...], words: str) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert words in err
    assert len([line for line in err.splitlines() if "error:" in line]) == 1
    assert "Traceback" not in err


@pytest.mark.slow
def test_an_engine_named_and_refused_ends_with_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from clesr.tools.bench import measure

    def refuse(*_images: object) -> None:
        raise EngineError("self-test: 9.00 levels from the FP32 reference")

    monkeypatch.setattr(measure, "compare", refuse)
    code, _, err = run(*TINY, "--model", "fast", "--engine", "torch")
    assert code == 1
    assert "fast x4 24x16: torch fp32 cpu refused: self-test: 9.00 levels" in err
