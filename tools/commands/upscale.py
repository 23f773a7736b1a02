"""`clesr upscale`: files and folders to files, every frame."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import rich_click as click

from clesr.engines.common.errors import UsageError
from clesr.pipeline.settings import PANELS, UpscaleSettings, option_name
from clesr.tools.common.options import command, given_options
from clesr.tools.common.signals import INTERRUPTED

CLUSTER = ("workers", "gpus")  # options that do nothing without one
ARCHIVE = ("cluster", *CLUSTER, "piece", "reread")


@command(UpscaleSettings, panels=PANELS)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.pass_context
def upscale(context: click.RichContext, settings: UpscaleSettings, inputs: tuple[str, ...]) -> int:
    """Up-scale recorded files: every frame, at its own time.

    INPUT is a video, a Cellvizio .mkt file, a TIFF stack, an image, or a folder of these. With a file name behind
    -o a folder of images becomes one video. A file gets its name only when it is whole; after Ctrl-C what was
    done so far is NAME.partial.SUFFIX.

    A folder with a folder behind -o is an archive: its tree of recordings and session folders is mirrored, as
    lossless FFV1 in .mkv by default. The same command goes on where it was stopped; what is finished stands in
    archive.jsonl there. `--cluster` shares the work among machines that see both folders under the same paths.

    Examples:

    - `clesr upscale recording.mpeg -o sr.mkv`
    - `clesr upscale archive/ -o sr/ --scale 2 --model densenet`
    - `clesr upscale archive/ -o sr/ --cluster local`
    - `clesr upscale still.png -o still_x8.png --scale 8`
    """
    from clesr.tools.upscale_run import is_archive, upscale_files

    paths, output = [Path(name) for name in inputs], Path(settings.output)
    given = {*given_options(context), *(["cluster"] if settings.cluster else [])}
    if is_archive(paths, output):
        from clesr.tools.archive.command import upscale_tree

        if "cluster" not in given:
            _refuse(given, CLUSTER, "is for a cluster; give --cluster too")
        return upscale_tree(paths[0], output, settings)
    _refuse(given, ARCHIVE, f"is for one folder of recordings, not for {', '.join(inputs)}; give the folder")
    return INTERRUPTED if upscale_files(paths, settings) else 0


def _refuse(given: Collection[str], names: tuple[str, ...], words: str) -> None:
    for name in names:
        if name in given:
            raise UsageError(f"{option_name(name)} {words}, or leave it out")
