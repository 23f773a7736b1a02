"""`clesr doctor`: what this machine has, what would run on it, what to install."""

from __future__ import annotations

import rich_click as click

from clesr.tools.common.options import settings_options


@click.command()
@settings_options()
def doctor() -> None:
    """Say what this machine has, which engine would run and why, and what to install."""
    from clesr.tools.doctor_report import report

    for line in report():
        print(line)
