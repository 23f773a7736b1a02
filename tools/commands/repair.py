"""`clesr repair`: close a session that was cut off."""

from __future__ import annotations

import logging
from pathlib import Path

import rich_click as click

from clesr.tools.common.options import settings_options

log = logging.getLogger(__name__)


@click.command()
@click.argument("session", metavar="SESSION", type=click.Path(path_type=Path))
@settings_options()
def repair(session: Path) -> None:
    """Close SESSION, whose recording was cut off by a crash or a power cut.

    Says what is lost. The files as they were stay in SESSION/before-repair, which may be deleted when `clesr verify`
    has passed.
    """
    from clesr.pipeline.session.repair import repair as close_session

    for line in close_session(session):
        log.info(line)
