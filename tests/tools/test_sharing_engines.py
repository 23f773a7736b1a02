"""Which streams take turns at one engine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from clesr.engines.opener import EngineOpener
from clesr.pipeline.engine_stage import EngineStage
from clesr.pipeline.settings import LiveSettings
from clesr.tools import live_run


def stream(live: bool) -> Any:
    return SimpleNamespace(
        fps=25.0,
        source=SimpleNamespace(info=SimpleNamespace(live=live, shape=None)),
        settings=LiveSettings(source="demo:"),
    )


def chosen(share: str, *live: bool) -> tuple[bool, bool]:
    """Whether they share an engine, and whether frames go on without while it is opened."""
    found = live_run._choose_engines([stream(each) for each in live], EngineOpener(2, "nearest"), share)
    return isinstance(found, EngineStage), isinstance(found, EngineStage) and found._make_engine().hurried


@pytest.mark.parametrize(
    ("share", "live", "shared", "hurried"),
    [
        ("auto", (True, True), True, True),
        ("auto", (False, False), True, False),
        ("auto", (True, False), False, False),
        ("one", (True, False), True, False),
        ("several", (True, True), False, False),
    ],
)
def test_a_replay_never_gets_bicubic_images_because_a_live_stream_cannot_wait(
    share: str, live: tuple[bool, ...], shared: bool, hurried: bool
) -> None:
    assert chosen(share, *live) == (shared, hurried)


def test_live_streams_begin_without_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """It opened an engine for each before the first frame was read, and waited for them without a limit."""
    live = stream(True)
    live.source.info.shape = (8, 10)
    monkeypatch.setattr(live_run, "choose_sharing", lambda *_: pytest.fail("a trial"))
    opener = EngineOpener(2, "nearest")
    assert isinstance(live_run._choose_engines([live, live], opener, "auto"), EngineStage)
    assert opener.fps == 50.0
