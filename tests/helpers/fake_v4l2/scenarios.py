"""What test_camera.py runs in child processes that have the fake camera preloaded.

``python scenarios.py NAME`` prints what it saw as one JSON object; the test asserts. Images go to ``$IMAGES``.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from clesr.engines.common.clock import SystemClock
from clesr.engines.common.errors import ClesrError
from clesr.pipeline.frame import Corrupt, Frame, Outage
from clesr.pipeline.source import restarts_of
from clesr.pipeline.sources.v4l2 import capture
from clesr.pipeline.sources.v4l2.camera import CameraSource
from clesr.pipeline.sources.v4l2.listing import camera_lines

DEVICE = os.environ["FAKE_V4L2_DEVICE"]
LOG = Path(os.environ["FAKE_V4L2_LOG"])
SMALL = (160, 120)
T = TypeVar("T")


def command(text: str) -> None:
    """To the fake camera; done on return."""
    assert ctypes.CDLL(None).fake_v4l2_command(text.encode()) == 0, text


def send(text: str) -> None:
    """The same through the pipe that other processes use."""
    Path(os.environ["FAKE_V4L2_CONTROL"]).write_text(text + "\n")


def camera(**options: Any) -> CameraSource:
    settings: dict[str, Any] = {"size": SMALL, "fps": 60.0, "pixel_format": "GREY"}
    return CameraSource(DEVICE, **settings | options)


def unhurried_camera(**options: Any) -> CameraSource:
    """Slow enough that a busy machine loses no frame that the test does not mean to be lost."""
    return camera(fps=30.0, **options)


def take(source: CameraSource, count: int) -> list[Frame | Corrupt]:
    items = []
    for _ in range(count):
        item = source.read(2.0)
        assert isinstance(item, Frame | Corrupt), "no frame within 2 s"
        items.append(item)
    return items


def numbers(source: CameraSource, count: int) -> list[int]:
    return [item.number for item in take(source, count)]


def log() -> list[str]:
    return LOG.read_text().splitlines() if LOG.exists() else []


def descriptors() -> list[str]:
    """What this process has open, but for the folder that tells it."""
    links = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    return sorted(os.readlink(link) for link in links if os.path.exists(link))


def formats() -> Any:
    """Three frames of every format, lines with and without padding, with their images saved."""
    images: dict[str, Any] = {}
    seen = []
    for padding in (0, 32):
        os.environ["FAKE_V4L2_PADDING"] = str(padding)
        for name in ("GREY", "Y10", "Y12", "Y16", "YUYV", "UYVY", "NV12", "YU12", "MJPG"):
            source = camera(pixel_format=name)
            frames = take(source, 3)
            source.close()
            for frame in frames:
                assert isinstance(frame, Frame), frame
                images[f"{padding} {name} {frame.number}"] = frame.image
            facts = asdict(source.info) | {"pixel_aspect": str(source.info.pixel_aspect)}
            seen.append([padding, name, [frame.number for frame in frames], facts])
    np.savez(os.environ["IMAGES"], **images)
    return seen


def _saved(source: CameraSource, count: int) -> tuple[list[int], dict[str, Any]]:
    """Numbers and images of the next frames."""
    frames = take(source, count)
    source.close()
    return [frame.number for frame in frames], {
        str(index): frame.image for index, frame in enumerate(frames) if isinstance(frame, Frame)
    }


def planes() -> Any:
    """The same through the interface of several planes."""
    os.environ["FAKE_V4L2_PLANES"] = "1"
    images: dict[str, Any] = {}
    seen = {}
    for padding in (0, 32):
        os.environ["FAKE_V4L2_PADDING"] = str(padding)
        for name in ("GREY", "Y16", "UYVY", "NV12", "NM12", "MJPG"):
            source = camera(pixel_format=name)
            size, fps = source.info.shape, source.info.fps
            seen[f"{padding} {name}"], saved = [size, fps], _saved(source, 3)[1]
            images |= {f"{padding} {name} {index}": image for index, image in saved.items()}
    np.savez(os.environ["IMAGES"], **images)
    return seen


def fields() -> Any:
    """Images of fields that come alternately, one behind the other, and woven."""
    images: dict[str, Any] = {}
    seen = {}
    for name, field in (("alternate", 7), ("apart", 5), ("woven", 8), ("one", 2)):
        os.environ["FAKE_V4L2_FIELD"] = str(field)
        source = unhurried_camera()
        shape, aspect = source.info.shape, str(source.info.pixel_aspect)
        numbers_seen, saved = _saved(source, 4)
        seen[name] = [shape, aspect, numbers_seen]
        images |= {f"{name} {index}": image for index, image in saved.items()}
    os.environ["FAKE_V4L2_FIELD"] = "8"
    source = unhurried_camera(deinterlace=True)
    seen["deinterlaced"] = [source.info.shape, "1", _saved(source, 4)[0]]
    np.savez(os.environ["IMAGES"], **images)
    return seen


def levels() -> Any:
    """Images by what the format says of its range, and by what is asked."""
    images: dict[str, Any] = {}
    for quantization in (0, 1, 2):
        os.environ["FAKE_V4L2_QUANTIZATION"] = str(quantization)
        for asked in ("auto", "full", "limited"):
            images[f"{quantization} {asked}"] = _saved(unhurried_camera(levels=asked), 1)[1]["0"]
    np.savez(os.environ["IMAGES"], **images)
    return None


def signals() -> Any:
    """What reaches the driver of a frame grabber, and what is refused."""
    seen: dict[str, Any] = {}
    for name, signal in (
        ("by name", {"input": "s-video", "standard": "pal"}),
        ("by number", {"input": "2", "timings": "1920x1080p60"}),
        ("interlaced", {"timings": "720x576i50"}),
    ):
        before = len(log())
        camera(signal=signal).close()
        seen[name] = [line for line in log()[before:] if line.startswith(("S_INPUT", "S_STD", "S_DV"))]
    for name, signal in (
        ("no input", {"input": "5"}),
        ("no standard", {"standard": "SECAM"}),
        ("no timings", {"timings": "640x480p60"}),
        ("no signal", {"timings": "auto"}),
    ):
        seen[name] = failure(partial(camera, signal=signal))
    os.environ["FAKE_V4L2_SIGNAL"] = "1"
    before = len(log())
    camera(signal={"timings": "auto"}).close()
    seen["found"] = [line for line in log()[before:] if line.startswith("S_DV")]
    capture.FOLDER = Path(DEVICE).parent
    seen["listed"] = list(camera_lines())
    return seen


def choice() -> Any:
    """Which format is taken where none is asked for, by what the camera offers and the rate asked for."""
    seen = []
    for candidate, fps in (
        ("MJPG,YUYV,GREY,Y10,Y16", None),
        ("GREY,Y12,Y10", None),
        ("MJPG,YUYV,NV12", None),
        ("MJPG,YUYV", None),
        ("YUYV", None),
        ("GREY,Y16", 60.0),
        ("GREY,Y16", 15.0),
    ):
        os.environ["FAKE_V4L2_FORMATS"] = candidate
        source = CameraSource(DEVICE, fps=fps)
        chosen = [line for line in log() if line.startswith("S_FMT")][-1]
        seen.append([candidate, fps, chosen, source.info.fps, source.info.shape])
        source.close()
    return seen


def counting() -> Any:
    """Numbers and times: from zero, over a gap, over the end of 32 bits, without a driver's time stamp."""
    source = unhurried_camera()
    began = time.monotonic_ns()
    first = take(source, 8)
    ended = time.monotonic_ns()
    command("skip 5")
    gap = numbers(source, 8)
    source.close()
    command(f"sequence {2**32 - 5}")
    source = unhurried_camera()
    wrapped = numbers(source, 1)
    command("skip 10")
    wrapped += numbers(source, 5)
    source.close()
    command("unstamped on")
    source = unhurried_camera()
    unstamped = []
    for _ in range(3):
        before = time.monotonic_ns()
        unstamped.append([before, take(source, 1)[0].time_ns, time.monotonic_ns()])
    source.close()
    return {
        "first": [item.number for item in first],
        "times": [item.time_ns for item in first],
        "span": [began, ended],
        "gap": gap,
        "wrapped": wrapped,
        "unstamped": unstamped,
    }


def damage() -> Any:
    """A buffer that the driver marks, a JPEG image with a hole, a stream that stalls."""
    source = unhurried_camera()
    take(source, 1)
    command("error 1")
    marked = take(source, 7)
    source.close()
    source = unhurried_camera(pixel_format="MJPG")
    take(source, 1)
    command("damage 1")
    holed = take(source, 7)
    command("stall")
    while source.read(0.1) is not None:
        pass
    reprojected = source.read(0.05)
    command("resume")
    resumed = take(source, 1)
    source.close()
    return {
        "marked": [[item.number, getattr(item, "reason", "")] for item in marked],
        "holed": [[item.number, getattr(item, "reason", "")] for item in holed],
        "stalled": reprojected is None,
        "resumed": [item.number for item in resumed],
    }


def controls() -> Any:
    """What reaches the driver for several settings."""
    seen = []
    for wanted in (
        {"exposure": "200", "gain": "10"},
        {"power_line_frequency": "60 hz", "Brightness": "-5"},
        {"white_balance_temperature": "5000", "white_balance_automatic": "off"},
        {"exposure_time_absolute": "33", "auto_exposure": "manual mode"},
    ):
        before = len(log())
        source = camera(controls=wanted)
        source.close()
        seen.append([line for line in log()[before:] if line.startswith("S_CTRL")])
    return seen


def adjusted() -> Any:
    """Controls that are set while frames come, refused, and set again where the camera comes back."""
    source = camera()
    take(source, 3)
    before = len(log())
    lacks = [source.lacks(name) for name in ("exposure", "gain", "zoom")]
    source.adjust("exposure", "123")
    source.adjust("gain", "7")
    live = [line for line in log()[before:] if line.startswith("S_CTRL")]
    refused = [
        failure(lambda: source.adjust("zoom", "1")),
        failure(lambda: source.adjust("gain", "101")),
    ]
    take(source, 3)
    send("unplug")
    while not isinstance(source.read(0.1), Outage):
        pass
    refused.append(failure(lambda: source.adjust("gain", "8")))
    lacks.append(source.lacks("gain"))
    mark = len(log())
    send("plug")
    while not isinstance(source.read(2.0), Frame):
        pass
    source.close()
    again = [x for x in log()[mark:] if x.startswith("S_CTRL")]
    return {"live": live, "refused": refused, "again": again, "lacks": lacks}


def unplugged() -> Any:
    """The camera goes away and comes back, twice; frames are read all along."""
    source = camera(pixel_format="Y12", controls={"exposure": "77"})
    before = numbers(source, 5)
    seen = []
    for _ in range(2):
        send("unplug")
        told = []
        while (item := source.read(0.1)) is not None:
            if isinstance(item, Outage):
                told.append((item.over, item.known))
        gone = {
            "node": os.path.exists(DEVICE),
            "released": log().count("release"),
            "open": log().count("open"),
        }
        silent = source.read(0.05) is None
        mark = len(log())
        send("plug")
        while not os.path.exists(DEVICE):
            pass
        returned = time.monotonic()
        item = source.read(2.0)
        assert isinstance(item, Outage)
        told.append((item.over, item.known))
        first = take(source, 1)
        seconds = time.monotonic() - returned
        after = [item.number for item in first] + numbers(source, 4)
        seen.append(
            {**gone, "told": told, "silent": silent, "seconds": seconds, "after": after, "log": log()[mark:]}
            | {"restarts": restarts_of(source)}
        )
    shape = [frame.image.shape for frame in take(source, 1) if isinstance(frame, Frame)]
    source.close()
    return {"before": before, "returns": seen, "shape": shape}


def cycled() -> Any:
    """The camera goes away and comes back, CYCLES times: seconds from each return to the first frame after it."""
    source, chance = camera(), random.Random(1)
    take(source, 2)
    before, seconds, seen = descriptors(), [], []
    for _ in range(int(os.environ["CYCLES"])):
        command("unplug")
        until(source, Outage)
        source.read(chance.uniform(0, 0.3))  # so that it comes back at any time between two looks
        returned = time.monotonic()
        command("plug")
        seen.append(until(source, Frame).number)
        seconds.append(time.monotonic() - returned)
    held = descriptors()
    source.close()
    return {
        "seconds": seconds,
        "numbers": seen,
        "descriptors": [before, held],
        "threads": threading.active_count(),
    }


def until(source: CameraSource, kind: type[T]) -> T:
    """The next item of that kind."""
    for _ in range(100):
        item = source.read(0.1)
        if isinstance(item, kind):
            return item
    raise AssertionError(f"no {kind.__name__} has come")


class CountingClock(SystemClock):
    """Passes without waiting; counts how often it was waited on."""

    def __init__(self) -> None:
        self.time_ns, self.steps = 10**9, list[int]()

    def now_ns(self) -> int:
        return self.time_ns

    def sleep_until(self, time_ns: int) -> None:
        self.steps.append(max(time_ns - self.time_ns, 0))
        self.time_ns = max(self.time_ns, time_ns)


def probing() -> Any:
    """How often an absent camera is looked for, on a clock that does not wait."""
    clock = CountingClock()
    source = camera(clock=clock)
    command("unplug")
    began = clock.now_ns()
    absent = source.read(3.0)
    waited = clock.now_ns() - began
    steps = clock.steps.copy()
    command("plug")
    command("busy S_FMT")  # as while another program looks at it
    still = source.read(1.0)
    command("busy off")
    clock.time_ns += 10**9
    back = source.read(0.5) or source.read(0.5)
    os.environ["FAKE_V4L2_FORMATS"] = "YUYV"  # another camera at the same place
    command("unplug")
    source.read(0.1)
    command("plug")
    clock.time_ns += 10**9
    other = failure(lambda: source.read(1.0))
    source.close()
    return {
        "absent": absent is None,
        "waited": waited,
        "steps": steps,
        "still": still is None,
        "back": back is not None,
        "other": other,
    }


def failure(attempt: Callable[[], object]) -> list[str]:
    try:
        attempt()
    except ClesrError as error:
        return [type(error).__name__, str(error)]
    return ["nothing", ""]


def refusals() -> Any:
    """Every way in which a camera cannot be opened, as class and message of the error."""
    capture.FOLDER = Path(DEVICE).parent
    command("busy off")  # the first that the fake camera hears: it has then opened all that it needs
    before = descriptors()
    camera().close()
    seen = {}
    for busy in ("open", "S_FMT", "REQBUFS", "STREAMON"):
        command(f"busy {busy}")
        seen[f"busy {busy}"] = failure(camera)
        command("busy off")
    for name in ("metadata", "deny"):
        command(f"{name} on")
        seen[name] = failure(camera)
        command(f"{name} off")
    seen["absent"] = failure(lambda: CameraSource("/dev/video-none"))
    seen["text"] = failure(lambda: CameraSource(__file__))
    seen["null"] = failure(lambda: CameraSource("/dev/null"))
    seen["folder"] = failure(lambda: CameraSource("/dev"))
    options: Mapping[str, Mapping[str, Any]] = {
        "size": {"size": (161, 120)},
        "fps": {"fps": 25.0},
        "no such format": {"pixel_format": "RGB9"},
        "control": {"controls": {"zoom": "3"}},
        "range": {"controls": {"gain": "101"}},
        "text value": {"controls": {"exposure": "long"}},
        "menu": {"controls": {"auto_exposure": "sometimes"}},
        "switch": {"controls": {"white_balance_automatic": "maybe"}},
        "inactive": {"controls": {"white_balance_temperature": "5000"}},
    }
    for name, asked in options.items():
        seen[name] = failure(partial(camera, **asked))
    os.environ["FAKE_V4L2_FORMATS"] = "MJPG,YUYV"
    seen["format not offered"] = failure(camera)
    os.environ["FAKE_V4L2_FORMATS"] = "none"
    seen["no format"] = failure(camera)
    command("unplug")
    seen["nothing plugged in"] = failure(camera)
    return {"errors": seen, "descriptors": [before, descriptors()]}


def wait(source: CameraSource, inside: threading.Event) -> Frame | Corrupt | Outage | None:
    inside.set()
    return source.read(20.0)


def closing() -> Any:
    """Another thread reads, from a stalled and from an unplugged camera, while this one closes it."""
    seconds = []
    with ThreadPoolExecutor(1) as pool:
        for state in ("stall", "unplug"):
            source = camera()
            take(source, 1)
            command(state)
            while source.read(0.05) is not None:
                pass
            inside = threading.Event()
            reading = pool.submit(wait, source, inside)
            assert inside.wait(60)
            began = time.monotonic()
            source.close()
            assert reading.result() is None
            seconds.append(time.monotonic() - began)
            assert source.read(1.0) is None
            source.close()
            command("resume")
    return {"seconds": seconds, "opened": log().count("open"), "released": log().count("release")}


def steady() -> Any:
    """A second of VGA at 60 frames/s; up to three tries, as the machine may have other work."""
    for _ in range(3):
        source = camera(size=(640, 480))
        items = take(source, 61)
        source.close()
        if items[-1].number == 60:
            break
    return {"numbers": [item.number for item in items], "times": [item.time_ns for item in items]}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()))
