"""The packages, the disk and the built wheel agree; the documents' figures are those measured."""

from __future__ import annotations

import shlex
import subprocess
import sys
import zipfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import report
from click.testing import CliRunner
from commands import Run
from session_runs import frames, make_run

import clesr
from clesr.pipeline.session.format import format_manifest
from clesr.pipeline.session.reader import read_session

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("pipeline", "engines", "tools")


def test_every_folder_of_code_is_a_package() -> None:
    """So that the packages need not be listed."""
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file()


@pytest.mark.slow
def test_the_wheel_holds_everything_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=250)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"clesr"}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".safetensors", ".html", ".js", ".css") or path.name == "MODEL_CARD.md":
                assert f"clesr/{path.relative_to(ROOT)}" in names
    assert "clesr/py.typed" in names


def test_the_unit_that_repairs_closes_what_was_cut_off_and_nothing_else(tmp_path: Path) -> None:
    unit = (ROOT / "docs/deploy/clesr-repair.service").read_text().replace("\\\n", "")
    (line,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    words = shlex.split(line.removeprefix("ExecStart=").replace("$$", "$").replace("%%", "%"))
    tool = tmp_path / "clesr"
    tool.write_text(f'#!/bin/sh\necho "$1 $(basename "$2")" >>{tmp_path}/asked\nexit 1\n')
    tool.chmod(0o700)
    run, _ = make_run(frames(range(5)))
    run.start_recording(tmp_path / "session-closed")
    run.run()
    closed = read_session(tmp_path / "session-closed").info
    for name in ("session-a", "session-b"):
        (tmp_path / name).mkdir()
        cut = replace(closed, closed=False, ended="", totals=None, lines=None, chain=None, files=None)
        (tmp_path / name / "session.json").write_bytes(format_manifest(cut))
    command = words[2].replace("/var/lib/clesr", str(tmp_path)).replace("/opt/clesr/bin/clesr", str(tool))
    subprocess.run([*words[:2], command], check=True, timeout=60)
    assert (tmp_path / "asked").read_text().splitlines() == ["repair session-a", "repair session-b"]
    live = (ROOT / "docs/deploy/clesr-live.service").read_text()
    assert "ExecStartPre" not in live, "the live view waits for no repair"


@pytest.mark.slow
def test_the_documents_show_the_committed_figures() -> None:
    done = CliRunner().invoke(report.main, ["--check"])
    assert done.exit_code == 0, done.output


def test_the_version_is_that_of_the_installed_package(run: Run) -> None:
    assert clesr.__version__ == metadata.version("clesr")
    code, out, _ = run("clesr", "--version")
    assert code == 0
    assert out == f"clesr, version {clesr.__version__}\n"
