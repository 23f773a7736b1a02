"""How to record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from msgspec import Meta

from clesr.engines.common.parsing import convert
from clesr.pipeline.session.format import SessionError, SessionInfo

WAITING_BYTES = 256 << 20  # of images that may wait for the disk
RETRO_BYTES = 1 << 30  # of coded images that are kept in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderSettings:
    """``codec`` of SR is ffv1 or hevc, ``retro_s`` the seconds kept before a recording begins,
    ``pixel_um`` the size of a captured pixel in micrometres, ``settings`` what session.json repeats; ``started`` is
    the wall-clock time of the first frame where it is another than that at which it comes."""

    codec: str = "ffv1"
    retro_s: float = 0.0
    pixel_um: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    started: str | None = None
    retro_bytes: int = RETRO_BYTES
    waiting_bytes: int = WAITING_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedSettings:
    """What of a session's ``settings`` is used again; others are only shown."""

    roi: str | None = None
    window: str | None = None
    consistent: bool | None = None
    model: str | None = None
    threads: Annotated[int, Meta(ge=1, le=1024)] | None = None


def recorded_settings(info: SessionInfo) -> RecordedSettings:
    """The settings with which ``info`` was recorded. Raises SessionError where one is of another kind."""
    try:
        return convert(dict(info.settings), RecordedSettings)
    except ValueError as error:
        raise SessionError(
            f"session {info.id} was recorded with settings that clesr does not have ({error}); restore it from a copy"
        ) from error
