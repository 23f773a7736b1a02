"""Readings of power and memory."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from clesr.tools.bench import peak, power
from clesr.tools.bench.peak import bandwidth, matrix_peaks, peak_for


def test_power_is_read_while_the_block_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "EVERY_S", 0.001)
    readings: list[float] = []
    enough = threading.Event()
    values = iter([100.0, None, 200.0])

    def read() -> float | None:
        value = next(values, 150.0)
        if len(readings) >= 3:
            enough.set()
        return value

    with power.watching(read, readings):
        assert enough.wait(20)
    count = len(readings)
    time.sleep(0.02)
    assert len(readings) == count
    assert readings[:2] == [100.0, 200.0]
    assert power.mean_watts([100.0, 201.0]) == 150.5
    assert power.mean_watts([]) is None


def test_without_a_way_nothing_is_read() -> None:
    readings: list[float] = []
    with power.watching(None, readings):
        pass
    assert readings == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_there_is_no_power_and_no_device_memory() -> None:
    assert power.gpu_watts() is None
    assert power.device_mb() is None


def test_memory_of_the_process() -> None:
    now, peak = power.resident_mb(), power.peak_resident_mb()
    assert 50 < now <= peak + 1  # the system counts both in its own time


def test_peaks_are_by_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "CPU_SIDE", 256)
    assert set(matrix_peaks("cpu")) == set(matrix_peaks("cpu", {"fp32", "integer"})) == {"fp32"}
    peaks = matrix_peaks("cpu", {"fp32", "bf16"})
    assert set(peaks) == {"fp32", "bf16"}
    assert min(peaks.values()) > 0.1
    assert bandwidth("cpu", 1 << 20) > 0.01
    assert peak_for({"fp16": 5.0}, "fp32") == 5.0
    assert peak_for({"fp32": 1.0, "bf16": 3.0}, "bf16") == 3.0
    assert peak_for({"fp32": 1.0, "bf16": 3.0}, "integer") == 1.0
    assert peak_for({}, "fp16") is None
