"""Sources and sinks from an installed package, found by its entry points and run through a pipeline."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clesr.engines.common.errors import SourceError, UsageError
from clesr.engines.interpolation import open_interpolation
from clesr.pipeline.frame import Frame
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.sinks.registry import SINKS, open_sink
from clesr.pipeline.sources.pacing import Paced
from clesr.pipeline.sources.registry import SOURCES, open_source

PACKAGE = '''
import numpy as np
from clesr.engines.common.errors import EndOfSource
from clesr.pipeline.frame import Frame
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.source import SourceInfo

class Counting:
    """Three images, whose gray is their number, plus one that the address or file says."""

    def __init__(self, address, first, clock):
        self.info = SourceInfo(address, live=False, shape=(6, 8), frames=3)
        self.clock, self.first, self.number = clock, first, 0

    def read(self, timeout):
        if self.number == 3:
            raise EndOfSource
        image = np.full((6, 8), self.first + self.number, np.uint8)
        self.number += 1
        return Frame(image, self.number - 1, self.clock.now_ns())

    def close(self):
        pass

def open_mycamera(address, options):
    return Counting(address, int(address.partition(":")[2]), options.clock)

def open_file(path, options):
    with open(path) as file:
        return Counting(path, int(file.read()), options.clock)

def open_folder(path, options):
    return open_file(path + "/first.txt", options)

def open_broken(address, options):
    raise RuntimeError("no such thing")

TAKEN = []

class Taking:
    policy = Policy.BLOCK

    def __init__(self, name):
        self.name = name

    def write(self, result):
        TAKEN.append((self.name, result.image))

    def close(self):
        return f"{self.name}: done"

def open_taking(address, options):
    return Taking(address)
'''
ENTRIES = """
[clesr.sources]
mycamera = clesr_mycamera:open_mycamera
broken = clesr_mycamera:open_broken
missing = clesr_mycamera:nothing
.cnt = clesr_mycamera:open_file
*/first.txt = clesr_mycamera:open_folder
.mkt = clesr_mycamera:open_file

[clesr.sinks]
taking = clesr_mycamera:open_taking
.xyz = clesr_mycamera:open_taking
null = clesr_mycamera:open_taking
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    info = tmp_path / "site" / "clesr_mycamera-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: clesr-mycamera\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    (tmp_path / "site" / "clesr_mycamera.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    for registry in (SOURCES, SINKS):
        monkeypatch.setattr(registry, "_foreign", None)
        monkeypatch.setattr(registry, "_loaded", {})
    yield
    sys.modules.pop("clesr_mycamera", None)


def grays(address: str, sink: str) -> list[tuple[str, float]]:
    """Runs ``address`` into ``sink``; the name and mean of each image that came."""
    source = open_source(address, pace="max")
    taking = open_sink(sink)
    pipeline = Pipeline(source, lambda shape: open_interpolation("nearest", 2, shape), [taking], scale=2)
    summary = pipeline.run()
    assert summary.captured == 3
    assert summary.outputs == (f"{sink}: done",)
    taken = sys.modules["clesr_mycamera"].TAKEN
    assert {image.shape for _, image in taken} == {(12, 16)}
    return [(name, float(np.mean(image))) for name, image in taken]


def test_a_source_and_a_sink_by_their_schemes() -> None:
    assert grays("mycamera:7", "taking:here") == [("taking:here", gray) for gray in (7, 8, 9)]


def test_a_source_and_a_sink_by_suffix(tmp_path: Path) -> None:
    (tmp_path / "A.CNT").write_text("40")
    assert grays(str(tmp_path / "A.CNT"), "x.XYZ") == [("x.XYZ", gray) for gray in (40, 41, 42)]


def test_a_folder_by_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "first.txt").write_text("3")
    assert grays(str(tmp_path / "run"), "taking") == [("taking", gray) for gray in (3, 4, 5)]


def test_recorded_input_has_pace_and_loop() -> None:
    source = open_source("mycamera:1", pace="max", loop=True)
    assert isinstance(source, Paced)
    items = [source.read(1) for _ in range(7)]
    assert [item.number for item in items if isinstance(item, Frame)] == list(range(7))


def test_parts_of_clesr_stay(tmp_path: Path) -> None:
    assert open_sink("null").close() == "null: 0 results taken, nothing kept"
    (tmp_path / "a.mkt").write_text("5")
    with pytest.raises(SourceError, match="Cellvizio"):
        open_source(str(tmp_path / "a.mkt"))


def test_what_is_added_is_named_and_its_failures_are_told() -> None:
    with pytest.raises(
        UsageError, match=r"is no source; allowed is .*, demo:, broken:, missing:, mycamera:$"
    ):
        open_source("mycamer:7")
    with pytest.raises(UsageError, match=r"\.avi, or \.xyz, or taking$"):
        open_sink("takin:7")
    with pytest.raises(SourceError, match=r"broken:1 cannot be opened \(no such thing\)"):
        open_source("broken:1")
    with pytest.raises(
        SourceError, match=r"^missing in clesr\.sources .*\(clesr_mycamera:nothing\) does not load .*nothing"
    ):
        open_source("missing:1")
