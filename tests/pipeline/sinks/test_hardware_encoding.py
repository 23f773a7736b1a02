"""Encoding on a card: x264 stands in for the card's encoder, and fails where a test wants it to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from heard import hear
from numpy.typing import NDArray

from clesr.pipeline.frame import Result
from clesr.pipeline.sinks.registry import SinkOptions
from clesr.pipeline.sinks.video import VideoFile
from clesr.pipeline.video import hardware_encoding
from clesr.pipeline.video.encoding import EncoderFailed, VideoWriter, choose_encoding
from clesr.pipeline.video.hardware_encoding import HardwareEncoder, by_hardware, trial

MakeResult = Callable[..., Result]
SHAPE = (48, 64)
AT_ONCE = {"preset": "ultrafast", "tune": "zerolatency"}
HOLDING = {"preset": "veryfast", "bf": "0", "rc-lookahead": "5"}  # gives images back later


@pytest.fixture(autouse=True)
def _forget_trials() -> Iterator[None]:
    trial.cache_clear()
    yield
    trial.cache_clear()


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def put(options: dict[str, str], quality: str = "qp") -> None:
        fake = HardwareEncoder("libx264", "yuv420p", options, quality)
        monkeypatch.setattr(hardware_encoding, "ENCODERS", {"h264": (fake,), "h264-lossless": (fake,)})

    return put


def image(number: int) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.asarray((rows * 3 + columns * 2 + number * 5) % 256, np.uint8)


def decode(path: Path) -> list[NDArray[Any]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def record(path: Path, make_result: MakeResult, count: int, encode: str) -> str:
    sink = VideoFile(path, SinkOptions(codec="h264-lossless", fps=25, encode=encode))
    for number in range(count):
        sink.write(make_result(image(number), number=number))
    words = sink.close()
    assert words is not None
    return words


def test_a_card_whose_trial_comes_back_is_taken_and_loses_nothing(
    install: Callable[..., None], tmp_path: Path, make_result: MakeResult
) -> None:
    install(AT_ONCE)
    said = hear()
    record(tmp_path / "a.mkv", make_result, 12, "gpu")
    assert said == ["encoding by libx264: a trial came back faithfully"]
    np.testing.assert_array_equal(decode(tmp_path / "a.mkv"), [image(n) for n in range(12)])


def test_a_card_that_changes_images_is_not_taken(install: Callable[..., None]) -> None:
    said = hear()
    lossless = choose_encoding("h264-lossless", ".mkv", np.dtype(np.uint8), SHAPE)
    install(AT_ONCE | {"qp": "20"}, "b")  # an option that is not the quality: qp stays
    assert by_hardware("gpu", lossless, SHAPE) is lossless
    install(AT_ONCE | {"qp": "45"}, "b")
    lossy = choose_encoding("h264", ".mkv", np.dtype(np.uint8), SHAPE)
    assert by_hardware("gpu", lossy, SHAPE) is lossy
    assert "came back changed" in said[0]
    assert "dB only" in said[1]


def test_the_real_encoders_give_a_reason_or_are_faithful(tmp_path: Path, make_result: MakeResult) -> None:
    """On a machine that may have a card or not: the images are on disk either way."""
    said = hear()
    record(tmp_path / "a.mkv", make_result, 5, "gpu")
    assert len(said) == 1
    assert said[0].startswith(("encoding by the processor; not by h264_nvenc: ", "encoding by h264_nvenc: "))
    np.testing.assert_array_equal(decode(tmp_path / "a.mkv"), [image(n) for n in range(5)])


def test_auto_leaves_small_images_and_other_codecs_to_the_processor() -> None:
    said = hear()
    for codec in ("h264", "ffv1"):
        encoding = choose_encoding(codec, ".mkv", np.dtype(np.uint8), SHAPE)
        assert by_hardware("auto", encoding, SHAPE) is encoding
        assert by_hardware("cpu", encoding, (1024, 1024)) is encoding
    assert said == []
    odd = choose_encoding("h264", ".mkv", np.dtype(np.uint8), (47, 64))
    assert by_hardware("gpu", odd, (47, 64)) is odd
    assert "even sizes" in said[0]


@pytest.mark.parametrize("options", [AT_ONCE, HOLDING])
@pytest.mark.parametrize("flushes", [True, False])
@pytest.mark.parametrize("fails_at", [0, 1, 7, 29])
def test_where_a_card_fails_the_processor_goes_on_with_every_image(
    install: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    make_result: MakeResult,
    options: dict[str, str],
    flushes: bool,
    fails_at: int,
) -> None:
    install(options)
    assert trial("libx264", "h264-lossless", "0", SHAPE) is None
    encode = VideoWriter._encode
    calls = 0

    def failing(writer: VideoWriter, picture: VideoFrame | None) -> None:
        nonlocal calls
        if writer.encoding.hardware:
            calls += picture is not None
            broken = calls > fails_at if picture is not None else calls > fails_at and not flushes
            if broken:
                raise EncoderFailed("the card fell off the bus")
        encode(writer, picture)

    monkeypatch.setattr(VideoWriter, "_encode", failing)
    said = hear()
    words = record(tmp_path / "a.mkv", make_result, 30, "gpu")
    files = sorted(tmp_path.iterdir(), key=lambda p: len(p.name))
    got = [picture for path in files for picture in decode(path)]
    np.testing.assert_array_equal(got, [image(n) for n in range(30)])
    assert len(files) == (1 if "; " not in words else 2)
    assert "fell off the bus" in said[-1]
    assert sum(int(part.partition(": ")[2].split()[0]) for part in words.split("; ")) == 30


def test_a_card_that_fails_at_the_end_loses_nothing(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_result: MakeResult
) -> None:
    install(HOLDING)
    assert trial("libx264", "h264-lossless", "0", SHAPE) is None
    encode = VideoWriter._encode

    def failing(writer: VideoWriter, picture: VideoFrame | None) -> None:
        if writer.encoding.hardware and picture is None:
            raise EncoderFailed("gone")
        encode(writer, picture)

    monkeypatch.setattr(VideoWriter, "_encode", failing)
    record(tmp_path / "a.mkv", make_result, 30, "gpu")
    files = sorted(tmp_path.iterdir(), key=lambda p: len(p.name))
    assert [path.name for path in files] == ["a.mkv", "a.2.mkv"]
    got = [picture for path in files for picture in decode(path)]
    np.testing.assert_array_equal(got, [image(n) for n in range(30)])
