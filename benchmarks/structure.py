"""How the code hangs together, measured: import depth, circles, lines, and the way of one frame through files.

python benchmarks/structure.py [--json]

The import depth is the longest chain of modules that import one another when they are loaded; imports inside
functions and those for type checkers alone are left out of it. Circles of modules count both too, circles of folders
those for type checkers. The way of a frame is what ``threading.setprofile`` sees on its threads between the read of one
frame and its image in a sink and a session, per frame: files passed, functions passed, and changes from one file to
another.
"""

from __future__ import annotations

import ast
import json
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import FrameType
from typing import Any

import click

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("pipeline", "engines", "tools")
FRAMES = 180  # of the run that is watched
WARM = 20  # frames of it that are not counted


@dataclass
class Module:
    """A module's imports within the project."""

    loads: set[str] = field(default_factory=set)  # when it is loaded
    types: set[str] = field(default_factory=set)  # for type checkers alone
    late: set[str] = field(default_factory=set)  # inside functions, or any of these


def modules() -> dict[str, Module]:
    """Every module of the product, by its name."""
    files = {name_of(path): path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))}
    return {name: imports_of(path, set(files)) for name, path in files.items()}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("clesr", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def imports_of(path: Path, known: set[str]) -> Module:
    """What the module in ``path`` imports of the ``known`` ones."""
    found, tree = Module(), ast.parse(path.read_text())
    for statement, for_types in _statements(tree.body, False):
        (found.types if for_types else found.loads).update(_targets(statement, known))
    found.types -= found.loads
    found.late.update(*(_targets(node, known) for node in ast.walk(tree)))
    return found


def _targets(node: ast.AST, known: set[str]) -> set[str]:
    """The ``known`` modules that ``node`` imports, if it is an import."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names} & known
    if not isinstance(node, ast.ImportFrom) or not node.module:
        return set()
    inner = {f"{node.module}.{alias.name}" for alias in node.names}
    return (inner | {node.module}) & known


def _statements(body: list[ast.stmt], for_types: bool) -> Iterator[tuple[ast.stmt, bool]]:
    """The statements outside functions, and whether only type checkers see them."""
    for statement in body:
        yield statement, for_types
        if isinstance(statement, ast.If):
            only = "TYPE_CHECKING" in ast.unparse(statement.test)
            yield from _statements(statement.body, for_types or only)
            yield from _statements(statement.orelse, for_types)
        elif isinstance(statement, ast.Try | ast.With | ast.ClassDef):
            yield from _statements(statement.body, for_types)
            for handler in getattr(statement, "handlers", ()):
                yield from _statements(handler.body, for_types)


def deepest(graph: dict[str, set[str]]) -> list[str]:
    """The longest chain of ``graph``, which has no circles among what it follows."""
    following: list[str] = []

    @cache
    def chain(name: str) -> tuple[str, ...]:
        following.append(name)
        tails = [chain(other) for other in sorted(graph[name]) if other not in following]
        following.pop()
        longest: tuple[str, ...] = max(tails, key=len) if tails else ()
        return (name, *longest)

    deepest_of_all: tuple[str, ...] = max(map(chain, graph), key=len)
    return list(deepest_of_all)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of names that reach one another (Tarjan's strongly connected components of more than one name)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return found


def folder_of(name: str) -> str:
    """The folder that holds the module ``name``."""
    path = ROOT.joinpath(*name.split(".")[1:])
    return name if path.is_dir() else name.rpartition(".")[0]


def by_folder(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The imports between folders that ``graph`` comes to; a package's face is not counted with its folder's files."""
    folders: dict[str, set[str]] = {folder_of(name): set() for name in graph}
    for name, others in graph.items():
        folders[folder_of(name)].update(folder_of(other) for other in others)
    return {name: others - {name} for name, others in folders.items()}


class Watch:
    """Counts the project's functions, files and changes of file while frames run, on every thread."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.changes = 0
        self.on = False
        self._last = threading.local()

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if not self.on or event not in ("call", "return"):
            return
        file = self._file(frame if event == "call" else frame.f_back)
        if file is None:
            return
        if event == "call":
            self.files.add(file)
            self.calls[f"{file}:{frame.f_code.co_qualname}"] += 1
        last = getattr(self._last, "file", file)
        self.changes += last != file
        self._last.file = file

    @staticmethod
    def _file(frame: FrameType | None) -> str | None:
        if frame is None or "clesr" not in frame.f_globals.get("__name__", ""):
            return None
        name = Path(frame.f_code.co_filename)
        return (
            str(name.relative_to(ROOT)).removeprefix(".import/clesr/") if name.is_relative_to(ROOT) else None
        )


def follow_frames() -> dict[str, Any]:
    """The way of a frame from a video file to a display (a window where there is one) and a session: through all
    threads but the main one, which only looks, the more often the slower the machine is."""
    watch = Watch()
    threading.setprofile(watch)
    try:
        with tempfile.TemporaryDirectory() as folder:
            _run(Path(folder), watch)
    finally:
        threading.setprofile(None)
    counted = FRAMES - WARM
    often = [name for name, count in watch.calls.items() if count >= counted * 0.8]
    files = sorted({name.partition(":")[0] for name in often})
    return {
        "frames": counted,
        "files": len(files),
        "functions": len(often),
        "changes_of_file": round(watch.changes / counted, 1),
        "by_file": files,
    }


def _run(folder: Path, watch: Watch) -> None:
    """A live run that ``watch`` sees from frame WARM on."""
    from clesr.engines.factory import open_engine
    from clesr.pipeline.frame import Frame
    from clesr.pipeline.pipeline import Pipeline
    from clesr.pipeline.prepare import Prepare
    from clesr.pipeline.session.recorder import Recorder
    from clesr.pipeline.sinks.registry import open_sink
    from clesr.pipeline.sources.registry import open_source

    source = open_source(str(_video(folder / "in.mkv")), pace="max")
    read = source.read

    def counted(timeout: float) -> Any:
        item = read(timeout)
        watch.on = isinstance(item, Frame) and item.number >= WARM
        return item

    source.read = counted  # type: ignore[method-assign]
    prepare = Prepare()
    recorder = Recorder(source.info, scale=2)
    display = open_sink("window" if os.environ.get("DISPLAY") else "null")
    engine = partial(open_engine, "auto", "bicubic", 2)
    pipeline = Pipeline(source, engine, [display], scale=2, prepare=prepare, recorder=recorder)
    pipeline.start_recording(folder / "session")
    pipeline.run()
    watch.on = False


def _video(path: Path) -> Path:
    """A lossless gray video of FRAMES frames with structure, as tissue has."""
    import av
    import numpy as np

    y, x = np.mgrid[:80, : 96 + FRAMES].astype(np.float32)
    scene = (128 + 60 * np.sin(x / 6) * np.cos(y / 5) + 30 * np.sin(x / 17 + y / 11)).astype(np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=25, width=96, height=80, pix_fmt="gray")
        for number in range(FRAMES):
            image = np.ascontiguousarray(scene[:, number : number + 96])  # drifting past
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, "gray")))
        file.mux(stream.encode(None))
    return path


def measure(*, frames: bool) -> dict[str, Any]:
    found = modules()
    loads = {name: module.loads - {name} for name, module in found.items()}
    every = {name: (module.loads | module.types) - {name} for name, module in found.items()}
    late = {name: module.late - {name} for name, module in found.items()}
    chain = deepest(loads)
    lines = {folder: _lines(folder) for folder in FOLDERS}
    result: dict[str, Any] = {
        "modules": len(found),
        "lines": {**lines, "all": sum(lines.values())},
        "imports_a_module": round(sum(map(len, loads.values())) / len(loads), 2),
        "import_depth": len(chain),
        "deepest_chain": chain,
        "circles_of_modules": circles(late),
        "circles_of_folders": circles(by_folder(every)),
    }
    if frames:
        result["way_of_a_frame"] = follow_frames()
    return result


def _lines(folder: str) -> int:
    return sum(len(path.read_text().splitlines()) for path in (ROOT / folder).rglob("*.py"))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--frames/--no-frames", default=True, help="Run the live path and follow its frames too.")
def main(as_json: bool, frames: bool) -> None:
    """Measure the structure of the code."""
    result = measure(frames=frames)
    if as_json:
        click.echo(json.dumps(result, indent=1))
        return
    for name, value in result.items():
        if name == "deepest_chain":
            click.echo("deepest chain: " + " -> ".join(module.removeprefix("clesr.") for module in value))
        elif isinstance(value, dict):
            click.echo(
                f"{name}: "
                + ", ".join(f"{key} {number}" for key, number in value.items() if key != "by_file")
            )
        else:
            click.echo(f"{name}: {value}")


if __name__ == "__main__":
    main()
