"""The site's hook: documents outside docs/ become pages; links hold in the repository and on the site."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "README.md": "index.md",  # a page of its own says the same
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents, and the pictures that pages show from elsewhere."""
    for document, uri in PAGES.items():
        if uri not in files.src_uris:
            files.append(File.generated(config, uri, abs_src_path=str(ROOT / document)))
    for page in list(files.documentation_pages()):
        for image, _, target in LINK.findall(page.content_string):
            path = _in_repository(page.src_uri, target)
            uri = _on_site(path)
            if image and path.endswith(".png") and not path.startswith("docs/") and uri not in files.src_uris:
                files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at pages and pictures of the site; what is not on it keeps its words alone."""

    def mended(match: re.Match[str]) -> str:
        image, words, target = match.groups()
        path, mark, fragment = target.partition("#")
        if not path or "://" in target or target.startswith("mailto:"):
            return match[0]
        uri = _on_site(_in_repository(page.file.src_uri, path))
        if uri not in files.src_uris:
            return match[0] if image or (ROOT / "docs" / uri).is_file() else words
        found = posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")
        return f"{image}[{words}]({found}{mark}{fragment})"

    return LINK.sub(mended, markdown)


def on_page_content(html: str, **_: object) -> str:
    """Docstrings announce code by ``::``, which Markdown does not know; long names of tests break between words."""
    html = re.sub(r"\s*::</p>", "</p>", html)
    return re.sub(r"<code>test_\w+</code>", lambda match: match[0].replace("_", "_<wbr>"), html)


def _in_repository(uri: str, target: str) -> str:
    """The path from the repository's root of what the page ``uri`` links to as ``target``."""
    document = next(
        (name for name, page in PAGES.items() if page == uri and name != "README.md"), f"docs/{uri}"
    )
    return posixpath.normpath(posixpath.join(posixpath.dirname(document), target))


def _on_site(path: str) -> str:
    """Where ``path`` of the repository is on the site."""
    if path in PAGES:
        return PAGES[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"pictures/{posixpath.basename(path)}"
