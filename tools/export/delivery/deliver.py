"""Objects to an archive: with retries, and from where an earlier run stopped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import SinkError
from clesr.tools.export.delivery.archive import Archive, DicomObject, Unreachable

log = logging.getLogger(__name__)
FIRST_S, LONGEST_S = 1.0, 60.0  # waits between attempts: each twice the one before
T = TypeVar("T")


def sleep(seconds: float) -> None:
    SYSTEM.sleep_until(SYSTEM.now_ns() + int(seconds * 1e9))


def deliver(
    archive: Archive, paths: Sequence[Path], *, retries: int, wait: Callable[[float], None] = sleep
) -> None:
    """Have ``archive`` store the DICOM files ``paths``, each tried again up to ``retries`` times. What it holds already
    is not sent again; where it does not tell, it is, which changes nothing, as objects keep their identifiers.

    Raises SinkError where not all are stored for sure.
    """
    items = [DicomObject.of(path) for path in paths]
    stored = 0
    try:
        for item in items:
            if _again(lambda item=item: archive.holds(item), retries, wait):  # type: ignore[misc]
                log.info(f"{archive.name} holds {item.path.name} already: {item.words}")
            else:
                remark = _again(lambda item=item: archive.store(item), retries, wait)  # type: ignore[misc]
                log.info(f"stored {item.path.name} at {archive.name}: {item.words}{remark and '; ' + remark}")
            stored += 1
        said = _again(lambda: archive.confirm(items), retries, wait)
    except SinkError as error:
        rest = "; what is stored stays, and the same command goes on with the rest" if items else ""
        raise SinkError(
            f"{archive.name}: {error}; {stored} of {len(items)} objects are stored{rest}"
        ) from error
    if said:
        log.info(f"{archive.name}: {said}")


def _again(attempt: Callable[[], T], retries: int, wait: Callable[[float], None]) -> T:
    """What ``attempt`` gives, after waits that grow where it raises Unreachable."""
    seconds = FIRST_S
    for left in range(retries, 0, -1):
        try:
            return attempt()
        except Unreachable as error:
            log.warning(f"{error}; trying again in {seconds:g} s, up to {left} more time{'s' * (left > 1)}")
        wait(seconds)
        seconds = min(2 * seconds, LONGEST_S)
    return attempt()
