"""Every command and every Python block of README, docs and examples works.

A command is parsed by the real command line in the fast tests, and run in the slow ones: in a folder that has the files
that the pages speak of, with a simulated endomicroscope in place of a camera and few frames, steps and pixels. A block
that needs what a test machine lacks says so (``<!-- needs: GPU -->``) and is parsed alone.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest
import tifffile
import zmq
from bundles import draw_bundle
from commands import Run
from documents import EXAMPLES, PAGES, ROOT, Command, blocks, commands, name
from recordings import drifting, write_video
from waits import joined

import clesr
from clesr.engines.common.registry import Registry
from clesr.engines.gpu import PROVEN

LACKING = {
    "bundle": "a fibre bundle before a camera: tests/pipeline/cores draws some",
    "camera": "a frame grabber: tests/pipeline/sources/v4l2 has one",
    "GPU": "an NVIDIA card",
    "GPUs": "several NVIDIA cards",
    "network camera": "a camera that sends: tests/pipeline/sources/video/test_network.py has servers",
    "Ray": "a Ray cluster: tests/tools/archive/test_cluster.py has it",
    "git": "a clone that may be changed",
    "crash": "a recording that was cut off: tests/pipeline/session/test_killed.py repairs some",
    "archive": "an archive: tests/tools/export/delivery/test_orthanc.py has one",
    "session": "a recorded session, which only the slow tests make",
    "running clesr-live": "tests/tools/commands/test_control.py has one",
}
CLESR = ("clesr", "clesr-live")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LANGUAGES = {"bash", "console", "python", "toml", "text"}
GROUPS = {
    f"clesr.{kind}" for kind in ("sources", "sinks", "models", "engines", "exporters", "commands", "actions")
}

CAMERA = "demo:?size=256&fps=25&seed=1"
INSTEAD = {  # of what the pages say, word by word or within a word
    re.compile(r"^(\w+=)?/dev/video\d(\?.*)?$"): rf"\1{CAMERA}",
    re.compile(r"^zmq\+tcp://scanner:5555$"): CAMERA,
    re.compile(r"^zmq\+tcp://\*:(\d+)$"): r"zmq+ipc://\1.socket",
    re.compile(r"^(256x256|576x592)$"): "32x32",
    re.compile(r"^120$"): "3",
    re.compile(r"^gpu$"): "cpu",
    re.compile(r"^densenet$"): "srcnn",  # a hundredth of the work
}
LIVE = ("--display", "none", "--frames", "6", "--seconds", "20")
BRIEFLY = {
    "live": LIVE,
    "replay": LIVE,
    "train": ("--steps", "2", "--batch", "2", "--every", "2"),
    "bench": ("--model", "fast", "--scale", "2", "--size", "32x32", "--seconds", "0.05", "--repeats", "1"),
    "demo": ("--seconds", "1"),
}
WRITTEN = ("-o", "--output", "--out", "--mosaic", "--record", "--json", "--plot", "--summary")


def pages(*languages: str) -> pytest.MarkDecorator:
    """A test for each page, or program of examples, that has blocks in one of ``languages``."""
    found = [page for page in (*PAGES, *EXAMPLES) if blocks(page, *languages)]
    return pytest.mark.parametrize("page", found, ids=map(name, found))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, empty but for the settings that the pages show, and a recipe without any."""
    monkeypatch.chdir(tmp_path)
    Path("runs/x2").mkdir(parents=True)
    Path("runs/x2/recipe.toml").touch()
    for page in PAGES:
        for block in blocks(page, "toml"):
            if shown := re.match(r"# ([\w.]+\.toml)", block.text):
                Path(shown[1]).write_text(block.text)
    return tmp_path


def test_every_block_says_what_it_is_and_what_it_needs() -> None:
    for page in PAGES:
        for block in blocks(page):
            assert block.language in LANGUAGES, f"{block}: {block.language!r} is none of {LANGUAGES}"
            assert block.needs in ("", *LACKING), f"{block}: {block.needs!r} is none of {LACKING}"
        fences = re.findall(r"^```", page.read_text(), re.MULTILINE)
        assert len(fences) == 2 * len(blocks(page)), f"{name(page)}: a fence that is indented or not closed"


@pages("bash", "console")
def test_every_command_is_understood(
    page: Path, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(click.Command, "invoke", lambda *_: None)  # everything but the work itself
    for command in commands(page):
        words = command.words
        if words[0] == "torchrun":
            words = words[words.index("clesr") :]
        if words[0] in CLESR:
            with monkeypatch.context() as around:
                for variable, value in command.environment.items():
                    around.setenv(variable, value)
                code, _, err = run(*words)
            assert code == 0, f"{command}\n{err}"
        else:
            _check_other(command)


def _check_other(command: Command) -> None:
    """A command that is not clesr's."""
    program, *arguments = command.words
    if program == "pip":
        assert arguments[0] == "install"
        extras = re.findall(r"\[(.+?)\]", " ".join(arguments))
        assert set(extras) <= set(PROJECT["optional-dependencies"]), command
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in arguments if "=" not in word} <= set(targets), command
    elif program == "python":
        assert (ROOT / arguments[0]).is_file(), command
    else:
        assert command.block.needs, f"{command}: no test knows {program}"
        assert program.startswith(".venv/") or os.access(ROOT / program, os.X_OK), command


@pages("toml")
def test_every_toml_block_is_toml_and_names_groups_that_exist(page: Path) -> None:
    for block in blocks(page, "toml"):
        parsed = tomllib.loads(block.text)
        assert set(parsed.get("project", {}).get("entry-points", {})) <= GROUPS, block


@pytest.fixture
def tidy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is added to registries is taken back."""
    added: list[tuple[Registry[object], str]] = []
    add = Registry.add

    def noted(registry: Registry[object], key: str, part: object) -> None:
        add(registry, key, part)
        added.append((registry, key))

    monkeypatch.setattr(Registry, "add", noted)
    yield
    for registry, key in added:
        registry.remove(key)


class KeepingContext(zmq.Context[zmq.Socket[bytes]]):
    """Keeps its sockets, to close those that an example only forgets."""

    kept: list[zmq.Socket[bytes]]

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["kept"] = []

    def socket(self, *arguments: Any, **options: Any) -> zmq.Socket[bytes]:
        made = super().socket(*arguments, **options)
        self.kept.append(made)
        return made


@pytest.fixture
def peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Addresses of ZeroMQ on this machine alone, with somebody who publishes on the second."""
    here = {"tcp://*:5555": f"ipc://{tmp_path}/in", "tcp://localhost:5556": f"ipc://{tmp_path}/out"}
    header = {"version": 1, "shape": [2, 3], "dtype": "uint8", "number": 1, "time_ns": 1, "stream": "sr"}
    context, done = KeepingContext(), threading.Event()
    monkeypatch.setattr(zmq, "Context", lambda: context)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)

    def publish() -> None:
        with context.socket(zmq.PUB) as socket:
            socket.bind(here["tcp://localhost:5556"])
            while not done.wait(0.02):
                socket.send_multipart([json.dumps(header).encode(), bytes(6)])

    publisher = threading.Thread(target=publish)
    publisher.start()
    yield lambda text: re.sub("|".join(map(re.escape, here)), lambda match: here[match[0]], text)
    done.set()
    joined(publisher)
    for socket in context.kept:
        socket.close(linger=0)
    context.destroy(linger=0)


@pytest.mark.usefixtures("folder", "tidy")
@pages("python")
@pytest.mark.slow
def test_every_python_block_runs(page: Path, peers: Callable[[str], str]) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        if block.needs in LACKING:
            compile(block.text, str(block), "exec", dont_inherit=True)
            continue
        lines = "\n" * block.line  # so that an error names the line of the page
        exec(compile(lines + peers(block.text), name(page), "exec", dont_inherit=True), names)


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages speak of, small."""
    stock = tmp_path_factory.mktemp("stock")
    large, small = drifting(4, (460, 420)), drifting(4, (64, 64))
    write_video(stock / "recording.mpeg", large, codec="mpeg2video", pixel_format="yuv420p")
    cv2.imwrite(str(stock / "still.png"), small[0])
    for kind, light in (("flat-field", 120.0), ("bundle", 80.0)):
        cv2.imwrite(str(stock / f"{kind}.png"), draw_bundle((200, 200)).show(light))
    for images in ("images", "cle", "mine", "test"):
        (stock / images).mkdir()
        for i, image in enumerate(drifting(3, (96, 96))):
            cv2.imwrite(str(stock / images / f"{i}.png"), image)
    channels = np.stack([drifting(3, (64, 64)), drifting(3, (64, 64), seed=1)], 1)
    tifffile.imwrite(stock / "stack.ome.tif", channels, photometric="minisblack", metadata={"axes": "TCYX"})
    tifffile.imwrite(stock / "floats.tif", channels[:, 0].astype(np.float32) / 170, photometric="minisblack")
    (stock / "archive" / "day").mkdir(parents=True)
    write_video(stock / "archive" / "day" / "a.mkv", small)
    cv2.imwrite(str(stock / "archive" / "b.png"), small[0])
    return stock


@pytest.fixture
def stocked(stock: Path, folder: Path, run: Run) -> Path:
    """``folder`` with the files, a recorded session, a training and two results of the bench."""
    if not (stock / "examination").exists():
        made = stock.with_name(f"{stock.name}-made")
        shutil.copytree(stock, made)
        os.chdir(made)
        fast = ("--model", "fast", "--scale", "4")
        recorded = "demo:?size=128&fps=100&pace=max"
        for words in (
            ("clesr-live", "--source", recorded, "--record", "examination", *fast, *LIVE),
            ("clesr", "train", "--data", "images", "-o", "runs/x2", "--scale", "2", *BRIEFLY["train"]),
            ("clesr", "train", "--data", "images", "-o", "runs/x4", *BRIEFLY["train"]),
            ("clesr", "bench", *BRIEFLY["bench"], "--json", "card.json"),
            ("clesr", "export", "images", "-o", "study.dcm"),
        ):
            code, _, err = run(*words)
            assert code == 0, err
        shutil.copy(made / "card.json", made / "laptop.json")
        shutil.copytree(made, stock, dirs_exist_ok=True)
        os.chdir(folder)
    shutil.copytree(stock, folder, dirs_exist_ok=True)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
@pages("bash", "console")
def test_every_command_does_its_work(
    page: Path, run: Run, stocked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in commands(page):
        if command.block.needs or command.words[0] not in CLESR:
            continue
        words = briefly(command)
        for option, value in itertools.pairwise(words):
            if option in WRITTEN and "{" not in value:
                shutil.rmtree(value, ignore_errors=True)
                named = Path(value)
                for made in (named, *named.parent.glob(f"{named.stem}.*{named.suffix}")):  # both of DICOM
                    made.unlink(missing_ok=True)
        with monkeypatch.context() as around:
            for variable, value in command.environment.items():
                around.setenv(variable, value)
            code, out, err = run(*words)
        assert code == 0, f"{command}\nas {words}\n{out}\n{err}"


@pytest.mark.slow
@pytest.mark.usefixtures("stocked")
def test_a_recorded_session_is_read() -> None:
    (block,) = [block for block in blocks(ROOT / "docs" / "library.md") if block.needs == "session"]
    exec(compile(block.text, str(block), "exec", dont_inherit=True), {"clesr": clesr})


def briefly(command: Command) -> tuple[str, ...]:
    """The words of ``command``, with stand-ins for what this machine lacks, and less to do."""
    words = list(command.words)
    for place, word in enumerate(words):
        for pattern, other in INSTEAD.items():
            word = pattern.sub(other, word)
        words[place] = word
    called = "live" if words[0] == "clesr-live" else words[1]
    if "--help" in words or "--compare" in words:
        return tuple(words)
    if called in ("live", "upscale") and "--model" not in words:
        words += ["--model", "fast"]
    return (*words, *BRIEFLY.get(called, ()))


def test_a_block_that_needs_something_is_found() -> None:
    page = ROOT / "docs" / "gpu.md"
    needing = [block for block in blocks(page, "bash") if block.needs == "GPU"]
    assert [block.text.split()[:2] for block in needing] == [["clesr", "build"], ["benchmarks/gpu.sh"]]


@pytest.mark.parametrize("page", ["README.md", "docs/gpu.md"])
def test_a_page_says_of_cards_what_doctor_says(page: str) -> None:
    assert PROVEN[1:] in " ".join((ROOT / page).read_text().split())


def test_the_readme_shows_the_library_that_there_is() -> None:
    shown = set(re.findall(r"clesr\.([A-Za-z_]\w*)\(", (ROOT / "README.md").read_text()))
    assert shown <= set(clesr.__all__)


def test_commands_are_told_apart_from_comments_and_assignments() -> None:
    found = {str(command): command for command in commands(ROOT / "docs" / "index.md")}
    (assigned,) = [command for command in found.values() if command.environment]
    assert assigned.environment == {"CLESR_LIVE_SCALE": "2"}
    assert assigned.words[0] == "clesr-live"
    assert not any("#" in word for command in found.values() for word in command.words)


def test_the_readme_is_one_screen_before_its_first_table() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert next(number for number, line in enumerate(lines) if line.startswith("|")) < 65
    assert np.mean([len(line) for line in lines[:60]]) < 120
