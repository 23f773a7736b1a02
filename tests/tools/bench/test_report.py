"""Tables, verdicts, the comparison of two cards, the plot."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from rich.console import Console
from timed_engines import Bench

from clesr.engines.common.errors import ClesrError, MissingDependencyError
from clesr.tools.bench import plot
from clesr.tools.bench.report import WIDE, comparison, figure, machine_line, signed, tables, verdicts

Result = Callable[..., dict[str, Any]]


def printed(parts: Any, width: int) -> str:
    console = Console(width=width, highlight=False, color_system=None)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    return captured.get()


@pytest.fixture
def made(fake: Bench, result: Result) -> dict[str, Any]:
    return result(fake.candidate("slow", device=0.05), fake.candidate("quick", host=0.001, device=0.002))


@pytest.mark.parametrize("width", [80, WIDE])
def test_a_table_has_the_fastest_first_and_fits(made: dict[str, Any], width: int) -> None:
    text = printed(tables(made, width), width)
    assert "…" not in text
    assert "fast x2, 16x12 to 32x24" in text
    lines = [line.split() for line in text.splitlines()]
    first, second = [words for words in lines if words[:1] in (["quick"], ["slow"])][:2]
    assert first[:5] == ["quick", "fp16", "500", "25.00", "16"]
    assert second[:5] == ["slow", "fp16", "20.0", "1.00", "0"]


def test_columns_without_figures_are_left_out(made: dict[str, Any]) -> None:
    assert "W" not in printed(tables(made, WIDE), WIDE).split()
    made["rows"][0]["watts"] = 71.4
    text = printed(tables(made, WIDE), WIDE)
    assert "W" in text.split()
    assert "71" in text.split()
    assert "–" in text


def test_the_verdict_is_video_rate(made: dict[str, Any], fake: Bench, result: Result) -> None:
    assert list(verdicts(made)) == [
        "holds 30 frames/s, 16 streams: fast x2, 16x12 to 32x24: quick fp16 does 500 frames/s"
    ]
    (line,) = verdicts(result(fake.candidate("slow", device=0.05)))
    assert line.startswith("too slow for 30 frames/s: fast x2")


def test_the_machine_is_named(made: dict[str, Any]) -> None:
    made["machine"] |= {"gpu": "A Card", "driver": "580.1"}
    line = machine_line(made)
    assert "A Card (driver 580.1)" in line
    assert "cuda fp16 1 TFLOP/s" in line


def test_two_cards_beside_each_other(made: dict[str, Any], fake: Bench, result: Result) -> None:
    other = result(fake.candidate("quick", host=0.001, device=0.001), fake.candidate("new", device=0.01))
    text = printed(comparison(made, other), 120)
    row = next(line.split() for line in text.splitlines() if line.startswith("quick"))
    assert row[:5] == ["quick", "fp16", "500", "1000", "2.00"]
    assert "only in A: fast x2, 16x12 to 32x24 by slow fp16" in text
    assert "only in B: fast x2, 16x12 to 32x24 by new fp16" in text
    assert "A: " in text
    alone = result(fake.candidate("new", device=0.01))
    assert "nothing in common" in printed(comparison(made, alone), 120)


def test_figures_for_people() -> None:
    assert [figure(value) for value in (None, 0.123, 1.234, 12.34, 1234.5)] == [
        "",
        "0.12",
        "1.23",
        "12.3",
        "1234",
    ]
    assert [signed(value) for value in (-0.0001, 0.0, 0.0126, -2.0)] == [
        "+0.000",
        "+0.000",
        "+0.013",
        "-2.000",
    ]


def test_the_plot_is_a_picture(made: dict[str, Any], tmp_path: Path) -> None:
    second = copy.deepcopy(made["rows"])
    for row in second:
        row["scale"] = 4
    made["rows"] += second
    path = tmp_path / "plot.png"
    plot.draw(made, path)
    image = cv2.imread(str(path))
    assert image is not None
    assert image.shape[1] > 1000
    assert image.std() > 10
    with pytest.raises(ClesrError, match=r"end its name in \.png"):
        plot.draw(made, tmp_path / "plot.nothing")


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'clesr\[train\]'"):
        plot.check_plot()
