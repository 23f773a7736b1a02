"""Video files: what is in them comes out, once, in order, at its time; what is damaged is counted."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from heard import hear
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import drifting, noise, read_all, write_video
from support import ManualClock

from clesr.engines.common.errors import EndOfSource, SourceError
from clesr.pipeline.frame import Frame
from clesr.pipeline.sources.registry import SourceOptions
from clesr.pipeline.sources.video.file import RegularTimes, RisingTimes, VideoSource
from clesr.pipeline.video.decode import intact


def damaged(path: Path, packet_number: int, *, mark: bytes = b"") -> None:
    """Flip the bits of a byte of one packet: in its middle, or the last of ``mark``."""
    with av.open(path) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    content, wanted = bytearray(path.read_bytes()), packets[packet_number]
    at = content.find(wanted)
    assert at > 0
    content[at + (wanted.index(mark) + len(mark) - 1 if mark else len(wanted) // 2)] ^= 0xFF
    path.write_bytes(content)


def cut(path: Path, fraction: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])


@settings(max_examples=15)
@given(
    height=st.integers(2, 70),
    width=st.integers(2, 70),
    count=st.integers(1, 5),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    seed=st.integers(0, 1000),
)
def test_lossless_gray_comes_back_bit_for_bit(
    height: int, width: int, count: int, dtype: type[np.uint8 | np.uint16], seed: int
) -> None:
    images = noise(count, (height, width), dtype, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mkv"
        write_video(path, images)
        frames, corrupt = read_all(VideoSource(path))
    assert not corrupt
    assert [frame.number for frame in frames] == list(range(count))
    for frame, image in zip(frames, images, strict=True):
        assert frame.image.dtype == dtype
        np.testing.assert_array_equal(frame.image, image)


CODECS = [
    ("a.mp4", "libx264", "yuv420p", {"bf": "3"}),
    ("a.mkv", "libx265", "yuv420p", {"x265-params": "log-level=none"}),
    ("a.webm", "libvpx", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    ("a.webm", "libvpx-vp9", "yuv420p", {}),
    ("a.mkv", "libsvtav1", "yuv420p", {"preset": "12"}),
    ("a.mpg", "mpeg1video", "yuv420p", {}),
    ("a.mpg", "mpeg2video", "yuv420p", {"bf": "2"}),
    ("a.avi", "mpeg4", "yuv420p", {}),
    ("a.avi", "mjpeg", "yuvj420p", {}),
    ("a.avi", "rawvideo", "gray", {}),
    ("a.mov", "png", "gray", {}),
    ("a.ts", "libx264", "yuv420p", {}),
]


@pytest.mark.parametrize(("name", "codec", "pixel_format", "options"), CODECS)
def test_every_frame_of_every_codec(
    tmp_path: Path, name: str, codec: str, pixel_format: str, options: dict[str, str]
) -> None:
    images = drifting(30)
    write_video(tmp_path / name, images, codec=codec, pixel_format=pixel_format, options=options)
    frames, corrupt = read_all(VideoSource(tmp_path / name))
    assert not corrupt
    counted = VideoSource(tmp_path / name, SourceOptions(count=True)).info
    assert len(frames) == counted.frames == 30
    assert counted.seconds == pytest.approx(1.2, abs=0.002)
    for frame, image in zip(frames, images, strict=True):
        # In its place, and over the full range: a wrong range would be 16 levels off at black.
        assert np.abs(frame.image.astype(int) - image).mean() < 4
    times = [frame.pts * frame.time_base for frame in frames if frame.pts is not None and frame.time_base]
    assert len(times) == 30
    assert all(abs(later - time - Fraction(1, 25)) <= Fraction(1, 1000) for time, later in pairwise(times))


def test_uneven_time_stamps_are_kept(tmp_path: Path) -> None:
    times = [0, 40, 45, 300, 1301]
    write_video(tmp_path / "a.mkv", noise(5, (16, 16)), times_ms=times)
    frames, _ = read_all(VideoSource(tmp_path / "a.mkv"))
    assert [frame.pts * frame.time_base * 1000 for frame in frames] == times  # type: ignore[operator]


def test_info(tmp_path: Path) -> None:
    images = drifting(7, (48, 64))
    write_video(tmp_path / "a.mp4", images, codec="libx264", pixel_format="yuv420p", fps=12)
    write_video(tmp_path / "a.mkv", images)
    info = VideoSource(tmp_path / "a.mp4").info
    assert (info.live, info.fps, info.shape, info.frames) == (False, 12.0, (48, 64), 7)
    assert VideoSource(tmp_path / "a.mkv").info.frames is None
    assert VideoSource(tmp_path / "a.mkv", SourceOptions(count=True)).info.frames == 7


def test_time_is_the_clocks(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", noise(2, (16, 16)))
    clock = ManualClock()
    source = VideoSource(tmp_path / "a.mkv", SourceOptions(clock=clock))
    first = source.read(0)
    clock.advance(3)
    second = source.read(0)
    assert isinstance(first, Frame)
    assert isinstance(second, Frame)
    assert second.time_ns - first.time_ns == 3_000_000_000
    source.close()


def test_real_video_agrees_with_ffprobe(data: Path) -> None:
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed: apt-get install ffmpeg")
    path = data / "video" / "colon_pcle.mpeg"
    command = [
        "ffprobe",
        "-v",
        "error",
        "-select_streams",
        "v:0",
        "-show_entries",
        "frame=pts",
        "-of",
        "csv=p=0",
    ]
    shown = subprocess.run([*command, path], capture_output=True, text=True, check=True, timeout=60).stdout
    expected = [int(line.strip(",")) for line in shown.split() if line.strip(",").isdigit()]
    source = VideoSource(path, SourceOptions(count=True))
    assert (source.info.fps, source.info.shape, source.info.frames) == (24.0, (592, 576), 260)
    frames, corrupt = read_all(source)
    assert not corrupt
    assert [frame.pts for frame in frames] == expected
    assert len(expected) == 260
    assert frames[0].image.min() == 0
    assert frames[0].image.max() == 255


def test_real_video_cut_in_the_middle(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mpeg"
    path.write_bytes((data / "video" / "colon_pcle.mpeg").read_bytes()[:700_000])
    whole, _ = read_all(VideoSource(data / "video" / "colon_pcle.mpeg"))
    frames, corrupt = read_all(VideoSource(path))
    assert len(frames) > 30
    assert len(corrupt) == 1
    for frame in frames:
        np.testing.assert_array_equal(frame.image, whole[frame.number].image)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "states"),
    [
        ("a.mkv", "ffv1", "gray16le", "that it states"),
        ("a.mkv", "libx264", "yuv420p", "that it states"),
        ("a.mp4", "libx264", "yuv420p", "of the 30 frames"),
        ("a.avi", "mjpeg", "yuvj420p", "that it states"),
        ("a.ts", "libx264", "yuv420p", "transport packet"),
        ("a.mpg", "mpeg1video", "yuv420p", "made up by the decoder"),
    ],
)
def test_a_cut_file_gives_what_is_there_and_says_so(
    tmp_path: Path, name: str, codec: str, pixel_format: str, states: str
) -> None:
    path = tmp_path / name
    images = drifting(30) if pixel_format != "gray16le" else noise(30, (60, 80), np.uint16)
    faststart = {"movflags": "faststart"} if name == "a.mp4" else {}
    small_groups = {} if codec == "mjpeg" else {"g": "5"}
    write_video(
        path,
        images,
        codec=codec,
        pixel_format=pixel_format,
        options=small_groups,
        container_options=faststart,
    )
    whole, _ = read_all(VideoSource(path))
    cut(path, 0.6)
    frames, corrupt = read_all(VideoSource(path))
    assert 0 < len(frames) < 30
    assert states in corrupt[-1].reason
    assert "\n" not in corrupt[-1].reason
    numbers = sorted([item.number for item in frames] + [item.number for item in corrupt])
    assert numbers == list(range(len(numbers)))
    by_time = {frame.pts: frame.image for frame in whole}
    for frame in frames:
        np.testing.assert_array_equal(frame.image, by_time[frame.pts])


def test_damage_to_a_lossless_recording_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    images = noise(9, (64, 64), np.uint16)
    write_video(path, images, options={"g": "3", "level": "3", "slicecrc": "1"})
    damaged(path, 4)
    frames, corrupt = read_all(VideoSource(path))
    # 4 is damaged and 5 may build on it; 6 is a key frame.
    assert [item.number for item in corrupt] == [4, 5]
    assert "checksum" in corrupt[0].reason
    assert [frame.number for frame in frames] == [0, 1, 2, 3, 6, 7, 8]
    for frame in frames:
        np.testing.assert_array_equal(frame.image, images[frame.number])


def test_ffv1_without_checksums_is_not_judged(tmp_path: Path) -> None:
    images = noise(4, (32, 32))
    write_video(tmp_path / "a.mkv", images, options={"level": "3", "slicecrc": "0"})
    with av.open(tmp_path / "a.mkv") as container:
        assert not any(intact(bytes(packet)) for packet in container.demux(video=0))
    frames, corrupt = read_all(VideoSource(tmp_path / "a.mkv"))
    assert len(frames) == 4
    assert not corrupt


def test_a_frame_that_cannot_be_decoded_is_counted_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    write_video(path, drifting(12), codec="mjpeg", pixel_format="yuvj420p")
    damaged(path, 5, mark=b"\xff\xc0")  # without it, size and components are unknown
    frames, corrupt = read_all(VideoSource(path))
    assert [item.number for item in corrupt] == [5]
    assert [frame.number for frame in frames] == [n for n in range(12) if n != 5]
    assert [frame.pts for frame in frames] == [n for n in range(12) if n != 5]


def test_avi_that_repeats_pictures_is_whole(tmp_path: Path) -> None:
    times = [0, 40, 400, 440]
    write_video(tmp_path / "a.avi", drifting(4), codec="mjpeg", pixel_format="yuvj420p", fps=25)
    write_video(
        tmp_path / "b.avi", drifting(4), codec="mjpeg", pixel_format="yuvj420p", fps=25, times_ms=times
    )
    for name in ("a.avi", "b.avi"):
        frames, corrupt = read_all(VideoSource(tmp_path / name))
        assert len(frames) == 4
        assert not corrupt


def test_bottom_up_images_stand_upright(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    colour = np.zeros((20, 30, 3), np.uint8)
    colour[:5] = 200
    with av.open(path, "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 30, 20, "bgr24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(colour, format="bgr24")))
        container.mux(stream.encode(None))
    content = bytearray(path.read_bytes())
    height_at = content.find(b"strf") + 16
    (height,) = struct.unpack_from("<i", content, height_at)
    assert height == -20  # top-down; the positive height of most AVI files is bottom-up
    struct.pack_into("<i", content, height_at, 20)
    path.write_bytes(content)
    (frame,), _ = read_all(VideoSource(path))
    np.testing.assert_array_equal(frame.image, colour[::-1, :, 0])


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "no such file"), (b"", "empty"), (b"This is a text, not a video.\n" * 50, "not a video")],
)
def test_what_is_no_video_is_told_in_a_line(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=says) as raised:
        VideoSource(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_text_is_not_drawn_as_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello\n" * 200)
    with pytest.raises(SourceError, match=r"no video|not a video"):
        VideoSource(tmp_path / "notes.txt")


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    with av.open(tmp_path / "a.wav", "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
    with pytest.raises(SourceError, match="no video"):
        VideoSource(tmp_path / "a.wav")


def test_an_mp4_without_its_index_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", drifting(10), codec="libx264", pixel_format="yuv420p")
    cut(tmp_path / "a.mp4", 0.5)
    with pytest.raises(SourceError, match="index is damaged"):
        VideoSource(tmp_path / "a.mp4")


def test_close_ends_reading_and_may_be_called_twice(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", noise(3, (16, 16)))
    source = VideoSource(tmp_path / "a.mkv")
    source.read(0)
    source.close()
    source.close()
    with pytest.raises(EndOfSource):
        source.read(0)


def test_the_end_stays_the_end(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", noise(1, (16, 16)))
    source = VideoSource(tmp_path / "a.mkv")
    source.read(0)
    for _ in range(2):
        with pytest.raises(EndOfSource):
            source.read(0)
    source.close()


@given(st.lists(st.one_of(st.none(), st.integers(-500_000, 500_000)), max_size=30))
def test_time_stamps_always_rise(stamps: list[int | None]) -> None:
    times = RisingTimes(Fraction(1, 90_000), 25.0)
    made = [times.rising(pts) for pts in stamps]
    assert all(later > earlier for earlier, later in pairwise(made))


def test_missing_and_restarted_time_stamps() -> None:
    times = RisingTimes(Fraction(1, 1000), 25.0)
    stamps = [0, 40, None, 120, 119, 160, 5_000, 0, 40, 80]
    made = [times.rising(pts) for pts in stamps]
    assert made == [0, 40, 80, 120, 121, 160, 5_000, 5_040, 5_080, 5_120]


@pytest.mark.parametrize("fps", [10, 24, 30])
def test_a_hole_in_a_file_of_regular_times_is_told(tmp_path: Path, fps: int) -> None:
    numbers = [*range(20), *range(38, 60)]
    said = hear("clesr.pipeline.sources.video")
    times = [round(1000 * number / fps) for number in numbers]
    write_video(tmp_path / "a.mkv", noise(len(numbers), (16, 16)), fps=fps, times_ms=times)
    frames, corrupt = read_all(VideoSource(tmp_path / "a.mkv"))
    assert (len(frames), corrupt) == (42, [])
    (line,) = said
    assert f"for {19 / fps:.2f} s from {19 / fps:.2f} s on; about 18 may be missing" in line


@pytest.mark.parametrize(
    "steps",
    [[40] * 30, [33, 34, 33] * 10, [40, 80, 40, 40, 200, 40, 120] * 4, [40] * 5 + [2000] + [40] * 30],
    ids=["constant", "rounded", "variable", "too early to know"],
)
def test_times_that_do_not_jump_out_of_a_rhythm_are_no_hole(steps: list[int]) -> None:
    said = hear("clesr.pipeline.sources.video")
    watch = RegularTimes("a", Fraction(1, 1000))
    for pts in accumulate(steps, initial=0):
        watch.note(pts)
    assert (watch.jumps, said) == (0, [])


def test_of_many_holes_a_few_are_told() -> None:
    said = hear("clesr.pipeline.sources.video")
    watch = RegularTimes("a", Fraction(1, 1000))
    for pts in accumulate(([40] * 20 + [400]) * 10, initial=0):
        watch.note(pts)
    assert (watch.jumps, len(said)) == (10, 3)
