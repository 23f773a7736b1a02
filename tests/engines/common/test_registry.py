"""Parts by name, loaded when they are asked for, also from other packages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clesr.engines.common.registry import Registry


@pytest.fixture
def parts() -> Registry[Callable[[str], str]]:
    return Registry("clesr.tests", {"upper": "builtins:str.upper", "missing": "no_such_module:x"})


def test_a_part_is_loaded_when_it_is_asked_for(parts: Registry[Callable[[str], str]]) -> None:
    assert parts["upper"]("a") == "A"
    assert list(parts) == ["upper", "missing"]
    assert "missing" in parts
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        parts["missing"]
    with pytest.raises(KeyError):
        parts["other"]


def test_parts_can_be_added_and_names_are_taken_once(parts: Registry[Callable[[str], str]]) -> None:
    parts.add("lower", str.lower)
    assert parts["lower"]("A") == "a"
    assert list(parts) == ["upper", "missing", "lower"]
    for name in ("lower", "upper"):
        with pytest.raises(ValueError, match="taken"):
            parts.add(name, str.lower)
    parts.remove("lower")
    assert "lower" not in parts
    with pytest.raises(ValueError, match="clesr itself"):
        parts.remove("upper")


def test_an_installed_package_adds_a_part_but_replaces_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: Registry[Callable[[str], str]]
) -> None:
    info = tmp_path / "clesr_other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: clesr-other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[clesr.tests]\nother = clesr_other:greet\nupper = clesr_other:greet\n"
    )
    (tmp_path / "clesr_other.py").write_text("def greet(name):\n    return 'hello ' + name\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "clesr_other", raising=False)
    assert "other" in parts
    assert "clesr_other" not in sys.modules, "nothing is loaded to know its name"
    assert parts["other"]("you") == "hello you"
    assert parts["upper"]("a") == "A"
    assert list(parts) == ["upper", "missing", "other"]
