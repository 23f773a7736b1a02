"""Actions of an installed package: by registry, key and control socket."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from heard import hear
from operated import on_stage
from support import until

from clesr.pipeline.operator.registry import ACTIONS, all_actions

PACKAGE = """
from clesr.pipeline.controls import Action, Argument

def greet(operator, name):
    return {"said": f"hello {name} at frame {operator.look().frame.number}"}

GREET = Action("greet", "Greet.", greet, (Argument("name", str, "whom", "all"),), key="y")
TAKEN = Action("taken", "With a key that clesr has.", lambda operator: {"said": "taken"}, key="f")
OTHER = Action("misnamed", "Under another name.", lambda operator: None)
"""
ENTRIES = """
[clesr.actions]
greet = clesr_greeting:GREET
taken = clesr_greeting:TAKEN
named = clesr_greeting:OTHER
broken = clesr_greeting:NOTHING
freeze = clesr_greeting:GREET
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    info = tmp_path / "site" / "clesr_greeting-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: clesr-greeting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    (tmp_path / "site" / "clesr_greeting.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(ACTIONS, "_foreign", None)
    monkeypatch.setattr(ACTIONS, "_loaded", {})
    yield
    sys.modules.pop("clesr_greeting", None)


def test_an_action_of_another_package_is_one_of_all(tmp_path: Path) -> None:
    with on_stage(tmp_path / "stage") as stage:
        assert stage.call("registry", "greet", {})["said"].startswith("hello all at frame ")
        assert stage.call("socket", "greet", {"name": "you"})["said"].startswith("hello you at frame ")
        stage.operator.controls.change(said="")
        assert stage.operator.controls.press("y")
        until(lambda: stage.operator.controls.view.said.startswith("hello all"))


def test_what_does_not_fit_is_told_and_left_out() -> None:
    said = hear()
    actions = {action.name: action for action in all_actions()}
    assert {"greet", "taken", "freeze"} <= actions.keys()
    assert not {"named", "misnamed", "broken"} & actions.keys()
    assert actions["taken"].key == ""
    assert actions["freeze"].help != "Greet."
    told = "\n".join(said)
    for words in (
        "freeze in clesr.actions",
        "named in clesr.actions is no action",
        "broken",
        "the key 'f' of taken",
    ):
        assert words in told
