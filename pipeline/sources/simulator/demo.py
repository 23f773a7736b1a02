"""``demo:`` addresses: the phantom as a camera, for trying, testing and measuring without a device."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from threading import Event
from typing import Any

import numpy as np

from clesr.engines.common.addresses import check_names, split_options
from clesr.engines.common.errors import EndOfSource, UsageError
from clesr.engines.common.numbers import decimal_number, rational_number, shortened, whole_number
from clesr.pipeline.frame import Frame, Image
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.sources.registry import DEFAULTS, SourceOptions
from clesr.pipeline.sources.simulator.phantom import FOV_UM, Phantom

BUFFERS = 4  # frames that wait for a slow reader, as in a camera driver
NAP_NS = 50_000_000  # longest sleep before a look whether the source was closed
SCHEME = "demo:"


@dataclass(frozen=True, slots=True)
class DemoOption:
    """One option of an address: its value where it is not given, how to read it, and what is allowed.

    ``read`` raises ValueError, or gives a value for which ``accepts`` is false, for text that is not allowed.
    """

    default: Any
    read: Callable[[str], Any]
    accepts: Callable[[Any], bool]
    allowed: str


def whole_option(default: int | None, low: int, high: int | None = None) -> DemoOption:
    """A whole number from ``low`` to ``high``."""
    allowed = f"a whole number from {low}" + (" up" if high is None else f" to {high}")
    return DemoOption(default, whole_number, lambda v: low <= v and (high is None or v <= high), allowed)


def number(default: float, low: float, high: float) -> DemoOption:
    """A decimal number from ``low`` to ``high``."""
    allowed = f"a number from {low:g} to {high:g}"
    return DemoOption(default, decimal_number, lambda v: low <= v <= high, allowed)


OPTIONS: Mapping[str, DemoOption] = {
    "size": whole_option(256, 64, 1024),
    "fps": DemoOption(
        Fraction(12),
        rational_number,
        lambda v: Fraction(1, 10) <= v <= 1000,
        "a rate from 0.1 to 1000, as 12.5 or 30000/1001",
    ),
    "seed": whole_option(0, 0),
    "drop": number(0.0, 0.0, 0.9),
    "bits": DemoOption(8, whole_number, lambda v: v in (8, 16), "8 or 16"),
    "noise": number(1.0, 0.0, 10.0),
    "fov": number(FOV_UM, 100.0, 600.0),
    "frames": whole_option(None, 1),
    "pace": DemoOption("live", str, lambda v: v in ("live", "max"), "live or max"),
}


def read_options(address: str, options: Mapping[str, DemoOption]) -> dict[str, Any]:
    """The value of every option of a ``demo:`` or ``demo:?name=value&name=value`` address.

    Raises UsageError that names the option, its value and what is allowed.
    """
    scheme, given = split_options(address)
    if scheme != SCHEME:
        raise UsageError(f"{shortened(address)} is no demo address; write demo: or demo:?size=256&fps=12")
    check_names(address, given, options)
    values = {name: option.default for name, option in options.items()}
    for name, text in given.items():
        option = options[name]
        try:
            values[name] = option.read(text)
            accepted = option.accepts(values[name])
        except (ValueError, ArithmeticError):
            accepted = False
        if not accepted:
            raise UsageError(
                f"{shortened(address)}: {name} is {shortened(text)}; allowed is {option.allowed}"
            )
    return values


class DemoSource:
    """The phantom at an address such as ``demo:?fps=12&size=256&seed=3&drop=0.01``.

    | option | default | meaning |
    |---|---|---|
    | size | 256 | side of the image in pixels, 64 to 1024 |
    | fps | 12 | frames a second, also as a fraction |
    | seed | 0 | which scene |
    | drop | 0 | probability that a frame is lost at the source, 0 to 0.9; never the first or last |
    | bits | 8 | 8 or 16 |
    | noise | 1 | factor on photon and read noise, 0 for none |
    | fov | 475 | field of view, um, 100 to 600 |
    | frames | endless | frames until the end, lost ones included |
    | pace | live | ``live``: at its rate, and a slow reader loses frames; ``max``: as fast as they are read |

    At live pace frame 0 is captured at the first ``read``; BUFFERS frames wait for the reader, and
    those captured while all are full are lost. Raises UsageError for options that are not allowed.
    """

    def __init__(self, address: str, options: SourceOptions = DEFAULTS) -> None:
        asked = read_options(address, OPTIONS)
        self._fps: Fraction = asked["fps"]
        self._live = asked["pace"] == "live"
        self._drop: float = asked["drop"]
        self._seed: int = asked["seed"]
        self._end: int | None = asked["frames"]
        self._clock = options.clock
        self._phantom = Phantom(
            asked["size"],
            self._seed,
            fps=float(self._fps),
            fov_um=asked["fov"],
            noise=asked["noise"],
            bits=asked["bits"],
        )
        self._number = 0  # the next to be captured
        self._started: int | None = None
        self._waiting: deque[int] = deque()
        self._closed = Event()
        self.info = SourceInfo(
            address=address,
            live=self._live,
            fps=float(self._fps),
            shape=(asked["size"], asked["size"]),
            frames=self._end,
        )

    def read(self, timeout: float) -> Frame | None:
        """The next frame; None after ``timeout`` seconds without, or when closed."""
        if self._closed.is_set():
            return None
        return self._wait(timeout) if self._live else self._next()

    def truth(self, number: int, scale: int) -> Image:
        """The HR image (scale * size, scale * size) without noise of frame ``number``, lost or not."""
        return self._phantom.truth(number, scale)

    def close(self) -> None:
        """End a waiting ``read``."""
        self._closed.set()

    def _next(self) -> Frame:
        while not self._ended() and self._lost(self._number):
            self._number += 1
        if self._ended():
            raise EndOfSource
        number, self._number = self._number, self._number + 1
        image = self._phantom.measured(number)
        return Frame(image, number, self._clock.now_ns(), pts=number, time_base=1 / self._fps)

    def _wait(self, timeout: float) -> Frame | None:
        now = self._clock.now_ns()
        deadline = now + round(timeout * 1e9)
        if self._started is None:
            self._started = now
        while not self._closed.is_set():
            now = self._clock.now_ns()
            self._capture(now - self._started)
            if self._waiting:
                number = self._waiting.popleft()
                return Frame(self._phantom.measured(number), number, self._started + self._due(number))
            if self._ended():
                raise EndOfSource
            if now >= deadline:
                return None
            due = self._started + self._due(self._number)
            self._clock.sleep_until(min(due, deadline, now + NAP_NS))
        return None

    def _capture(self, elapsed: int) -> None:
        """What the device did up to ``elapsed`` ns: filled the free buffers, and lost what came after."""
        while not self._ended() and self._due(self._number) <= elapsed:
            if len(self._waiting) == BUFFERS:
                latest = elapsed * self._fps // 1_000_000_000
                self._number = max(self._number, latest) + 1
                continue
            if not self._lost(self._number):
                self._waiting.append(self._number)
            self._number += 1

    def _due(self, number: int) -> int:
        """When ``number`` is captured, ns after the first."""
        return int(number * 1_000_000_000 / self._fps)

    def _ended(self) -> bool:
        return self._end is not None and self._number >= self._end

    def _lost(self, number: int) -> bool:
        if not self._drop or number == 0 or (self._end is not None and number == self._end - 1):
            return False
        return bool(np.random.default_rng((self._seed, 4, number)).random() < self._drop)
