"""`clesr replay`: a session through the live path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.core import ParameterSource

from clesr.tools.commands.live import live

if TYPE_CHECKING:
    from clesr.pipeline.session.format import SessionInfo


def settings_of(info: SessionInfo) -> dict[str, Any]:
    """The options of `clesr live` with which the session was recorded."""
    from clesr.pipeline.session.manifest import recorded_settings

    settings = recorded_settings(info)
    return {
        "scale": str(info.scale),
        "model": settings.model or info.model or "auto",
        "roi": settings.roi,
        "window": settings.window or "auto",
        "denoise": "auto" if settings.denoise is None else str(settings.denoise),
        "temporal": settings.temporal,
        "consistent": bool(settings.consistent),
        "pixel_size": info.pixel_um,
    }


@click.pass_context
def _replay(context: click.Context, /, session: str, **options: Any) -> None:
    """Play SESSION through the live path, at the pace at which it was captured.

    Takes the options of `clesr live`. Scale, model, region of interest and intensity window are those of the
    session where they are not given.

    Examples:

    - `clesr replay examination`
    - `clesr replay examination --scale 2 --model fast --pace max --display none --output again.mkv`
    """
    from clesr.pipeline.session.reader import read_session

    recorded = settings_of(read_session(Path(session)).info)
    given = {
        name: recorded[name]
        for name in recorded
        if context.get_parameter_source(name) is ParameterSource.DEFAULT and recorded[name] is not None
    }
    context.invoke(live, source=(session,), **(options | given))


replay = click.command(name="replay")(_replay)
replay.panels = live.panels
replay.params += [parameter for parameter in live.params if parameter.name != "source"]
replay.params.insert(0, click.Argument(["session"], metavar="SESSION"))
