"""TOML files that hold options of commands."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import rich_click as click
from click.exceptions import Exit

from clesr.engines.common.errors import ClesrError
from clesr.tools.cli import COMMANDS, read_config
from fuzz.mutations import DEEP, flip, reword
from fuzz.target import Target

SETTINGS = b"""[live]
scale = 2
model = "bicubic"
window = "full"
seconds = 1.5
frames = 3
loop = false
mask = ["0,0,4,4"]
roi = "0,0,64,64"
output = "x.mkv"
pixel-size = 1.2
retro = 3
threads = 1
[upscale]
codec = "ffv1"
crf = 20
[export]
frame = [1, 2]
pixel-size = 0.5
[train]
steps = 100
"""
VALUES = (
    b"0", b"1", b"-1", b"2.5", b"1e400", b"nan", b"inf", b"true", b'"x"', b'""', b"[]", b"[1]", b'["a", "b"]', b"{}",
    b"{a = 1}", b"1979-05-27", b"07:32:00", b"9" * 30, b'"\\u0000"', b'"\\ud7ff"', b'"0,0,1,1"', b"[[1, 2], [3]]",
    b'[1.5, true, "x"]', b"0xffffffffffffffffff", b'"auto"', b"1979-05-27T07:32:00Z",
)  # fmt: skip
ARGUMENTS = {
    "live": ("--source", "/nowhere/a.mkv", "--display", "none"),
    "upscale": ("/nowhere/a.mkv", "-o", "/nowhere/b.mkv"),
    "export": ("/nowhere/a.mkv", "-o", "/nowhere/b.png"),
}


class SettingsFile(Target):
    """A file for ``--config``; the commands that it is for are run as far as a source that is not there."""

    allowed = (ClesrError, click.ClickException, Exit)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        os.chdir(folder)
        names = (parameter.name for command in COMMANDS for parameter in COMMANDS[command].params)
        tables = [f"[{name}]".encode() for name in COMMANDS]
        self._words = (*VALUES, *tables, *sorted({name.encode() for name in names if name}))

    def seeds(self) -> list[bytes]:
        tables = [
            f"[live]\n{name} = 1\n".encode() for name in ("seconds", "scale", "mask", "frames", "source")
        ]
        dates = [b"[live]\nscale = 2024-01-01\n", b"[live]\nseconds = {a = 1}\n"]
        return [SETTINGS, *tables, *dates, *(b"[live]\nscale = " + text for text in DEEP)]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        return flip(rng, data) if rng.random() < 0.2 else reword(rng, data, self._words)

    def run(self, data: bytes) -> None:
        path = self.folder / "clesr.toml"
        path.write_bytes(data)
        for name, options in read_config(path).items():
            command, arguments = COMMANDS[name], list(ARGUMENTS.get(name, ()))
            if name == "live":
                command.main(arguments, standalone_mode=False, default_map=options)
            else:
                command.make_context(name, arguments, default_map=options)
