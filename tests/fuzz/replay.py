"""``python -m fuzz.replay [TARGET ...]``: every seed and everything in the corpus once, in this process; exit status 1
where something is found."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

from fuzz.board import Board
from fuzz.child import HANG_S, Child
from fuzz.findings import Findings, read
from fuzz.targets import TARGETS, load


def main(names: Sequence[str]) -> int:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        board = Board(place / "board", create=True)
        for name in names or TARGETS:
            own = place / name
            own.mkdir()
            child = Child(load(name)(own), name, board, Findings(place / "found", name))
            child.listen()
            for data in child.seeds:
                signal.setitimer(signal.ITIMER_REAL, HANG_S + 0.1, HANG_S)
                child.attempt(data)
            signal.setitimer(signal.ITIMER_REAL, 0)
            print(f"{name}: {len(child.seeds)} inputs", flush=True)
        board.close()
        found = read(place / "found")
        for finding in found:
            print(finding)
    return 1 if found else 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # what targets have open, such as sockets, is not waited for
