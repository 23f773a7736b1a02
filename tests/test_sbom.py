"""`make sbom` lists what is installed, as CycloneDX."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOL = ROOT / ".venv-sbom" / ".installed"


def normal(name: str) -> str:
    """The name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if shutil.which("make") is None or not TOOL.exists():
        pytest.skip("what lists packages is missing: make .venv-sbom/.installed")
    path = tmp_path_factory.mktemp("sbom") / "sbom.json"
    command = ["make", "sbom", f"SBOM={path}", f"SBOM_OF={sys.executable}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=250)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.slow
def test_the_bill_of_materials_is_what_is_installed(bill: dict[str, Any]) -> None:
    assert (bill["bomFormat"], bill["specVersion"][:2]) == ("CycloneDX", "1.")
    listed = {(normal(part["name"]), part["version"]) for part in bill["components"]}
    installed = {(normal(one.metadata["Name"]), one.version) for one in metadata.distributions()}
    assert {(name, version) for name, version in installed if name != "clesr"} <= listed
    assert len(listed) > 50
    assert all(part["purl"].startswith("pkg:pypi/") for part in bill["components"] if part["name"] != "clesr")


@pytest.mark.slow
def test_it_is_about_clesr_and_names_what_clesr_needs(bill: dict[str, Any]) -> None:
    about = bill["metadata"]["component"]
    assert (about["name"], about["type"]) == ("clesr", "application")
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {normal(re.split(r"[^\w.-]", requirement)[0]) for requirement in needed}
    listed = {part["bom-ref"]: normal(part["name"]) for part in bill["components"]}
    (own,) = [each for each in bill["dependencies"] if each["ref"] == about["bom-ref"]]
    assert names <= {listed[reference] for reference in own["dependsOn"]}
