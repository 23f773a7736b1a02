"""How busy, full and hot the NVIDIA cards of this machine are, as the driver's NVML says."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

WAIT_S = 0.5  # for the driver, which may hang
CELSIUS = 0  # the sensor of the chip
LONGEST_NAME = 96


@dataclass(frozen=True, slots=True)
class CardState:
    """A card, by its number and name; None for what it does not say."""

    index: int
    name: str
    utilisation_ratio: float | None
    memory_used_bytes: int | None
    memory_bytes: int | None
    temperature_celsius: int | None


class _Utilisation(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_ulonglong) for name in ("total", "free", "used"))


class CardWatch:
    """Asks the library that ``open_nvml`` gives, by default the driver's, on a thread of its own: where that hangs,
    nobody is held up. Any thread may look."""

    def __init__(self, open_nvml: Callable[[], Any] | None = None) -> None:
        self._open = open_nvml
        self._nvml: Any = None
        self._opened = False
        self._states: list[CardState] = []
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def states(self) -> list[CardState]:
        """Of each card; none where there is no driver, or where it does not answer in time."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._look, name="clesr cards", daemon=True)
                self._thread.start()
            thread = self._thread
        thread.join(WAIT_S)
        return [] if thread.is_alive() else self._states

    def _look(self) -> None:
        if not self._opened:
            self._opened = True
            self._nvml = (self._open or _driver)()
        self._states = list(_states(self._nvml)) if self._nvml is not None else []


def _driver() -> Any:
    from clesr.engines.gpu import open_nvml

    return open_nvml()


def _states(nvml: Any) -> Iterator[CardState]:
    count = ctypes.c_uint()
    if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
        return
    for index in range(count.value):
        card = ctypes.c_void_p()
        if nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(card)) == 0:
            yield _state(nvml, index, card)


def _state(nvml: Any, index: int, card: ctypes.c_void_p) -> CardState:
    name = ctypes.create_string_buffer(LONGEST_NAME)
    busy, memory, celsius = _Utilisation(), _Memory(), ctypes.c_uint()
    named = nvml.nvmlDeviceGetName(card, name, ctypes.c_uint(LONGEST_NAME)) == 0
    is_busy = nvml.nvmlDeviceGetUtilizationRates(card, ctypes.byref(busy)) == 0
    filled = nvml.nvmlDeviceGetMemoryInfo(card, ctypes.byref(memory)) == 0
    hot = nvml.nvmlDeviceGetTemperature(card, ctypes.c_uint(CELSIUS), ctypes.byref(celsius)) == 0
    return CardState(
        index,
        name.value.decode(errors="replace") if named else "",
        busy.gpu / 100 if is_busy else None,
        memory.used if filled else None,
        memory.total if filled else None,
        celsius.value if hot else None,
    )
