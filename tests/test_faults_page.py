"""docs/faults.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

from fault_matrix import MATRIX, table

from clesr.pipeline.chaos.plan import FAULTS

ROOT = Path(__file__).resolve().parent.parent


def test_every_row_of_the_table_of_faults_names_a_test() -> None:
    page = (ROOT / "docs/faults.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| `")]
    named = [row.rsplit("`", 2)[1] for row in rows if not row.startswith("| fault |")]
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 50
    assert [name for name in named if not re.search(rf"^def {name}\(", sources, re.MULTILINE)] == []


def test_every_fault_on_purpose_is_in_the_table() -> None:
    assert list(MATRIX) == [f"{place}-{kind}" for place, kinds in FAULTS.items() for kind in kinds]
    assert f"\n{table()}\n" in (ROOT / "docs/faults.md").read_text(), "benchmarks/report.py writes it anew"
