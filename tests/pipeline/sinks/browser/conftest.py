"""The page in a real Chromium, with a stream that goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import reading_at_once
from browser_view import showing
from chromium import Page, chromium, program
from pages import LIVE, Running

from clesr.pipeline.session import sessions
from clesr.pipeline.session.sessions import SessionListing


@pytest.fixture(scope="module")
def tab() -> Iterator[Callable[[], Page]]:
    if program() is None:
        pytest.skip("no Chromium; install chromium-headless-shell")
    with chromium() as opened:
        yield opened


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(sessions, "PROGRAM", "reading_at_once")
    monkeypatch.setenv("PYTHONPATH", str(Path(reading_at_once.__file__).parent))
    with showing(sessions=SessionListing(tmp_path)) as shown:
        made = Running(shown)
        yield made
        made.close()


@pytest.fixture
def page(tab: Callable[[], Page], running: Running) -> Iterator[Page]:
    page = tab()
    page.size(1280, 800)
    page.open(running.shown.url)
    page.wait(f"document.querySelector('#do-quit') && {LIVE}")
    yield page
    page.open("about:blank")
    assert page.errors == []
