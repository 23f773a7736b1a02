"""The API reference has every public name, and every type that their signatures name."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pkgutil import resolve_name
from types import ModuleType
from typing import Annotated, Any, TypeVar, get_origin

import numpy.typing
import pytest
from documents import ROOT

import clesr

PAGE = (ROOT / "docs" / "api.md").read_text()
ENTRY = re.compile(r"^::: ([\w.]+)\n(?:    options:\n((?:      .+\n)+))?", re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """A name on the page; ``members`` are those of a class that are shown, None for all."""

    place: str
    options: str

    @property
    def shown(self) -> Any:
        module, _, name = self.place.rpartition(".")
        return getattr(importlib.import_module(module), name)

    @property
    def members(self) -> list[str] | None:
        found = re.search(r"members: (?:\[(.*)\]|false)", self.options)
        return None if found is None else re.findall(r"\w+", found[1] or "")

    def annotations(self) -> Iterator[tuple[ModuleType, str]]:
        """The texts of its signatures' types, each with the module that they stand in."""
        shown = self.shown
        if isinstance(shown, ModuleType):  # the package that can be called
            shown = type(shown).__call__
        if not inspect.isclass(shown):
            yield from _annotated(shown)
            return
        if "show_signature: false" not in self.options:
            yield from _annotated(shown)
            yield from _annotated(vars(shown).get("__init__"))
        for name, member in vars(shown).items():
            if not name.startswith("_") and (self.members is None or name in self.members):
                yield from _annotated(getattr(member, "fget", None) or getattr(member, "__func__", member))


def _annotated(shown: Any) -> Iterator[tuple[ModuleType, str]]:
    if inspect.isclass(shown) or inspect.isfunction(shown):
        for name, text in inspect.get_annotations(shown).items():
            if not name.startswith("_"):
                yield sys.modules[shown.__module__], getattr(text, "__forward_arg__", str(text))


def _named(module: ModuleType, text: str) -> Iterator[tuple[str, Any]]:
    """The names in the type ``text`` and what they stand for, those that ``module`` has for type checkers alone too."""
    imported = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in ast.walk(ast.parse(text, mode="eval")):
        if isinstance(node, ast.Name) and hasattr(module, node.id):
            yield node.id, getattr(module, node.id)
        elif isinstance(node, ast.Name) and node.id in imported:
            yield node.id, resolve_name(imported[node.id])


ENTRIES = [Entry(place, options) for place, options in ENTRY.findall(PAGE)]


def test_the_page_has_every_public_name() -> None:
    own = {entry.place.removeprefix("clesr.") for entry in ENTRIES if entry.place.count(".") == 1}
    assert {*own, "__version__"} == set(clesr.__all__)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.place)
def test_the_page_has_every_type_that_is_given_or_taken(entry: Entry) -> None:
    shown = [other.shown for other in ENTRIES]
    for module, text in entry.annotations():
        for name, found in _named(module, text):
            if inspect.isclass(found):
                ours = found.__module__.startswith("clesr") and found not in shown
                assert not ours, f"{entry.place} names {found.__module__}.{name}"
            elif get_origin(found) is not Annotated and not isinstance(found, TypeVar | ModuleType):
                assert f"`{name}`" in PAGE or _is_foreign(name), f"{entry.place} names {name}"


def _is_foreign(name: str) -> bool:
    """Whether the type is one of libraries, not a name that clesr gives to a type."""
    return hasattr(typing, name) or hasattr(numpy.typing, name)


def test_a_type_that_is_missing_is_found() -> None:
    named = [
        name for module, text in Entry("clesr.Pipeline", "").annotations() for name, _ in _named(module, text)
    ]
    assert {"Summary", "Prepare", "OpenEngine", "Image"} & set(named) == {
        "Summary",
        "Prepare",
        "OpenEngine",
    }
    given = [
        name for module, text in Entry("clesr.engines", "").annotations() for name, _ in _named(module, text)
    ]
    assert "EngineCandidate" in given  # imported for type checkers alone
