"""What measures the structure of the code, on graphs whose measures are known."""

from __future__ import annotations

from pathlib import Path

import pytest
import structure

TRIES = 3  # ways of which the shortest counts


def test_the_deepest_chain_of_imports() -> None:
    graph = {"a": {"b", "c"}, "b": {"d"}, "c": set[str](), "d": {"e"}, "e": set[str]()}
    assert structure.deepest(graph) == ["a", "b", "d", "e"]


def test_circles_are_found_and_chains_are_none() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": {"d"}, "f": {"a"}}
    assert sorted(structure.circles(graph)) == [["a", "b", "c"], ["d", "e"]]
    assert structure.circles({"a": {"b", "c"}, "b": {"c"}, "c": set[str]()}) == []


def test_imports_are_told_apart_by_when_they_count(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(
        "from typing import TYPE_CHECKING\nimport clesr.a\nfrom clesr import b\n"
        "if TYPE_CHECKING:\n    from clesr.c import Thing\ndef late():\n    import clesr.d\n"
    )
    known = {"clesr", "clesr.a", "clesr.b", "clesr.c", "clesr.d"}
    found = structure.imports_of(tmp_path / "module.py", known)
    assert found.loads == {"clesr.a", "clesr", "clesr.b"}
    assert found.types == {"clesr.c"}


def test_the_whole_product_is_measured() -> None:
    result = structure.measure(frames=False)
    assert result["modules"] == sum(len(list((structure.ROOT / f).rglob("*.py"))) for f in structure.FOLDERS)
    assert result["import_depth"] == len(result["deepest_chain"])


def test_imports_are_shallow_and_go_one_way() -> None:
    """Whoever reads a module reads few others before it. A chain that gets longer wants another layer taken out."""
    result = structure.measure(frames=False)
    assert result["import_depth"] <= 12, result["deepest_chain"]
    assert result["circles_of_modules"] == []
    assert result["circles_of_folders"] == []


@pytest.mark.slow
def test_a_frame_passes_few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a video file to a sink and a session.

    25 and 120 are the limits. Busy machines have more: there the threads that wait look more often for each frame, and
    commits come with each. So the shortest of some ways counts.
    """
    monkeypatch.delenv("DISPLAY", raising=False)
    ways = [structure.follow_frames() for _ in range(TRIES)]
    way = min(ways, key=lambda each: (each["files"], each["changes_of_file"]))
    assert way["files"] <= 25, way["by_file"]
    assert way["changes_of_file"] <= 120
