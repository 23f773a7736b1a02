"""An option that one class adds reaches a pipeline, is recorded, and is taken over by replay: nothing else names it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import drifting, write_video

from clesr.engines.common.image import Pixels
from clesr.pipeline.frame import Frame
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.session.format import SessionError
from clesr.pipeline.session.manifest import recorded_values
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.settings import LiveSettings, Recorded, setting
from clesr.pipeline.source import SourceInfo
from clesr.tools.commands.replay import settings_of
from clesr.tools.common.options import make_settings
from clesr.tools.live_run import run_live

ROOT = Path(__file__).parents[2]
# What acts on --consistent, and what knows that journals of before have it.
USES = {
    f"pipeline/{name}.py"
    for name in ("pipeline", "live_engine", "engine_stage", "engine_opening", "fidelity")
}
FIRST = {"tools/archive/settings.py"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSettings(LiveSettings):
    turns: int = setting(
        0, "Turn each frame.", "N", panel="Input", minimum=0, maximum=3, recorded=Recorded.REPLAYED
    )

    def prepare(
        self, source: SourceInfo | None = None, make: Callable[..., Prepare] | None = None, **known: Any
    ) -> Prepare:
        return LiveSettings.prepare(self, source, lambda **more: Turned(self.turns, **more), **known)


class Turned(Prepare):
    def __init__(self, turns: int, **more: Any) -> None:
        super().__init__(**more)
        self._turns = turns

    def __call__(self, frame: Frame) -> Pixels:
        return np.ascontiguousarray(np.rot90(super().__call__(frame), self._turns))


def images(folder: Path) -> np.ndarray[Any, Any]:
    return np.stack([image for _, image in read_session(folder).images("sr")])


def test_an_option_of_one_more_class_is_used_recorded_and_replayed(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", drifting(5, (48, 48)))
    given = {
        "source": str(tmp_path / "a.mkv"), "scale": "2", "model": "nearest", "display": "none", "pace": "max",
    }  # fmt: skip

    def recorded(name: str, **more: object) -> Path:
        settings = make_settings(NewSettings, given | more | {"record": str(tmp_path / name)})
        run_live([settings])
        return tmp_path / name

    plain, turned = recorded("plain"), recorded("turned", turns=2)
    np.testing.assert_array_equal(images(turned), np.rot90(images(plain), 2, (1, 2)))
    info = read_session(turned).info
    assert info.settings["turns"] == 2
    assert recorded_values(info, NewSettings)["turns"] == 2
    again = recorded("again", **settings_of(info, NewSettings), source=str(turned))
    np.testing.assert_array_equal(images(again), images(turned))


@pytest.mark.parametrize("value", [4, -1, "2", True, 1.5])
def test_what_a_session_states_of_it_is_checked(value: object, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", drifting(2, (48, 48)))
    settings = NewSettings(
        source=str(tmp_path / "a.mkv"), scale=2, model="nearest", display="none", record=str(tmp_path / "s")
    )
    run_live([settings])
    info = read_session(tmp_path / "s").info
    info = replace(info, settings={**info.settings, "turns": value})
    with pytest.raises(SessionError, match="was recorded with settings that clesr does not have"):
        settings_of(info, NewSettings)


def test_an_option_is_handed_on_in_one_file() -> None:
    files = [path for folder in ("pipeline", "tools") for path in (ROOT / folder).rglob("*.py")]
    naming = {str(p.relative_to(ROOT)) for p in files if re.search(r"\bconsistent\b", p.read_text())}
    assert naming == USES | FIRST | {"pipeline/settings.py"}
