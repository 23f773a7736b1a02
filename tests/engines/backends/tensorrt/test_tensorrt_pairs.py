"""The versions of torch-tensorrt-rtx and TensorRT for RTX that the extra ``rtx`` takes can be imported together."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[4]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# Without a card and with a torch for processors: what is asked of the card is answered, and libraries on CUDA are
# left out, as the package allows.
IMPORT = """
import types, torch
for name in ("_CudaDeviceProperties", "_CudaStreamBase", "_CudaEventBase"):
    if not hasattr(torch._C, name):
        setattr(torch._C, name, type(name, (), {}))
card = types.SimpleNamespace(name="NVIDIA GeForce RTX 4090", major=8, minor=9, total_memory=1 << 34)
answers = {
    "_lazy_init": None, "current_device": 0, "is_available": True, "device_count": 1,
    "get_device_capability": (8, 9), "get_device_name": card.name, "get_device_properties": card,
}
for name, answer in answers.items():
    setattr(torch.cuda, name, lambda *_, answer=answer: answer)
import torch_tensorrt, tensorrt
print("imported", torch_tensorrt.__version__, tensorrt.__version__)
"""


def named(extra: str) -> dict[str, Requirement]:
    return {found.name: found for found in map(Requirement, EXTRAS[extra])}


def test_what_is_tested_is_what_the_extra_brings() -> None:
    assert named("test")["tensorrt-rtx"].specifier == named("rtx")["tensorrt-rtx"].specifier


@pytest.mark.slow
@pytest.mark.parametrize("minor", ["2.12", "2.13"])
def test_a_pair_can_be_imported(minor: str, tmp_path: Path) -> None:
    """The Python of both, by pip; the libraries of TensorRT for RTX, 200 MB, are those of the tests."""
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    pair = named("rtx")
    wanted = [
        f"torch-tensorrt-rtx{pair['torch-tensorrt-rtx'].specifier},=={minor}.*",
        f"tensorrt-rtx-cu13{pair['tensorrt-rtx'].specifier}",
        f"tensorrt-rtx-cu13-bindings{pair['tensorrt-rtx'].specifier}",
        "dllist",
    ]
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path), *wanted]
    subprocess.run(command, check=True, capture_output=True, timeout=250)
    for library in (tmp_path / "torch_tensorrt").rglob("*.so"):
        library.unlink()
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", IMPORT],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert "imported " in done.stdout, done.stderr[-1000:]
    assert f"imported {minor}." in done.stdout
    versions = done.stdout.split("imported ")[1].split()
    for version, requirement in zip(versions, pair.values(), strict=True):
        assert version in requirement.specifier
