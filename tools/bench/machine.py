"""What stands beside every measured figure: the machine, the versions, the commit."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import clesr
from clesr.engines.common.packages import versions_of
from clesr.engines.common.processor import core_count, cpu_info, cpu_name
from clesr.engines.gpu import driver_version

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_bf16")
PACKAGES = (  # that do the work
    "torch", "triton", "openvino", "torch-tensorrt", "torch-tensorrt-rtx", "numpy", "opencv-python", "av",
)  # fmt: skip
COMMIT = "CLESR_COMMIT"  # says the commit where the files were copied without their repository


def environment() -> dict[str, Any]:
    """``machine``, ``versions``, ``commit``, for JSON."""
    own = {"clesr": clesr.__version__, "python": platform.python_version()}
    return {"machine": describe_machine(), "versions": own | versions_of(PACKAGES), "commit": git_commit()}


def describe_machine() -> dict[str, Any]:
    """Processor, cores that this process may use, instruction sets that matter, memory in GB, system, GPU (None
    where torch finds none)."""
    having = cpu_info().get("flags", "").split()
    return {
        "cpu": cpu_name(),
        "cores": core_count(),
        "flags": [flag for flag in FLAGS if flag in having],
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        **(_gpu() if torch.cuda.is_available() else {}),
        "load": round(os.getloadavg()[0], 2),
    }


def git_commit() -> str:
    """The commit of the working tree, with ``+`` where something is changed; empty outside of the repository."""
    if COMMIT in os.environ:
        return os.environ[COMMIT]
    if Path(git("rev-parse", "--show-toplevel")) != ROOT:
        return ""  # none, or that of the environment into which this was installed
    changed = "+" if git("status", "--porcelain", "-uno") else ""
    return git("rev-parse", "--short=12", "HEAD") + changed


def _gpu() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu_memory_gb": round(properties.total_memory / 1e9, 1),
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
        "driver": driver_version(),
    }


def git(*arguments: str) -> str:
    """What git says of the folder of clesr's code; empty where it cannot say."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
