"""One name, one thing: what a class, a type, or a function of the library is called, nothing else is."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
TYPE = re.compile(r"_?[A-Z]\w*[a-z]\w*")  # a class, or an alias or variable of types; no constant, no T


def type_names(module: Path) -> Iterator[str]:
    """The names of types that ``module`` defines at its top level."""
    for statement in ast.parse(module.read_text("utf-8")).body:
        if isinstance(statement, ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            yield from (t.id for t in targets if isinstance(t, ast.Name) and TYPE.fullmatch(t.id))


COMMON = {"candidates", "main", "parse_address"}  # the same thing, of several parts or processes


def function_names(module: Path) -> Iterator[str]:
    """The public functions that ``module`` defines at its top level."""
    for statement in ast.parse(module.read_text("utf-8")).body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and not statement.name.startswith(
            "_"
        ):
            yield statement.name


def places_of(names: Callable[[Path], Iterator[str]], *folders: str) -> dict[str, list[str]]:
    """In which modules below ``folders`` each of their ``names`` is."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for folder in folders:
        for module in sorted((ROOT / folder).rglob("*.py")):
            for name in names(module):
                places[name].append(str(module.relative_to(ROOT)))
    return places


def test_no_two_modules_define_a_type_of_one_name() -> None:
    places = places_of(type_names, "engines", "pipeline", "tools")
    kinds = {"Frame", "EngineOpener", "Canvas", "VideoPacket", "_Actor"}
    assert kinds <= places.keys(), "all kinds are found"
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_two_modules_of_the_library_define_a_function_of_one_name() -> None:
    """In ``tools/`` a command is called as what it runs."""
    places = places_of(function_names, "engines", "pipeline")
    assert {"open_engine", "open_source"} <= places.keys(), "they are found"
    assert {n: found for n, found in places.items() if len(found) > 1 and n not in COMMON} == {}
