"""Rows and lines as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from clesr.engines.common.files import NEW, WriteRule, make_parents, write_file
from clesr.tools.evaluation.evaluate import CLEAN, ImageScore, Mean, MethodSummary, as_json

HEAD = ("method", "PSNR, dB", "over bicubic, dB", "SSIM", "wrapped PSNR, dB", "L1, grey levels", "ms a frame")
TITLES = {"native": "native size", "half": "shrunk by two first"}


def markdown(lines: Sequence[MethodSummary]) -> str:
    """A table for each size, scale and degradation; intervals are 95 %, over images drawn anew."""
    parts = []
    for case in dict.fromkeys(map(_case, lines)):
        group = [line for line in lines if _case(line) == case]
        size, scale, degradation = case
        suffered = "" if degradation == CLEAN else f"{degradation}, "
        parts.append(f"x{scale}, {TITLES[size]}, {suffered}{group[0].images} images\n")
        parts.append("| " + " | ".join(HEAD) + " |")
        parts.append("|---|" + "---:|" * (len(HEAD) - 1))
        parts += [_markdown_row(line) for line in group]
        parts.append("")
    return "\n".join(parts)


def _case(line: MethodSummary) -> tuple[str, int, str]:
    return line.size, line.scale, line.degradation


def engines(rows: Sequence[ImageScore]) -> str:
    """Which engine computed which methods, a line each."""
    found: dict[str, list[str]] = {}
    for row in rows:
        methods = found.setdefault(row.engine.split(",")[0], [])
        if row.method not in methods:
            methods.append(row.method)
    return "".join(f"- {', '.join(methods)}: {engine}\n" for engine, methods in found.items())


def _markdown_row(line: MethodSummary) -> str:
    cells = (
        line.method,
        _interval(line.psnr, ".2f"),
        "" if line.gain is None else _interval(line.gain, "+.2f"),
        _interval(line.ssim, ".4f"),
        f"{line.psnr_wrapped:.2f}",
        f"{line.l1:.2f}",
        f"{line.ms:.1f}",
    )
    return "| " + " | ".join(cells) + " |"


def _interval(mean: Mean, form: str) -> str:
    return f"{mean.value:{form}} [{mean.low:{form}}, {mean.high:{form}}]"


def csv_text(rows: Sequence[ImageScore]) -> str:
    """One line for each row, with a head."""
    records = as_json(rows)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return buffer.getvalue()


def json_text(rows: Sequence[ImageScore]) -> str:
    """A list of rows."""
    return json.dumps(as_json(rows), indent=1) + "\n"


def write(path: Path, text: str, rule: WriteRule = NEW) -> None:
    """``text`` in ``path``, never half-written; raises SinkError."""
    make_parents(path)
    write_file(path, text, rule)
