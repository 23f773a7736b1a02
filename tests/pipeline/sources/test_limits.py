"""Small files that state large images: refused from their headers, before memory is taken."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import tifffile
from av.video.stream import VideoStream
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clesr.engines.common import limits
from clesr.engines.common.errors import ClesrError, EndOfSource, UsageError
from clesr.engines.common.limits import parse_side, set_max_side
from clesr.pipeline.frame import Corrupt, Frame
from clesr.pipeline.sources.images.chunks import BadHeader
from clesr.pipeline.sources.images.header import jpeg_shape, picture_alone, read_header
from clesr.pipeline.sources.registry import open_source
from clesr.pipeline.sources.v4l2.jpeg import Damaged, decode_jpeg, open_jpeg

Pixels = NDArray[np.uint8 | np.uint16]
SIDE = 32_000  # far beyond the limit


@pytest.fixture(autouse=True)
def _limit_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_side", limits.DEFAULT_SIDE)


def encoded(suffix: str, image: Pixels) -> bytes:
    ok, data = cv2.imencode(suffix, image)
    assert ok
    return data.tobytes()


def png(width: int, height: int, *, bits: int = 8, colour: int = 0, body: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(body, 1)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


GRAY = np.full((16, 24), 90, np.uint8)
LARGER = np.full((80, 64), 90, np.uint8)  # as JPEG 2000 needs
COLOUR = np.full((16, 24, 3), 90, np.uint8)


def patched(data: bytes, at: int, form: str, *values: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(form, changed, at, *values)
    return bytes(changed)


def large_jpeg() -> bytes:
    data = encoded(".jpg", GRAY)
    return patched(data, data.index(b"\xff\xc0") + 5, ">HH", SIDE, SIDE)


def large_jpeg2000() -> bytes:
    data = encoded(".jp2", LARGER)
    at = data.index(b"\xff\x4f\xff\x51") + 8
    return patched(patched(data, at, ">II", SIDE, SIDE), at + 16, ">II", SIDE, SIDE)


def large_webp() -> bytes:
    data = encoded(".webp", COLOUR)
    assert data[12:16] == b"VP8L"
    return patched(data, 21, "<I", 16_000 - 1 | (16_000 - 1) << 14)


BOMBS: dict[str, bytes] = {
    "a.png": png(SIDE, SIDE),
    "a.jpg": large_jpeg(),
    "a.bmp": patched(encoded(".bmp", GRAY), 18, "<ii", SIDE, -SIDE),
    "a.pgm": b"P5\n# comment\n%d %d\n255\n" % (SIDE, SIDE),
    "b.ppm": b"P3 %d %d 65535\n1 2 3" % (SIDE, SIDE),
    "a.webp": large_webp(),
    "a.jp2": large_jpeg2000(),
}


@pytest.mark.parametrize("name", BOMBS)
def test_an_image_that_states_too_many_pixels_is_refused_in_a_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(BOMBS[name])
    with pytest.raises(ClesrError, match="8192 a side") as raised:
        open_source(str(tmp_path / name))
    assert "\n" not in str(raised.value)
    assert "--max-size" in str(raised.value)


@pytest.mark.parametrize("name", BOMBS)
def test_in_a_folder_it_is_one_corrupt_image(tmp_path: Path, name: str) -> None:
    (tmp_path / "0.png").write_bytes(encoded(".png", GRAY))
    (tmp_path / f"1{name}").write_bytes(BOMBS[name])
    (tmp_path / "2.png").write_bytes(encoded(".png", GRAY))
    assert [type(item) for item in items(tmp_path)] == [Frame, Corrupt, Frame]


def items(path: Path, most: int = 50) -> list[Frame | Corrupt]:
    source = open_source(str(path), pace="max")
    found: list[Frame | Corrupt] = []
    try:
        while len(found) < most:
            item = source.read(1)
            if isinstance(item, Frame | Corrupt):
                found.append(item)
    except EndOfSource:
        pass
    finally:
        source.close()
    return found


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".pgm", ".ppm", ".webp", ".jp2"])
@pytest.mark.parametrize(
    "image", [GRAY, COLOUR, COLOUR.astype(np.uint16) * 256], ids=["gray", "colour", "16 bit"]
)
def test_headers_state_what_opencv_reads(suffix: str, image: Pixels) -> None:
    if image.dtype == np.uint16 and suffix in (".jpg", ".bmp", ".webp"):
        image = (image >> 8).astype(np.uint8)
    if suffix == ".pgm":
        image = image if image.ndim == 2 else np.ascontiguousarray(image[..., 0])
    if suffix == ".ppm" and image.ndim == 2:
        image = COLOUR
    if suffix == ".jp2":
        image = np.concatenate([image] * 5).repeat(4, axis=1)
    data = encoded(suffix, image)
    header = read_header(data)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    assert header.shape == decoded.shape[:2]
    assert header.memory >= decoded.nbytes


def test_png_palettes_and_depths() -> None:
    for colour, bits in itertools.product((0, 2, 3, 4, 6), (8, 16)):
        assert read_header(png(5, 7, bits=bits, colour=colour)).shape == (7, 5)
    with pytest.raises(BadHeader):
        read_header(png(5, 7, colour=9))


@settings(deadline=None)
@given(st.sampled_from(list(BOMBS)), st.integers(0, 200), st.binary(max_size=8))
def test_any_header_is_read_or_refused(name: str, at: int, junk: bytes) -> None:
    data = BOMBS[name]
    for changed in (data[:at], data[:at] + junk, data[:at] + junk + data[at + len(junk) :]):
        with contextlib.suppress(BadHeader):
            read_header(changed)


def test_a_jpeg_of_thousands_of_scans_is_refused(tmp_path: Path) -> None:
    data = large_jpeg()
    data = patched(data, data.index(b"\xff\xc0") + 5, ">HH", 8000, 8000)
    begin = data.index(b"\xff\xda")
    (tmp_path / "a.jpg").write_bytes(data[:-2] + data[begin:-2] * 500 + data[-2:])
    with pytest.raises(ClesrError, match="501 scans"):
        open_source(str(tmp_path / "a.jpg"))


def test_even_pixels_that_unpack_a_thousandfold_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(8000, 8000, bits=16, colour=6, body=bytes(1000)))
    with pytest.raises(ClesrError, match=r"488 MB of pixels, more than its \d+ bytes can hold"):
        open_source(str(tmp_path / "a.png"))


def test_images_of_the_longest_sides_are_taken(tmp_path: Path) -> None:
    for name, shape in (("wide.png", (2, 8192)), ("high.png", (8192, 2))):
        (tmp_path / name).write_bytes(encoded(".png", np.zeros(shape, np.uint16)))
    tifffile.imwrite(tmp_path / "wide.tif", np.zeros((2, 8192), np.uint8))
    assert all(isinstance(item, Frame) for item in items(tmp_path))
    assert limits.size_problem((8192, 8192), decoded=2 * 8192**2, stored=1000) is None


def test_the_limit_can_be_changed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(".png", np.zeros((4, 9000), np.uint8)))
    with pytest.raises(ClesrError, match="9000x4 pixels"):
        open_source(str(tmp_path / "a.png"))
    set_max_side(9000)
    assert len(items(tmp_path)) == 1
    set_max_side(100)
    with pytest.raises(ClesrError, match="allowed are 100 a side"):
        open_source(str(tmp_path / "a.png"))


@pytest.mark.parametrize("text", ["0", "-1", "65536", "1e4", "8192x8192", "", "\u0664", "9" * 5000])
def test_limits_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError, match="longest side in pixels, 1 to 65535") as raised:
        set_max_side(parse_side(text))
    assert len(str(raised.value)) < 200


def tiff(image: Pixels, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, image, **options)  # type: ignore[arg-type]
    return file.getvalue()


def set_tag(data: bytes, tag: int, value: int) -> bytes:
    """The first ``tag`` of a little-endian TIFF file with another ``value`` of 4 bytes."""
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    for entry in range(first + 2, first + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, entry)[0] == tag:
            return patched(data, entry + 2, "<HII", 4, 1, value)
    raise AssertionError(f"no tag {tag}")


@pytest.mark.parametrize(
    ("tag", "value"),
    [(256, 2**31 - 1), (257, 2**31 - 1), (257, 2**32 - 1)],
    ids=["width", "rows", "all rows"],
)
def test_a_tiff_page_that_states_too_many_pixels(tmp_path: Path, tag: int, value: int) -> None:
    (tmp_path / "a.tif").write_bytes(set_tag(tiff(GRAY, compression="zlib"), tag, value))
    with pytest.raises(ClesrError, match="8192 a side"):
        open_source(str(tmp_path / "a.tif"))


def test_a_tiff_with_one_good_and_one_large_page_goes_on(tmp_path: Path) -> None:
    data = tiff(np.stack([GRAY, GRAY]), photometric="minisblack", compression="zlib")
    (tmp_path / "a.tif").write_bytes(set_tag(data, 257, 10**6))
    assert [type(item) for item in items(tmp_path / "a.tif")] == [Corrupt, Frame]


def test_a_tile_that_is_larger_than_any_image(tmp_path: Path) -> None:
    data = tiff(np.zeros((32, 32), np.uint8), tile=(16, 16))
    (tmp_path / "a.tif").write_bytes(set_tag(data, 322, 1 << 20))
    (corrupt,) = items(tmp_path / "a.tif")
    assert isinstance(corrupt, Corrupt)


@pytest.mark.parametrize("compression", ["zlib", "lzma"])
def test_a_strip_that_unpacks_to_more_than_its_pixels(tmp_path: Path, compression: str) -> None:
    data = tiff(np.zeros((1024, 1024), np.uint8), compression=compression, rowsperstrip=4096)
    (tmp_path / "a.tif").write_bytes(set_tag(set_tag(set_tag(data, 256, 16), 257, 16), 278, 16))
    (corrupt,) = items(tmp_path / "a.tif")
    assert isinstance(corrupt, Corrupt)
    assert "unpacks to more than the 256 bytes" in corrupt.reason or "INSUFFICIENT_SPACE" in corrupt.reason


def test_pages_in_a_circle_end(tmp_path: Path) -> None:
    data = tiff(np.stack([GRAY] * 3), photometric="minisblack", metadata=None)
    (first,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, first)
    (second,) = struct.unpack_from("<I", data, first + 2 + 12 * tags)
    (tags,) = struct.unpack_from("<H", data, second)
    (tmp_path / "a.tif").write_bytes(patched(data, second + 2 + 12 * tags, "<I", first))
    assert [type(item) for item in items(tmp_path / "a.tif")] == [Frame, Frame, Corrupt]


@pytest.mark.parametrize("length", [2**31 + 900, 2**32 - 1])
def test_a_chunk_that_is_longer_than_its_file(tmp_path: Path, length: int) -> None:
    data = png(20, 16, body=bytes(21 * 16))
    (tmp_path / "a.png").write_bytes(patched(data, data.index(b"IDAT") - 4, ">I", length))
    with pytest.raises(ClesrError, match="is damaged"):
        open_source(str(tmp_path / "a.png"))


def test_a_png_whose_checksum_does_not_hold_says_nothing_to_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = png(20, 16, body=bytes(21 * 16))
    (tmp_path / "a.png").write_bytes(patched(data, data.index(b"IDAT") + 9, ">B", 77))
    with pytest.raises(ClesrError, match="a checksum in it does not match"):
        open_source(str(tmp_path / "a.png"))
    assert capfd.readouterr().err == ""


def test_images_that_a_tiff_states_and_has_not_are_one_line(tmp_path: Path) -> None:
    description = "ImageJ=1.11a\nimages=999999999\nslices=999999999\n"
    (tmp_path / "a.tif").write_bytes(tiff(GRAY, metadata=None, description=description))
    source = open_source(str(tmp_path / "a.tif"), pace="max")
    assert source.info.frames == 2
    source.close()
    first, missing = items(tmp_path / "a.tif")
    assert isinstance(first, Frame)
    assert isinstance(missing, Corrupt)
    assert "1 of the 999999999 images" in missing.reason


def write_video(path: Path, codec: str, form: str, side: int, frames: int = 3) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        assert isinstance(stream, VideoStream)
        stream.width = stream.height = side
        stream.pix_fmt = form
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((side, side), number, np.uint8), "gray")
            container.mux(stream.encode(frame.reformat(format=form)))
        container.mux(stream.encode(None))


def test_videos_of_too_large_pictures(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", "ffv1", "gray", 256)
    assert len(items(tmp_path / "a.mkv")) == 3
    set_max_side(255)
    with pytest.raises(ClesrError, match="256x256 pixels; allowed are 255 a side"):
        open_source(str(tmp_path / "a.mkv"))


def test_videos_far_smaller_than_their_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mkv", "ffv1", "gray", 512)
    monkeypatch.setattr(limits, "FREE_VIDEO_BYTES", 0)
    monkeypatch.setattr(limits, "VIDEO_RATIO", 1)
    with pytest.raises(ClesrError, match="512x512 pixels, for which its"):
        open_source(str(tmp_path / "a.mkv"))


def test_pictures_that_grow_in_mid_stream(tmp_path: Path) -> None:
    data = []
    for side in (64, 512, 64):
        write_video(tmp_path / "part.m2v", "mpeg2video", "yuv420p", side)
        data.append((tmp_path / "part.m2v").read_bytes())
    (tmp_path / "a.m2v").write_bytes(b"".join(data))
    set_max_side(100)
    found = items(tmp_path / "a.m2v")
    shapes = [item.image.shape for item in found if isinstance(item, Frame)]
    assert shapes == [(64, 64)] * len(shapes)
    assert len(shapes) >= 4
    assert any(isinstance(item, Corrupt) for item in found)


def test_a_cameras_jpeg_of_another_size_is_not_decoded() -> None:
    data = large_jpeg()
    assert jpeg_shape(data) == (SIDE, SIDE)
    with pytest.raises(Damaged, match=f"{SIDE}x{SIDE}, not 24x16"):
        decode_jpeg(open_jpeg((24, 16)), data, (24, 16))
    assert decode_jpeg(open_jpeg((24, 16)), encoded(".jpg", GRAY), (24, 16)).shape == (16, 24)


def png_with_texts() -> bytes:
    """Nearly a megabyte of texts that unpack to a gigabyte."""
    image = encoded(".png", GRAY)
    packed = b"a\0\0" + zlib.compress(bytes(7_900_000), 9)
    text = struct.pack(">I", len(packed)) + b"zTXt" + packed + struct.pack(">I", zlib.crc32(b"zTXt" + packed))
    return image[:33] + text * (1_000_000 // len(text)) + image[33:]


def jpeg2000_in_a_box() -> bytes:
    """A small image's codestream in a box that no decoder reads, before that of a large one."""
    large, small = large_jpeg2000(), encoded(".jp2", LARGER)
    stream = small[small.index(b"\xff\x4f\xff\x51") :]
    box = struct.pack(">I4s", 24 + len(stream), b"uuid") + bytes(16) + stream
    at = 12 + struct.unpack_from(">I", large, 12)[0]
    return large[:at] + box + large[at:]


def jpeg_behind_no_marker() -> bytes:
    """A small image's size where a reader lands that takes a zero for a marker, and a large one's before."""
    small, large = encoded(".jpg", GRAY), large_jpeg()
    at = small.index(b"\xff\xc0")
    decoy = small[at : at + 19]
    begin = b"\xff\xd8\xff\x00" + struct.pack(">H", 1006) + b"\xff\xfe" + struct.pack(">H", 2002)
    return begin + bytes(1000) + decoy + bytes(1000 - len(decoy)) + large[2:]


MISLEADING = {
    "a.jp2": jpeg2000_in_a_box(),
    "a.jpg": jpeg_behind_no_marker(),
    "a.pgm": b"P5 16 0000000090000\n255\n" + bytes(1000),
}


@pytest.mark.parametrize("name", MISLEADING)
def test_the_size_is_read_where_decoders_read_it(name: str) -> None:
    with contextlib.suppress(BadHeader):  # not an image at all is as good
        assert max(read_header(MISLEADING[name]).shape) >= SIDE


def test_texts_of_a_png_are_not_unpacked() -> None:
    data = png_with_texts()
    read_header(data)
    assert picture_alone(data) == encoded(".png", GRAY)


def pages_of(tmp_path: Path, description: str) -> list[Frame | Corrupt]:
    (tmp_path / "a.ome.tif").write_bytes(tiff(GRAY, metadata=None, description=description))
    return items(tmp_path / "a.ome.tif")


@pytest.mark.parametrize(
    "data",
    [
        '<TiffData PlaneCount="1"><UUID FileName="pipe">urn:uuid:1</UUID></TiffData>',
        '<TiffData PlaneCount="1"><UUID FileName="other.tif">urn:uuid:1</UUID></TiffData>',
        '<TiffData IFD="0" PlaneCount="300000000"/>',
        "<TiffData/>",
    ],
)
def test_what_a_tiff_says_of_other_files_and_planes_is_not_believed(tmp_path: Path, data: str) -> None:
    """OME-TIFF: a pipe that it names would be waited for, another file opened, planes taken memory for."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "other.tif").write_bytes(tiff(GRAY))
    description = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="24" SizeY="16" SizeZ="30000" SizeC="1" '
        f'SizeT="10000">{data}</Pixels></Image></OME>'
    )
    (only,) = pages_of(tmp_path, description)
    assert isinstance(only, Frame)
    np.testing.assert_array_equal(only.image, GRAY)


def test_parts_of_a_tiff_that_lie_over_one_another_are_refused(tmp_path: Path) -> None:
    """A strip of nearly the whole file for each line of pixels: gigabytes to be read."""
    image = np.zeros((1000, 64), np.uint8)
    data = bytearray(tiff(image, rowsperstrip=1, compression="zlib"))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        for tag, value in (("StripOffsets", 8), ("StripByteCounts", len(data) - 8)):
            at, kind = page.tags[tag].valueoffset, {3: "H", 4: "I"}[int(page.tags[tag].dtype)]
            struct.pack_into(f"<1000{kind}", data, at, *[value] * 1000)
    (tmp_path / "a.tif").write_bytes(data)
    (only,) = items(tmp_path / "a.tif")
    assert isinstance(only, Corrupt)
    assert "over one another" in only.reason


def test_tiles_that_a_tiff_has_not_take_no_memory(tmp_path: Path) -> None:
    data = bytearray(tiff(np.zeros((4096, 4096), np.uint8), tile=(4096, 4096)))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages.first.tags
        for tag in ("TileWidth", "TileLength"):
            struct.pack_into("<H", data, tags[tag].valueoffset, 16)
    (tmp_path / "a.tif").write_bytes(data)
    (only,) = items(tmp_path / "a.tif")
    assert isinstance(only, Corrupt)
    assert "more tiles than it has" in only.reason


PEAK = """
import json, resource, sys, time
from clesr.engines.common.errors import ClesrError, EndOfSource
from clesr.pipeline.sources.images import tiff
from clesr.pipeline.sources.registry import open_source
from clesr.pipeline.sources.video import file
begin, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        source = open_source(path, pace="max")
        for _ in range(10):
            source.read(1)
    except (ClesrError, EndOfSource):
        pass
print(json.dumps([time.process_time() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""


def png_of_zeros(width: int, height: int, samples: int) -> bytes:
    """Gray of 16 bit for two, colour of 8 bit for three bytes a pixel."""
    bits, colour = (16, 0) if samples == 2 else (8, 2)
    return png(width, height, bits=bits, colour=colour, body=bytes(height * (samples * width + 1)))


@pytest.fixture
def small_files(tmp_path: Path) -> list[Path]:
    """The worst that a file of under a megabyte states within the limits."""
    images = {
        "a.png": png_of_zeros(8192, 8192, 2),
        "b.png": png_of_zeros(6000, 6000, 3),
        "c.jpg": encoded(".jpg", np.zeros((5000, 5000), np.uint8)),
        "d.tif": tiff(np.zeros((8192, 8192), np.uint16), compression="zlib", compressionargs={"level": 1}),
        "e.jp2": large_jpeg2000(),
        "g.png": png_with_texts(),
    }
    for name, data in images.items():
        assert len(data) < 1 << 20
        (tmp_path / name).write_bytes(data)
    write_video(tmp_path / "f.mkv", "ffv1", "gray", 8192, frames=1)
    return [*(tmp_path / name for name in images), tmp_path / "f.mkv"]


@pytest.mark.slow
def test_no_small_file_takes_much_memory(small_files: list[Path]) -> None:
    for path in small_files:
        assert os.path.getsize(path) < 1 << 20
        command = [sys.executable, "-c", PEAK, str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        seconds, kilobytes = json.loads(done.stdout)
        assert kilobytes < 500_000, path
        assert seconds < 5, path  # of the processor
