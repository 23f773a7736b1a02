"""What made a recording: the part of ``session.json`` that is known when its first frame comes."""

from __future__ import annotations

import platform
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib import metadata

from clesr.engines.common.clock import Clock
from clesr.engines.common.errors import UsageError
from clesr.pipeline.session.coding import Coder
from clesr.pipeline.session.format import Record, SessionInfo
from clesr.pipeline.session.settings import RecorderSettings
from clesr.pipeline.source import SourceInfo

PACKAGES = ("clesr", "av", "numpy", "torch", "openvino")


@dataclass(frozen=True, slots=True)
class Provenance:
    """What stays the same from session to session of one recorder. ``sr_shape`` gives the SR shape for a raw one."""

    source: SourceInfo
    scale: int
    sr_shape: Callable[[tuple[int, int]], tuple[int, int]]
    settings: RecorderSettings
    clock: Clock

    def describe(self, first: Record, raw: Coder) -> SessionInfo:
        """The session of which ``first`` is the first frame."""
        since = timedelta(microseconds=(self.clock.now_ns() - first.captured_ns) / 1e3)
        started = (datetime.now().astimezone() - since).isoformat(timespec="microseconds")
        return SessionInfo(
            id=uuid.uuid4().hex,
            started=self.settings.started or started,
            started_ns=first.captured_ns,
            first=first.number,
            source=self.source.address,
            live=self.source.live,
            fps=_sane(self.source.fps),
            pixel_um=_sane(self.settings.pixel_um),
            scale=self.scale,
            raw_shape=raw.shape,
            sr_shape=self._sr_shape(raw.shape),
            dtype=raw.dtype.name,
            sr_codec=self.settings.codec,
            settings=self.settings.settings,
            versions=versions(),
        )

    def _sr_shape(self, raw: tuple[int, int]) -> tuple[int, int]:
        """The shape of SR images; of frames that the region of interest leaves, which get none, that without it."""
        try:
            return self.sr_shape(raw)
        except UsageError:
            return raw[0] * self.scale, raw[1] * self.scale


def _sane(value: float | None) -> float | None:
    """``value`` where a session may state it: a rate or size beyond all sense is as good as none."""
    return value if value is not None and 1e-6 <= value <= 1e6 else None


def versions() -> dict[str, str]:
    """Versions of what makes a recording and its SR images."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
