"""`clesr-live --display browser` as a user types it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from commands import Run, one_line

FEW = (
    "--source",
    "demo:?size=64&frames=3&pace=max",
    "--model",
    "bicubic",
    "--scale",
    "2",
    "--display",
    "browser",
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_tells_where_to_look(run: Run) -> None:
    code, _, err = run("clesr-live", *FEW, "--listen", "127.0.0.1:0")
    assert code == 0, err
    assert len(re.findall(r"^open in a browser: http://127\.0\.0\.1:\d+/$", err, re.MULTILINE)) == 1
    assert "wrote browser: " in err


def test_another_address_has_a_token_that_is_told_even_when_quiet(run: Run) -> None:
    code, _, err = run("clesr-live", *FEW, "--listen", "0.0.0.0:0", "--quiet")
    assert code == 0, err
    assert len(re.findall(r"\?token=[\w-]{40,}$", err, re.MULTILINE)) == 1
    assert "not encrypted" in err


def test_several_streams_have_one_page(run: Run) -> None:
    words = (
        "--source",
        "a=demo:?size=64&frames=2&pace=max",
        "--source",
        "b=demo:?size=64&frames=2&pace=max",
        *FEW[2:],
    )
    code, _, err = run("clesr-live", *words, "--listen", "127.0.0.1:0")
    assert code == 0, err
    assert err.count("open in a browser") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        ("--listen", "nowhere"),
        ("--token-file", "none"),
        ("--tls-key", "none.pem"),
        ("--tls-certificate", "none.pem"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(run: Run, wrong: tuple[str, ...]) -> None:
    code, _, err = run("clesr-live", *FEW, *wrong)
    assert code == 2
    assert wrong[0] in one_line(err)


def test_without_its_packages_the_command_that_installs_them_is_told(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("clesr.pipeline.sinks.browser")]:
        if name.endswith((".app", ".server")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    code, _, err = run("clesr-live", *FEW)
    assert code == 1
    assert "pip install 'clesr[browser]'" in one_line(err)
