"""Options of commands: from the fields of a settings dataclass (pipeline/settings.py), from TOML files, and those that
every command has."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, fields
from functools import partial, wraps
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar, cast

import rich_click as click
from click.core import ParameterSource
from click.types import BoolParamType, ParamType, StringParamType

from clesr.engines.common.errors import UsageError
from clesr.engines.common.limits import DEFAULT_SIDE, OPTION, parse_side, set_max_side
from clesr.engines.common.numbers import shortened
from clesr.engines.common.parsing import parse_toml, read_bounded, unreadable
from clesr.engines.common.text import conceal
from clesr.pipeline.settings import Option, check_values, option_name
from clesr.tools.common.console import speak_json
from clesr.tools.common.stderr import OPTION as LOG_OPTION

Command = TypeVar("Command", bound=Callable[..., Any])
T = TypeVar("T")
LARGEST = 1 << 16  # bytes of a settings file
CONTEXT = {"help_option_names": ["-h", "--help"]}  # of click
LEVELS = {"verbose": logging.DEBUG, "quiet": logging.WARNING}
NUMBERS: dict[str, type] = {"int": int, "float": float}


class Repeated(StringParamType):
    """The value of an option that may be given once a stream; in an environment variable, one a line."""

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        return [line for line in rv.splitlines() if line]


def command(
    settings: type, *, panels: Sequence[str] = (), **more: Any
) -> Callable[[Callable[..., Any]], click.Command]:
    """A function as a command with the options of the dataclass ``settings``: it gets the settings that they make, and
    by their names the command's arguments. ``panels`` are those of ``settings_options``, ``more`` is for click."""
    names = [each.name for each, _ in _options(settings)]

    def decorate(function: Callable[..., Any]) -> click.Command:
        @wraps(function)
        def run(**given: Any) -> Any:
            return function(make_settings(settings, {name: given.pop(name) for name in names}), **given)

        more["context_settings"] = CONTEXT
        made: click.Command = click.command(**more)(settings_options(settings, panels=panels)(run))
        return made

    return decorate


def settings_options(*settings: type, panels: Sequence[str] = ()) -> Callable[[Command], Command]:
    """The fields of the dataclasses ``settings`` as options of a command, and those that every command has. ``panels``
    are the first of the help, in this order."""
    options = [pair for each in settings for pair in _options(each)]
    used = [option.panel for _, option in options if option.panel]
    ordered = dict.fromkeys([*(panel for panel in panels if panel in used), *used])

    def decorate(command: Command) -> Command:
        for add in reversed([*(_option(*pair) for pair in options), *_general_options()]):
            command = add(command)
        for panel in reversed(ordered):
            command = click.option_panel(panel)(command)
        return command

    return decorate


def make_settings(settings: type[T], values: Mapping[str, Any]) -> T:
    """``settings`` of the ``values`` that its options got; values of other names are its fields as they are. Raises
    UsageError where one cannot be used."""
    known = {each.name: (each, option) for each, option in _options(settings)}
    made = settings(
        **{name: _value(*known[name], value) if name in known else value for name, value in values.items()}
    )
    check_values(made)
    return made


def given_options(context: click.Context) -> list[str]:
    """The options that the command line has itself."""
    source = context.get_parameter_source
    return [name for name in context.params if source(name) is ParameterSource.COMMANDLINE]


def per_stream(settings: type) -> list[str]:
    """The options of ``settings`` that each stream of a command line has a value of."""
    return [each.name for each, option in _options(settings) if option.per_stream]


def _options(settings: type) -> list[tuple[Field[Any], Option]]:
    """The fields of ``settings`` that are options, those that must be given first."""
    found = [(each, each.metadata["option"]) for each in fields(settings) if "option" in each.metadata]
    return sorted(found, key=lambda pair: not pair[1].required)


def _option(each: Field[Any], option: Option) -> Callable[[Command], Command]:
    flag, several = _words(each) == "bool", _is_several(each, option)
    name = option_name(each.name)
    shown = option.negative or (option.default not in (None, ()) and not flag)
    more: dict[str, Any] = {"metavar": option.metavar} if option.metavar else {}
    if shown or flag:
        text = not several and (option.choices or option.parse)
        more["default"] = str(option.default) if text else option.default
    return click.option(
        f"{name}/--no-{name[2:]}" if option.negative else name,
        *option.names,
        each.name,
        is_flag=flag or None,  # False would let it stand without a value
        type=None if flag else _type(each, option),
        multiple=several,
        nargs=option.nargs,
        required=option.required,
        show_default=shown,
        panel=option.panel,
        help=option.help.replace("*", r"\*"),  # which the help's Markdown would take for itself
        **more,
    )


def _is_several(each: Field[Any], option: Option) -> bool:
    return option.per_stream or (_words(each).startswith("tuple") and option.nargs == 1)


def _words(each: Field[Any]) -> str:
    """The type of ``each`` as it is written."""
    return each.type.__name__ if type(each.type) is type else str(each.type)


def _type(each: Field[Any], option: Option) -> ParamType[Any] | type:
    if option.choices is not None:
        return click.Choice([str(choice) for choice in option.choices])
    if option.per_stream:
        return Repeated()
    kind = NUMBERS.get(re.split(r"\W", _words(each).removeprefix("tuple["))[0], str)
    if option.minimum is None and option.maximum is None:
        return kind
    bounded: Any = click.IntRange if kind is int else click.FloatRange
    return cast(ParamType[Any], bounded(option.minimum, option.maximum, min_open=option.above_zero))


def _value(each: Field[Any], option: Option, value: Any) -> Any:
    if option.parse is not None:
        parse = option.parse
        if isinstance(value, list | tuple):
            return tuple(parse(str(one)) for one in value)
        return None if value is None else parse(str(value))
    if option.choices is not None and value is not None and not _is_several(each, option):
        return type(option.choices[0])(value)
    return value


def _general_options() -> list[Callable[[Command], Command]]:
    """--max-size, --config, --quiet, --verbose, --log and --debug; they are handled before the command starts."""
    size = f"Longest side of an image that is read; larger ones are refused.  [default: {DEFAULT_SIDE}]"
    option = partial(click.option, expose_value=False)
    return [
        option(OPTION, metavar="PIXELS", callback=_take_max_size, help=size),
        option("--config", metavar="FILE", help="Settings from this TOML file."),
        option("--quiet", is_flag=True, callback=_take_level, help="Show warnings and errors alone."),
        option("--verbose", is_flag=True, callback=_take_level, help="Show more, with times and modules."),
        option(
            LOG_OPTION,
            type=click.Choice(["text", "json"], case_sensitive=False),
            default="text",
            show_default=True,
            is_eager=True,
            callback=_take_log,
            help="What standard error has: lines for a person, or a JSON object a line for a log collector.",
        ),
        option("--debug", is_flag=True, help="Show a traceback where something fails."),
    ]


def parse_size(text: str, least: int = 1) -> tuple[int, int]:
    """(H, W) of ``text``, WIDTHxHEIGHT in pixels, each at ``least`` so many. Raises UsageError."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or min(int(match[1]), int(match[2])) < least:
        bound = f" of {least} pixels or more" if least > 1 else ""
        raise UsageError(f"--size {text} is not WIDTHxHEIGHT{bound}, such as 256x256")
    return int(match[2]), int(match[1])


def _take_max_size(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        set_max_side(parse_side(value))


def _take_level(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    """With both it is --verbose that counts."""
    logger = logging.getLogger("clesr")
    if value and logger.level > logging.DEBUG:
        logger.setLevel(LEVELS[str(parameter.name)])


def _take_log(context: click.Context, parameter: click.Parameter, value: str) -> None:
    if value == "json":
        speak_json()


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """What the TOML file says, of which no secret is told from now on; raises UsageError, which calls it ``what``."""
    try:
        found = parse_toml(read_bounded(path, LARGEST), dict[str, Any])
    except (OSError, ValueError) as error:
        raise UsageError(f"{what} {path} {unreadable(error)}") from error
    conceal(*_texts(found))
    return found


def _texts(value: Any) -> Iterator[str]:
    """All texts in ``value``, keys among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in chain(value, value.values() if isinstance(value, dict) else ()):
            yield from _texts(part)


def check_options(table: dict[str, Any], command: click.Command, where: str) -> dict[str, Any]:
    """``table`` with the values of options of ``command`` by their names.

    Raises UsageError, which begins with ``where``, for an option that is unknown or a value that no option takes.
    """
    known = {parameter.name: parameter for parameter in command.params if parameter.name}
    checked = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            names = ", ".join(sorted(known))
            raise UsageError(f"{where}: there is no option {shortened(key, 80)}; there are {names}")
        checked[name] = _checked(key, value, known[name], where)
    return checked


def _checked(key: str, value: Any, parameter: click.Parameter, where: str) -> Any:
    """``value`` as the command line would give it: text, but true and false for a flag."""
    flag = isinstance(parameter.type, BoolParamType)
    several = getattr(parameter, "multiple", False) or parameter.nargs != 1
    values = value if isinstance(value, list) and several else [value]
    if not all(isinstance(one, bool) if flag else _is_word(one) for one in values):
        kinds = "true or false" if flag else "a text or a number" + ", or a list of these" * several
        raise UsageError(f"{where}: {key} is {shortened(str(value), 80)}; give {kinds}")
    words = values if flag else [str(one) for one in values]
    return words if several else words[0]


def _is_word(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool) and "\0" not in str(value)
