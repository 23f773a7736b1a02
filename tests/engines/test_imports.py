"""The engines alone, on a machine that has neither cameras nor video nor OpenVINO."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import cache

import pytest
import structure

PROGRAM = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
from clesr.engines import tiles
from clesr.engines.backends.cuda import engine as cuda_engine
from clesr.engines.backends.tensorrt import engine as tensorrt_engine
from clesr.engines.factory import engines
loaded = {{name.partition(".")[0] for name in sys.modules}} & {blocked}
assert not loaded, loaded
print(*(f"{{candidate.name}}: {{candidate.reason}}" for candidate in engines()), sep="\\n")
"""
BLOCKED = ("av", "zmq", "openvino", "linuxpy", "tifffile", "onnx", "lightning")


def test_engines_need_no_video_no_messages_and_no_openvino() -> None:
    program = PROGRAM.format(blocked=set(BLOCKED))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (
        "openvino: OpenVINO does not start (No module named 'openvino'); pip install openvino" in done.stdout
    )


LIGHT = (
    "candidate",
    "engine",
    "results",
    "worker",
    "tiles",
    "interpolation",
    "models.registry",
    "common.registry",
)


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (LIGHT, "torch cv2 openvino triton tensorrt"),
        (("factory",), "openvino triton tensorrt torch_tensorrt cv2"),
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(modules: tuple[str, ...], heavy: str) -> None:
    program = "import sys\n" + "".join(f"import clesr.engines.{name}\n" for name in modules)
    program += f"print(*set({heavy.split()}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


def test_no_circle_passes_through_the_engines_and_they_import_nothing_above_them() -> None:
    found = structure.modules()
    every = {name: (module.loads | module.types) - {name} for name, module in found.items()}
    for graph in (every, structure.by_folder(every)):
        assert [c for c in structure.circles(graph) if any(map(is_engines, c))] == []
    for name in filter(is_engines, every):
        assert all(map(is_engines, every[name])), name


def test_the_choice_of_an_engine_is_nine_modules_deep_at_most() -> None:
    found = structure.modules()

    @cache
    def depth(name: str) -> int:
        return 1 + max((depth(other) for other in others(name)), default=0)

    def others(name: str) -> Iterator[str]:
        yield from found[name].loads - {name}

    assert depth("clesr.engines.factory") <= 9


def is_engines(name: str) -> bool:
    return name.startswith("clesr.engines")
