"""An option is a field of a settings dataclass: command line, environment and settings files have it from there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rich_click as click
from click.testing import CliRunner

from clesr.engines.common.errors import UsageError
from clesr.pipeline import settings
from clesr.pipeline.settings import EngineSettings, LiveSettings, option_name, setting
from clesr.tools.cli import COMMANDS, clesr, read_config
from clesr.tools.common.options import make_settings, per_stream, settings_options


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSettings(EngineSettings):
    """The settings of every engine, with three that are new."""

    gain: float = setting(1.5, "How much brighter.", "FACTOR", panel="New things", above_zero=True)
    tint: str | None = setting(None, "Which colour.", panel="New things", choices=("red", "blue"))
    marks: tuple[int, ...] = setting((), "Where to mark.", "N", panel="New things", parse=int)


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherSettings:
    """Those of a command that opens no engine."""

    gain: float = setting(1.5, "How much brighter.", "FACTOR", above_zero=True)


@pytest.fixture
def made() -> Iterator[list[NewSettings]]:
    """What the command `new` makes of its options."""
    found: list[NewSettings] = []

    @click.command()
    @settings_options(NewSettings)
    def new(**options: Any) -> None:
        found.append(make_settings(NewSettings, options))

    COMMANDS.add("new", new)
    yield found
    COMMANDS.remove("new")


def run(*arguments: str, **more: Any) -> str:
    result = CliRunner().invoke(
        clesr, ["new", *arguments], auto_envvar_prefix="CLESR", catch_exceptions=False, **more
    )
    assert result.exit_code == 0, result.output
    return result.output


def test_a_field_is_an_option_of_the_command_line(made: list[NewSettings]) -> None:
    run()
    run("--gain", "3", "--tint", "blue", "--marks", "4", "--marks", "5", "--scale", "8")
    assert [(s.gain, s.tint, s.marks, s.scale) for s in made] == [
        (1.5, None, (), 4),
        (3.0, "blue", (4, 5), 8),
    ]


def test_a_field_is_a_variable_of_the_environment(made: list[NewSettings]) -> None:
    run(
        env={
            "CLESR_NEW_GAIN": "2.5",
            "CLESR_NEW_TINT": "red",
            "CLESR_NEW_MARKS": "1 2",
            "CLESR_NEW_SCALE": "2",
        }
    )
    assert [(s.gain, s.tint, s.marks, s.scale) for s in made] == [(2.5, "red", (1, 2), 2)]


def test_a_field_is_a_key_of_a_settings_file(made: list[NewSettings], tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[new]\ngain = 4\ntint = "red"\nmarks = [7, 8]\n')
    run("--tint", "blue", default_map=read_config(tmp_path / "c.toml"))
    assert [(s.gain, s.tint, s.marks) for s in made] == [(4.0, "blue", (7, 8))]
    (tmp_path / "c.toml").write_text("[new]\ngian = 4\n")
    with pytest.raises(UsageError, match=r"there is no option 'gian'; there are .*gain"):
        read_config(tmp_path / "c.toml")


def test_a_field_has_its_help_in_its_panel(made: list[NewSettings]) -> None:
    text = " ".join(run("--help").split())
    before, _, panel = text.partition("New things")
    assert "--scale" in before
    for words in ("--gain", "FACTOR", "How much brighter.", "[default: 1.5]", "[red|blue]", "Which colour."):
        assert words in panel


def test_what_cannot_work_is_refused_wherever_it_came_from(made: list[NewSettings]) -> None:
    with pytest.raises(UsageError, match=r"^--gain -1.0 is not positive$"):
        run("--gain", "-1")
    with pytest.raises(UsageError, match=r"^--gain 0.0 is not positive$"):
        make_settings(OtherSettings, {"gain": 0.0})
    result = CliRunner().invoke(clesr, ["new", "--gain"])
    assert (result.exit_code, "requires an argument" in result.output) == (2, True)
    with pytest.raises(UsageError, match=r"^--threads 0 is not positive$"):
        NewSettings(threads=0)
    result = CliRunner().invoke(clesr, ["new", "--tint", "green"])
    assert (result.exit_code, "is not one of" in result.output) == (2, True)


def test_every_option_of_a_live_run_is_a_field() -> None:
    general = {"max_size", "config", "quiet", "verbose", "debug"}
    params = COMMANDS["live"].params
    names = {each.name for each in params if each.expose_value} - general  # others, as --help, end the run
    assert names == {each for each in LiveSettings.__dataclass_fields__ if each != "stream"}
    assert per_stream(LiveSettings) == ["source", "output", "send", "mosaic", "summary", "record"]
    assert option_name("record_codec") == "--record-codec"


def test_the_values_that_are_allowed_are_those_that_are_known() -> None:
    from clesr.pipeline.session.video import CODECS as SESSION_CODECS
    from clesr.pipeline.video.encoding import CODECS as VIDEO_CODECS

    record_codec = LiveSettings.__dataclass_fields__["record_codec"].metadata["option"]
    assert record_codec.choices == SESSION_CODECS
    assert settings.VIDEO_CODECS == VIDEO_CODECS
