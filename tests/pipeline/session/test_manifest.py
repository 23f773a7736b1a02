"""What the manifest says of a recording when it begins."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from support import ManualClock

from clesr.engines.common.errors import UsageError
from clesr.pipeline.session.format import Record
from clesr.pipeline.session.manifest import Provenance, RecorderSettings
from clesr.pipeline.source import SourceInfo


def outside(_shape: tuple[int, int]) -> tuple[int, int]:
    raise UsageError("the region leaves the frame")


@pytest.mark.parametrize(
    ("fps", "pixel_um", "stated"),
    [
        (25.0, 0.83, (25.0, 0.83)),
        (1e-6, 1e6, (1e-6, 1e6)),
        (2e6, 1e-7, (None, None)),
        (float("nan"), None, (None, None)),
    ],
)
def test_what_a_source_and_a_user_state(
    fps: float, pixel_um: float | None, stated: tuple[float | None, float | None]
) -> None:
    clock = ManualClock()
    source = SourceInfo("demo:", True, fps, (12, 18), None)
    provenance = Provenance(source, 2, outside, RecorderSettings(pixel_um=pixel_um), clock)
    first = Record(number=7, captured_ns=clock.now_ns())
    clock.advance(5)
    before = datetime.now().astimezone()
    info = provenance.describe(first, (12, 18), "uint8")
    begun = before - datetime.fromisoformat(info.started)
    assert timedelta(seconds=4) < begun <= timedelta(seconds=5)
    assert (info.fps, info.pixel_um) == stated
    assert (info.first, info.raw_shape, info.sr_shape) == (7, (12, 18), (24, 36))
