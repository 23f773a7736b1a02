"""The fenced blocks of README and docs, the docstrings of examples, and the commands in them."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
FENCED = re.compile(
    r"^(?:<!-- needs: (?P<needs>[^>]+?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
ASSIGNMENT = re.compile(r"[A-Z_]+=.*")


@dataclass(frozen=True, slots=True)
class Block:
    """``text`` in ``language``; ``needs`` names what the machine must have to run it, empty for nothing special."""

    page: Path
    line: int
    language: str
    needs: str
    text: str

    def __str__(self) -> str:
        return f"{name(self.page)}:{self.line}"


@dataclass(frozen=True, slots=True)
class Command:
    """``words`` as a shell would give them, ``environment`` what is assigned before them."""

    block: Block
    environment: dict[str, str]
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.block}: {shlex.join(self.words)}"


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> list[Block]:
    """Those of ``page`` in one of ``languages``, in their order. Of a program: what is indented in its docstring."""
    text = page.read_text()
    if page.suffix == ".py":
        shown = re.findall(r"^    .+\n", ast.get_docstring(ast.parse(text), clean=False) or "", re.MULTILINE)
        return [Block(page, 1, "bash", "", "".join(shown))] if "bash" in languages and shown else []
    found = []
    for match in FENCED.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        found.append(Block(page, line, match["language"], match["needs"] or "", match["text"]))
    return [block for block in found if block.language in languages or not languages]


def commands(page: Path) -> list[Command]:
    """What ``page`` tells a user to type."""
    return [command for block in blocks(page, "bash", "console") for command in _typed(block)]


def _typed(block: Block) -> Iterator[Command]:
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        environment = {}
        while words and ASSIGNMENT.fullmatch(words[0]):
            variable, _, value = words.pop(0).partition("=")
            environment[variable] = value
        if words:
            yield Command(block, environment, tuple(words))
