"""Watts of a GPU and memory of the process and the device, where they can be read."""

from __future__ import annotations

import ctypes
import resource
import shutil
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from clesr.engines.gpu import open_nvml
from clesr.tools.common.console import repeating

EVERY_S = 0.1  # between two readings of the power
QUERY = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits", "--id=0"]

ReadWatts = Callable[[], float | None]


def gpu_watts() -> ReadWatts | None:
    """How to read what torch's first NVIDIA GPU draws: by the driver's NVML, else by nvidia-smi, which takes the driver
    longer; None where there is no way."""
    if not torch.cuda.is_available():
        return None
    return _by_nvml() or (_by_nvidia_smi if shutil.which("nvidia-smi") else None)


def _by_nvml() -> ReadWatts | None:
    nvml, card, milliwatts = open_nvml(), ctypes.c_void_p(), ctypes.c_uint()
    uuid = f"GPU-{getattr(torch.cuda.get_device_properties(0), 'uuid', '')}"  # NVML counts cards that torch may not see
    if nvml is None or nvml.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(card)) != 0:
        return None

    def read() -> float | None:
        failed = nvml.nvmlDeviceGetPowerUsage(card, ctypes.byref(milliwatts))
        return None if failed else milliwatts.value / 1e3

    return None if read() is None else read


def _by_nvidia_smi() -> float | None:
    try:
        return float(subprocess.run(QUERY, capture_output=True, text=True, timeout=5, check=True).stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None  # a card that does not say


@contextmanager
def watching(read: ReadWatts | None, readings: list[float]) -> Iterator[None]:
    """While the block runs, append to ``readings`` what ``read`` gives every EVERY_S seconds."""

    def look() -> None:
        watts = read() if read is not None else None
        if watts is not None:
            readings.append(watts)

    with repeating(look, EVERY_S, at_end=False):
        yield


def mean_watts(readings: list[float]) -> float | None:
    """None where nothing was read."""
    return round(statistics.fmean(readings), 1) if readings else None


def resident_mb() -> float:
    """Memory of this process that is in RAM, now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def peak_resident_mb() -> float:
    """The most that :func:`resident_mb` ever was."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def device_mb() -> float | None:
    """Memory of the first GPU in use, by anyone; None without one. torch's unused reserve is given back first."""
    if not torch.cuda.is_available():
        return None
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 1e6
