"""`clesr render`: the SR images of a session again, from its raw frames."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import rich_click as click
from click.core import ParameterSource

from clesr.engines.common.errors import UsageError
from clesr.pipeline.settings import PANELS, EngineSettings, setting
from clesr.tools.common.options import command
from clesr.tools.common.signals import INTERRUPTED


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderSettings(EngineSettings):
    """`clesr render`: what is not given is the session's."""

    model: str = setting(
        "auto", panel="Up-scaling", metavar="NAME|FILE", help="Another model, name or file; with --output."
    )
    output: str | None = setting(None, "Write a new session with the images.", "NEW", names=("-o",))


@command(RenderSettings, panels=PANELS)
@click.argument("folder", metavar="SESSION", type=click.Path(path_type=Path))
@click.pass_context
def render(context: click.RichContext, options: RenderSettings, folder: Path) -> int:
    """Make the up-scaled images of SESSION again from its raw frames, with the model and settings that it states.

    Without --output they are compared with the recorded ones, frame by frame: exit status 1 where one differs by
    more than 1 grey level (of 8 bits) on average. With --output they go into a new session, where model and scale
    may be others.

    Examples:

    - `clesr render examination`
    - `clesr render examination --model densenet --scale 4 -o examination-densenet`
    """
    from clesr.pipeline.session.reader import read_session
    from clesr.tools.render_run import RecordedEngine, compare, write_session

    session = read_session(folder)
    given = {
        each.name: getattr(options, each.name)
        for each in fields(EngineSettings)
        if context.get_parameter_source(each.name) is not ParameterSource.DEFAULT
    }
    opener = RecordedEngine(session, given)
    if options.output is not None:
        return INTERRUPTED if write_session(session, Path(options.output), opener) else 0
    if not opener.same_model:
        info = session.info
        raise UsageError(
            f"{folder} was made by {info.model} x{info.scale} ({info.model_hash[:12]}), not by {opener.model} "
            f"x{opener.scale}; write the images of another model into a new session with --output"
        )
    compare(session, opener)
    return 0
