"""An archive's output folder, in which somebody else has been."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from random import Random

from clesr.tools.archive.journal import NAME, FileStatus, Journal, JournalEntry
from clesr.tools.archive.messages import Answer, Failure, Task
from clesr.tools.archive.runner import Runner
from clesr.tools.archive.segments import sealed
from clesr.tools.archive.settings import Settings
from clesr.tools.archive.tree import InputFile
from clesr.tools.archive.worker import FINISHED, Worker, work_folder
from fuzz.mutations import DEEP, flip, reword
from fuzz.target import Target

INPUT = b"no video"
SETTINGS = Settings(scale=2, model="bicubic", model_sha256="")
RECORD = JournalEntry(
    input="a.mkv",
    status=FileStatus.DONE,
    size=len(INPUT),
    input_sha256=hashlib.sha256(INPUT).hexdigest(),
    settings=SETTINGS.identity,
    engines=("torch",),
    frames=1,
    pixels=3,
    output="a.mkv",
    output_size=3,
    output_sha256="cc",
)


class NoWorkers:
    """An executor that fails at once."""

    def __init__(self) -> None:
        self._given: list[Task] = []

    def free(self) -> bool:
        return not self._given

    def submit(self, task: Task) -> None:
        self._given.append(task)

    def wait(self) -> list[tuple[Task, Answer]]:
        given, self._given = self._given, []
        return [(task, Failure("not now")) for task in given]

    def choose_model(self) -> str:
        return SETTINGS.model

    def configure(self, settings: Settings) -> None:
        pass

    def close(self) -> None:
        pass

    def progress(self) -> int:
        return 0

    def stop(self) -> None:
        pass


class ArchiveTarget(Target):
    """``out`` beside ``victim``, which nothing may touch."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.out, self.input, self.victim = folder / "out", folder / "a.mkv", folder / "victim"
        self.out.mkdir()
        self.input.write_bytes(INPUT)

    def kept(self, use: Callable[[], object]) -> None:
        """``use`` the folder; what is beside it stays as it was."""
        self.victim.write_bytes(b"precious")
        before = sorted(path.name for path in self.folder.iterdir())
        try:
            use()
        finally:
            assert self.victim.read_bytes() == b"precious", "a file outside was changed"
            assert sorted(path.name for path in self.folder.iterdir()) == before, "something came outside"


class ArchiveJournal(ArchiveTarget):
    """``archive.jsonl``, with which a run begins."""

    def seeds(self) -> list[bytes]:
        run = {
            "format": 1,
            "clesr": "0.1.0",
            "chosen": True,
            "id": SETTINGS.identity,
            "settings": SETTINGS.recorded(),
        }
        record = asdict(RECORD)
        outside = {**record, "output": "../victim"}
        entries = [{"run": run}, record, {**record, "input": "b.mkv"}]
        lines = [json.dumps(entry).encode() for entry in entries]
        return [
            b"\n".join(lines) + b"\n",
            json.dumps(outside).encode() + b"\n",
            *(text + b"\n" for text in DEEP),
        ]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        return (flip if rng.random() < 0.3 else reword)(rng, data)

    def run(self, data: bytes) -> None:
        (self.out / NAME).write_bytes(data)
        self.kept(self._resume)

    def _resume(self) -> None:
        journal = Journal(self.out)
        try:
            for name in ("a.mkv", "b.mkv"):
                journal.find(name)
            entries = [InputFile(name, self.input, name, len(INPUT), 0) for name in ("a.mkv", "b.mkv")]
            Runner(NoWorkers(), entries, journal, SETTINGS, self.out).run()
        finally:
            journal.close()


class Finished(ArchiveTarget):
    """A first byte 0: ``finished.json``, which a killed run left; 1: what lies beside a piece."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._work = work_folder(self.out) / SETTINGS.key(RECORD.input_sha256, "a.mkv")
        self._work.mkdir(parents=True)
        self._worker = Worker(SETTINGS, self.out)

    def seeds(self) -> list[bytes]:
        record = asdict(RECORD)
        finished = [
            {**record, "file": "b.mkv"},
            {**record, "file": "../../../../victim"},
            {**record, "file": "b.mkv", "output": "../victim"},
        ]
        part = {"frames": 3, "missing": 0, "shape": [4, 4], "engine": "torch", "note": ""}
        texts = [b"\0" + json.dumps(values).encode() for values in finished]
        return [
            *texts,
            b"\1" + json.dumps(part).encode(),
            *(kind + text for kind in (b"\0", b"\1") for text in DEEP),
        ]

    def mutate(self, rng: Random, data: bytes) -> bytes:
        return data[:1] + (flip if rng.random() < 0.3 else reword)(rng, data[1:])

    def run(self, data: bytes) -> None:
        if data[:1] == b"\1":
            piece = self._work / "0000000000.mkv"
            piece.write_bytes(b"x")
            piece.with_suffix(".json").write_bytes(data[1:])
            part = sealed(piece)
            assert part is None or part.frames + part.missing >= 0
            return
        (self._work / "b.mkv").write_bytes(b"x")
        (self._work / FINISHED).write_bytes(data[1:])
        self.kept(self._begin)

    def _begin(self) -> None:
        self._worker.begin(InputFile("a.mkv", self.input, "a.mkv", len(INPUT), 0))
