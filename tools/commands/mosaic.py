"""`clesr mosaic`: a map from a recording."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from clesr.pipeline.settings import PANELS, MosaicSettings
from clesr.tools.common.options import command, given_options
from clesr.tools.common.signals import INTERRUPTED


@command(MosaicSettings, panels=PANELS)
@click.argument("recording", type=click.Path(path_type=Path))
@click.pass_context
def mosaic(context: click.RichContext, options: MosaicSettings, recording: Path) -> int:
    """Join the frames of a recording into a map as they were seen along the way.

    RECORDING is a session, whose up-scaled images are taken as they are, or whatever `clesr upscale` reads, which is
    up-scaled first. Where the probe jumped to other tissue a new map begins, in a file of its own: NAME.2.ome.tif and
    so on. Each has the list of its frames in it, with their places.

    Examples:

    - `clesr mosaic examination -o map.ome.tif`
    - `clesr mosaic recording.mpeg --scale 2 --pixel-size 1.2 -o map.ome.tif`
    """
    from clesr.tools.mosaic_run import draw_recording

    return INTERRUPTED if draw_recording(recording, options, given_options(context)) else 0
