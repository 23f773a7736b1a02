"""Forms of video that say more than pixels: tracks, covers, turned and interlaced pictures, edit lists, grey levels."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

import av
import numpy as np
import pytest
from av.stream import Disposition
from heard import hear
from recordings import drifting, noise, read_all

from clesr.engines.common.errors import SourceError, UsageError
from clesr.pipeline.frame import Image
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.sources.registry import SourceOptions
from clesr.pipeline.sources.video.file import VideoSource
from clesr.pipeline.video.orientation import Orientation, from_matrix

FPS = 25
LOSSLESS = {"qp": "0", "preset": "ultrafast"}


def write(
    path: Path,
    *tracks: Sequence[Image],
    dispositions: Sequence[Disposition] = (),
    codecs: Sequence[tuple[str, str]] = (),
    matrix: Sequence[int] = (),
    aspect: Fraction | None = None,
    start: int = 0,
    options: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """A file with ``tracks`` of gray images, ``start`` frames late (early where that is negative)."""
    container = {"avoid_negative_ts": "disabled"} if start < 0 else {}
    with av.open(path, "w", options=container) as out:
        streams = []
        for index, images in enumerate(tracks):
            codec, pixels = codecs[index] if codecs else ("ffv1", "gray")
            stream = out.add_stream(codec, rate=FPS, options=dict(options))
            assert isinstance(stream, av.VideoStream)
            stream.height, stream.width, stream.pix_fmt = *images[0].shape, pixels
            if dispositions:
                stream.disposition = dispositions[index]
            if aspect is not None:
                stream.codec_context.sample_aspect_ratio = aspect
            if matrix:
                stream.set_display_matrix(matrix)
            streams.append(stream)
        for stream, images in zip(streams, tracks, strict=True):
            for number, image in enumerate(images):
                gray = image.astype(np.uint8, copy=False)
                frame = av.VideoFrame.from_ndarray(gray, "gray").reformat(format=stream.pix_fmt)
                frame.pts, frame.time_base = number + start, Fraction(1, FPS)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))


def read(path: Path, **options: object) -> tuple[list[Image], SourceInfo]:
    source = VideoSource(path, SourceOptions(**options))  # type: ignore[arg-type]
    frames, corrupt = read_all(source)
    assert not corrupt
    return [frame.image for frame in frames], source.info


def test_cover_art_is_no_video(tmp_path: Path) -> None:
    images, cover = noise(5, (48, 64)), [np.full((90, 90), 77, np.uint8)]
    write(
        tmp_path / "a.mp4",
        cover,
        images,
        codecs=[("mjpeg", "yuvj420p"), ("libx264", "yuv420p")],
        dispositions=[Disposition.attached_pic, Disposition.default],
    )
    played, info = read(tmp_path / "a.mp4", count=True)
    assert (len(played), info.frames, info.shape) == (5, 5, (48, 64))


def test_a_cover_alone_is_refused(tmp_path: Path) -> None:
    cover = [np.full((90, 90), 77, np.uint8)]
    write(tmp_path / "a.mp4", cover, codecs=[("mjpeg", "yuvj420p")], dispositions=[Disposition.attached_pic])
    with pytest.raises(SourceError, match="has a cover picture, but no video"):
        VideoSource(tmp_path / "a.mp4")


def test_the_default_track_is_read_and_any_other_by_number(tmp_path: Path) -> None:
    small, large = noise(3, (32, 32)), noise(4, (48, 64), seed=1)
    write(tmp_path / "a.mkv", small, large, dispositions=[Disposition(0), Disposition.default])
    heard = hear()
    played, info = read(tmp_path / "a.mkv", count=True)
    assert info.frames == 4
    np.testing.assert_array_equal(played, large)
    assert len(heard) == 1
    assert "2 video tracks: 1 (32x32 ffv1), 2 (64x48 ffv1); track 2 is read, --track N" in heard[0]
    played, info = read(tmp_path / "a.mkv", count=True, track=1)
    assert info.frames == 3
    np.testing.assert_array_equal(played, small)
    with pytest.raises(UsageError, match="no video track 3; it has 2 video tracks: 1"):
        VideoSource(tmp_path / "a.mkv", SourceOptions(track=3))


ONE = 1 << 16
TURNS = {  # by the matrix (a, b, c, d): where the upper left and right corner pixels, 10 and 20, come to be
    (1, 0, 0, 1): (10, 20, 30, 40),
    (-1, 0, 0, 1): (20, 10, 40, 30),
    (1, 0, 0, -1): (30, 40, 10, 20),
    (-1, 0, 0, -1): (40, 30, 20, 10),
    (0, 1, -1, 0): (30, 10, 40, 20),
    (0, -1, 1, 0): (20, 40, 10, 30),
    (0, 1, 1, 0): (10, 30, 20, 40),
    (0, -1, -1, 0): (40, 20, 30, 10),
}


@pytest.mark.parametrize("axes", TURNS)
def test_pictures_stand_as_the_display_matrix_says(tmp_path: Path, axes: tuple[int, int, int, int]) -> None:
    image = np.full((48, 64), 128, np.uint8)
    image[:8, :8], image[:8, -8:], image[-8:, :8], image[-8:, -8:] = 10, 20, 30, 40
    a, b, c, d = (ONE * axis for axis in axes)
    write(
        tmp_path / "a.mp4",
        [image] * 2,
        codecs=[("libx264", "yuvj420p")],
        options=LOSSLESS,
        matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30),
        aspect=Fraction(4, 3),
    )
    played, info = read(tmp_path / "a.mp4")
    shape, aspect = ((48, 64), Fraction(4, 3)) if a else ((64, 48), Fraction(3, 4))
    assert (info.shape, info.pixel_aspect) == (shape, aspect)
    for turned in played:
        assert turned.shape == shape
        corners = turned[0, 0], turned[0, -1], turned[-1, 0], turned[-1, -1]
        np.testing.assert_allclose(np.array(corners, int), TURNS[axes], atol=1)


def test_a_slanting_matrix_is_left_and_told(tmp_path: Path) -> None:
    assert from_matrix((ONE, ONE, 0, -ONE, ONE)) is None
    assert from_matrix((0, 2 * ONE, 0, -3 * ONE, 0)) == Orientation(True, True, False)
    images = noise(3, (16, 16))
    matrix = (46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30)
    write(tmp_path / "a.mp4", images, codecs=[("libx264", "gray")], options=LOSSLESS, matrix=matrix)
    heard = hear()
    assert read(tmp_path / "a.mp4")[0][0].shape == (16, 16)
    assert [line for line in heard if "no quarter turn" in line] == heard
    assert len(heard) == 1


def woven(fields: Sequence[Image], *, top: bool) -> list[Image]:
    """A picture of each two of ``fields``, which are whole images: the first gives its upper or its lower lines."""
    pictures = []
    for first, second in zip(fields[::2], fields[1::2], strict=True):
        picture = second.copy()
        picture[0 if top else 1 :: 2] = first[0 if top else 1 :: 2]
        pictures.append(picture)
    return pictures


@pytest.mark.parametrize("top", [True, False])
def test_interlaced_video_is_told_and_deinterlaced(tmp_path: Path, top: bool) -> None:
    moments = [np.roll(drifting(1, (64, 96))[0], 3 * step, axis=1) for step in range(24)]
    images = woven(moments, top=top)
    order = {"x264-params": "tff=1" if top else "bff=1"}
    write(tmp_path / "a.mkv", images, codecs=[("libx264", "yuvj420p")], options=LOSSLESS | order)
    heard = hear()
    combed, _ = read(tmp_path / "a.mkv", count=True)
    assert len(heard) == 1
    assert f"{'top' if top else 'bottom'} field first: what moves has combs" in heard[0]
    whole, info = read(tmp_path / "a.mkv", count=True, deinterlace=True)
    assert len(combed) == len(whole) == info.frames == 12
    inner = np.s_[8:-8, 8:-8]

    def error(played: Sequence[Image]) -> float:
        pairs = zip(played, moments[::2], strict=True)
        return float(np.mean([np.abs(a[inner].astype(int) - b[inner]).mean() for a, b in pairs]))

    assert error(whole) < error(combed) / 3


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_deinterlaced_pictures_keep_their_times_to_the_end(tmp_path: Path, suffix: str) -> None:
    """Those too that the decoder holds to the end, because it reorders."""
    moments = [np.roll(drifting(1, (64, 96))[0], 3 * step, axis=1) for step in range(24)]
    options = {"crf": "20", "x264-params": "tff=1:bframes=3:b-adapt=0:keyint=30:b-pyramid=normal"}
    path = tmp_path / f"a{suffix}"
    write(path, woven(moments, top=True), codecs=[("libx264", "yuvj420p")], options=options)
    frames, _ = read_all(VideoSource(path, SourceOptions(deinterlace=True)))
    plain, _ = read_all(VideoSource(path))
    assert len(plain) == len(frames) == 12
    assert [(frame.pts, frame.time_base) for frame in frames] == [(f.pts, f.time_base) for f in plain]


def test_deinterlacing_keeps_numbers_and_times_around_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write(path, noise(8, (64, 64)), options={"g": "1"})
    data = bytearray(path.read_bytes())
    with av.open(path) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data[data.find(packets[3]) + len(packets[3]) // 2] ^= 0xFF
    path.write_bytes(data)
    frames, corrupt = read_all(VideoSource(path, SourceOptions(deinterlace=True)))
    assert [item.number for item in corrupt] == [3]
    assert [frame.number for frame in frames] == [0, 1, 2, 4, 5, 6, 7]
    assert [frame.pts * frame.time_base * FPS for frame in frames if frame.pts is not None and frame.time_base] == [
        0, 1, 2, 4, 5, 6, 7,
    ]  # fmt: skip


def test_frames_outside_the_edit_list_do_not_count(tmp_path: Path) -> None:
    images = drifting(12, (48, 64))
    path = tmp_path / "a.mp4"
    write(path, images, codecs=[("libx264", "yuvj420p")], options=LOSSLESS | {"bf": "2"}, start=-5)
    played, counted = read(path, count=True)
    assert len(played) == counted.frames == VideoSource(path).info.frames == 7
    assert counted.seconds == pytest.approx(7 / FPS)
    for image, shown in zip(images[5:], played, strict=True):
        assert np.abs(image.astype(int) - shown).max() <= 1


def test_levels_are_taken_as_asked(tmp_path: Path) -> None:
    """Full-range grey levels in a file that does not say so."""
    images = [np.tile(np.arange(256, dtype=np.uint8), (16, 1))] * 2
    write(tmp_path / "a.mp4", images, codecs=[("libx264", "gray")], options=LOSSLESS)
    assert np.array_equal(read(tmp_path / "a.mp4", levels="full")[0], images)
    limited = np.rint(np.clip((np.arange(256) - 16) / 219, 0, 1) * 255)
    for levels in ("auto", "limited"):
        assert np.array_equal(read(tmp_path / "a.mp4", levels=levels)[0][0][3], limited)
    write(tmp_path / "b.mkv", images)
    assert np.array_equal(read(tmp_path / "b.mkv")[0], images)
    assert np.array_equal(read(tmp_path / "b.mkv", levels="limited")[0][0][3], limited)


def dib(path: Path, images: Sequence[Image], *, fourcc: bytes = bytes(4), bits: int = 8) -> None:
    """An AVI file of raw pictures, stored bottom-up as Windows does where they are 8-bit indices, without a palette."""
    height, width = images[0].shape
    stride = (width * bits // 8 + 3) & ~3
    flipped = not fourcc.strip(bytes(1))

    def chunk(name: bytes, data: bytes) -> bytes:
        return name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)

    form = struct.pack(
        "<IiiHH4sIiiII", 40, width, height if flipped else -height, 1, bits, fourcc, 0, 0, 0, 0, 0
    )
    stream = struct.pack(
        "<4s4sIIIIIIIIIIHHHH",
        b"vids",
        fourcc,
        0,
        0,
        0,
        1,
        FPS,
        0,
        len(images),
        *bytes(3),
        0,
        0,
        width,
        height,
    )
    main = struct.pack("<14I", 40_000, 0, 0, 0, len(images), 0, 1, 0, width, height, *bytes(4))
    header = chunk(b"avih", main) + chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", form))
    rows = (image[::-1] if flipped else image for image in images)
    frames = [b"".join(row.tobytes().ljust(stride, bytes(1)) for row in each) for each in rows]
    movie = b"movi" + b"".join(chunk(b"00db", frame) for frame in frames)
    body = b"AVI " + chunk(b"LIST", b"hdrl" + header) + chunk(b"LIST", movie)
    path.write_bytes(chunk(b"RIFF", body))


@pytest.mark.parametrize("shape", [(48, 64), (33, 61)])
def test_indices_without_a_palette_are_grey_levels(tmp_path: Path, shape: tuple[int, int]) -> None:
    images = noise(4, shape)
    dib(tmp_path / "a.avi", images)
    np.testing.assert_array_equal(read(tmp_path / "a.avi")[0], images)


def test_video_that_ffmpeg_does_not_know_is_no_missing_video(tmp_path: Path) -> None:
    dib(tmp_path / "a.avi", noise(2, (16, 16), np.uint16), fourcc=b"Y16 ", bits=16)
    with pytest.raises(SourceError, match="in a form that FFmpeg has no decoder for; write it anew"):
        VideoSource(tmp_path / "a.avi")


def test_a_file_without_a_frame_says_so(tmp_path: Path) -> None:
    with av.open(tmp_path / "a.mkv", "w") as out:
        stream = out.add_stream("ffv1", rate=FPS)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = 16, 16, "gray"
        out.start_encoding()
    with pytest.raises(SourceError, match="ended before its first frame, or was cut"):
        VideoSource(tmp_path / "a.mkv")


def test_times_that_begin_anew_do_not_tell_the_length(tmp_path: Path) -> None:
    write(tmp_path / "a.ts", drifting(10, (48, 64)), codecs=[("libx264", "yuv420p")], options=LOSSLESS)
    assert read(tmp_path / "a.ts", count=True)[1].seconds == pytest.approx(0.4)
    (tmp_path / "b.ts").write_bytes((tmp_path / "a.ts").read_bytes() * 2)
    info = read(tmp_path / "b.ts", count=True)[1]
    assert (info.frames, info.seconds) == (20, None)
