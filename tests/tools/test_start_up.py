"""What a command loads before it works: help is quick where nothing heavy is imported for it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import rich_click as click
from click.testing import CliRunner

from clesr.tools.cli import COMMANDS, FOREIGN_HELP, HELP, clesr

HEAVY = (
    "torch",
    "cv2",
    "av",
    "openvino",
    "numpy",
    "zmq",
    "tifffile",
    "lightning",
    "matplotlib",
    "ray",
    "pydicom",
)
SCRIPT = """
import json, sys
from click.testing import CliRunner
loaded = {}
def heavy(name):
    loaded[name] = [module for module in HEAVY if module in sys.modules]
from clesr.tools import entry
sys.argv = ["clesr", "--help"]
try:
    entry.main()
except SystemExit as end:
    assert not end.code
loaded["commands"] = [name for name in sys.modules if name.startswith("clesr.tools.commands.")]
heavy("clesr --help")
from clesr.tools.cli import COMMANDS
for name in COMMANDS:
    result = CliRunner().invoke(COMMANDS[name], ["--help"])
    assert result.exit_code == 0 and "Usage" in result.output, name
    heavy(name)
print("LOADED" + json.dumps(loaded))
"""


def test_help_loads_nothing_heavy() -> None:
    script = SCRIPT.replace("HEAVY", repr(HEAVY))
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=240
    )
    loaded = json.loads(found.stdout.rpartition("LOADED")[2])
    assert set(HELP) < set(loaded)
    assert {name: modules for name, modules in loaded.items() if modules} == {}


def test_the_line_of_each_command_is_the_beginning_of_its_own_help() -> None:
    for name, line in HELP.items():
        words = " ".join((COMMANDS[name].help or "").split())
        assert words.startswith(line), name
        assert words[len(line) : len(line) + 1] in ("", " "), name
        assert COMMANDS[name].name == name


def test_a_command_of_another_package_stands_among_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    @click.option("--loud", is_flag=True)
    def greet(loud: bool) -> None:
        click.echo("HELLO" if loud else "hello")

    COMMANDS.add("greet", greet)
    try:
        listed = CliRunner().invoke(clesr, ["--help"]).output
        assert FOREIGN_HELP.split("`")[0].strip() in listed
        assert CliRunner().invoke(clesr, ["greet", "--loud"]).output == "HELLO\n"
        loud = CliRunner().invoke(clesr, ["greet"], env={"CLESR_GREET_LOUD": "1"}, auto_envvar_prefix="CLESR")
        assert loud.output == "HELLO\n"
    finally:
        COMMANDS.remove("greet")


def test_a_command_that_is_not_there_is_named() -> None:
    result = CliRunner().invoke(clesr, ["nosuch"])
    assert result.exit_code == 2
    assert "No such command 'nosuch'" in result.output
