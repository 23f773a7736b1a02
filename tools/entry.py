"""Where the commands `clesr` and `clesr-live` begin: what must hold while everything else is still being imported."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys

from clesr.tools.common.signals import STOPPING, end_process, on_signals
from clesr.tools.common.stderr import stderr, wants_json


def main() -> None:
    """`clesr`."""
    _enter("main")


def live_main() -> None:
    """`clesr-live`."""
    _enter("live_main")


def _enter(name: str) -> None:
    keep_standard_descriptors()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may know fewer characters than we use
    stderr.speaks_json = wants_json(
        sys.argv[1:], os.environ, "clesr-live" if name == "live_main" else "clesr"
    )
    toggling = [signal.SIGUSR1] if name == "live_main" or sys.argv[1:2] == ["live"] else []
    with on_signals(_too_early, toggling):
        # Nothing is open yet; libraries turn a KeyboardInterrupt into other errors.
        with on_signals(end_process):
            from clesr.tools import cli
        try:
            getattr(cli, name)()
        finally:
            # The process has ended already, and its exit status stands.
            for number in STOPPING:
                signal.signal(number, signal.SIG_IGN)


def _too_early(_number: int) -> None:
    stderr.write("no recording began or ended by SIGUSR1: that is possible while the live view runs\n")


def keep_standard_descriptors() -> None:
    """Where a standard descriptor is closed, the next file that is opened would get its number, and what some library
    writes on standard error would stand in a recording."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
