"""What players are told of a track in a Matroska file."""

from __future__ import annotations

import shutil
import subprocess
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from recordings import noise, read_all

from clesr.pipeline.frame import Image
from clesr.pipeline.sources.registry import SourceOptions
from clesr.pipeline.sources.video.file import VideoSource
from clesr.pipeline.video.encoding import VideoWriter, choose_encoding
from clesr.pipeline.video.matroska import ROOM, MatroskaOutput, described, leave_room

TRACKS = b"\x16\x54\xae\x6b"


def write(path: Path, images: list[Image], *, codec: str = "ffv1", aspect: Fraction = Fraction(1)) -> None:
    height, width = images[0].shape
    encoding = choose_encoding(codec, ".mkv", images[0].dtype, (height, width))
    writer = VideoWriter(path, encoding, (height, width), tick=Fraction(1, 1000), fps=25, pixel_aspect=aspect)
    for number, image in enumerate(images):
        writer.write(image, 40 * number)
    writer.close()


@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(16, 15), Fraction(9, 20), Fraction(2)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(48, 60), (1, 1), (90, 300), (700, 10)])
def test_ffv1_stays_bit_for_bit_under_the_name_that_players_know(
    tmp_path: Path, dtype: type[np.uint8 | np.uint16], shape: tuple[int, int], aspect: Fraction
) -> None:
    images = noise(4, shape, dtype)
    path = tmp_path / "a.mkv"
    write(path, images, aspect=aspect)
    data = path.read_bytes()
    assert b"V_MS/VFW/FOURCC" in data
    assert b"V_FFV1" not in data
    assert ROOM.encode() not in data
    source = VideoSource(path, SourceOptions(count=True))
    assert source.info.pixel_aspect == aspect
    frames, corrupt = read_all(source)
    assert not corrupt
    for frame, image in zip(frames, images, strict=True):
        np.testing.assert_array_equal(frame.image, image)


@pytest.mark.parametrize("codec", ["ffv1", "h264-lossless"])
def test_the_checksum_of_the_description_holds(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "a.mkv"
    write(path, noise(3, (48, 60)), codec=codec, aspect=Fraction(4, 3))
    data = path.read_bytes()
    at = data.rindex(TRACKS) + 4  # before that it stands in the table of contents
    length = 9 - data[at].bit_length()
    size = int.from_bytes(data[at : at + length], "big") & (1 << 7 * length) - 1
    content = data[at + length : at + length + size]
    assert content[:2] == b"\xbf\x84"
    assert zlib.crc32(content[6:]) == int.from_bytes(content[2:6], "little")


def test_nothing_else_is_touched() -> None:
    for data in (b"", bytes(1000), TRACKS * 100, ROOM.encode() * 2, TRACKS + b"\x81" + ROOM.encode()):
        assert bytes(described(data, Fraction(2))) == data


def test_a_file_of_before_is_copied_into_the_new_form(tmp_path: Path) -> None:
    """Sessions of before have V_FFV1: they are read, and their parts go on under the other name."""
    images, old, new = noise(3, (48, 60)), tmp_path / "old.mkv", tmp_path / "new.mkv"
    with av.open(old, "w") as out:
        stream = out.add_stream("ffv1", rate=25, options={"level": "3"})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = 48, 60, "gray"
        for image in images:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image.astype(np.uint8), "gray")))
        out.mux(stream.encode(None))
    assert b"V_FFV1" in old.read_bytes()
    with MatroskaOutput(new) as file, av.open(old) as source, av.open(file, "w", format="matroska") as out:
        copy = out.add_stream_from_template(source.streams.video[0])
        leave_room(copy)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    assert b"V_MS/VFW/FOURCC" in new.read_bytes()
    for path in (old, new):
        frames, corrupt = read_all(VideoSource(path))
        assert not corrupt
        np.testing.assert_array_equal([frame.image for frame in frames], images)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_mpv_plays_it(tmp_path: Path, dtype: type[np.uint8 | np.uint16]) -> None:
    if shutil.which("mpv") is None:
        pytest.skip("mpv is not installed")
    path = tmp_path / "a.mkv"
    write(path, noise(12, (48, 60), dtype))
    command = ["mpv", "--no-config", "--vo=null", "--ao=null", "--untimed", "--msg-level=all=warn", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
