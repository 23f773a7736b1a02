"""Scenes of a window in every state, for tests of what is drawn and said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from clesr.pipeline.display.view_state import Contrast, Mode, ViewState
from clesr.pipeline.frame import Fidelity, Frame, Outcome, Result, Times
from clesr.pipeline.sinks.window.scene import Scene
from clesr.pipeline.status import State, Status

COUNTS: Mapping[Outcome, int] = dict.fromkeys(Outcome, 0) | {Outcome.UPSCALED: 90, Outcome.LOST: 2}
LIVE = Status(
    state=State.RUNNING,
    source="/dev/video0",
    engine="openvino bf16 on a processor, fast x4",
    model="fast",
    captured=92,
    outcomes=COUNTS,
    fps=25.0,
    age_ns=41_000_000,
    period_ns=40_000_000,
    stalled=False,
)
RECORDING = replace(LIVE, recording=True, recording_s=187.0, disk_minutes=44.0)
STALLED = replace(LIVE, stalled=True, age_ns=12_340_000_000)
OLD = replace(LIVE, age_ns=121_000_000)
DEGRADED = replace(LIVE, state=State.DEGRADED, message="openvino raised: out of memory")
ALARM = replace(
    LIVE,
    alarm="the recording has ended: the disk is full",
    alarms=("the recording has ended: the disk is full",),
)


def action(name: str, text: str, key: str, group: str, missing: str = "") -> dict[str, Any]:
    """What `Controls.describe` tells of an action."""
    return {"name": name, "help": text, "group": group, "key": key, "missing": missing, "arguments": []}


LACKING = "no earlier frames are kept; --retro S keeps those of the last S seconds"
ACTIONS = tuple(
    action(*each)
    for each in [
        ("freeze", "Hold the image; again: back to the live one. Recording goes on.", "space", "View"),
        ("wipe", "Bicubic left of an edge, SR right of it.", "w", "View"),
        ("side", "Bicubic beside SR.", "2", "View"),
        ("bicubic", "The bicubic image alone.", "b", "View"),
        ("raw", "The image as it was captured.", "e", "View"),
        ("zoom", "Larger, smaller.", "+", "View"),
        ("fidelity", "Colour the image where it disagrees with what was measured.", "f", "Image"),
        ("contrast", "As it is, automatic, fixed, CLAHE: in turn.", "c", "Image"),
        ("look-up", "Other colours.", "p", "Image"),
        ("scale", "x2, x4, x8 in turn.", "x", "Engine"),
        ("model", "Another model.", "m", "Engine"),
        ("temporal", "Earlier frames help, or not.", "t", "Engine"),
        ("record", "Begin a recording, or end it.", "r", "Recording"),
        ("save-last", "Keep the last seconds.", "l", "Recording", LACKING),
        ("still", "Keep the raw, SR and bicubic image of this moment as 16-bit PNG.", "s", "Recording"),
        ("acknowledge", "The alarm was seen.", "a", "Recording"),
        ("note", "A note, for scripts.", "", "Recording"),
        ("hud", "Facts over the image, beside it, or hidden.", "h", "Window"),
        ("scale-bar", "A scale bar.", "u", "Window"),
        ("full-screen", "The whole screen.", "F11", "Window"),
        ("help", "This list.", "F1", "Window"),
        ("quit", "End; asks while a session is recorded.", "q", "Window"),
    ]
)


def result(side: int = 400, scale: int = 4, *, level: int | None = None, below: bool = False) -> Result:
    """An image of ``side`` pixels, of a smooth pattern or one ``level``; checked, with a tile ``below`` the limit."""
    smooth = cv2.GaussianBlur(np.random.default_rng(2).random((side // scale,) * 2), (0, 0), 2)
    levels = 255 * (smooth - smooth.min()) / max(float(np.ptp(smooth)), 1e-9)
    lr: NDArray[np.uint8] = np.asarray(levels if level is None else np.full_like(levels, level)).astype(
        np.uint8
    )
    image = np.asarray(cv2.resize(lr, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)
    check = Fidelity(46.2, None, 40.1 if below else 43.2, (0, 0), 41.0, lr)
    frame = Frame(lr, 7, 0)
    return Result(
        frame, lr, image, Outcome.UPSCALED, scale, Times(0, 0, 0, 0), "fast", 46.2, check, frames=3.4
    )


def failed(made: Result) -> Result:
    return replace(made, outcome=Outcome.FAILED, reason="the device is gone")


def damaged(made: Result) -> Result:
    return replace(made, frame=replace(made.frame, damaged=True))


LONG = "rtsp://camera.example.org/" + "very-long-name/" * 20 + "end.mkv"
BUSY = replace(
    ALARM, state=State.DEGRADED, message="out of memory", stalled=True, age_ns=10**12, recording=True,
    recording_s=100_000.0, disk_minutes=2.0, source=LONG, engine="an engine with a long name " * 6,
    switching="densenet x8", captured=10**9, damaged=7, pixel_um=1.2,
)  # fmt: skip
SCENES: dict[str, Callable[[Result], Scene]] = {
    "waiting": lambda _: Scene(None, replace(LIVE, age_ns=None, period_ns=None)),
    "live": lambda r: Scene(r, LIVE),
    "recording": lambda r: Scene(r, RECORDING, ViewState(said="3 files written to stills")),
    "unrecorded": lambda r: Scene(r, LIVE, unrecorded=True),
    "hidden": lambda r: Scene(r, RECORDING, ViewState(hud="off")),
    "beside": lambda r: Scene(r, RECORDING, ViewState(hud="beside", zoom=2.0, contrast=Contrast.AUTO)),
    "wipe": lambda r: Scene(
        r, replace(LIVE, pixel_um=1.2), ViewState(mode=Mode.WIPE, overlay=True, scale_bar=True)
    ),
    "side": lambda r: Scene(r, replace(LIVE, pixel_um=1.2), ViewState(mode=Mode.SIDE, scale_bar=True)),
    "raw beside": lambda r: Scene(r, LIVE, ViewState(mode=Mode.RAW_SIDE, hud="beside", lookup_table="fire")),
    "raw": lambda r: Scene(r, LIVE, ViewState(mode=Mode.RAW, hud="off")),
    "map": lambda r: Scene(r, LIVE, ViewState(mosaic=True), map=np.full((300, 160), 90, np.uint8)),
    "bicubic": lambda r: Scene(r, LIVE, ViewState(mode=Mode.BICUBIC)),
    "region": lambda r: Scene(r, LIVE, ViewState(region=(3, 4, 10, 8)), dragged=(0.5, 0.5, 0.7, 0.9)),
    "stalled": lambda r: Scene(r, STALLED),
    "old": lambda r: Scene(r, OLD, ViewState(hud="off", mode=Mode.WIPE)),
    "frozen": lambda r: Scene(r, LIVE, ViewState(frozen=True), 12_300_000_000),
    "frozen and stalled": lambda r: Scene(r, STALLED, ViewState(frozen=True, hud="beside"), 12_300_000_000),
    "degraded": lambda r: Scene(failed(r), DEGRADED, ViewState(hud="off")),
    "damaged": lambda r: Scene(damaged(r), LIVE),
    "alarm": lambda r: Scene(r, ALARM, actions=ACTIONS),
    "help": lambda r: Scene(r, LIVE, ViewState(help=True), actions=ACTIONS),
    "asking": lambda r: Scene(r, RECORDING, ViewState(asking="a session is being recorded; end it? q again")),
    "everything": lambda r: Scene(
        damaged(r), BUSY,
        ViewState(mode=Mode.WIPE, overlay=True, scale_bar=True, said="x" * 300, asking="sure? " * 40, frozen=True),
        10**9, actions=ACTIONS,
    ),
    "everything, hidden": lambda r: Scene(failed(r), BUSY, ViewState(mode=Mode.SIDE, hud="off", scale_bar=True)),
    "everything, beside": lambda r: Scene(r, BUSY, ViewState(mode=Mode.RAW, hud="beside", help=True), actions=ACTIONS),
}  # fmt: skip
