"""`clesr live`: up-scale while the examination runs."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import rich_click as click
from click.core import ParameterSource

from clesr.engines.common.errors import WHY, SourceError, UsageError, told_as
from clesr.engines.common.text import presentable
from clesr.pipeline.settings import PANELS, LiveSettings, option_name
from clesr.tools.common.naming import name_streams, spread, spread_several
from clesr.tools.common.options import CONTEXT, make_settings, per_stream, settings_options
from clesr.tools.common.windows import close_windows, open_windows


def _list_cameras(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    """Print the cameras of this machine, and end."""
    if not wanted:
        return
    if context.get_parameter_source("list_cameras") is not ParameterSource.COMMANDLINE:
        raise UsageError("list_cameras is no setting; give --list-cameras on the command line")
    with told_as(SourceError, f"cameras need linuxpy, which is for Linux only ({WHY})", ImportError):
        from clesr.pipeline.sources.v4l2.listing import camera_lines
    found = [presentable(line) for line in camera_lines()]
    click.echo("\n".join(found) or "no camera was found; is it plugged in?")
    context.exit()


@click.command(context_settings=CONTEXT)
@click.option(
    "--list-cameras",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_cameras,
    help="Show the cameras of this machine and what each offers, and end.",
)
@settings_options(LiveSettings, panels=PANELS)
def live(**options: Any) -> None:
    """Up-scale live: a camera, a recording or a network stream to a window, a video file or the network.

    Live sources never wait: frames that the engine cannot take in time are counted as stale. Recorded input
    loses nothing: on a slow machine it plays later than its own pace. Ctrl-C finishes what was
    captured and ends; twice stops at once.

    With --source given more than once each stream has its own outcomes, latency, outputs and window; one that
    ends or breaks does not stop the others.

    Examples:

    - `clesr-live --source /dev/video0`
    - `clesr-live --source /dev/video0 --record examination --pixel-size 1.2`
    - `clesr-live --source /dev/video0 --record findings --retro 20`
    - `clesr-live --source '/dev/video0?format=GREY&exposure=200' --scale 2`
    - `clesr-live --source recording.mpeg --roi 160,200,256,256 --output sr.mkv`
    - `clesr-live --source 'demo:?fps=12&size=256' --display none --seconds 10 --output demo.mp4`
    - `clesr-live --source zmq+tcp://scanner:5555 --send 'zmq+tcp://*:5556' --display none`
    - `clesr-live --source /dev/video0 --send 'igtl://*:18944' --send 'zmq+tcp://*:5556'`
    - `clesr-live --source /dev/video0 --control zmq+tcp://127.0.0.1:5557`
    - `clesr-live --source left=/dev/video0 --source right=/dev/video2 --output '{stream}.mkv'`
    """
    all_settings = settings_of_streams(options)
    places = open_windows(all_settings)  # before all that takes its time
    try:
        from clesr.tools.live_run import run_live

        run_live(all_settings, write_dicom=_write_dicom, places=places)
    finally:
        close_windows(places)


def _write_dicom(*still: Any) -> list[Path]:
    from clesr.tools.export.still_dicom import write_dicom

    return write_dicom(*still)


def settings_of_streams(options: dict[str, Any]) -> list[LiveSettings]:
    """The settings of each stream; raises UsageError where names, values or their numbers do not fit."""
    streams = name_streams(options["source"])
    outputs = [name for name in per_stream(LiveSettings) if name != "source"]
    several = [each.name for each in fields(LiveSettings) if each.default == ()]
    own = [
        (spread_several if name in several else spread)(option_name(name), options[name], list(streams))
        for name in outputs
    ]
    return [
        make_settings(
            LiveSettings,
            options | dict(zip(outputs, values, strict=True)) | {"stream": name, "source": address},
        )
        for (name, address), *values in zip(streams.items(), *own, strict=True)
    ]
