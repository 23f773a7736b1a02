"""Puts measured figures into the documents, between marks, from committed JSON and the weights' descriptors.

python benchmarks/report.py [--check]

The public functions in blocks/ make them, each for the marks with its name.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from inspect import getmembers, isfunction
from pathlib import Path

import click
from blocks import quality, speed, trust

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    ROOT / "README.md",
    *(ROOT / "docs" / "internals").glob("*.md"),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "engines" / "models" / "shipped" / "MODEL_CARD.md",
)
BLOCKS: dict[str, Callable[[], str]] = {
    name: block
    for subject in (quality, speed, trust)
    for name, block in getmembers(subject, isfunction)
    if block.__module__ == subject.__name__ and not name.startswith("_")
}


def fill(text: str) -> str:
    """``text`` with what stands between ``<!-- figures: NAME -->`` and ``<!-- end -->`` made anew."""

    def block(match: re.Match[str]) -> str:
        return f"<!-- figures: {match[1]} -->\n{BLOCKS[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- figures: (\w+) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit 1 where a document is out of date.")
def main(check: bool) -> None:
    """Fill the documents."""
    stale = []
    for path in DOCUMENTS:
        text = path.read_text()
        filled = fill(text)
        if filled != text:
            stale.append(path.name)
            if not check:
                path.write_text(filled)
    if stale:
        click.echo(f"{'out of date' if check else 'updated'}: {', '.join(stale)}")
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
