"""Decoding on a card: a stand-in for the card decodes on the processor and hands out what cards do."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import av.error
import numpy as np
import pytest
from heard import hear
from recordings import drifting, read_all, write_video

from clesr.pipeline.frame import Frame, Image
from clesr.pipeline.sources.registry import open_source
from clesr.pipeline.video import hardware_decoding as hardware
from clesr.pipeline.video.luma import fetched_luma, luma

FORMATS = [
    ("a.mkv", "libx264", "gray", {"x264-params": "log-level=none:bframes=3"}, 25),
    ("a.mp4", "libx264", "yuv420p", {"bf": "3"}, 25),
    ("a.mp4", "libx264", "yuvj420p", {"bf": "2"}, 25),
    ("a.mkv", "libx264", "yuv420p10le", {"bf": "3"}, 25),
    ("a.mkv", "libx265", "gray10le", {"x265-params": "log-level=none:bframes=3"}, 25),
    ("a.mkv", "libx265", "gray12le", {"x265-params": "log-level=none"}, 25),
    ("a.mkv", "libx265", "yuv420p12le", {"x265-params": "log-level=none"}, 25),
    ("a.webm", "libvpx-vp9", "yuv420p", {"lag-in-frames": "8"}, 25),
]  # fmt: skip


def fetched(frame: av.VideoFrame) -> av.VideoFrame:
    """``frame`` as a card gives it: nv12, or p010 and p016 with the samples at the top."""
    bits = frame.format.components[0].bits
    name = "nv12" if bits == 8 else "p010le" if bits == 10 else "p016le"
    made = av.VideoFrame(frame.width, frame.height, name)
    dtype = np.uint8 if bits == 8 else np.uint16
    for plane in made.planes[1:]:
        np.frombuffer(memoryview(plane), dtype)[:] = 1 << (8 * dtype().itemsize - 1)  # grey
    rows, samples = (
        np.frombuffer(memoryview(f.planes[0]), np.dtype(dtype)).reshape(frame.height, -1)[:, : frame.width]
        for f in (made, frame)
    )
    rows[:] = np.left_shift(samples, 16 - bits if bits > 8 else 0)
    made.pts, made.color_range = frame.pts, frame.color_range
    return made


class FakeCard:
    """A decoder whose ``spoil`` may change or refuse the ``n``-th picture."""

    def __init__(
        self, context: av.VideoCodecContext, spoil: Callable[[int, av.VideoFrame], av.VideoFrame]
    ) -> None:
        decoder = av.CodecContext.create(context.codec.canonical_name, "r")
        assert isinstance(decoder, av.VideoCodecContext)
        if context.extradata:
            decoder.extradata = context.extradata
        decoder.thread_type, decoder.thread_count = "SLICE", 1
        self._decoder, self._spoil, self.pictures = decoder, spoil, 0

    def decode(self, packet: av.Packet[av.VideoStream] | None) -> Sequence[av.VideoFrame]:
        made = []
        for frame in self._decoder.decode(packet):
            made.append(self._spoil(self.pictures, fetched(frame)))
            self.pictures += 1
        return made


Install = Callable[..., list[FakeCard]]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes a fake card the only one; gives the list of those that were opened."""

    def put(
        spoil: Callable[[int, av.VideoFrame], av.VideoFrame] = lambda _n, frame: frame,
    ) -> list[FakeCard]:
        opened: list[FakeCard] = []

        def open_one(context: av.VideoCodecContext) -> FakeCard:
            opened.append(FakeCard(context, spoil))
            return opened[-1]

        monkeypatch.setattr(hardware, "BACKENDS", {"a fake card": open_one})
        return opened

    return put


def decoded(path: Path, choice: str) -> tuple[list[Frame], list[str]]:
    said = hear()
    frames, corrupt = read_all(open_source(str(path), pace="max", decode=choice))
    assert not corrupt
    return frames, said


def same(got: list[Frame], expected: list[Frame]) -> None:
    assert [frame.pts for frame in got] == [frame.pts for frame in expected]
    assert [frame.number for frame in got] == list(range(len(expected)))
    for a, b in zip(got, expected, strict=True):
        assert a.image.dtype == b.image.dtype
        np.testing.assert_array_equal(a.image, b.image)


def encode(path: Path, codec: str, pixels: str, options: dict[str, str], count: int, keys: int = 12) -> None:
    images: list[Image] = drifting(count)
    write_video(path, images, codec=codec, pixel_format=pixels, options={"g": str(keys), **options})


@pytest.mark.parametrize(("name", "codec", "pixels", "options", "count"), FORMATS)
def test_a_card_gives_the_processors_luma_bit_for_bit_and_goes_on_alone(
    install: Install, tmp_path: Path, name: str, codec: str, pixels: str, options: dict[str, str], count: int
) -> None:
    encode(tmp_path / name, codec, pixels, options, count)
    expected, _ = decoded(tmp_path / name, "cpu")
    assert len(expected) == count
    opened = install()
    got, said = decoded(tmp_path / name, "gpu")
    same(got, expected)
    assert said == ["decoding on a graphics card by a fake card: its first pictures equal the processor's"]
    assert opened[0].pictures == count


def test_a_card_whose_pictures_differ_is_not_taken(install: Install, tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", "libx264", "yuv420p", {"bf": "3"}, 25)
    expected, _ = decoded(tmp_path / "a.mp4", "cpu")

    def brighter(_number: int, frame: av.VideoFrame) -> av.VideoFrame:
        np.frombuffer(memoryview(frame.planes[0]), np.uint8)[5] ^= 1
        return frame

    install(brighter)
    got, said = decoded(tmp_path / "a.mp4", "gpu")
    same(got, expected)
    assert said == ["decoding by the processor; not by a fake card (its pictures differ)"]


@pytest.mark.parametrize("fails_at", [0, 1, 2, 3, 11, 12, 13, 14, 30, 59])
@pytest.mark.parametrize("pixels", ["gray", "yuv420p"])
def test_a_card_that_fails_at_any_picture_loses_none(
    install: Install, tmp_path: Path, fails_at: int, pixels: str
) -> None:
    encode(tmp_path / "a.mkv", "libx264", pixels, {"bf": "3"}, 60)
    expected, _ = decoded(tmp_path / "a.mkv", "cpu")

    def fail(number: int, frame: av.VideoFrame) -> av.VideoFrame:
        if number == fails_at:
            raise av.error.ExternalError(5, "the card fell off the bus")
        return frame

    install(fail)
    got, said = decoded(tmp_path / "a.mkv", "gpu")
    same(got, expected)
    assert "fell off the bus" in said[-1]
    assert said[-1].startswith("decoding by the processor; not by a fake card")
    assert len(said) == 1 + (fails_at >= 2)


def test_a_card_that_gives_another_form_of_picture_is_left(install: Install, tmp_path: Path) -> None:
    encode(tmp_path / "a.mkv", "libx264", "yuv420p", {}, 30)
    expected, _ = decoded(tmp_path / "a.mkv", "cpu")
    install(lambda n, frame: frame.reformat(format="yuv444p") if n == 9 else frame)
    got, said = decoded(tmp_path / "a.mkv", "gpu")
    same(got, expected)
    assert "yuv444p" in said[-1]


@pytest.mark.parametrize(
    ("codec", "pixels"), [("ffv1", "gray"), ("mjpeg", "yuvj420p"), ("libx264", "yuv444p")]
)
def test_what_cards_would_decode_to_other_bits_stays_with_the_processor(
    install: Install, tmp_path: Path, codec: str, pixels: str
) -> None:
    encode(tmp_path / "a.mkv", codec, pixels, {}, 5)
    opened = install()
    _, said = decoded(tmp_path / "a.mkv", "gpu")
    assert not opened
    assert len(said) == 1
    assert said[0].startswith("decoding by the processor (")


def test_auto_takes_a_card_for_large_pictures_only(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(tmp_path / "a.mkv", "libx264", "yuv420p", {}, 12)
    opened = install()
    assert decoded(tmp_path / "a.mkv", "auto")[1] == []
    assert not opened
    monkeypatch.setattr(hardware, "LARGE", 96 * 128)
    _, said = decoded(tmp_path / "a.mkv", "auto")
    assert len(opened) == 1
    assert said == ["decoding on a graphics card by a fake card: its first pictures equal the processor's"]
    assert decoded(tmp_path / "a.mkv", "cpu")[1] == []
    assert len(opened) == 1


def test_without_a_card_the_processor_decodes_and_the_line_says_why(tmp_path: Path) -> None:
    """The real list of cards, on a machine that may have any of them or none."""
    encode(tmp_path / "a.mp4", "libx264", "yuv420p", {"bf": "3"}, 25)
    expected, _ = decoded(tmp_path / "a.mp4", "cpu")
    got, said = decoded(tmp_path / "a.mp4", "gpu")
    same(got, expected)
    assert len(said) == 1
    assert said[0].startswith("decoding ")


def test_no_more_than_the_last_groups_of_packets_is_kept(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "_KEPT_PACKETS", 20)
    encode(tmp_path / "a.mkv", "libx264", "yuv420p", {"bf": "0"}, 60, keys=50)
    expected, _ = decoded(tmp_path / "a.mkv", "cpu")
    install()
    got, said = decoded(tmp_path / "a.mkv", "gpu")
    same(got, expected)
    assert len(said) == 1


@pytest.fixture
def gpu() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        if os.environ.get("CLESR_REQUIRE_CUDA"):
            pytest.fail("CLESR_REQUIRE_CUDA is set and torch finds no NVIDIA GPU")
        pytest.skip("torch finds no NVIDIA GPU")


@pytest.mark.cuda
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("name", "codec", "pixels", "options", "count"), FORMATS)
def test_nvdec_gives_the_processors_luma(
    tmp_path: Path, name: str, codec: str, pixels: str, options: dict[str, str], count: int
) -> None:
    path = tmp_path / name
    write_video(path, drifting(count, (288, 384)), codec=codec, pixel_format=pixels, options=options)
    expected, _ = decoded(path, "cpu")
    got, said = decoded(path, "gpu")
    same(got, expected)
    print(pixels, said)
    if (codec, pixels) == ("libx264", "yuv420p"):
        assert said == [
            "decoding on a graphics card by NVIDIA NVDEC: its first pictures equal the processor's"
        ]


@pytest.mark.parametrize(
    "pixels", ["gray", "yuv420p", "yuvj420p", "gray10le", "yuv420p10le", "gray12le", "yuv420p12le"]
)
@pytest.mark.parametrize("full", [False, True])
def test_every_level_is_fetched_as_the_processor_has_it(pixels: str, full: bool) -> None:
    bits = av.VideoFormat(pixels).components[0].bits
    levels = np.arange(1 << bits, dtype=np.uint8 if bits == 8 else np.uint16)
    frame = av.VideoFrame(64, levels.size // 64, pixels)
    np.frombuffer(memoryview(frame.planes[0]), levels.dtype).reshape(frame.height, -1)[:, :64] = (
        levels.reshape(-1, 64)
    )
    frame.color_range = 2 if full else 1
    expected = luma(frame)
    got = fetched_luma(fetched(frame), pixels)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)
