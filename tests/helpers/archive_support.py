"""What the tests of archives share."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

from support import until

Start = Callable[..., "subprocess.Popen[str]"]


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until ``condition`` holds or ``process`` has ended."""
    until(lambda: condition() or process.poll() is not None, 200)


def results(out: Path) -> dict[str, str]:
    """SHA-256 of every result in ``out`` by its name."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and ".archive" not in path.parts and path.name != "archive.jsonl"
    }
