"""`clesr demo`: the live path on a simulated endomicroscope, and a picture of what it does."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clesr.engines.common.errors import WHY, told_as
from clesr.engines.common.files import MOST_NUMBERS
from clesr.pipeline.settings import LiveSettings, overwriting, setting
from clesr.tools.common.options import command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)
ADDRESS = "demo:?size=256&fps=25&seed=3"
NAME = "demo"
SCALE = 4
CROP = 56  # LR pixels a side of the part that the picture shows enlarged
PANEL = 448  # pixels a side of a panel
BAR = 40  # height of the captions


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """How long, and where to."""

    output: str | None = setting(
        None, "Where the files go.  [default: demo, or demo-2 and so on]", "FOLDER", names=("-o",)
    )
    seconds: float = setting(10.0, "Length of the run.", "S")
    overwrite: bool = overwriting()


@command(DemoOptions)
def demo(options: DemoOptions) -> None:
    """Run the live path for ten seconds on a simulated endomicroscope and write what came out.

    Writes demo.mp4 (the up-scaled video), summary.json (frames by outcome, rate, latency) and demo.png (input,
    bicubic, clesr and the ground truth of one frame side by side).
    """
    from clesr.engines.common.errors import SinkError
    from clesr.engines.common.files import WriteRule, write_file
    from clesr.engines.common.png import png_bytes
    from clesr.pipeline.sinks.registry import open_sink
    from clesr.pipeline.sources.registry import open_source
    from clesr.tools.live_run import Stream, run_live

    folder = Path(options.output or (NAME if options.overwrite else _free_name()))
    with told_as(SinkError, f"the folder {folder} cannot be made: {WHY}"):
        folder.mkdir(parents=True, exist_ok=True)
    rule, picture = WriteRule(options.overwrite), folder / "demo.png"
    rule.check_all(folder / "demo.mp4", folder / "summary.json", picture)
    settings = LiveSettings(
        source=ADDRESS,
        scale=SCALE,
        model="fast",
        display="none",
        seconds=options.seconds,
        summary=str(folder / "summary.json"),
        overwrite=options.overwrite,
    )
    source = open_source(ADDRESS)
    video = open_sink(str(folder / "demo.mp4"), codec="h264", fps=source.info.fps, rule=rule)
    run_live([settings], [Stream(settings, source, [video])])
    log.info(f"wrote {folder / 'summary.json'}")
    write_file(picture, png_bytes(draw()), rule)
    log.info(f"wrote {picture}: input, bicubic, clesr and ground truth of one frame")


def _free_name() -> str:
    """``demo``, or with a number where that is taken, so that a second run needs no option."""
    numbered = (f"{NAME}-{number}" for number in range(2, MOST_NUMBERS))
    return next((name for name in (NAME, *numbered) if not os.path.lexists(name)), NAME)


def draw() -> NDArray[np.uint8]:
    """The picture: (BAR + PANEL, 4 * PANEL + gaps) uint8."""
    import cv2
    import numpy as np

    from clesr.engines.common.resample import quantise, resize
    from clesr.engines.upscaler import upscale
    from clesr.pipeline.frame import Frame
    from clesr.pipeline.sources.simulator.demo import DemoSource

    source = DemoSource(f"{ADDRESS}&pace=max")
    frame = source.read(1.0)
    assert isinstance(frame, Frame)
    lr = frame.image
    sr = upscale(lr, SCALE, "fast")
    truth = source.truth(frame.number, SCALE)
    source.close()
    bicubic = quantise(resize(lr, *sr.shape), lr.dtype)
    nearest = np.repeat(np.repeat(lr, SCALE, 0), SCALE, 1)
    y, x = (n * SCALE // 2 - CROP * SCALE // 2 for n in lr.shape)
    side = CROP * SCALE
    panels = {"measured": nearest, "bicubic x4": bicubic, "clesr fast x4": sr, "ground truth": truth}
    gap = np.full((BAR + PANEL, 8), 255, np.uint8)
    columns = []
    for caption, image in panels.items():
        part = cv2.resize(image[y : y + side, x : x + side], (PANEL, PANEL), interpolation=cv2.INTER_NEAREST)
        head = np.full((BAR, PANEL), 255, np.uint8)
        cv2.putText(head, caption, (4, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 30, 2, cv2.LINE_AA)
        columns += [np.vstack((head, part)), gap]
    return np.hstack(columns[:-1]).astype(np.uint8)
