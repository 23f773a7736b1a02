"""The real camera source, in child processes, against a camera that exists only in a preloaded library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

FAKE = Path(__file__).parents[3] / "helpers" / "fake_v4l2"
SHAPE = (120, 160)
BITS = {"GREY": 8, "Y10": 10, "Y12": 12, "Y16": 16, "YUYV": 8, "UYVY": 8, "NV12": 8, "YU12": 8}

Scenario = Callable[..., Any]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="V4L2 is Linux's")


def ramp(height: int, width: int) -> NDArray[np.uint8]:
    """What the Motion-JPEG frames show: smooth, so that compression hardly changes it."""
    y, x = np.mgrid[:height, :width]
    return np.asarray(40 + x * 160 // width + y * 40 // height, np.uint8)


def camera_jpeg() -> bytes:
    """A colour JPEG image without Huffman tables, as cameras send it."""
    done, encoded = cv2.imencode(".jpg", np.stack([ramp(*SHAPE)] * 3, axis=-1))
    assert done
    jpeg = encoded.tobytes()
    kept, at = jpeg[:2], 2
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        kept += b"" if jpeg[at + 1] == 0xC4 else jpeg[at:end]
        at = end
    return kept + jpeg[at:]


@pytest.fixture
def scenario(fake_v4l2: Path, tmp_path: Path) -> Scenario:
    """Runs one of scenarios.py with the fake camera plugged in and gives what it printed."""
    device = tmp_path / "video42"
    device.touch()
    (tmp_path / "camera.jpg").write_bytes(camera_jpeg())
    os.mkfifo(tmp_path / "control")
    environment = {
        **os.environ,
        "LD_PRELOAD": str(fake_v4l2),
        "FAKE_V4L2_DEVICE": str(device),
        "FAKE_V4L2_CONTROL": str(tmp_path / "control"),
        "FAKE_V4L2_LOG": str(tmp_path / "log"),
        "FAKE_V4L2_JPEG": str(tmp_path / "camera.jpg"),
        "IMAGES": str(tmp_path / "images.npz"),
    }

    def run(name: str, *, seconds: float = 30, **settings: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-W", "error", str(FAKE / "scenarios.py"), name],
            env=environment | settings,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)

    return run


def pattern(name: str, number: int) -> NDArray[np.uint16]:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    samples = (x * 37 + y * 101 + number * 7) & ((1 << BITS[name]) - 1)
    return np.asarray(samples << (16 - BITS[name] if BITS[name] > 8 else 0), np.uint16)


def test_every_format_gives_its_pixels(scenario: Scenario, tmp_path: Path) -> None:
    seen = scenario("formats")
    images = np.load(tmp_path / "images.npz")
    assert [(padding, name) for padding, name, _, _ in seen] == list(product((0, 32), (*BITS, "MJPG")))
    for padding, name, numbers, info in seen:
        assert (info["live"], info["fps"], info["shape"]) == (True, 60, [120, 160])
        for number in numbers:
            image = images[f"{padding} {name} {number}"]
            assert image.dtype == (np.uint16 if BITS.get(name, 8) > 8 else np.uint8)
            if name == "MJPG":
                assert np.abs(image.astype(int) - ramp(*SHAPE)).max() <= 4
            else:
                np.testing.assert_array_equal(image, pattern(name, number))


def test_several_planes_give_the_same_pixels(scenario: Scenario, tmp_path: Path) -> None:
    seen = scenario("planes")
    images = np.load(tmp_path / "images.npz")
    assert len(seen) == 12
    for name, facts in seen.items():
        assert facts == [[120, 160], 60]
        form = name.split()[1]
        for index in range(3):
            image = images[f"{name} {index}"]
            if form == "MJPG":
                assert np.abs(image.astype(int) - ramp(*SHAPE)).max() <= 4
            else:
                kind = "Y16" if form == "Y16" else "GREY"
                number = next(n for n in range(60) if pattern(kind, n)[0, 0] == image[0, 0])
                np.testing.assert_array_equal(image, pattern(kind, number))


def test_fields_become_whole_images(scenario: Scenario, tmp_path: Path) -> None:
    seen = scenario("fields")
    images = np.load(tmp_path / "images.npz")
    assert {name: facts[:2] for name, facts in seen.items()} == {
        "alternate": [[240, 160], "1"],
        "apart": [[120, 160], "1"],
        "woven": [[120, 160], "1"],
        "one": [[120, 160], "1/2"],
        "deinterlaced": [[120, 160], "1"],
    }
    assert all(facts[2] == sorted(set(facts[2])) for facts in seen.values())
    for index in range(4):
        sent = {name: pattern("GREY", facts[2][index]) for name, facts in seen.items()}
        np.testing.assert_array_equal(images[f"alternate {index}"][::2], sent["alternate"])
        np.testing.assert_array_equal(images[f"alternate {index}"][1::2], sent["alternate"])
        np.testing.assert_array_equal(images[f"apart {index}"][::2], sent["apart"][:60])
        np.testing.assert_array_equal(images[f"apart {index}"][1::2], sent["apart"][60:])
        np.testing.assert_array_equal(images[f"woven {index}"], sent["woven"])
        np.testing.assert_array_equal(images[f"one {index}"], sent["one"])


def test_the_range_is_what_the_format_says_or_the_user(scenario: Scenario, tmp_path: Path) -> None:
    scenario("levels")
    images = np.load(tmp_path / "images.npz")
    stretched = np.rint(np.clip((np.arange(256) - 16) / 219, 0, 1) * 255)
    sent = pattern("GREY", 0)
    for name in images:
        quantization, asked = name.split()
        limited = asked == "limited" or (asked == "auto" and quantization == "2")
        np.testing.assert_array_equal(images[name], stretched[sent] if limited else sent)


def test_inputs_standards_and_timings_reach_the_driver(scenario: Scenario, tmp_path: Path) -> None:
    seen = scenario("signals")
    assert seen["by name"] == ["S_INPUT S-Video", "S_STD PAL"]
    assert seen["by number"] == ["S_INPUT HDMI", "S_DV_TIMINGS 1920x1080 148500000"]
    assert seen["interlaced"] == ["S_DV_TIMINGS 720x576 13500000"]
    assert seen["found"] == ["S_DV_TIMINGS 1920x1080 148500000"]
    for name, kind, words in (
        ("no input", "UsageError", "no input '5'; it has: Camera 1 (0), S-Video (1), HDMI (2)"),
        ("no standard", "UsageError", "no standard 'SECAM' at this input; it has: PAL, NTSC"),
        ("no timings", "UsageError", "no timings '640x480p60'; it has: 1920x1080p60, 720x576i50, auto"),
        ("no signal", "SourceError", "finds no signal at this input"),
    ):
        assert seen[name][0] == kind
        assert words in seen[name][1]
    listed = seen["listed"]
    assert listed[0] == f"{tmp_path / 'video42'}  Fake CLE Camera"
    assert "    format=Y16&size=640x480 at 15 frames/s" in listed
    assert listed[-3:] == [
        "    input: Camera 1, S-Video, HDMI",
        "    standard: PAL, NTSC",
        "    timings: 1920x1080p60, 720x576i50",
    ]


def test_the_deepest_gray_that_is_fast_enough_is_chosen(scenario: Scenario) -> None:
    """At 640x480 the fake camera gives two bytes a pixel at 15 frames/s only."""
    seen = scenario("choice")
    assert seen == [
        ["MJPG,YUYV,GREY,Y10,Y16", None, "S_FMT Y16 640x480", 15, [480, 640]],
        ["GREY,Y12,Y10", None, "S_FMT Y12 640x480", 15, [480, 640]],
        ["MJPG,YUYV,NV12", None, "S_FMT NV12 640x480", 30, [480, 640]],
        ["MJPG,YUYV", None, "S_FMT MJPG 640x480", 30, [480, 640]],
        ["YUYV", None, "S_FMT YUYV 640x480", 15, [480, 640]],
        ["GREY,Y16", 60, "S_FMT GREY 640x480", 60, [480, 640]],
        ["GREY,Y16", 15, "S_FMT Y16 640x480", 15, [480, 640]],
    ]


def steps(numbers: Sequence[int]) -> list[int]:
    return sorted(later - earlier for earlier, later in pairwise(numbers))


def test_numbers_and_times_are_the_drivers(scenario: Scenario) -> None:
    seen = scenario("counting")
    assert seen["first"] == list(range(8))
    began, ended = seen["span"]
    times = seen["times"]
    assert all(later - earlier == pytest.approx(1e9 / 30, abs=2000) for earlier, later in pairwise(times))
    assert began - 1e8 < times[0] < times[-1] <= ended
    assert steps([7, *seen["gap"]]) == [1] * 7 + [6]
    assert steps([2**32 - 6, *seen["wrapped"]]) == [1] * 5 + [11]
    assert all(before <= stamp <= after for before, stamp, after in seen["unstamped"])


def test_damaged_frames_are_told_and_a_stall_is_silence(scenario: Scenario) -> None:
    seen = scenario("damage")
    for kind, reason in (("marked", "marked the frame as damaged"), ("holed", "does not decode")):
        found = seen[kind]
        assert [number for number, _ in found] == list(range(1, 8))
        told = [text for _, text in found if text]
        assert len(told) == 1
        assert reason in told[0]
    assert seen["stalled"]
    assert seen["resumed"][0] >= 8


def test_controls_reach_the_driver(scenario: Scenario) -> None:
    exposure, lines, white, by_name = scenario("controls")
    assert sorted(exposure[:2]) == ["S_CTRL Auto Exposure = 1", "S_CTRL Gain, Automatic = 0"]
    assert exposure[2:] == ["S_CTRL Exposure Time, Absolute = 200", "S_CTRL Gain = 10"]
    assert lines == ["S_CTRL Power Line Frequency = 2", "S_CTRL Brightness = -5"]
    assert white == ["S_CTRL White Balance, Automatic = 0", "S_CTRL White Balance Temperature = 5000"]
    assert by_name == ["S_CTRL Auto Exposure = 1", "S_CTRL Exposure Time, Absolute = 33"]


def test_controls_are_set_while_frames_come(scenario: Scenario) -> None:
    seen = scenario("adjusted")
    assert [line for line in seen["live"] if "Auto" not in line] == [
        "S_CTRL Exposure Time, Absolute = 123",
        "S_CTRL Gain = 7",
    ]
    zoom, gain, away = seen["refused"]
    assert zoom[0] == gain[0] == "UsageError"
    assert "no control 'zoom'; it has: " in zoom[1]
    assert "gain=101 is not in the camera's range" in gain[1]
    assert away[0] == "SourceError"
    assert "is away; set its gain when it is back" in away[1]
    assert {"S_CTRL Exposure Time, Absolute = 123", "S_CTRL Gain = 7"} <= set(seen["again"])
    exposure, gain, zoom, away = seen["lacks"]
    assert exposure == gain == away == "", "that it is away is not that it has none"
    assert "no control 'zoom'; it has: " in zoom
    assert ", gain, " in zoom


def test_unplugging_is_survived(scenario: Scenario) -> None:
    seen = scenario("unplugged")
    count = [*seen["before"]]
    for index, back in enumerate(seen["returns"]):
        assert back["node"] is False
        assert back["released"] == back["open"] == index + 1  # no descriptor or mapping was kept
        assert back["silent"]
        assert back["told"] == [[False, False], [True, False]]  # an outage of unknown number
        assert back["restarts"] == index + 1
        assert back["seconds"] < 2
        assert "S_FMT Y12 160x120" in back["log"]
        assert "S_PARM 60" in back["log"]
        assert back["log"].index("S_CTRL Auto Exposure = 1") < back["log"].index(
            "S_CTRL Exposure Time, Absolute = 77"
        )
        count += back["after"]
    assert all(later > earlier for earlier, later in pairwise(count))
    assert seen["shape"] == [[120, 160]]


@pytest.mark.slow
def test_a_hundred_times_away_it_is_back_within_two_seconds(scenario: Scenario) -> None:
    seen = scenario("cycled", seconds=280, CYCLES="100")
    print(f"back after {np.median(seen['seconds']):.2f} s, at most {max(seen['seconds']):.2f} s")
    assert len(seen["seconds"]) == 100
    assert max(seen["seconds"]) < 2
    assert all(later > earlier for earlier, later in pairwise(seen["numbers"]))
    before, held = seen["descriptors"]
    assert len(held) == len(before)
    assert seen["threads"] == 1


def test_an_absent_camera_is_looked_for_four_times_a_second(scenario: Scenario) -> None:
    seen = scenario("probing")
    assert seen["absent"]
    assert seen["waited"] == 3_000_000_000
    assert max(seen["steps"]) == 250_000_000
    assert 12 <= len(seen["steps"]) <= 14
    assert seen["still"]
    assert seen["back"]
    kind, message = seen["other"]
    assert kind == "SourceError"
    assert "another camera came back" in message
    assert "it offers: YUYV" in message


def test_what_cannot_be_opened_says_why(scenario: Scenario, tmp_path: Path) -> None:
    seen = scenario("refusals")
    device = tmp_path / "video42"
    errors = {
        "busy open": ("SourceError", f"{device} is in use by another program; close that first"),
        "busy S_FMT": ("SourceError", f"{device} is in use by another program"),
        "busy REQBUFS": ("SourceError", f"{device} is in use by another program"),
        "busy STREAMON": ("SourceError", f"{device} is in use by another program"),
        "metadata": ("SourceError", f"{device} is no camera, which clesr cannot read; no camera was found"),
        "deny": ("SourceError", "usermod -aG video"),
        "absent": ("SourceError", f"does not exist; cameras found: {device} (Fake CLE Camera)"),
        "text": ("SourceError", "is not a video device; cameras found:"),
        "null": ("SourceError", "/dev/null is not a video device"),
        "folder": ("SourceError", "/dev is not a video device"),
        "size": ("UsageError", "161x120 in GREY; it offers: 160x120, 320x240, 640x480"),
        "fps": ("UsageError", "25 frames/s at 160x120 in GREY; it offers: 15, 30, 60"),
        "no such format": ("UsageError", "give one of Y16, Y16_BE, Y14, Y12, Y12P, Y10, Y10P, GREY, NV12"),
        "control": ("UsageError", "no control 'zoom'; it has: auto_exposure, brightness, exposure, "),
        "range": ("UsageError", "gain=101 is not in the camera's range; give a whole number from 0 to 100"),
        "text value": ("UsageError", "exposure=long is not in the camera's range"),
        "menu": ("UsageError", "give one of 'Manual Mode' (1), 'Aperture Priority Mode' (3)"),
        "switch": ("UsageError", "white_balance_automatic=maybe is neither on nor off"),
        "inactive": ("SourceError", "Permission denied; if an automatic is in charge of it, switch that off"),
        "format not offered": ("UsageError", "does not offer GREY; it offers: YUYV, MJPG"),
        "no format": ("SourceError", "offers no pixel format that clesr reads"),
        "nothing plugged in": ("SourceError", f"{device} does not exist; no camera was found"),
    }
    assert seen["errors"].keys() == errors.keys()
    for name, (kind, part) in errors.items():
        found, message = seen["errors"][name]
        assert found == kind, (name, message)
        assert part in message, name
        assert "\n" not in message
    before, after = seen["descriptors"]
    assert after == before


def test_close_ends_a_waiting_read(scenario: Scenario) -> None:
    seen = scenario("closing")
    assert max(seen["seconds"]) < 1
    assert seen["opened"] == seen["released"] == 2


def test_a_second_at_60_frames_without_loss(scenario: Scenario) -> None:
    seen = scenario("steady")
    assert seen["numbers"] == list(range(61))
    assert seen["times"][-1] - seen["times"][0] == pytest.approx(1e9, abs=1e6)
