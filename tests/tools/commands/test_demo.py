"""`clesr demo`."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Run

from clesr.tools.commands import demo


def test_a_second_run_takes_a_new_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    taken = []
    for _ in range(3):
        taken.append(demo._free_name())
        Path(taken[-1]).mkdir()
    assert taken == ["demo", "demo-2", "demo-3"]


@pytest.mark.slow
def test_it_writes_into_the_folder_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()
    code, _, err = run("clesr", "demo", "--seconds", 0.2)
    assert code == 0, err
    assert {path.name for path in Path("demo-2").iterdir()} == {"demo.mp4", "summary.json", "demo.png"}
    assert "wrote demo-2/demo.png" in err
    assert not list(Path("demo").iterdir())
