"""The commands `clesr` and `clesr-live`."""

from __future__ import annotations

import errno
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs
import rich_click as click
from click.exceptions import Abort, ClickException

from clesr import __version__
from clesr.engines.common.errors import ClesrError, UsageError
from clesr.engines.common.files import keep
from clesr.engines.common.numbers import shortened
from clesr.engines.common.text import conceal
from clesr.pipeline.watchdog import left_behind
from clesr.tools.commands.bench import bench
from clesr.tools.commands.build import build
from clesr.tools.commands.demo import demo
from clesr.tools.commands.doctor import doctor
from clesr.tools.commands.evaluate import evaluate
from clesr.tools.commands.export import export
from clesr.tools.commands.export_model import export_model
from clesr.tools.commands.info import info
from clesr.tools.commands.live import live
from clesr.tools.commands.models import models
from clesr.tools.commands.render import render
from clesr.tools.commands.repair import repair_session
from clesr.tools.commands.replay import replay
from clesr.tools.commands.train import train
from clesr.tools.commands.upscale import upscale
from clesr.tools.commands.verify import verify_session
from clesr.tools.console import tell, tell_traceback
from clesr.tools.settings_file import check_options, read_toml
from clesr.tools.signals import interruptible
from clesr.tools.stderr import stderr

PREFIX = "CLESR"
UNPRINTED = "what was printed could not be written"


click.rich_click.TEXT_MARKUP = "markdown"
click.rich_click.MAX_WIDTH = 110


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="clesr")
def clesr() -> None:
    """Live super-resolution for confocal laser endomicroscopy.

    Research use only; not a medical device.

    Settings come from the command line, then the environment (`CLESR_LIVE_SCALE=2` is `--scale 2` of `clesr live`),
    then a TOML file: `--config FILE` before the command's other options, or the user's own file, with a table for
    each command, such as `[live]` with `scale = 2`.
    """


for command in (
    live, upscale, export, replay, verify_session, render, repair_session, info, train, evaluate, models, build,
    export_model, bench, doctor, demo,
):  # fmt: skip
    clesr.add_command(command)


def main() -> None:
    """Entry point of `clesr`."""
    _run(clesr, "clesr", PREFIX)


def live_main() -> None:
    """Entry point of `clesr-live`: the same as `clesr live`."""
    _run(live, "clesr-live", f"{PREFIX}_LIVE")


def _run(command: click.Command, name: str, prefix: str) -> None:
    try:
        with interruptible() as signals:
            code = _status(command, name, prefix, signals)
            if not _flush_output():
                code = code or 1
    except KeyboardInterrupt:  # while the end was being said
        code = 130
    stderr.settle()
    if any(thread.is_alive() for thread in left_behind):
        os._exit(code)  # the interpreter's own end would wait for them, or crash under them
    sys.exit(code)


def _status(command: click.Command, name: str, prefix: str, signals: list[int]) -> int:
    """Run ``command``; its exit status. What goes wrong is told."""
    arguments = sys.argv[1:]
    conceal(*arguments, *(value for name, value in os.environ.items() if name.startswith(PREFIX)))
    debug = "--debug" in arguments
    try:
        arguments, settings = _take_config(arguments)
        defaults = settings if command is clesr else settings.get("live", {})
        code = command.main(
            arguments, prog_name=name, standalone_mode=False, auto_envvar_prefix=prefix, default_map=defaults
        )
    except ClesrError as error:
        return _failed(str(error), error.exit_code, debug)
    except ClickException as error:
        return _failed(" ".join(error.format_message().split()), error.exit_code, debug)
    except (Abort, KeyboardInterrupt):
        return _failed("interrupted", 128 + (signals[-1] if signals else signal.SIGINT), debug)
    except BrokenPipeError:
        return 1  # who reads what is printed has enough
    except SystemExit as end:  # of a library
        return end.code if isinstance(end.code, int) else 1
    except Exception as error:  # noqa: BLE001 - a fault of clesr: one line, and the way to the traceback
        if isinstance(error, OSError) and (_is_of_output(error) or not _flush_output()):
            return 1
        words = f"unexpected {type(error).__name__}: {error}; run again with --debug to see where"
        return _failed(words, 1, debug)
    return code if isinstance(code, int) else 0


def _is_of_output(error: OSError) -> bool:
    """Say so where ``error`` came from printing: what is long is written, or lost, before anybody flushes. Errors of
    clesr's own files have names, and classes of clesr."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO) or error.filename is not None:
        return False
    tell(f"clesr: error: {UNPRINTED}: {error.strerror}")
    return True


def _flush_output() -> bool:
    """Write what was printed now, because a reader who has gone away would get a traceback at the interpreter's end.
    False where it is lost; who has gone away wanted no more."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            tell(f"clesr: error: {UNPRINTED}: {error.strerror or error}")
            return False
    return True


def _failed(message: str, code: int, debug: bool) -> int:
    if debug and sys.exc_info()[0] is not None:
        tell_traceback()
    tell(f"clesr: error: {message}")
    return code


def _take_config(arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    """``--config FILE`` out of ``arguments``, and what the file says."""
    rest, path = [], None
    words = iter(arguments)
    for word in words:
        if word == "--config":
            path = next(words, None)
            if path is None:
                raise UsageError("--config needs the path of a TOML file")
        elif word.startswith("--config="):
            path = word.partition("=")[2]
        else:
            rest.append(word)
    if path is not None:
        return rest, read_config(Path(path))
    own = _own_config()
    return rest, read_config(own) if own is not None and own.is_file() else {}


def _own_config() -> Path | None:
    """The user's settings file; None for a user without a home folder, as services may have none."""
    try:
        return Path(platformdirs.user_config_dir("clesr")) / "config.toml"
    except RuntimeError:
        return None


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a TOML file: a table for each command, checked against the command's options.

    No output may replace it from now on. Raises UsageError for a file that is missing or not TOML, and for a command or
    option that is unknown.
    """
    keep(path)
    settings = read_toml(path, "the settings file")
    checked: dict[str, Any] = {}
    for name, table in settings.items():
        command = clesr.commands.get(name)
        if command is None or not isinstance(table, dict):
            raise UsageError(
                f"{path}: {shortened(name, 80)} is no command; tables are {', '.join(clesr.commands)}"
            )
        checked[name] = check_options(table, command, f"{path}: [{name}]")
    return checked
