"""Windows are there before all that takes its time, and go with what fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clesr.tools.common import windows

if TYPE_CHECKING:
    from commands import Run


class Opened:
    """In place of a window's process."""

    made: list[Opened]

    def __init__(self, title: str, index: int, count: int) -> None:
        self.title, self.ended = title, False
        self.lines: list[tuple[str, ...]] = [()]
        Opened.made.append(self)

    def announce(self, *lines: str) -> None:
        self.lines.append(lines)

    def end(self) -> None:
        self.ended = True


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Opened]:
    Opened.made = []
    monkeypatch.setattr(windows, "WindowProcess", Opened)
    return Opened.made


def test_a_source_that_does_not_open_closes_its_window(opened: list[Opened], run: Run) -> None:
    code, _, errors = run("clesr-live", "--source", "rtsp://user:word@[/nowhere", "--source", "b=missing.avi")
    assert code != 0
    assert "clesr: error" in errors
    assert all(window.ended for window in opened)
    code, _, _ = run("clesr-live", "--source", "missing.avi")
    assert code != 0
    assert opened[-1].lines == [(), ("opening missing.avi",)]
    assert opened[-1].ended


def test_who_wants_no_window_gets_none(opened: list[Opened], run: Run) -> None:
    assert run("clesr-live", "--source", "missing.avi", "--display", "none")[0] != 0
    assert opened == []


def test_bad_options_open_none(opened: list[Opened], run: Run) -> None:
    assert run("clesr-live", "--source", "missing.avi", "--roi", "nonsense")[0] == 2
    assert opened == []
