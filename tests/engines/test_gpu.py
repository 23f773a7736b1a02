"""The name of the GPU and its driver, where there may be none."""

from __future__ import annotations

import types
from pathlib import Path

import pytest
import torch

from clesr.engines import gpu

PROC = """NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder)
GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)
"""


def test_the_driver_is_read_from_the_kernel_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "NVML", "libthat-is-not-there.so.1")
    monkeypatch.setattr(gpu, "KERNEL_MODULE", tmp_path / "version")
    assert gpu.driver_version() == "unknown"
    (tmp_path / "version").write_text(PROC)
    assert gpu.driver_version() == "580.65.06"


def test_the_key_tells_cards_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    card = types.SimpleNamespace(name="NVIDIA H200", major=9, minor=0, total_memory=150 * 2**30)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: card)
    monkeypatch.setattr(gpu, "driver_version", lambda: "580.65.06")
    assert gpu.gpu_key() == {
        "gpu": "NVIDIA H200",
        "compute capability": "9.0",
        "gpu memory": "150 GiB",
        "driver": "580.65.06",
    }


def test_full_precision_is_without_tf32_and_leaves_the_process_as_it_was() -> None:
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.fp32_precision

    @gpu.full_precision()
    def fail() -> None:
        assert products.fp32_precision == "ieee"
        assert not convolutions.allow_tf32
        raise ZeroDivisionError

    products.fp32_precision = "tf32"
    try:
        with pytest.raises(ZeroDivisionError):
            fail()
        assert products.fp32_precision == "tf32"
        assert convolutions.allow_tf32
    finally:
        products.fp32_precision = before


@pytest.mark.cuda
@pytest.mark.usefixtures("gpu")
def test_a_real_card_has_a_driver_version() -> None:
    assert gpu.gpu_key()["driver"] != "unknown"
