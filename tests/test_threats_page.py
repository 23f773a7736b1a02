"""docs/internals/threats.md names tests that exist, and defences for every boundary."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/internals/threats.md").read_text()


def test_every_threat_names_a_test_that_exists() -> None:
    tables = re.findall(r"\| threat \|.*?\n\n", PAGE + "\n\n", re.DOTALL)
    rows = [row for table in tables for row in table.splitlines()[2:] if row.startswith("|")]
    named = [row.rsplit("`", 2)[1] for row in rows]
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 30
    assert [name for name in named if not re.search(rf"^def {name}\(", sources, re.MULTILINE)] == []


def test_every_boundary_has_a_section() -> None:
    table = PAGE.partition("| behind the boundary |")[2].partition("\n\n")[0]
    boundaries = [row.split("|")[1].strip().lower() for row in table.splitlines()[2:]]
    headings = " ".join(re.findall(r"^## (.*)", PAGE, re.MULTILINE)).lower()
    words = {"devices": "files", "a dicom archive": "an archive"}  # frames are bytes as those of files are
    assert len(boundaries) == 6
    assert [one for one in boundaries if words.get(one, one) not in headings] == []
