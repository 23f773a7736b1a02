"""The engines alone, on a machine that has neither cameras nor video nor OpenVINO."""

from __future__ import annotations

import subprocess
import sys

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
