"""Words of the command line: addresses, regions, windows, rates, frames, names, faults on purpose, keys."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

import numpy as np

from clesr.engines.common.addresses import host_and_port, split_options
from clesr.engines.common.text import shown
from clesr.pipeline.chaos.plan import FAULTS, parse_plan
from clesr.pipeline.controls.action import assign_keys
from clesr.pipeline.operator.operator import checked_name
from clesr.pipeline.operator.registry import all_actions
from clesr.pipeline.prepare import IntensityWindow, Roi, stretch
from clesr.pipeline.settings import parse_key
from clesr.pipeline.sinks.browser.door import Door
from clesr.pipeline.sinks.registry import open_sink
from clesr.pipeline.sinks.zeromq import parse_address
from clesr.pipeline.source import parse_pace
from clesr.pipeline.sources.registry import open_source
from clesr.tools.common.naming import name_streams, spread, spread_several
from clesr.tools.export.delivery.address import parse_place
from clesr.tools.export.selection import parse_frames
from fuzz.mutations import flip
from fuzz.target import Target

TEXTS = (
    "demo:?size=64&fps=12&seed=3&drop=0.01&bits=16&noise=1&fov=475&frames=5&pace=max", "demo:?fps=30000/1001",
    "/dev/video9?size=640x480&fps=30&format=GREY&gain=4", "0,0,48,48", "200,5000", "percentile", "0-249", "12.5",
    "zmq+tcp://*:5556?bind=1&socket=pull", "zmq+ipc:///nowhere/x?topic=a&stream=b", "file:///nowhere/a.mkv",
    "igtl://*:18944?name=a&header=1&pixel_um=0.83", "left=/dev/video9", "dicom://PACS@archive:104", "https://user:secret@[::1]:8443/web/studies",
    "rtsp://user:secret@camera/live?password=secret", "engine-stall@10+3,disk-full@60", "every=60,seed=1", "still=s",
    "quit=", "127.0.0.1:8765", "[::1]:0", "9187", "zmq+tcp://127.0.0.1:5557?curve_secret=a&curve_clients=b",
)  # fmt: skip
WORDS = (
    "1e9", "1e999999", "1e-400", "1/0", "0/1", "-1", "nan", "inf", "9" * 5000, "%00", "%ff", "&", "=", "?", "@", "/",
    "\\", "[", "]", "::", "..", "é", "٣", "²", " 5", "0x10", "_1", "1_0", "\udcff", "\x1b", "\n", "?size=",
    "&size=9", "{stream}",
)  # fmt: skip


class Strings(Target):
    """A first byte that says what reads it, then the text."""

    def seeds(self) -> list[bytes]:
        return [bytes([reader]) + text.encode() for reader in range(len(READERS)) for text in TEXTS]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        changed = data
        for _ in range(1 + int(rng.random() * 3)):
            at = 1 + int(rng.random() * len(changed))
            if rng.random() < 0.7:
                word = WORDS[int(rng.random() * len(WORDS))].encode(errors="surrogateescape")
                changed = changed[:at] + word + changed[at + int(rng.random() * 6) :]
            else:
                changed = changed[:1] + flip(rng, changed[1:])
        reader = changed[:1] if rng.random() < 0.8 else bytes([int(rng.random() * len(READERS))])
        return reader + changed[1:6000]

    def run(self, data: bytes) -> None:
        reader = READERS[(data[0] if data else 0) % len(READERS)]
        reader(data[1:].decode("utf-8", "surrogateescape"))


def _source(text: str) -> None:
    """Only what opens nothing outside."""
    if text.lower().startswith(("demo:", "/dev/video9")):
        open_source(text).close()


def _sink(text: str) -> None:
    """Only on this machine."""
    if text.startswith(("zmq+tcp://*:", "igtl://*:")) and "@" not in text:
        open_sink(text.replace("*", "127.0.0.1", 1)).close()


def _plan(text: str) -> None:
    plan = parse_plan(text)
    for place in FAULTS:
        plan.present(place)


def _key(text: str) -> None:
    action, key = parse_key(text)
    assign_keys(all_actions(), {action: key})


def _window(text: str) -> None:
    window = IntensityWindow.parse(text)
    if window.mode == "fixed":
        stretch(np.zeros((2, 2), np.uint8), window.low, window.high)


def _names(text: str) -> None:
    streams = list(name_streams((text, text, "b=x")))
    spread_several("--send", (text, f"b={text}", "{stream}x"), streams[:1])
    spread("--output", (text, "{stream}"), streams)


READERS: tuple[Callable[[str], object], ...] = (
    _source,
    _sink,
    _window,
    _names,
    lambda text: Roi.parse(text).check((64, 64)),
    split_options,
    parse_pace,
    parse_frames,
    parse_place,
    shown,
    _plan,
    _key,
    partial(host_and_port, option="--listen", form=""),
    partial(host_and_port, option="--metrics", form="", port=9187),
    parse_address,
    lambda text: Door(listen=text),
    checked_name,
)
