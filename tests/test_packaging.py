"""The packages, the disk and the built wheel agree; the documents' figures are those measured."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
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

# What is loaded only where an extra is installed, and then may load what the extra brings.
OF_EXTRAS = {
    "pipeline/sinks/browser": "browser",
    "tools/evaluation/figures.py": "train",
    "tools/export/delivery/dimse.py": "dicom",
}
# What another package brings on machines that can use it: torch for cards, torch-tensorrt.
BROUGHT = {"triton", "tensorrt"}


def test_every_folder_of_code_is_a_package() -> None:
    """So that the packages need not be listed."""
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file()


def foreign_imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Each package of others that a file imports, and whether it comes with the file."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [str(node.module)]
        for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"clesr"}:
            yield top, node in tree.body


def plain(requirement: str) -> str:
    """The name of a distribution in the one way of writing it, without versions, extras and markers."""
    return re.sub(r"[-_.]+", "-", re.split(r"[ \[<>=;]", requirement)[0]).lower()


def test_what_is_imported_is_what_pip_installs() -> None:
    """A package that only comes along with the tests' own is missing where a user installs clesr."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    always = {plain(each) for each in project["dependencies"]}
    extras = {name: {plain(each) for each in of} for name, of in project["optional-dependencies"].items()}
    asked = set().union(*(of for name, of in extras.items() if name not in ("test", "lint", "docs")))
    provided = metadata.packages_distributions()
    for path in (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        own = set().union(*(extras[extra] for where, extra in OF_EXTRAS.items() if place.startswith(where)))
        for package, at_once in foreign_imports(path):
            if package not in BROUGHT:
                name = plain(provided.get(package, [package])[0])
                assert name in always | (own if at_once else asked), f"{place} imports {name}"


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
