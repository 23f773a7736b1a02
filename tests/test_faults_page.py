"""docs/faults.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_row_of_the_table_of_faults_names_a_test() -> None:
    rows = [line for line in (ROOT / "docs/faults.md").read_text().splitlines() if line.startswith("| ")]
    named = [row.rsplit("`", 2)[1] for row in rows if not row.startswith("| fault |")]
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 50
    assert [name for name in named if not re.search(rf"^def {name}\(", sources, re.MULTILINE)] == []
