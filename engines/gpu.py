"""Which NVIDIA GPU this is, and under which driver: what a compiled engine and a measured time belong to. How exactly
it computes."""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

import torch

KERNEL_MODULE = Path("/proc/driver/nvidia/version")
NVML = "libnvidia-ml.so.1"
NO_GPU = "torch finds no NVIDIA GPU"
# What has run on which card: README, docs/gpu.md and `clesr doctor` say this.
PROVEN = (
    "no engine for NVIDIA cards has run on one so far: the `cuda` engine's kernels ran in Triton's interpreter, "
    "`tensorrt` against a stand-in, decoding and encoding likewise"
)


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Within it torch multiplies FP32 as FP32 on a GPU, without TF32, whatever the process has chosen, and in which of
    torch's two ways: where those differ torch raises."""
    products = torch.backends.cuda.matmul
    before, old_way = products.fp32_precision, None
    with contextlib.suppress(RuntimeError):  # they differ: the process has chosen in the new way
        old_way = torch.get_float32_matmul_precision()
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        torch.set_float32_matmul_precision("highest")
        products.fp32_precision = "ieee"
        try:
            yield
        finally:
            if old_way is not None:
                torch.set_float32_matmul_precision(old_way)
            products.fp32_precision = before


def gpu_name() -> str:
    """What torch's current GPU is called; ``an NVIDIA GPU`` where there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "an NVIDIA GPU"


def gpu_key() -> dict[str, str]:
    """Name, compute capability, memory and driver of torch's current GPU; there must be one."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "gpu": properties.name,
        "compute capability": f"{properties.major}.{properties.minor}",
        "gpu memory": f"{properties.total_memory / 2**30:.0f} GiB",
        "driver": driver_version(),
    }


def driver_version() -> str:
    """The NVIDIA driver's version, such as 580.65.06; ``unknown`` where nothing tells it."""
    nvml, text = open_nvml(), ctypes.create_string_buffer(96)
    if (
        nvml is not None
        and nvml.nvmlSystemGetDriverVersion(text, ctypes.c_uint(len(text))) == 0
        and text.value
    ):
        return text.value.decode(errors="replace")
    with contextlib.suppress(OSError):
        match = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", KERNEL_MODULE.read_text(errors="replace"))
        if match:
            return match[1]
    return "unknown"


def open_nvml() -> ctypes.CDLL | None:
    """The driver's library, ready to be asked; None where there is none.

    By ctypes and not by nvidia-ml-py: every installation keys its cache by the driver's version, so a package that may
    be missing would be a second way beside this one.
    """
    try:
        nvml = ctypes.CDLL(NVML)
    except OSError:
        return None
    return nvml if nvml.nvmlInit_v2() == 0 else None
