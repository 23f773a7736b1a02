"""The report of planted faults is of the modules that are there, and says of each fault that was not noticed why."""

from __future__ import annotations

import json
from typing import Any

import mutants
import pytest
from common import ROOT

RESULT: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / "mutants.json").read_text())


def test_every_module_that_is_listed_was_tried() -> None:
    assert [row["module"] for row in RESULT["modules"]] == sorted(mutants.TESTS)


@pytest.mark.parametrize("module", mutants.TESTS)
def test_a_module_and_its_tests_are_there(module: str) -> None:
    assert [path for path in (module, *mutants.TESTS[module]) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("module", sorted({mutant["module"] for mutant in RESULT["survivors"]}))
def test_what_was_not_noticed_is_still_there_and_has_a_reason(module: str) -> None:
    """A fault in a line that has changed says nothing of the module: try it again."""
    text = " ".join(line.strip() for line in (ROOT / module).read_text().splitlines())
    left = [mutant for mutant in RESULT["survivors"] if mutant["module"] == module]
    assert [mutant["line"] for mutant in left if f" {mutant['line']} " not in f" {text} "] == []
    assert [mutant["line"] for mutant in left if not mutant["reason"]] == []


def test_what_was_not_noticed_adds_up() -> None:
    counts = {row["module"]: row["tried"] - row["noticed"] for row in RESULT["modules"]}
    left = [mutant["module"] for mutant in RESULT["survivors"]]
    assert {module: left.count(module) for module in counts} == counts
