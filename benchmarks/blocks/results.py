"""The committed results, and what all blocks make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "results"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def load(name: str) -> dict[str, Any]:
    """The result NAME.json."""
    loaded: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return loaded


def where(data: dict[str, Any]) -> str:
    """The machine that ``data`` is of."""
    machine = data["machine"]
    flags = machine.get("flags", [])
    sixteen = [flag for flag in flags if flag.endswith("bf16")]
    can = "16-bit arithmetic (bf16)" if sixteen else "AVX-512" if "avx512f" in flags else "AVX2 alone"
    return f"Measured on {machine['cpu']}, {machine['cores']} cores{f' with {can}' if flags else ''}.\n\n"
