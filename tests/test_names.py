"""One name, one thing: what a class or a type is called, nothing else in clesr is."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
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


def test_no_two_modules_define_a_type_of_one_name() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for folder in ("engines", "pipeline", "tools"):
        for module in sorted((ROOT / folder).rglob("*.py")):
            for name in type_names(module):
                places[name].append(str(module.relative_to(ROOT)))
    assert {
        "Frame",
        "EngineOpener",
        "Canvas",
        "VideoPacket",
        "_Actor",
    } <= places.keys()  # all kinds are found
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
