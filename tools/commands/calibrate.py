"""`clesr calibrate`: the fibre cores of a probe, measured on a flat field."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import rich_click as click

from clesr.engines.common.files import WriteRule
from clesr.pipeline.settings import ReadingSettings, overwriting, setting
from clesr.tools.common.options import command


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions(ReadingSettings):
    """What is measured, and where it goes."""

    output: str = setting(..., "The calibration of the probe.", "PROBE.cores", names=("-o",))
    frames: int = setting(
        25,
        "Take the mean of so many frames, or of all where there are fewer.",
        "N",
        minimum=1,
        maximum=10_000,
    )
    dead: float = setting(
        0.5,
        "Cores darker than this share of those around are dead: the image is interpolated across them.",
        "SHARE",
        minimum=0,
        maximum=0.95,
    )
    overwrite: bool = overwriting()


@command(CalibrateOptions)
@click.argument("source", metavar="SOURCE")
def calibrate(options: CalibrateOptions, source: str) -> None:
    """Measure the fibre cores of a probe on a flat field, SOURCE, so that their pattern can be removed.

    SOURCE is a camera, a video, an image or what else `clesr live` reads: sharp frames of the probe, held still before
    something evenly lit, such as a fluorescent plastic. `--cores PROBE.cores` of `clesr live` and `clesr upscale`
    then removes the pattern from frames of the same probe and camera.

    Examples:

    - `clesr calibrate /dev/video0 -o probe-12.cores`
    - `clesr calibrate flat-field.png -o probe-12.cores`
    """
    from clesr.pipeline.cores.calibration import save_cores
    from clesr.pipeline.cores.flat_field import FlatField
    from clesr.pipeline.sources.registry import open_source
    from clesr.tools.data.images import frames_of

    output, rule = Path(options.output), WriteRule.of(options.overwrite, source)
    rule.check(output)  # before the work begins
    flat = FlatField()
    with closing(open_source(source, pace="max", **options.reading())) as opened:
        for frame in islice(frames_of(opened), options.frames):
            flat.add(frame.image)
    found = flat.calibration(dead=options.dead, name=output.name)
    save_cores(output, found, rule)
    print(f"{output}: {found}; mean of {flat.frames} frame{'s' * (flat.frames > 1)}")
