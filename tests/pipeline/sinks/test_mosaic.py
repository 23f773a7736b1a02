"""The sink of maps: files that are whole, under names that are free, at little cost."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tifffile
from probe import Place, seen, tissue
from support import ManualClock

from clesr.engines.common.errors import SinkError, UsageError
from clesr.engines.common.files import WriteRule
from clesr.engines.common.image import Image
from clesr.pipeline.frame import Outcome, Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.mosaic.ome import frames_of
from clesr.pipeline.sinks import mosaic as module
from clesr.pipeline.sinks.mosaic import MosaicFile
from clesr.pipeline.sinks.registry import SinkOptions, open_sink

MakeResult = Callable[..., Result]
WAY: list[Place] = [(2.0 * n, n) for n in range(5)]


def scenes(count: int) -> list[Image]:
    return [seen(tissue(scene), at) for scene in range(count) for at in WAY]


def fill(sink: MosaicFile, make_result: MakeResult, images: list[Image], **more: object) -> str:
    for number, image in enumerate(images):
        sink.write(make_result(image, number, time_ns=number * 80_000_000, **more))
    return sink.close() or ""


def test_an_address_opens_it(tmp_path: Path, make_result: MakeResult) -> None:
    path = tmp_path / "map.ome.tif"
    sink = open_sink(f"mosaic:{path}", pixel_um=1.2, pixel_aspect=Fraction(3, 2))
    assert isinstance(sink, MosaicFile)
    assert (sink.name, sink.policy) == (str(path), Policy.DROP_OLDEST)
    sink.write(make_result(scenes(1)[0], scale=4))
    assert sink.close() == sink.close() == f"{path}: a map of 1 frames, 129x129"
    with tifffile.TiffFile(path) as tiff:
        sizes = re.findall(r'PhysicalSize[XY]="([\d.]+)"', tiff.ome_metadata or "")
    assert [float(size) for size in sizes] == pytest.approx([0.3, 0.2])
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["map.tif", "map.png", ".ome.tif", ""])
def test_another_kind_of_file_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"ends in \.ome\.tif"):
        open_sink(f"mosaic:{name}")


def test_where_no_file_can_be_written_shows_at_open(tmp_path: Path) -> None:
    (tmp_path / "old.ome.tif").write_bytes(b"old")
    with pytest.raises(SinkError, match="--overwrite"):
        open_sink(f"mosaic:{tmp_path / 'old.ome.tif'}")
    with pytest.raises(SinkError, match="cannot be written"):
        open_sink(f"mosaic:{tmp_path / 'absent' / 'map.ome.tif'}")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_each_map_has_a_file_and_none_that_exists_is_replaced_unasked(
    tmp_path: Path, make_result: MakeResult, overwrite: bool
) -> None:
    first, second, third = (tmp_path / f"map{n}.ome.tif" for n in ("", ".2", ".3"))
    second.write_bytes(b"old")
    if overwrite:
        first.write_bytes(b"older")
    sink = MosaicFile(str(first), SinkOptions(rule=WriteRule(overwrite)), share=1)
    said = fill(sink, make_result, scenes(2))
    assert said == f"{first}: a map of 5 frames, 140x135; {third}: a map of 5 frames, 140x135"
    assert second.read_bytes() == b"old"
    assert [frames_of(path)["map"] for path in (first, third)] == [1, 2]
    assert [f["number"] for path in (first, third) for f in frames_of(path)["frames"]] == list(range(10))
    assert len(list(tmp_path.iterdir())) == 3


def test_what_was_made_under_the_name_meanwhile_stays(tmp_path: Path, make_result: MakeResult) -> None:
    path = tmp_path / "map.ome.tif"
    sink = MosaicFile(str(path), share=1)
    path.write_bytes(b"another's")
    assert str(tmp_path / "map.2.ome.tif") in fill(sink, make_result, scenes(1))
    assert path.read_bytes() == b"another's"


def test_save_writes_the_map_as_it_is_and_goes_on(tmp_path: Path, make_result: MakeResult) -> None:
    path, images = tmp_path / "map.ome.tif", scenes(1)
    sink = MosaicFile(str(path), share=1)
    sink.write(make_result(images[0], 0))
    sink.write(make_result(images[1], 1))
    sink.save()
    sink.write(make_result(images[2], 2))
    assert len(frames_of(path)["frames"]) == 2
    sink.save()
    sink.write(make_result(images[3], 3))
    sink.close()
    counts = [
        len(frames_of(each)["frames"])
        for each in sorted(tmp_path.iterdir(), key=lambda p: p.stat().st_mtime_ns)
    ]
    assert counts == [2, 3, 4]


def test_a_map_that_was_saved_last_is_not_written_twice(tmp_path: Path, make_result: MakeResult) -> None:
    sink = MosaicFile(str(tmp_path / "map.ome.tif"), share=1)
    for number, image in enumerate(scenes(1)):
        sink.write(make_result(image, number))
    sink.mosaic.save()
    sink.close()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("full_at", ["save", "jump"])
def test_a_map_that_a_full_disk_took_not_is_written_at_the_end_where_there_is_room(
    tmp_path: Path, make_result: MakeResult, monkeypatch: pytest.MonkeyPatch, full_at: str
) -> None:
    path, images = tmp_path / "map.ome.tif", scenes(2)
    sink = MosaicFile(str(path), share=1)
    for number, image in enumerate(images[:5]):
        sink.write(make_result(image, number))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_map", full)
        if full_at == "save":
            sink.save()
        else:  # with the third frame of other tissue
            for number in (5, 6):
                sink.write(make_result(images[number], number))
        with pytest.raises(SinkError, match="free some space"):
            sink.write(make_result(images[7], 7))
    assert list(tmp_path.iterdir()) == []
    assert sink.close() == f"{path}: a map of 5 frames, 140x135"
    assert [frame["number"] for frame in frames_of(path)["frames"]][:5] == list(range(5))


def test_failed_frames_are_listed_and_not_drawn(tmp_path: Path, make_result: MakeResult) -> None:
    path, images = tmp_path / "map.ome.tif", scenes(1)
    sink = MosaicFile(str(path), share=1)
    for number, image in enumerate(images):
        outcome = Outcome.FAILED if number == 2 else Outcome.UPSCALED
        sink.write(make_result(np.zeros_like(image) if number == 2 else image, number, outcome=outcome))
    sink.close()
    assert [f["outcome"] for f in frames_of(path)["frames"]] == ["drawn", "drawn", "failed", "drawn", "drawn"]


def test_times_are_those_of_a_recording_or_of_capture(tmp_path: Path, make_result: MakeResult) -> None:
    images = scenes(1)
    for name, more in (("captured", {}), ("recorded", {"pts": 5, "time_base": Fraction(1, 25)})):
        sink = MosaicFile(str(tmp_path / f"{name}.ome.tif"), share=1)
        sink.write(
            make_result(
                images[0], 0, time_ns=7 * 10**9, pts=0 if more else None, time_base=more.get("time_base")
            )
        )
        sink.write(make_result(images[1], 1, time_ns=9 * 10**9, **more))
        sink.close()
    seconds = [frames_of(tmp_path / f"{n}.ome.tif")["frames"][1]["seconds"] for n in ("captured", "recorded")]
    assert seconds == [2.0, 0.2]


def test_drawing_takes_no_more_than_its_share_of_the_time(tmp_path: Path, make_result: MakeResult) -> None:
    """By a clock on which each drawing takes 30 ms, and a result comes every 10 ms."""
    clock = ManualClock()
    sink = MosaicFile(str(tmp_path / "map.ome.tif"), share=0.25, clock=clock)
    drawn: list[int] = []

    def draw(image: Image, number: int, seconds: float, **_: object) -> None:
        drawn.append(number)
        clock.advance(0.030)

    sink.draw = draw  # type: ignore[method-assign]
    image = scenes(1)[0]
    for number in range(100):
        sink.write(make_result(image, number))
        clock.advance(0.010)
    assert 0.15 < len(drawn) * 0.030 / (len(drawn) * 0.030 + 100 * 0.010) < 0.28


def test_without_frames_there_is_no_file(tmp_path: Path) -> None:
    sink = MosaicFile(str(tmp_path / "map.ome.tif"))
    assert "no map" in (sink.close() or "")
    assert not list(tmp_path.iterdir())
