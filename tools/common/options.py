"""Options of commands: from the fields of a settings dataclass (pipeline/settings.py), from TOML files, and those that
every command has."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, fields
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click
from click.types import BoolParamType, ParamType, StringParamType

from clesr.engines.common.errors import UsageError
from clesr.engines.common.limits import DEFAULT_SIDE, OPTION, parse_side, set_max_side
from clesr.engines.common.numbers import shortened
from clesr.engines.common.parsing import parse_toml, read_bounded, unreadable
from clesr.engines.common.text import conceal
from clesr.pipeline.settings import PANELS, Option, RunSettings, option_name

Command = TypeVar("Command", bound=Callable[..., Any])
Settings = TypeVar("Settings")
LARGEST = 1 << 16  # bytes of a settings file
LEVELS = {"verbose": logging.DEBUG, "quiet": logging.WARNING}
NUMBERS: dict[str, type] = {"int": int, "float": float}


class Repeated(StringParamType):
    """The value of an option that may be given once a stream; in an environment variable, one a line."""

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        return [line for line in rv.splitlines() if line]


def settings_options(*settings: type, panels: Sequence[str] = PANELS) -> Callable[[Command], Command]:
    """The fields of the dataclasses ``settings`` as options of a command; ``panels`` of the help in this order."""
    options = [pair for each in settings for pair in _options(each)]
    used = dict.fromkeys(option.panel for _, option in options if option.panel)

    def decorate(command: Command) -> Command:
        for each, option in reversed(options):
            command = _option(each, option)(command)
        for panel in reversed([*(p for p in panels if p in used), *(p for p in used if p not in panels)]):
            command = click.option_panel(panel)(command)
        return command

    return decorate


def make_settings(settings: type[Settings], values: Mapping[str, Any]) -> Settings:
    """``settings`` of the ``values`` that its options got; values of other names are its fields as they are. Raises
    UsageError where one cannot be used."""
    known = {each.name: (each, option) for each, option in _options(settings)}
    return settings(
        **{name: _value(*known[name], value) if name in known else value for name, value in values.items()}
    )


def per_stream(settings: type) -> list[str]:
    """The options of ``settings`` that each stream of a command line has a value of."""
    return [each.name for each, option in _options(settings) if option.per_stream]


def _options(settings: type) -> list[tuple[Field[Any], Option]]:
    """The fields of ``settings`` that are options, those that must be given first."""
    found = [(each, each.metadata["option"]) for each in fields(settings) if "option" in each.metadata]
    return sorted(found, key=lambda pair: not pair[1].required)


def _option(each: Field[Any], option: Option) -> Callable[[Command], Command]:
    flag, several = each.type == "bool", _is_several(each, option)
    name = option.flag or option_name(each.name)
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
        required=option.required,
        show_default=shown,
        panel=option.panel,
        help=option.help,
        **more,
    )


def _is_several(each: Field[Any], option: Option) -> bool:
    return option.per_stream or str(each.type).startswith("tuple")


def _type(each: Field[Any], option: Option) -> ParamType[Any] | type:
    if option.choices is not None:
        return click.Choice([str(choice) for choice in option.choices])
    if option.per_stream:
        return Repeated()
    kind = NUMBERS.get(re.split(r"\W", str(each.type).removeprefix("tuple["))[0], str)
    if option.minimum is None and option.maximum is None:
        return kind
    if kind is int:
        return click.IntRange(
            None if option.minimum is None else int(option.minimum),
            None if option.maximum is None else int(option.maximum),
        )
    return click.FloatRange(option.minimum, option.maximum, min_open=option.above_zero)


def _value(each: Field[Any], option: Option, value: Any) -> Any:
    if option.parse is not None:
        parse = option.parse
        if isinstance(value, list | tuple):
            return tuple(parse(str(one)) for one in value)
        return None if value is None else parse(str(value))
    if option.choices is not None and value is not None and not _is_several(each, option):
        return type(option.choices[0])(value)
    return value


def general_options() -> Callable[[Command], Command]:
    """--max-size, --config, --verbose, --quiet and --debug; they are handled before the command starts."""
    flag: dict[str, Any] = {"is_flag": True, "expose_value": False}
    options: list[Callable[[Command], Command]] = [
        click.option(
            OPTION,
            metavar="PIXELS",
            expose_value=False,
            callback=_take_max_size,
            help=f"Longest side of an image that is read; larger ones are refused.  [default: {DEFAULT_SIDE}]",
        ),
        click.option("--config", metavar="FILE", expose_value=False, help="Settings from this TOML file."),
        click.option("--quiet", callback=_take_level, help="Show warnings and errors alone.", **flag),
        click.option("--verbose", callback=_take_level, help="Show more, with times and modules.", **flag),
        click.option("--debug", help="Show a traceback where something fails.", **flag),
    ]

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def overwrite_option(panel: str | None = None) -> Callable[[Command], Command]:
    """--overwrite, as every run has it."""
    option = next(option for each, option in _options(RunSettings) if each.name == "overwrite")
    return click.option("--overwrite", is_flag=True, help=option.help, panel=panel)


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
    return {
        name: _checked(key, value, known[name], where)
        for key, value in table.items()
        if (name := _known(key, known, where))
    }


def _known(key: str, known: dict[str, click.Parameter], where: str) -> str:
    name = key.replace("-", "_")
    if name not in known:
        raise UsageError(
            f"{where}: there is no option {shortened(key, 80)}; there are {', '.join(sorted(known))}"
        )
    return name


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
