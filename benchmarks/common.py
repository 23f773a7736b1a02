"""What every benchmark writes beside its figures: the machine, the versions, the commit; and percentiles."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_bf16")
PACKAGES = ("torch", "openvino", "numpy", "opencv-python", "av")
PERCENTILES = (50, 95, 99)


def describe_machine() -> dict[str, Any]:
    """Processor, cores that this process may use, instruction sets that matter, memory, system, GPU."""
    import torch

    from clesr.engines.torch_engine import cpu_name

    having = _cpu_flags()
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in having],
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": round(os.getloadavg()[0], 2),
    }


def describe_versions() -> dict[str, str]:
    """clesr, Python, and the packages that do the work."""
    versions = {"clesr": metadata.version("clesr"), "python": platform.python_version()}
    return versions | {name: metadata.version(name) for name in PACKAGES}


def git_commit() -> str:
    """The commit of the working tree, with ``+`` where something is changed; empty outside git."""
    try:
        return _git("rev-parse", "--short=12", "HEAD") + (
            "+" if _git("status", "--porcelain", "-uno") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return ""


def environment() -> dict[str, Any]:
    """The three together: ``machine``, ``versions``, ``commit``."""
    return {"machine": describe_machine(), "versions": describe_versions(), "commit": git_commit()}


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """``p50`` and so on in milliseconds."""
    values = np.percentile(np.asarray(seconds) * 1e3, PERCENTILES)
    return {f"p{p}": round(float(v), 3) for p, v in zip(PERCENTILES, values, strict=True)}


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return {flag for line in lines[:64] if line.startswith("flags") for flag in line.split()}
