"""The commands `clesr` and `clesr-live`."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import traceback
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
from clesr.engines.common.registry import Registry
from clesr.engines.common.text import conceal
from clesr.pipeline.watchdog import left_behind
from clesr.tools.common.console import speak_json, user_logging
from clesr.tools.common.options import check_options, read_toml
from clesr.tools.common.signals import interruptible
from clesr.tools.common.stderr import stderr, wants_json

log = logging.getLogger(__name__)
PREFIX = "CLESR"
KEYS = "keys"  # a command, and in settings the table of what keys do
UNPRINTED = "what was printed could not be written"
HELP = {  # the first sentence of each command's own help, which then need not be loaded for the list of commands
    "live": "Up-scale live: a camera, a recording or a network stream to a window, a video file or the network.",
    "upscale": "Up-scale recorded files: every frame, at its own time.",
    "export": "Write SESSION, or a plain recording, for other programs.",
    "mosaic": "Join the frames of a recording into a map as they were seen along the way.",
    "replay": "Play SESSION through the live path, at the pace at which it was captured.",
    "verify": "Check that nothing in SESSION was lost or changed, and print its certificate of completeness.",
    "render": "Make the up-scaled images of SESSION again from its raw frames, with the model and settings that it "
    "states.",
    "repair": "Close SESSION, whose recording was cut off by a crash or a power cut.",
    "info": "Show what PATH is: a session folder, a weights file, or a recording that clesr can read.",
    "train": "Train a network on your own images, and go on where an interrupted run stopped.",
    "evaluate": "Measure methods on images whose truth is known: shrink each, up-scale it, compare.",
    "models": "List the models that ship with clesr, or describe one weights FILE.",
    "control": "Do ACTION in a running clesr-live, or show what can be done and how it stands.",
    "calibrate": "Measure the fibre cores of a probe on a flat field, SOURCE, so that their pattern can be removed.",
    "keys": "Make a key pair, NAME.key and NAME.key_secret, by which ZeroMQ encrypts.",
    "build": "Compile TensorRT engines for MODELs (shipped names or .safetensors files; densenet if none is given).",
    "export-model": "Write MODEL (a shipped name or a .safetensors file) as ONNX.",
    "bench": "Measure the engines side by side: does this machine hold video rate, and for how many streams?",
    "doctor": "Say what this machine has, which engine would run and why, and what to install.",
    "demo": "Run the live path for ten seconds on a simulated endomicroscope and write what came out.",
}
FOREIGN_HELP = "From another package; `clesr COMMAND --help` tells more."
COMMANDS: Registry[click.Command] = Registry(
    "clesr.commands",
    {name: f"clesr.tools.commands.{name.replace('-', '_')}:{name.replace('-', '_')}" for name in HELP},
)

click.rich_click.TEXT_MARKUP = "markdown"
click.rich_click.MAX_WIDTH = 110


class Commands(click.RichGroup):
    """Those of COMMANDS, of which only the one that is run is loaded."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The name and its line of help, for lists."""
        if cmd_name not in COMMANDS:
            return None
        return click.RichCommand(name=cmd_name, short_help=HELP.get(cmd_name, FOREIGN_HELP))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, found, rest = super().resolve_command(ctx, args)
        return name, found and COMMANDS[name or ""], rest


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="clesr")
def clesr() -> None:
    """Live super-resolution for confocal laser endomicroscopy.

    Research use only; not a medical device.

    Settings come from the command line, then the environment (`CLESR_LIVE_SCALE=2` is `--scale 2` of `clesr live`),
    then a TOML file: `--config FILE` before the command's other options, or the user's own file, with a table for
    each command, such as `[live]` with `scale = 2`.
    """


def main() -> None:
    """Entry point of `clesr`."""
    _run(clesr, "clesr", PREFIX)


def live_main() -> None:
    """Entry point of `clesr-live`: the same as `clesr live`."""
    _run(COMMANDS["live"], "clesr-live", f"{PREFIX}_LIVE")


def _run(command: click.Command, name: str, prefix: str) -> None:
    try:
        with user_logging(), interruptible() as signals:
            if wants_json(sys.argv[1:], os.environ, name):
                speak_json()
            code = _status(command, name, prefix, signals)
            if not _flush_output():
                code = code or 1
    except KeyboardInterrupt:  # while the end was being said
        code = 130
    stderr.settle()
    stderr.silence()
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
    except (Abort, KeyboardInterrupt):
        return _failed("interrupted", 128 + (signals[-1] if signals else signal.SIGINT), debug)
    except BrokenPipeError:
        return 1  # who reads what is printed has enough
    except SystemExit as end:  # of a library
        return end.code if isinstance(end.code, int) else 1
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told in one line
        if signals:  # some libraries make other errors of an interrupt while they are imported
            return _failed("interrupted", 128 + signals[-1], debug)
        return _tell_error(error, debug)
    return code if isinstance(code, int) else 0


def _tell_error(error: Exception, debug: bool) -> int:
    """Say what went wrong in one line; the exit status."""
    if isinstance(error, ClesrError):
        return _failed(str(error), error.exit_code, debug)
    if isinstance(error, ClickException):
        return _failed(" ".join(error.format_message().split()), error.exit_code, debug)
    if isinstance(error, OSError) and (_is_of_output(error) or not _flush_output()):
        return 1
    words = f"unexpected {type(error).__name__}: {error}; run again with --debug to see where"
    return _failed(words, 1, debug)


def _is_of_output(error: OSError) -> bool:
    """Say so where ``error`` came from printing: what is long is written, or lost, before anybody flushes. Errors of
    clesr's own files have names, and classes of clesr."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO) or error.filename is not None:
        return False
    log.error(f"clesr: error: {UNPRINTED}: {error.strerror}")
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
            log.error(f"clesr: error: {UNPRINTED}: {error.strerror or error}")
            return False
    return True


def _failed(message: str, code: int, debug: bool) -> int:
    if debug and sys.exc_info()[0] is not None:
        for line in traceback.format_exc().splitlines():
            log.error(f"  {line}")
    log.error(f"clesr: error: {message}")
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
    if path is None:
        with suppress(RuntimeError):  # the user has no home folder, as those of services may have none
            own = Path(platformdirs.user_config_dir("clesr"), "config.toml")
            path = str(own) if own.is_file() else None
    return rest, {} if path is None else read_config(Path(path))


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a TOML file: a table for each command, checked against the command's options.

    No output may replace it from now on. Raises UsageError for a file that is missing or not TOML, and for a command or
    option that is unknown.
    """
    keep(path)
    settings, keys = read_toml(path, "the settings file"), list[str]()
    checked: dict[str, Any] = {}
    for name, table in settings.items():
        if name == KEYS and isinstance(table, dict):
            table, keys = _split_keys(table, str(path))
        if name not in COMMANDS or not isinstance(table, dict):
            raise UsageError(f"{path}: {shortened(name, 80)} is no command; tables are {', '.join(COMMANDS)}")
        checked[name] = check_options(table, COMMANDS[name], f"{path}: [{name}]")
    if keys:
        live = checked.setdefault("live", {})
        live["key"] = [*live.get("key", ()), *keys]
    return checked


def _split_keys(table: dict[str, Any], path: str) -> tuple[dict[str, Any], list[str]]:
    """Of the table ``keys`` what is for the command of that name, and what gives keys to actions, as --key has it."""
    own = {parameter.name for parameter in COMMANDS[KEYS].params}
    keys = {name: key for name, key in table.items() if name.replace("-", "_") not in own}
    for name, key in keys.items():
        if not isinstance(key, str):
            raise UsageError(
                f'{path}: [{KEYS}]: {shortened(name, 80)} is {shortened(str(key), 80)}; give a key, such as "s"'
            )
    return {name: value for name, value in table.items() if name not in keys}, [
        f"{name}={key}" for name, key in keys.items()
    ]
