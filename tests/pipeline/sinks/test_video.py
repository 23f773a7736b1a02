from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from heard import hear
from numpy.typing import NDArray

from clesr.engines.common.errors import SinkError, UsageError
from clesr.engines.common.files import WriteRule
from clesr.pipeline.frame import Image, Result
from clesr.pipeline.sinks.registry import SinkOptions
from clesr.pipeline.sinks.video import VideoFile
from clesr.pipeline.video.encoding import VideoWriter

MakeResult = Callable[..., Result]
LOSSLESS = [
    ("out.mkv", "auto", 8), ("out.avi", "auto", 8), ("out.mkv", "ffv1", 8), ("out.mp4", "h264-lossless", 8),
    ("out.mkv", "auto", 16), ("out.mp4", "auto", 16), ("out.avi", "auto", 16),
]  # fmt: skip
LOSSY = [
    ("out.mp4", "auto"), ("out.mov", "auto"), ("out.mkv", "h264"), ("out.mkv", "hevc"), ("out.mp4", "hevc"),
]  # fmt: skip
DEEP = [("out.mkv", "hevc10"), ("out.mp4", "hevc12"), ("out.mov", "hevc10")]
SHAPES = [(64, 96), (63, 65), (17, 31)]


def noise(shape: tuple[int, int], bits: int = 8, seed: int = 0) -> Image:
    """Every bit of it random: what is lossy shows."""
    pixels = np.random.default_rng(seed).integers(0, 1 << bits, shape)
    return pixels.astype(np.uint8) if bits == 8 else pixels.astype(np.uint16)


def smooth(shape: tuple[int, int], number: int, *, deep: bool = False) -> Image:
    """A gradient from black to white that moves."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    unit = (np.sin(columns / 17 + number / 5) + np.cos(rows / 13)) / 4 + 0.5
    if deep:
        return np.asarray(unit * 65535, np.uint16)
    return np.asarray(unit * 255, np.uint8)


def decode(path: Path, *, deep: bool = False) -> tuple[list[NDArray[Any]], list[Fraction]]:
    """Images and seconds of every frame."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    images = [frame.to_ndarray(format="gray16le" if deep else "gray") for frame in frames]
    seconds = []
    for frame in frames:
        assert frame.pts is not None
        assert frame.time_base is not None
        seconds.append(frame.pts * frame.time_base)
    return images, seconds


def record(path: Path, results: list[Result], **options: Any) -> str:
    sink = VideoFile(path, SinkOptions(**options))
    for result in results:
        sink.write(result)
    line = sink.close()
    assert line is not None
    assert sink.close() == line
    return line


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "codec", "bits"), LOSSLESS)
def test_lossless_is_bit_exact_at_every_size(
    name: str, codec: str, bits: int, shape: tuple[int, int], tmp_path: Path, make_result: MakeResult
) -> None:
    images = [noise(shape, bits, seed) for seed in range(3)]
    line = record(
        tmp_path / name,
        [make_result(image, n, time_ns=n * 40_000_000) for n, image in enumerate(images)],
        codec=codec,
    )
    decoded, seconds = decode(tmp_path / name, deep=bits == 16)
    assert all(np.array_equal(a, b) for a, b in zip(decoded, images, strict=True))
    assert seconds == [0, Fraction(1, 25), Fraction(2, 25)]
    assert names(tmp_path) == {name}
    assert line.startswith(f"{tmp_path / name}: 3 frames, 0.12 s, ")
    assert f"{shape[1]}x{shape[0]}" in line


@pytest.mark.parametrize("shape", SHAPES[:2])
@pytest.mark.parametrize(("name", "codec"), LOSSY)
def test_lossy_keeps_the_gray_values(
    name: str, codec: str, shape: tuple[int, int], tmp_path: Path, make_result: MakeResult
) -> None:
    """A range mistaken for limited would move black by 16 and the mean by several levels."""
    images = [smooth(shape, number) for number in range(6)]
    record(
        tmp_path / name,
        [make_result(image, n, time_ns=n * 40_000_000) for n, image in enumerate(images)],
        codec=codec,
    )
    decoded, _ = decode(tmp_path / name)
    error = np.stack(decoded).astype(float) - np.stack(images)
    assert np.stack(decoded).min() <= 3
    assert np.stack(decoded).max() >= 252
    assert abs(error.mean()) < 0.25
    assert np.sqrt((error**2).mean()) < 1.5


@pytest.mark.parametrize(("name", "codec"), DEEP)
def test_ten_and_twelve_bits_where_asked(
    name: str, codec: str, tmp_path: Path, make_result: MakeResult
) -> None:
    images = [smooth((64, 96), number, deep=True) for number in range(4)]
    record(
        tmp_path / name,
        [make_result(image, n, time_ns=n * 40_000_000) for n, image in enumerate(images)],
        codec=codec,
    )
    decoded, _ = decode(tmp_path / name, deep=True)
    error = np.stack(decoded).astype(float) - np.stack(images)
    assert abs(error.mean()) < 64, "a quarter of an 8-bit level"
    assert np.sqrt((error**2).mean()) < 257


@pytest.mark.parametrize("codec", ["h264", "h264-lossless", "hevc"])
def test_sixteen_bits_are_never_cut_unasked(codec: str, tmp_path: Path, make_result: MakeResult) -> None:
    sink = VideoFile(tmp_path / "out.mkv", SinkOptions(codec=codec))
    with pytest.raises(UsageError, match="keeps 8 of the images' 16 bits; choose codec ffv1") as caught:
        sink.write(make_result(noise((8, 8), 16)))
    assert "\n" not in str(caught.value)
    sink.close()
    assert names(tmp_path) == set()


def test_quicktime_has_no_place_for_sixteen_bits_unchanged(tmp_path: Path, make_result: MakeResult) -> None:
    sink = VideoFile(tmp_path / "out.mov")
    with pytest.raises(UsageError, match=r"choose \.mkv"):
        sink.write(make_result(noise((8, 8), 16)))
    sink.close()
    assert names(tmp_path) == set()


@pytest.mark.parametrize("name", ["out.mkv", "out.mp4", "out.mov"])
@pytest.mark.parametrize(
    "base", [Fraction(1, 90000), Fraction(1001, 30000), Fraction(1, 24), Fraction(1, 1000)]
)
def test_the_recording_s_own_times_come_back(
    name: str, base: Fraction, tmp_path: Path, make_result: MakeResult
) -> None:
    step = max(1, round(Fraction(1, 24) / base))
    places = [100, 100 + step, 100 + 2 * step, 100 + 5 * step, 100 + 6 * step + (step > 1)]
    image = noise((32, 32))
    record(
        tmp_path / name,
        [make_result(image, n, time_ns=7, pts=pts, time_base=base) for n, pts in enumerate(places)],
    )
    _, seconds = decode(tmp_path / name)
    wanted = [(pts - 100) * base for pts in places]
    if name == "out.mkv":
        assert all(abs(a - b) <= Fraction(1, 1000) for a, b in zip(seconds, wanted, strict=True))
    else:
        assert seconds == wanted


@pytest.mark.parametrize(("name", "limit"), [("out.mkv", 1e-3), ("out.mp4", 1e-6), ("out.mov", 1e-6)])
def test_capture_times_come_back(name: str, limit: float, tmp_path: Path, make_result: MakeResult) -> None:
    jitter = np.random.default_rng(5).integers(0, 9_000_000, 50)
    times = [10**15 + number * 41_666_667 + int(extra) for number, extra in enumerate(jitter)]
    record(tmp_path / name, [make_result(noise((32, 32)), n, time_ns=t) for n, t in enumerate(times)])
    _, seconds = decode(tmp_path / name)
    assert max(abs(float(s) - (t - times[0]) / 1e9) for s, t in zip(seconds, times, strict=True)) <= limit


@pytest.mark.parametrize("name", ["out.mkv", "out.mp4", "out.avi"])
def test_times_that_stand_still_or_go_back_still_rise(
    name: str, tmp_path: Path, make_result: MakeResult
) -> None:
    base = Fraction(1, 25)
    places = [0, 1, 2, 2, 2, 3, 0, 1, 2]
    record(
        tmp_path / name,
        [make_result(noise((32, 32)), n, pts=pts, time_base=base) for n, pts in enumerate(places)],
        fps=25.0,
    )
    _, seconds = decode(tmp_path / name)
    assert len(seconds) == len(places)
    assert all(a < b for a, b in pairwise(seconds))


def test_avi_has_a_grid_of_the_source_s_rate(tmp_path: Path, make_result: MakeResult) -> None:
    base = Fraction(1, 24)
    record(
        tmp_path / "out.avi",
        [make_result(noise((16, 16)), n, pts=pts, time_base=base) for n, pts in enumerate((0, 1, 4, 5))],
        fps=24.0,
    )
    assert decode(tmp_path / "out.avi")[1] == [0, base, 4 * base, 5 * base]


def test_another_size_goes_on_in_a_second_file(tmp_path: Path, make_result: MakeResult) -> None:
    first, second = noise((32, 48)), noise((64, 40))
    deep = noise((64, 40), 16)
    images = [first] * 3 + [second] * 2 + [deep]
    results, said = [make_result(image, n, time_ns=n * 40_000_000) for n, image in enumerate(images)], hear()
    line = record(tmp_path / "out.mkv", results)
    assert names(tmp_path) == {"out.mkv", "out.2.mkv", "out.3.mkv"}
    assert said == [
        f"{tmp_path}/out.mkv: images have 40x64 pixels, {bits} bits now; the video goes on in {tmp_path}/out.{n}.mkv"
        for n, bits in ((2, 8), (3, 16))
    ]
    assert [len(decode(tmp_path / name)[0]) for name in ("out.mkv", "out.2.mkv")] == [3, 2]
    assert np.array_equal(decode(tmp_path / "out.3.mkv", deep=True)[0][0], deep)
    parts = line.split("; ")
    assert [part.split(": ")[0] for part in parts] == [
        str(tmp_path / name) for name in ("out.mkv", "out.2.mkv", "out.3.mkv")
    ]
    assert "2 frames" in parts[1]


def test_an_older_file_stays_until_the_new_one_is_finished(tmp_path: Path, make_result: MakeResult) -> None:
    target = tmp_path / "out.mkv"
    target.write_bytes(b"older")
    sink = VideoFile(target, SinkOptions(rule=WriteRule(overwrite=True)))
    for number in range(5):
        sink.write(make_result(noise((64, 64)), number, time_ns=number))
    assert target.read_bytes() == b"older"
    assert len(names(tmp_path)) == 2
    sink.close()
    assert names(tmp_path) == {"out.mkv"}
    assert len(decode(target)[0]) == 5


def test_without_a_frame_nothing_is_left(tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    target.write_bytes(b"older")
    sink = VideoFile(target, SinkOptions(rule=WriteRule(overwrite=True)))
    assert sink.close() == f"{target}: nothing written, no frame came"
    assert names(tmp_path) == {"out.mkv"}
    assert target.read_bytes() == b"older"


@pytest.mark.parametrize("name", ["out.mkv", "out.mp4"])
def test_a_conversion_that_is_stopped_never_takes_the_final_name(
    name: str, tmp_path: Path, make_result: MakeResult
) -> None:
    sink = VideoFile(tmp_path / name, SinkOptions(partial_ok=False))
    for number in range(4):
        sink.write(make_result(noise((32, 32)), number, time_ns=number * 40_000_000))
    line = sink.close()
    partial = tmp_path / name.replace("out", "out.partial")
    assert names(tmp_path) == {partial.name}
    assert len(decode(partial)[0]) == 4
    assert line is not None
    assert line.startswith(f"{partial}: 4 frames")
    assert line.endswith("stopped before the end of the input")


def test_a_conversion_that_ends_takes_the_final_name(tmp_path: Path, make_result: MakeResult) -> None:
    sink = VideoFile(tmp_path / "out.mp4", SinkOptions(partial_ok=False))
    for number, shape in enumerate(((32, 32), (48, 48))):
        sink.write(make_result(noise(shape), number))
        assert all(name.startswith(".out") for name in names(tmp_path))
    sink.complete()
    sink.close()
    assert names(tmp_path) == {"out.mp4", "out.2.mp4"}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel refuses to make any file larger, as on a full disk, with another error number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill(sink: VideoFile, make_result: MakeResult, frames: int = 400) -> None:
    for number in range(frames):
        sink.write(make_result(noise((128, 128), seed=number), number, time_ns=number * 40_000_000))


@pytest.mark.parametrize("name", ["out.mkv", "out.mp4", "out.avi"])
def test_a_write_that_fails_leaves_what_can_be_read_under_a_name_that_says_so(
    name: str, tmp_path: Path, make_result: MakeResult
) -> None:
    sink = VideoFile(tmp_path / name)
    with largest_file(2_000_000), pytest.raises(SinkError) as caught:
        fill(sink, make_result)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name} cannot be written: {os.strerror(errno.EFBIG)}; ")
    assert "\n" not in message
    partial = tmp_path / name.replace("out", "out.partial")
    assert f"{partial} has what reached the disk" in message
    assert names(tmp_path) == {partial.name}
    with av.open(str(partial)) as container:
        first = next(container.decode(video=0)).to_ndarray(format="gray")
    assert np.abs(first.astype(int) - noise((128, 128))).mean() < 8
    with pytest.raises(SinkError, match="cannot be written"):
        sink.write(make_result(noise((128, 128))))
    assert sink.close() == message


def test_an_end_that_cannot_be_written_is_an_error_too(tmp_path: Path, make_result: MakeResult) -> None:
    sink = VideoFile(tmp_path / "out.mkv")
    fill(sink, make_result, frames=3)
    with largest_file(10), pytest.raises(SinkError, match="cannot be written"):
        sink.close()
    assert names(tmp_path) == set(), "nothing of it reached the disk"
    assert sink.close() is not None


def test_a_full_disk(tmp_path: Path, make_result: MakeResult) -> None:
    """/dev/full answers every write with ENOSPC."""
    sink = VideoFile(tmp_path / "out.mkv")
    (temporary,) = tmp_path.iterdir()
    temporary.unlink()
    temporary.symlink_to("/dev/full")
    with pytest.raises(SinkError) as caught:
        fill(sink, make_result)
    assert str(caught.value) == (
        f"{tmp_path / 'out.mkv'} cannot be written: No space left on device; "
        "free some space, or choose another disk; nothing is kept"
    )
    sink.close()
    assert names(tmp_path) == set()


def test_an_encoder_that_fails(
    tmp_path: Path, make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = VideoFile(tmp_path / "out.mkv")
    fill(sink, make_result, frames=6)
    encode = VideoWriter.write

    def fail(_writer: VideoWriter, _image: Image, _ticks: int) -> None:
        raise av.ExternalError(542398533, "Generic error in an external library")

    monkeypatch.setattr(VideoWriter, "write", fail)
    with pytest.raises(
        SinkError, match=r"Generic error in an external library.*out\.partial\.mkv has"
    ) as caught:
        sink.write(make_result(noise((128, 128)), 6))
    assert "at most 6 frames" in str(caught.value)
    monkeypatch.setattr(VideoWriter, "write", encode)
    sink.close()
    assert names(tmp_path) == {"out.partial.mkv"}
    assert len(decode(tmp_path / "out.partial.mkv")[0]) == 6


@pytest.mark.parametrize("name", ["out.mkv", "out.mp4"])
def test_a_killed_process_leaves_a_file_that_plays(
    name: str, tmp_path: Path, make_result: MakeResult
) -> None:
    """What lies on the disk before ``close``, copied away, as a power cut would leave it."""
    sink = VideoFile(tmp_path / name, SinkOptions(codec="h264", fps=25.0))
    fill(sink, make_result, frames=250)
    (temporary,) = tmp_path.iterdir()
    left = tmp_path / f"left{temporary.suffix}"
    left.write_bytes(temporary.read_bytes())
    sink.close()
    shown = 0
    with av.open(str(left)) as container:
        try:
            for _ in container.decode(video=0):
                shown += 1
        except av.InvalidDataError:
            pass  # the torn end
    assert shown >= 250 - 4 * 25


def test_real_frames_lose_nothing_in_mkv_and_little_in_mp4(
    real_frames: list[NDArray[np.uint8]], tmp_path: Path, make_result: MakeResult
) -> None:
    results = [make_result(image, n, time_ns=n * 41_666_667) for n, image in enumerate(real_frames)]
    for name in ("out.mkv", "out.mp4"):
        record(tmp_path / name, results)
    exact, _ = decode(tmp_path / "out.mkv")
    assert all(np.array_equal(a, b) for a, b in zip(exact, real_frames, strict=True))
    near, _ = decode(tmp_path / "out.mp4")
    error = np.stack(near).astype(float) - np.stack(real_frames)
    assert 10 * np.log10(255**2 / (error**2).mean()) > 46
    assert abs(error.mean()) < 0.1
