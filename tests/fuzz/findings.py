"""Inputs that clesr did not take well."""

from __future__ import annotations

import hashlib
import json
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

import clesr.pipeline

ROOT = Path(clesr.pipeline.__file__).resolve().parents[1]  # of the product's code
LOG = "findings.jsonl"


@dataclass(frozen=True, slots=True)
class Finding:
    """``kind``: error (none of clesr's own), hang, memory or death; ``where``: the innermost line of clesr, with
    ``text`` what is one finding and not two; ``file`` has the input."""

    target: str
    kind: str
    text: str
    where: str
    trace: tuple[str, ...]
    file: str
    size: int

    def __str__(self) -> str:
        where = self.where or "no line of clesr"
        return f"{self.target}: {self.kind}: {self.text} at {where}, {self.size} bytes in {self.file}"


class Findings:
    """Kept in ``folder``, one of a kind each."""

    def __init__(self, folder: Path, target: str) -> None:
        self._folder, self._target = folder, target
        self._avoided = folder / target / "avoided"
        self._avoided.parent.mkdir(parents=True, exist_ok=True)
        self._known = {
            (f.kind, f.text.partition(":")[0], f.where) for f in read(folder) if f.target == target
        }

    def add(self, kind: str, text: str, trace: tuple[str, ...], data: bytes) -> None:
        where = trace[-1] if trace else ""
        key = (kind, text.partition(":")[0], where)
        if key in self._known:
            return
        self._known.add(key)
        file = self._folder / self._target / f"{kind}-{_name(data)}"
        file.write_bytes(data)
        finding = Finding(self._target, kind, text, where, trace, str(file), len(data))
        with (self._folder / LOG).open("a") as log:
            log.write(json.dumps(asdict(finding)) + "\n")

    def avoid(self, data: bytes) -> None:
        """Do not begin with ``data`` again: it ends the process that tries it."""
        with self._avoided.open("a") as file:
            file.write(_name(data) + "\n")

    def is_avoided(self, data: bytes) -> bool:
        return self._avoided.exists() and _name(data) in self._avoided.read_text().split()


def read(folder: Path) -> list[Finding]:
    """All findings in ``folder``, oldest first."""
    if not (folder / LOG).exists():
        return []
    entries = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    return [Finding(**entry | {"trace": tuple(entry["trace"])}) for entry in entries]


def lines_of_clesr(error: BaseException) -> tuple[str, ...]:
    """Where ``error`` passed through clesr's own code, outermost first."""
    frames = traceback.extract_tb(error.__traceback__)
    paths = ((Path(frame.filename).resolve(), frame.lineno) for frame in frames)
    return tuple(
        f"{path.relative_to(ROOT)}:{line}"
        for path, line in paths
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in ("pipeline", "engines", "tools")
    )


def _name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
