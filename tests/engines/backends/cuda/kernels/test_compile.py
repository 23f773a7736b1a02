"""Every kernel compiles for the cards of four generations, without one, within their registers and shared memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[5] / "benchmarks" / "compile_kernels.py"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("arch", "cases"), [(89, 4), (90, 4), (100, 1), (120, 1)])
def test_kernels_compile_without_a_card(arch: int, cases: int, tmp_path: Path) -> None:
    """In a process of its own: this one's Triton is an interpreter. All plans of the table, and what starts early. In
    all forms for one card with each instruction for products that many have."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, str(SCRIPT), "--cases", str(cases), str(arch)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=850)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if arch > 90 and not any(line["registers"] for line in lines):
        pytest.skip(f"the toolchain's ptxas knows no sm_{arch}")
    assert {line["kernel"] for line in lines} == {
        f"_{name}_kernel" for name in ("first", "conv", "up", "project", "finish")
    }
    assert not [line for line in lines if not line["fits"]]
    products = [line for line in lines if line["kernel"] in ("_conv_kernel", "_up_kernel", "_project_kernel")]
    forms = {line["case"] for line in lines}
    assert len(forms) == cases
    assert cases == 1 or {word for form in forms for word in form.split(", ")} >= {
        "x2", "x4", "x8", "uint8", "uint16", "base bicubic", "base none", "levels", "47 wide", "256 wide"
    }  # fmt: skip
    assert {line["case"] for line in lines if line["kernel"] == "_finish_kernel"} == forms
    unit = {90: "wgmma", 100: "tcgen05"}.get(arch, "mma")
    assert all(line[unit] for line in products)
    bulk = {line["kernel"] for line in lines if line["plan"].startswith("bulk")}
    assert bulk == ({"_up_kernel", "_project_kernel"} if arch in (90, 100) else set())
    assert all(line["bulk copies"] for line in lines if line["plan"].startswith("bulk"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_kernel_is_compiled_before_it_is_measured_and_once_for_all_sizes(tmp_path: Path) -> None:
    """By Triton itself, whose launches alone are left out: what the tuner's threads compile is what is launched."""
    paths = os.pathsep.join(filter(None, [str(SCRIPT.parent), os.environ.get("PYTHONPATH")]))
    environment = {
        **os.environ,
        "TRITON_CACHE_DIR": str(tmp_path),
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": paths,
    }
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, str(Path(__file__).with_name("tuned_without_card.py"))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    first, second = told["sizes"]
    assert told["raised"] == []
    assert first["in threads"] > 30
    assert set(first) == {"in threads", "launched"}
    assert set(second) == {"launched"}
    assert min(first["launched"], second["launched"]) > 20
