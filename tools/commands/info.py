"""`clesr info`: what a session, a model or a recording is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from clesr.engines.common.text import presentable
from clesr.pipeline.settings import ReadingSettings, setting
from clesr.tools.common.options import command

if TYPE_CHECKING:
    from clesr.pipeline.source import SourceInfo

SAME_RATE = 0.01  # by which times of whole milliseconds may differ from a rate


@dataclass(frozen=True, kw_only=True)
class InfoOptions(ReadingSettings):
    """How it is read and shown."""

    json: bool = setting(False, "Print JSON instead of lines.")


@command(InfoOptions)
@click.argument("path", metavar="PATH")
def info(options: InfoOptions, path: str) -> None:
    """Show what PATH is: a session folder, a weights file, or a recording that clesr can read."""
    facts = describe(path, options.reading())
    for line in [json.dumps(facts, indent=2)] if options.json else map(presentable, lines(facts)):
        print(line)


def describe(path: str, reading: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The facts about ``path``, read as ``reading`` says (``ReadingSettings.reading``).

    Raises ClesrError where it is nothing that is known.
    """
    from clesr.engines.models.weights import load_model
    from clesr.pipeline.session.format import MANIFEST
    from clesr.pipeline.session.reader import read_session
    from clesr.pipeline.sources.registry import open_source

    file = Path(path)
    if (file / MANIFEST).is_file():
        session = read_session(file)
        began = session.info.started_ns
        notes = [
            {"seconds": round((each.time_ns - began) / 1e9, 3), "frame": each.number, "text": each.text}
            for each in session.notes()
        ]
        return {"kind": "session", **asdict(session.info), "notes": notes}
    if file.suffix == ".safetensors":
        model = load_model(file)
        return {"kind": "model", **asdict(model.descriptor), "sha256": model.sha256}
    with closing(open_source(path, pace="max", count=True, **(reading or {}))) as source:
        facts = source.info
    stated = facts.frames / facts.fps if facts.frames and facts.fps else None
    return {
        "kind": "live source" if facts.live else "recording",
        **{name: getattr(facts, name) for name in ("address", "shape", "frames")},
        "fps": _rate(facts),
        "seconds": round(seconds, 3) if (seconds := facts.seconds or stated) else None,
        **({} if facts.pixel_aspect == 1 else {"pixel_aspect": str(facts.pixel_aspect)}),
    }


def _rate(facts: SourceInfo) -> float | None:
    """Frames a second as stated, or the mean where the frames have other times."""
    if not facts.frames or not facts.seconds:
        return facts.fps
    mean = facts.frames / facts.seconds
    return facts.fps if facts.fps and abs(mean / facts.fps - 1) < SAME_RATE else round(mean, 3)


def lines(facts: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """``facts`` as lines: a name and its value, or under a name lines of its own."""
    width = max(map(len, facts), default=0)
    for key, value in facts.items():
        name = f"{indent}{key.replace('_', ' '):{width}}"
        if isinstance(value, Mapping) and value:
            yield name.rstrip()
            yield from lines(value, indent + "  ")
        elif isinstance(value, list | tuple) and value and all(isinstance(one, Mapping) for one in value):
            for one in value:
                yield f"{name}  {', '.join(f'{k} {_words(v)}' for k, v in one.items() if v not in (None, ''))}"
        elif key.endswith("shape") and isinstance(value, list | tuple) and len(value) == 2:
            yield f"{name}  {value[1]} x {value[0]} pixels"
        else:
            yield f"{name}  {_words(value)}"


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping | list | tuple):
        return ", ".join(map(_words, value)) or "-"
    return f"{value:.10g}" if isinstance(value, float) else "-" if value in (None, "") else str(value)
