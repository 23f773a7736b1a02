"""The built site shows its pages without asking any other host for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from documents import ROOT

LOADED = ("src", "srcset", "poster", "data")  # attributes whose addresses a browser loads by itself
NOT_LOADED = ("canonical", "prev", "next", "alternate")  # kinds of links in a head that it does not


class Loading(HTMLParser):
    """What a page makes a browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.classes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.addresses += [given[name] for name in LOADED if name in given]
        if tag == "link" and given.get("rel") not in NOT_LOADED:
            self.addresses.append(given.get("href", ""))
        self.addresses += _in_styles(given.get("style", ""))
        self.classes.update(given.get("class", "").split())


def _in_styles(text: str) -> list[str]:
    """The addresses that style sheets load."""
    return re.findall(r"""(?:url\(|@import)\s*["']?([^"')]+)""", text)


def elsewhere(address: str) -> bool:
    return re.match(r"\s*(https?:)?//", address) is not None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="`make docs` installs what builds the site")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.slow
def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        seen = Loading()
        seen.feed(page.read_text())
        assert seen.addresses
        assert not [address for address in seen.addresses if elsewhere(address)], page
        assert "mermaid" not in seen.classes, f"{page}: the theme fetches Mermaid to draw it"
    for sheet in site.rglob("*.css"):
        assert not [address for address in _in_styles(sheet.read_text()) if elsewhere(address)], sheet


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://unpkg.com/mermaid"></script>',
        '<img src="//example.org/a.png">',
        '<link rel="stylesheet" href="https://fonts.example/a.css">',
        '<p style="background: url(https://example.org/a.png)">',
    ],
)
def test_what_another_host_would_be_asked_for_is_found(html: str) -> None:
    seen = Loading()
    seen.feed(html)
    assert [elsewhere(address) for address in seen.addresses] == [True]
