"""Clips from sessions."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from recordings import read_all
from session_runs import START_NS, noise, record
from support import Step

from clesr.engines.common.errors import ClesrError
from clesr.pipeline.frame import Corrupt, Frame, Outcome
from clesr.pipeline.session.format import Record
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.sources.registry import open_source
from clesr.tools.export.dicom import DicomExporter
from clesr.tools.export.files import all_or_none
from clesr.tools.export.selection import Selection
from clesr.tools.export.sessions import session_clip


def test_a_frame_that_is_not_there_is_named_with_what_became_of_it() -> None:
    records = [
        Record(number=0, captured_ns=0, outcome=Outcome.UPSCALED, raw_index=0, sr_index=0),
        Record(number=1, captured_ns=1, outcome=Outcome.STALE, raw_index=1),
        Record(number=2, captured_ns=2, outcome=Outcome.CORRUPT, reason="its data end early"),
        Record(number=3, captured_ns=3),
    ]
    session: Any = SimpleNamespace(folder="s", info=None, records=lambda: iter(records))
    with pytest.raises(ClesrError) as caught:
        session_clip(session, "sr", Selection(only=(9, 0, 3, 2, 1)), pixel_um=None)
    assert str(caught.value) == (
        "s has no sr image of frame 1 (stale), 2 (its data end early), 3 (unfinished), 9 (not captured); "
        "nothing was written"
    )


def test_images_that_came_at_one_time_are_exported_at_times_that_rise(tmp_path: Path) -> None:
    came = (100, 100, 100, 220, 220, 220)
    script: list[Step] = [
        Frame(noise(n), n, START_NS + came[n] * 10**6, 40 * n, Fraction(1, 1000)) for n in range(6)
    ]
    script[2] = Corrupt(2, START_NS + came[2] * 10**6, "its data end early")
    record(tmp_path / "s", script)
    expected_ms = [0, 40, 120, 160, 200]
    session = read_session(tmp_path / "s")
    clip = session_clip(session, "raw", Selection(), pixel_um=None)
    assert clip.origin_ns == 0
    assert [still.time_ns for still in clip.stills] == [10**6 * ms for ms in expected_ms]
    with all_or_none() as files:
        DicomExporter().write(
            session_clip(session, "raw", Selection(), pixel_um=None), tmp_path / "a.dcm", files
        )
    frames, _ = read_all(open_source(str(tmp_path / "a.dcm"), pace="max"))
    assert [frame.pts for frame in frames] == [1000 * ms for ms in expected_ms]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("700.5,9000", (700.5, 9000.0)),
        ("percentile", None),
        ("full", None),
        ("of another program", None),
        (7, None),
    ],
)
def test_a_fixed_window_goes_with_the_session(tmp_path: Path, said: Any, expected: Any) -> None:
    folder, dicom = tmp_path / "s", tmp_path / "a.dcm"
    record(folder, [Frame(noise(n, np.uint16), n, START_NS + n) for n in range(2)], settings={"window": said})
    with all_or_none() as files:
        clip = session_clip(read_session(folder), "raw", Selection(), pixel_um=None)
        DicomExporter().write(clip, dicom, files)
    for path in (folder, dicom):
        with closing(open_source(str(path), pace="max")) as source:
            assert source.info.window == expected
            images = [frame.image for frame in read_all(source)[0]]
        np.testing.assert_array_equal(images, [noise(n, np.uint16) for n in range(2)])
    with closing(open_source(str(folder), window=(1.0, 2.0))) as source:
        assert source.info.window == (1.0, 2.0)
    assert session_clip(read_session(folder), "sr", Selection(), pixel_um=None).window is None
