"""How much is left of a whole tree, before every file of it has been opened."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from clesr.tools.archive.messages import Executor
from clesr.tools.archive.runner import Report
from clesr.tools.archive.tree import InputFile, UnreadableEntry, kind
from clesr.tools.common.console import progress_bar, repeating

MEGA = 1e6


class Survey:
    """Bytes of all ``entries`` by suffix, added up in a thread of its own; ``whole`` when it is through."""

    def __init__(self, entries: Iterable[InputFile | UnreadableEntry]) -> None:
        self.bytes: Counter[str] = Counter()
        self.files = 0
        self.whole = False
        self._entries, self._stop = entries, threading.Event()
        self._thread = threading.Thread(target=self._count, name="clesr survey", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _count(self) -> None:
        for entry in self._entries:
            if self._stop.is_set():
                return
            self.files += 1
            if isinstance(entry, InputFile):
                self.bytes[kind(entry.path.name)] += entry.size
        self.whole = True


def expected_pixels(report: Report, survey: Survey) -> float | None:
    """LR pixels of this run in all: those of files begun, and for the rest their bytes times the pixels a byte that
    files of the same kind (else of any) had so far. None before anything is known."""
    met = dict(report.met)
    size, pixels = (sum(values) for values in zip(*met.values(), strict=True)) if met else (0, 0)
    if not survey.whole or not size:
        return None
    total = float(pixels)
    for suffix, known in list(survey.bytes.items()):
        begun, of_kind = met.get(suffix, (0, 0))
        ratio = of_kind / begun if begun else pixels / size
        total += max(0, known - begun - report.passed[suffix]) * ratio
    return total


@contextmanager
def following(report: Report, executor: Executor, survey: Survey) -> Iterator[None]:
    """A progress bar over the whole tree while the block runs: megapixels of input, so that large frames count for
    more; time left; files."""

    def show() -> None:
        total = expected_pixels(report, survey)
        ready = report.pixels + executor.progress()
        advance(ready / MEGA, _describe(report, survey), total and max(total, ready) / MEGA)

    with progress_bar("archive", None, unit="Mpixel") as advance, repeating(show):
        yield


def _describe(report: Report, survey: Survey) -> str:
    finished = report.done + report.skipped
    parts = [f"{finished}/{survey.files}{'' if survey.whole else '+'} files"]
    if report.broken:
        parts.append(f"{report.broken} broken")
    return ", ".join([*parts, report.latest] if report.latest else parts)
