"""What the manifest, ``session.json``, says when a recording begins: how to record, and what makes the recording."""

from __future__ import annotations

import platform
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, cast

from msgspec import Meta

from clesr.engines.common.clock import Clock
from clesr.engines.common.errors import WHY, UsageError, told_as
from clesr.engines.common.packages import versions_of
from clesr.engines.common.parsing import convert
from clesr.pipeline.prepare import IntensityWindow
from clesr.pipeline.session.format import Record, SessionError, SessionInfo
from clesr.pipeline.settings import Option, Recorded, RunSettings, recorded_options
from clesr.pipeline.source import SourceInfo

PACKAGES = ("clesr", "av", "numpy", "torch", "openvino")  # that make a recording and its SR images
WAITING_BYTES = 256 << 20  # of images that may wait for the disk
BEFORE = {"temporal": "off"}  # in sessions that are older than the option
MOST = {"threads": 1024}  # that a session may say, where the option has no maximum
KINDS: dict[str, Any] = {"bool": bool, "int": int, "float": float, "str": str}
FINEST_ASPECT = 500  # the largest denominator of a pixel's width over its height
RETRO_BYTES = 1 << 30  # of encoded images that are kept in memory


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


def recorded_values(
    info: SessionInfo, settings: type = RunSettings, least: Recorded = Recorded.RENDERED
) -> dict[str, Any]:
    """What ``info`` says of the options of ``settings`` that are ``recorded`` at ``least`` so far, as their fields have
    it. Raises SessionError where one is of another kind."""
    given, wanted = BEFORE | dict(info.settings), recorded_options(settings, least)
    with _known(info):
        return {
            each.name: _value(given[each.name], str(each.type), wanted[each.name], MOST.get(each.name))
            for each in fields(settings)
            if each.name in wanted and given.get(each.name) is not None
        }


def recorded_settings(info: SessionInfo) -> RunSettings:
    """The settings that made the images of ``info``; where it does not say, the usual ones. Raises SessionError where
    one is of another kind."""
    with _known(info):
        return RunSettings(**recorded_values(info))


def _value(value: object, kind: str, option: Option, most: float | None) -> Any:
    wanted: Any = str | float if option.parse is not None else KINDS[kind.partition(" ")[0]]
    found = convert(
        value, cast(type[Any], Annotated[wanted, Meta(ge=option.minimum, le=most or option.maximum)])
    )
    return found if option.parse is None else option.parse(str(found))


def _known(info: SessionInfo) -> AbstractContextManager[None]:
    words = f"was recorded with settings that clesr does not have ({WHY}); restore it from a copy"
    return told_as(SessionError, f"session {info.id} {words}", (UsageError, ValueError))


def recorded_window(info: SessionInfo) -> tuple[float, float] | None:
    """The levels of the raw images that were black and white all through the recording; None where they followed the
    image, or nothing was stretched."""
    given = info.settings.get("window")
    try:
        window = IntensityWindow.parse(given) if isinstance(given, str) else IntensityWindow()
    except UsageError:  # of another program
        return None
    return (window.low, window.high) if window.mode == "fixed" else None


@dataclass(frozen=True, slots=True)
class Provenance:
    """What stays the same from session to session of one recorder. ``sr_shape`` gives the SR shape for a raw one."""

    source: SourceInfo
    scale: int
    sr_shape: Callable[[tuple[int, int]], tuple[int, int]]
    settings: RecorderSettings
    clock: Clock

    def changed(self, scale: int, settings: Mapping[str, Any]) -> Provenance:
        """The same after a change of the ``scale`` or of ``settings``."""
        return replace(
            self,
            scale=scale,
            sr_shape=partial(self._rescaled, scale),
            settings=replace(self.settings, settings={**self.settings.settings, **settings}),
        )

    def _rescaled(self, scale: int, raw: tuple[int, int]) -> tuple[int, int]:
        """The SR shape for a ``raw`` one at another ``scale``."""
        height, width = self.sr_shape(raw)
        return height // self.scale * scale, width // self.scale * scale

    def describe(self, first: Record, shape: tuple[int, ...], dtype: str) -> SessionInfo:
        """The session of raw images of this ``shape`` (H, W) and ``dtype``, of which ``first`` is the first frame."""
        height, width = shape
        try:
            sr_shape = self.sr_shape((height, width))
        except UsageError:  # the region of interest leaves these frames, which get no SR images
            sr_shape = height * self.scale, width * self.scale
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
            pixel_aspect=self.source.pixel_aspect.limit_denominator(FINEST_ASPECT).as_integer_ratio(),
            scale=self.scale,
            raw_shape=(height, width),
            sr_shape=sr_shape,
            dtype=dtype,
            sr_codec=self.settings.codec,
            settings=self.settings.settings,
            versions={"python": platform.python_version(), **versions_of(PACKAGES)},
        )


def _sane(value: float | None) -> float | None:
    """``value`` where a session may state it: a rate or size beyond all sense is as good as none."""
    return value if value is not None and 1e-6 <= value <= 1e6 else None
