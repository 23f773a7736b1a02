"""`clesr info`: what a session, a model or a recording is."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import rich_click as click

from clesr.engines.common.text import presentable
from clesr.engines.models.weights import load_model
from clesr.pipeline.session.format import MANIFEST
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.sources.registry import open_source
from clesr.tools.common.options import general_options


@click.command(name="info")
@click.argument("path", metavar="PATH")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
@general_options()
def info(path: str, as_json: bool) -> None:
    """Show what PATH is: a session folder, a weights file, or a recording that clesr can read."""
    facts = describe(path)
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{presentable(name).replace('_', ' '):{width}}  {presentable(_words(value))}")


def describe(path: str) -> dict[str, Any]:
    """The facts about ``path``; raises ClesrError where it is nothing that is known."""
    file = Path(path)
    if (file / MANIFEST).is_file():
        return {"kind": "session", **asdict(read_session(file).info)}
    if file.suffix == ".safetensors":
        model = load_model(file)
        return {"kind": "model", **asdict(model.descriptor), "sha256": model.sha256}
    source = open_source(path, pace="max", count=True)
    try:
        facts = source.info
        return {
            "kind": "live source" if facts.live else "recording",
            "address": facts.address,
            "shape": facts.shape,
            "frames": facts.frames,
            "fps": facts.fps,
            "seconds": round(facts.frames / facts.fps, 3) if facts.frames and facts.fps else None,
        }
    finally:
        source.close()


def _words(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, dict | list | tuple):
        return json.dumps(value)
    return str(value)
