"""Parts by name: sources, sinks, networks, engines, exporters, commands. A new one is a file and a line in its
registry, or an entry point of another package."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from clesr.engines.common.errors import ClesrError, first_line

log = logging.getLogger(__name__)
T = TypeVar("T")
P = ParamSpec("P")


def taking(
    options: Callable[P, Any],
) -> Callable[[Callable[..., T]], Callable[Concatenate[str, P], T]]:
    """Of a function of an address and keywords: to type checkers, these are what ``options`` is made of."""
    return lambda function: function


class Registry(Generic[T]):
    """Parts of one kind. ``parts`` names those of clesr itself, each as ``module:attribute``, which is loaded when the
    part is first asked for. Installed packages add theirs as entry points of ``group``; none of them takes the place of
    a part of clesr.

    ::

        [project.entry-points."clesr.sources"]
        mycamera = "clesr_mycamera:open_mycamera"
    """

    def __init__(self, group: str, parts: Mapping[str, str], error: type[ClesrError] = ClesrError) -> None:
        self.group, self._error = group, error
        self._places = dict(parts)
        self._loaded: dict[str, T] = {}
        self._foreign: dict[str, EntryPoint] | None = None  # looked for once, when they are needed

    def __getitem__(self, name: str) -> T:
        """The part ``name``. Raises KeyError where there is none, whatever loading one of clesr's own raises, and
        ``error`` where one of another package does not load."""
        if name not in self._loaded:
            place = self._places.get(name)
            part = (
                EntryPoint(name, place, self.group).load() if place else self._load(self._installed()[name])
            )
            self._loaded[name] = cast(T, part)
        return self._loaded[name]

    def __contains__(self, name: str) -> bool:
        return name in self._loaded or name in self._places or name in self._installed()

    def __iter__(self) -> Iterator[str]:
        """All names: clesr's in their order, then those of other packages."""
        return iter(dict.fromkeys((*self._places, *self._loaded, *sorted(self._installed()))))

    @property
    def own(self) -> tuple[str, ...]:
        """The names of clesr's own parts."""
        return tuple(self._places)

    def add(self, name: str, part: T) -> None:
        """Add ``part`` for this process. Raises ValueError where the name is taken."""
        if name in self:
            raise ValueError(f"{name!r} is taken in {self.group}; choose another name")
        self._loaded[name] = part

    def remove(self, name: str) -> None:
        """Take back what ``add`` added."""
        if name in self._places:
            raise ValueError(f"{name!r} is a part of clesr itself")
        del self._loaded[name]

    def _installed(self) -> dict[str, EntryPoint]:
        if self._foreign is None:
            self._foreign = {}
            entries: Iterable[EntryPoint] = ()
            try:
                entries = entry_points(group=self.group)
            except Exception as error:  # noqa: BLE001 - whatever the files of some installed package say
                log.warning(f"what other packages add to {self.group} is not known: {first_line(error)}")
            for entry in entries:
                if entry.name in self._places or entry.name in self._foreign:
                    log.warning(f"{_named(entry)} is passed over: the name is taken")
                else:
                    self._foreign[entry.name] = entry
        return self._foreign

    def _load(self, entry: EntryPoint) -> object:
        try:
            return entry.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            why = f"{type(error).__name__}: {first_line(error)}"
            raise self._error(f"{_named(entry)} does not load ({why})") from error


def _named(entry: EntryPoint) -> str:
    package = f" of the package {entry.dist.name}" if entry.dist else ""
    return f"{entry.name} in {entry.group}{package} ({entry.value})"
