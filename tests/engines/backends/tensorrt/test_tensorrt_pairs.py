"""The versions of torch-tensorrt-rtx and TensorRT for RTX that the extra ``rtx`` takes can be imported together, and
build every network that ships with clesr."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from clesr.engines.models.weights import shipped

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
    "mem_get_info": (1 << 33, 1 << 34), "synchronize": None, "empty_cache": None, "ipc_collect": None,
}
for name, answer in answers.items():
    setattr(torch.cuda, name, lambda *_, answer=answer: answer)
torch.cuda.get_rng_state, torch.cuda.set_rng_state = torch.get_rng_state, torch.set_rng_state
import torch_tensorrt, tensorrt
print("imported", torch_tensorrt.__version__, tensorrt.__version__)
"""
# What clesr does on an Ada card, but for taking the engine back, which needs the card: torch_tensorrt deserialises what
# was built and serialises it again.
BUILD = """
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from torch_tensorrt.dynamo.conversion._TRTInterpreter import TRTInterpreter
from clesr.engines.backends.tensorrt.build import build
from clesr.engines.backends.tensorrt.graph import TypedNetwork, export
from clesr.engines.cache import Cache
from clesr.engines.models.weights import find_model, shipped

original = TRTInterpreter._populate_trt_builder_config
types = Counter()

def for_a_card(self, *arguments, **options):
    config = original(self, *arguments, **options)
    config.num_compute_capabilities = 1
    assert config.set_compute_capability(tensorrt.ComputeCapability.SM89, 0)
    layers = [self.ctx.net.get_layer(i) for i in range(self.ctx.net.num_layers)]
    types.update(one.get_output(0).dtype for one in layers if one.type == tensorrt.LayerType.CONVOLUTION)
    return config

TRTInterpreter._populate_trt_builder_config = for_a_card
same = lambda content: SimpleNamespace(serialize=lambda: content)
tensorrt.Runtime = lambda _: SimpleNamespace(deserialize_cuda_engine=same)
for name, scale in shipped():
    module = find_model(name, scale).module
    types.clear()
    timings = Cache(Path(sys.argv[1]), "the timing cache", ".timings")
    engine = build(export(module, (16, 24), "cpu"), timings, {"card": "none"})
    based = getattr(module, "base", None) is not None
    expected = {tensorrt.DataType.HALF: TypedNetwork(module).convolutions, tensorrt.DataType.FLOAT: int(based)}
    assert types == Counter(expected), (name, scale, types)
    print("built", name, scale, len(engine), flush=True)
"""


def named(extra: str) -> dict[str, Requirement]:
    return {found.name: found for found in map(Requirement, EXTRAS[extra])}


def test_what_is_tested_is_what_the_extra_brings() -> None:
    assert named("test")["tensorrt-rtx"].specifier == named("rtx")["tensorrt-rtx"].specifier


def run_with(minor: str, folder: Path, code: str, *arguments: str, limit: float) -> str:
    """What ``code`` prints with the pair of torch-tensorrt-rtx ``minor``: the Python of both, by pip into ``folder``;
    the libraries of TensorRT for RTX, 200 MB, are those of the tests."""
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    pair = named("rtx")
    wanted = [
        f"torch-tensorrt-rtx{pair['torch-tensorrt-rtx'].specifier},=={minor}.*",
        f"tensorrt-rtx-cu13{pair['tensorrt-rtx'].specifier}",
        f"tensorrt-rtx-cu13-bindings{pair['tensorrt-rtx'].specifier}",
        "dllist",
    ]
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *wanted]
    subprocess.run(command, check=True, capture_output=True, timeout=250)
    for library in (folder / "torch_tensorrt").rglob("*.so"):
        library.unlink()
    paths = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=limit,
    )
    assert done.returncode == 0, done.stderr[-1000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("minor", ["2.12", "2.13"])
def test_a_pair_can_be_imported(minor: str, tmp_path: Path) -> None:
    said = run_with(minor, tmp_path, IMPORT, limit=200)
    assert f"imported {minor}." in said
    versions = said.split("imported ")[1].split()
    for version, requirement in zip(versions, named("rtx").values(), strict=True):
        assert version in requirement.specifier


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_shipped_network_is_built(tmp_path: Path) -> None:
    """By torch_tensorrt's converters and TensorRT for RTX, its convolutions in the types of clesr's graph."""
    said = run_with("2.13", tmp_path / "pair", IMPORT + BUILD, str(tmp_path / "timings"), limit=300)
    told = [line.split()[1:] for line in said.splitlines() if line.startswith("built ")]
    assert [(name, int(scale)) for name, scale, _ in told] == list(shipped())
    assert all(int(size) > 1e5 for *_, size in told)
