"""A captured frame on its way into a session."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clesr.engines import EngineInfo
from clesr.pipeline.session.coding import Coder, Picture
from clesr.pipeline.session.format import Record

if TYPE_CHECKING:
    from clesr.pipeline.session.writer import SessionWriter


@dataclass(slots=True, eq=False)
class Entry:
    """What is known so far of a captured frame. ``record`` grows; pictures go once they are in a file."""

    record: Record
    raw: Picture | None = None
    sr: Picture | None = None
    sr_coder: Coder | None = None
    settled: bool = False  # its outcome is known
    sr_due: bool = False  # an SR picture will come, or word that none will
    engine: EngineInfo | None = None
    writer: SessionWriter | None = None
    kept: bool = True  # False once it has left the memory of the last seconds

    def set(self, **values: object) -> None:
        self.record = replace(self.record, **values)  # type: ignore[arg-type]

    @property
    def ticks(self) -> int:
        return self.record.ticks or 0

    @property
    def complete(self) -> bool:
        return self.settled and not self.sr_due

    @property
    def size(self) -> int:
        return sum(len(picture.data) for picture in (self.raw, self.sr) if picture is not None)
