"""`clesr info`: what a session, a model or a recording is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import rich_click as click

from clesr.engines.common.text import presentable
from clesr.pipeline.settings import setting
from clesr.tools.common.options import command


@dataclass(frozen=True, kw_only=True)
class InfoOptions:
    """How it is shown."""

    json: bool = setting(False, "Print JSON instead of lines.")


@command(InfoOptions)
@click.argument("path", metavar="PATH")
def info(options: InfoOptions, path: str) -> None:
    """Show what PATH is: a session folder, a weights file, or a recording that clesr can read."""
    facts = describe(path)
    for line in [json.dumps(facts, indent=2)] if options.json else map(presentable, lines(facts)):
        print(line)


def describe(path: str) -> dict[str, Any]:
    """The facts about ``path``; raises ClesrError where it is nothing that is known."""
    from clesr.engines.models.weights import load_model
    from clesr.pipeline.session.format import MANIFEST
    from clesr.pipeline.session.reader import read_session
    from clesr.pipeline.sources.registry import open_source

    file = Path(path)
    if (file / MANIFEST).is_file():
        return {"kind": "session", **asdict(read_session(file).info)}
    if file.suffix == ".safetensors":
        model = load_model(file)
        return {"kind": "model", **asdict(model.descriptor), "sha256": model.sha256}
    with closing(open_source(path, pace="max", count=True)) as source:
        facts = source.info
        return {
            "kind": "live source" if facts.live else "recording",
            **{name: getattr(facts, name) for name in ("address", "shape", "frames", "fps")},
            "seconds": round(facts.frames / facts.fps, 3) if facts.frames and facts.fps else None,
        }


def lines(facts: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """``facts`` as lines: a name and its value, or under a name lines of its own."""
    width = max(map(len, facts), default=0)
    for key, value in facts.items():
        name = f"{indent}{key.replace('_', ' '):{width}}"
        if isinstance(value, Mapping) and value:
            yield name.rstrip()
            yield from lines(value, indent + "  ")
        elif isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
            for one in value:
                yield f"{name}  {', '.join(f'{k} {_words(v)}' for k, v in one.items() if v not in (None, ''))}"
        elif key.endswith("shape") and value:
            yield f"{name}  {value[1]} x {value[0]} pixels"
        else:
            yield f"{name}  {_words(value)}"


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping | list | tuple):
        return ", ".join(map(_words, value)) or "-"
    return f"{value:.10g}" if isinstance(value, float) else "-" if value in (None, "") else str(value)
