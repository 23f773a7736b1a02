"""An action of the operator: its name, key, help and arguments, which are checked here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from clesr.engines.common.errors import UsageError
from clesr.engines.common.numbers import shortened

S = TypeVar("S")
REQUIRED = object()
MOST_TEXT = 1000  # characters of a text, where an argument does not say
NAMED_KEYS = (
    "space", "esc", "enter", "tab", "backspace", "delete", "up", "down", "left", "right", "home", "end",
    "page-up", "page-down", *(f"f{number}" for number in range(1, 13)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of an action. ``kind`` is bool, int, float or str; ``default`` of `REQUIRED` is none. Numbers lie
    from ``minimum`` to ``maximum``, texts have at most ``maximum`` characters, `MOST_TEXT` where it is None."""

    name: str
    kind: type[bool] | type[int] | type[float] | type[str]
    help: str
    default: Any = REQUIRED
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    def check(self, value: object) -> Any:
        """``value``, which came as JSON or text, as ``kind``. Raises UsageError where it is none, or not allowed."""
        made = self._convert(value)
        size = len(made) if isinstance(made, str) else made
        low = self.minimum is not None and size < self.minimum
        high = self._most is not None and size > self._most
        if (self.choices and made not in self.choices) or low or high or not math.isfinite(size):
            raise self._refused(value)
        return made

    @property
    def _most(self) -> float | None:
        return MOST_TEXT if self.kind is str and self.maximum is None else self.maximum

    def _convert(self, value: object) -> Any:
        if isinstance(value, self.kind) and isinstance(value, bool) == (self.kind is bool):
            return value
        if self.kind is bool and value in ("on", "off"):
            return value == "on"
        if self.kind in (int, float) and isinstance(value, str | int | float) and not isinstance(value, bool):
            try:
                made = self.kind(value)
            except (ValueError, OverflowError):
                raise self._refused(value) from None
            if made == value or isinstance(value, str):
                return made
        raise self._refused(value)

    def _refused(self, value: object) -> UsageError:
        if self.choices:
            allowed = "one of " + ", ".join(map(str, self.choices))
        elif self.kind is bool:
            allowed = "on or off"
        elif self.kind is str:
            allowed = f"a text of at most {self._most:.0f} characters"
        else:
            number = "a whole number" if self.kind is int else "a number"
            bounds = (("from", self.minimum), ("to", self.maximum))
            allowed = " ".join(
                (number, *(f"{word} {bound:g}" for word, bound in bounds if bound is not None))
            )
        return UsageError(f"{self.name} is {_shown(value)}; give {allowed}")


def _shown(value: object) -> str:
    """``value`` of a request in a few words; what is no text or number by its kind."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int) and value.bit_length() > 64:
        return "a number of too many digits"
    if isinstance(value, int | float):
        return str(value)
    return shortened(value) if isinstance(value, str) else f"a {type(value).__name__}"


@dataclass(frozen=True, slots=True)
class Action(Generic[S]):
    """Something the operator can do. ``call(subject, **arguments)`` does it and gives what is to be told as JSON:
    ``{"said": "a line for the user", ...}``, or nothing. ``asking`` in it is a question: where the same caller does the
    action next and soon, and it asks the same, it is done with its argument ``sure`` true. It raises ClesrError where
    it cannot be done.

    ``key`` is the key for it in the window and in the browser: a character, or one of `NAMED_KEYS`; with a key, all
    arguments take their defaults. ``group`` is the heading that it stands under in the help. ``seen(subject,
    **arguments)``, where it is given, is called at once, and what it gives handed to ``call`` behind the subject,
    however late its turn comes: what the caller looks at, and when. ``missing(subject)``, where it is given, says what
    this run lacks for it, and what to do; nothing where it can be done.

    A ``quick`` one waits for nothing, as those that change the view: whoever calls it does it. Others are done on a
    thread of their own, one at a time, but for a ``long`` one, beside which others go on: it is done once at a time.
    One that ``repeats`` is done again and again while its key is held; for another the key must be let go of first."""

    name: str
    help: str
    call: Callable[..., Mapping[str, Any] | None]
    arguments: tuple[Argument, ...] = ()
    key: str = ""
    group: str = "View"
    seen: Callable[..., Any] | None = None
    missing: Callable[[S], str] | None = None
    quick: bool = False
    repeats: bool = False
    long: bool = False

    def checked(self, given: Mapping[str, object]) -> dict[str, Any]:
        """The arguments of a call. Raises UsageError where they are not those of this action."""
        known = {argument.name: argument for argument in self.arguments}
        if not isinstance(given, Mapping):
            raise UsageError(f"the arguments are {_shown(given)}; give names and values")
        if unknown := given.keys() - known.keys():
            allowed = f"it takes {', '.join(known)}" if known else "it takes none"
            raise UsageError(
                f"{self.name} has no argument {shortened(sorted(map(str, unknown))[0])}; {allowed}"
            )
        for name, argument in known.items():
            if argument.default is REQUIRED and name not in given:
                raise UsageError(f"{self.name} needs {name}: {argument.help}")
        return {
            name: argument.check(given[name]) if name in given else argument.default
            for name, argument in known.items()
        }


def assign_keys(actions: Iterable[Action[Any]], changed: Mapping[str, str]) -> dict[str, str]:
    """Which action each key stands for: its own, or that of ``changed``, ``{action: key}``. Raises UsageError where a
    key would stand for two, is no key, or is given to no action."""
    actions = list(actions)
    if unknown := changed.keys() - {action.name for action in actions}:
        names = ", ".join(action.name for action in actions)
        raise UsageError(
            f"a key is given to {shortened(min(unknown))}, which is no action; there are {names}"
        )
    keys: dict[str, str] = {}
    for action in actions:
        key = changed.get(action.name, action.key)
        if key and key not in NAMED_KEYS and (len(key) > 1 or not key.isprintable() or key.isspace()):
            raise UsageError(
                f"{shortened(key)} is no key for {action.name}; give a character, or one of {', '.join(NAMED_KEYS)}"
            )
        if key and keys.setdefault(key, action.name) != action.name:
            raise UsageError(
                f"the key {shortened(key)} stands for {keys[key]} and for {action.name}; give one of them another"
            )
    return keys
