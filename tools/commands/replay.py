"""`clesr replay`: a session through the live path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.core import ParameterSource

from clesr.pipeline.settings import LiveSettings, Recorded
from clesr.tools.commands.live import live

if TYPE_CHECKING:
    from clesr.pipeline.session.format import SessionInfo


def settings_of(info: SessionInfo, settings: type = LiveSettings) -> dict[str, Any]:
    """The options of `clesr live`, those of ``settings``, with which the session was recorded."""
    from clesr.pipeline.session.manifest import recorded_values

    model = {"model": info.model or "auto"}
    found = model | recorded_values(info, settings, Recorded.REPLAYED)
    return found | {"scale": str(info.scale), "pixel_size": info.pixel_um}


@click.pass_context
def _replay(context: click.Context, /, session: str, **options: Any) -> None:
    """Play SESSION through the live path, at the pace at which it was captured.

    Takes the options of `clesr live`. Scale, model, region of interest, intensity window and what else decides the
    images are those of the session where they are not given.

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
