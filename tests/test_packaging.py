"""The packages, the disk and the built wheel agree; the documents' figures are those measured."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import report
from click.testing import CliRunner
from commands import Run

import clesr

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


def test_the_documents_show_the_committed_figures() -> None:
    done = CliRunner().invoke(report.main, ["--check"])
    assert done.exit_code == 0, done.output


def test_the_version_is_that_of_the_installed_package(run: Run) -> None:
    assert clesr.__version__ == metadata.version("clesr")
    code, out, _ = run("clesr", "--version")
    assert code == 0
    assert out == f"clesr, version {clesr.__version__}\n"
