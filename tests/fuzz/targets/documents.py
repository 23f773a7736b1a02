"""Small files that somebody hands over: results of a bench, regressors, checkpoints, recipes, keys, tokens and
certificates; and what a control socket answers."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import rich_click as click
import safetensors.numpy
import tifffile
import torch
import zmq
import zmq.auth
from certificates import make_certificate
from click.exceptions import Exit
from rich.console import Console

from clesr.engines.common.errors import ClesrError, SourceError
from clesr.pipeline.curve import load_keys
from clesr.pipeline.mosaic.ome import NAMESPACE, frames_of
from clesr.pipeline.sinks.browser.door import Door, given_token
from clesr.tools.bench import report, stored
from clesr.tools.cli import COMMANDS
from clesr.tools.evaluation import aplus
from clesr.tools.export.delivery.address import open_archive
from clesr.tools.export.delivery.options import ArchiveOptions
from clesr.tools.training import checkpoint
from fuzz.mutations import DEEP, flip, reword
from fuzz.target import Target

BENCH = Path(__file__).resolve().parents[3] / "benchmarks" / "results" / "bench-cpu.json"
TOKEN = b"token-of-tests-0123456789"
RECIPE = b'data = ["a.png=3"]\nscale = 4\nsteps = 100\nbatch = 2\ndegradation = ["noise=1..8@2"]\nlearning-rate = 0.1\n'

REPLY = b'{"ok": true, "said": "done", "actions": [{"name": "a", "key": "", "help": "b", "arguments": []}]}'


class Documents(Target):
    """A first byte that says what reads it, then the file."""

    allowed = (ClesrError, click.ClickException, Exit)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        os.chdir(folder)
        self._address = f"zmq+ipc://@clesr-fuzz-reply-{os.getpid()}"
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.REP)
        self._socket.bind(self._address.removeprefix("zmq+"))

    def seeds(self) -> list[bytes]:
        made = self._made()
        readers = list(self._readers())
        texts = [bytes([number]) + made[name] for number, name in enumerate(readers)]
        return [*texts, *(bytes([number]) + deep for number in range(len(readers)) for deep in DEEP)]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        return data[:1] + (flip if rng.random() < 0.5 else reword)(rng, data[1:])

    def run(self, data: bytes) -> None:
        readers = list(self._readers().values())
        path = self.folder / "document"
        path.write_bytes(data[1:])
        readers[(data[0] if data else 0) % len(readers)](path)

    def _readers(self) -> dict[str, Callable[[Path], object]]:
        return {
            "bench": _compare,
            "regressors": aplus.load,
            "recipe": lambda path: COMMANDS["train"].make_context(
                "train", ["--recipe", str(path), "-o", "x"]
            ),
            "key": lambda path: load_keys(str(path), SourceError),
            "token": lambda path: given_token(str(path), {}),
            "credentials": lambda path: open_archive(
                ArchiveOptions(to="https://localhost/studies", credentials=str(path))
            ),
            "certificate": lambda path: Door(listen="127.0.0.1:0", certificate=str(path)).tls(),
            "checkpoint": self._checkpoint,
            "reply": self._reply,
            "map": _map,
        }

    def _made(self) -> dict[str, bytes]:
        public, secret = zmq.auth.create_certificates(self.folder, "key")
        pem = make_certificate(self.folder / "a.pem")  # by openssl
        found = {
            "bench": _small_bench(),
            "regressors": _regressors(),
            "recipe": RECIPE,
            "key": Path(secret).read_bytes(),
            "token": TOKEN,
            "credentials": b'user = "a"\npassword = "b"\n',
            "certificate": pem.read_bytes(),
            "checkpoint": _state(),
            "reply": REPLY,
            "map": _joined(),
        }
        for made in (public, secret, pem, pem.with_suffix(".crt")):
            Path(made).unlink()
        return found

    def _checkpoint(self, path: Path) -> None:
        path.rename(self.folder / checkpoint.NAME)
        checkpoint.load(self.folder)

    def _reply(self, path: Path) -> None:
        """What the command says to an answer at the control socket."""
        thread = threading.Thread(target=self._answer, args=(path.read_bytes(),), daemon=True)
        thread.start()
        try:
            with redirect_stdout(io.StringIO()):
                COMMANDS["control"].main([self._address, "still", "--wait", "4"], standalone_mode=False)
        finally:
            thread.join(4.0)

    def _answer(self, reply: bytes) -> None:
        self._socket.recv()
        self._socket.send(reply)


def _compare(path: Path) -> None:
    found = stored.read(path)
    console = Console(file=io.StringIO(), width=200)
    for part in report.comparison(found, found):
        console.print(part)


def _map(path: Path) -> None:
    with suppress(ValueError):
        frames_of(path)


def _joined() -> bytes:
    """A map as `clesr mosaic` writes it, of a few pixels."""
    note = f'<StructuredAnnotations><XMLAnnotation Namespace="{NAMESPACE}"><Value>{{"map": 0, "frames": []}}</Value>'
    ome = f"<OME>{note}</XMLAnnotation></StructuredAnnotations></OME>"
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((4, 4), np.uint8), description=ome, metadata=None)
    return file.getvalue()


def _small_bench() -> bytes:
    found: dict[str, Any] = json.loads(BENCH.read_text())
    return json.dumps({**found, "rows": found["rows"][:2]}).encode()


def _regressors() -> bytes:
    scale = 2
    tensors: dict[str, Any] = {
        "basis": np.zeros((aplus.FEATURES, 1), np.float32),
        "atoms": np.zeros((1, 1), np.float32),
        "regressors": np.zeros((1, 1, 1), np.float16),
        "details": np.zeros((1, (aplus.WINDOW * scale) ** 2), np.float32),
    }
    about = json.dumps({"scale": scale, "name": "a", "training": {"a": [1]}, "metrics": {}})
    return safetensors.numpy.save(tensors, {aplus.METADATA_KEY: about})


def _state() -> bytes:
    file = io.BytesIO()
    state = {"recipe": "{}", "model": {"a": torch.zeros(2)}, "optimiser": {}, "step": 3, "seconds": 1.0}
    torch.save(state, file)
    return file.getvalue()
