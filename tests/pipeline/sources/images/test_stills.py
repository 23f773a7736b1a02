"""Image files one by one, animations, and the folders that they are in."""

from __future__ import annotations

import io
import logging
import struct
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow
from recordings import noise, read_all

from clesr.engines.common.errors import SourceError, UsageError
from clesr.pipeline.frame import Corrupt, Frame
from clesr.pipeline.sources.images.chunks import image_end, png_chunks, png_file
from clesr.pipeline.sources.images.gray import turned
from clesr.pipeline.sources.images.still import is_pnm_sequence
from clesr.pipeline.sources.registry import open_source
from clesr.tools.data.images import read_entry, read_gray

GRAY = noise(5, (24, 34))
DEEP = noise(5, (24, 34), np.uint16)
SMOOTH = np.add.outer(3 * np.arange(24), 2 * np.arange(34)).astype(np.uint8)


def read(path: Path, **options: Any) -> tuple[list[Frame], list[Corrupt]]:
    return read_all(open_source(str(path), pace="max", **options))


def images(path: Path, **options: Any) -> list[NDArray[Any]]:
    frames, corrupt = read(path, **options)
    assert not corrupt, corrupt
    return [frame.image for frame in frames]


def times(path: Path) -> list[float]:
    return [
        float(frame.pts * frame.time_base)
        for frame in read(path)[0]
        if frame.pts is not None and frame.time_base
    ]


def encoded(suffix: str, image: NDArray[Any]) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


@pytest.mark.parametrize("maximum", [1, 100, 255, 1023, 4095, 65535])
@pytest.mark.parametrize("text", [False, True])
def test_a_pgm_is_spread_by_its_maximum(tmp_path: Path, maximum: int, text: bool) -> None:
    values = (DEEP[0].astype(np.uint32) * (maximum + 1) >> 16).astype(np.uint16)
    head = f"P{2 if text else 5}\n# of a camera\n34 24\n{maximum}\n".encode()
    binary = values.astype(">u2" if maximum > 255 else np.uint8).tobytes()
    words = "\n".join(" ".join(map(str, row)) for row in values).encode() + b"\n# end"
    (tmp_path / "a.PGM").write_bytes(head + (words if text else binary))
    top = 255 if maximum < 256 else 65535
    (found,) = images(tmp_path / "a.PGM")
    np.testing.assert_array_equal(found, np.rint(values * (top / maximum)))
    assert found.dtype == (np.uint8 if top == 255 else np.uint16)


def test_a_window_is_in_values_of_a_pgm(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 1023\n" + bytes(4))
    source = open_source(str(tmp_path / "a.pgm"), window=(0.0, 1023.0))
    source.close()
    assert source.info.window == pytest.approx((0, 65535))


def test_a_window_is_in_values_of_each_pgm_of_a_folder(tmp_path: Path) -> None:
    maxima = (15, 255, 1023, 65535)
    values = [(DEEP[0].astype(np.uint32) * (maximum + 1) >> 16) for maximum in maxima]
    for maximum, image in zip(maxima, values, strict=True):
        stored = image.astype(">u2" if maximum > 255 else np.uint8)
        (tmp_path / f"{maximum}.pgm").write_bytes(b"P5 34 24 %d\n" % maximum + stored.tobytes())
    for found, image in zip(images(tmp_path, window=(10.0, 200.0)), values, strict=True):
        right = np.clip((image.astype(float) - 10) / 190, 0, 1) * 65535
        assert np.abs(found - right).max() <= 65535 / 190  # a step of the values


@pytest.mark.parametrize("bits", [8, 9, 10, 12, 15, 16])
@pytest.mark.parametrize("form", ["jp2", "j2k"])
def test_every_depth_of_jpeg_2000_has_the_full_range(tmp_path: Path, bits: int, form: str) -> None:
    values = DEEP[0] >> (16 - bits)
    coded = imagecodecs.jpeg2k_encode(
        values.astype(np.uint8) if bits == 8 else values, level=0, reversible=True, codecformat=form,
        bitspersample=bits,
    )  # fmt: skip
    path = tmp_path / "a.jp2"
    path.write_bytes(coded)
    (found,) = images(path)
    np.testing.assert_array_equal(found, values if bits == 8 else values << (16 - bits))
    with closing(open_source(str(path), window=(10.0, 200.0))) as source:
        gain = 1 if bits == 8 else 1 << (16 - bits)
        assert source.info.window == (10 * gain, 200 * gain)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_window_is_in_values_of_a_png(tmp_path: Path, bits: int) -> None:
    row = b"\0" + bytes(2 * bits)  # sixteen pixels
    head = struct.pack(">IIBBBBB", 16, 4, bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(row * 4)), (b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(png_file(chunks))
    top = (1 << bits) - 1
    with closing(open_source(str(tmp_path / "a.png"), window=(0.0, float(top)))) as source:
        assert source.info.window == pytest.approx((0, max(255, top)))


@pytest.mark.parametrize("text", [False, True])
def test_pbm_and_ppm(tmp_path: Path, text: bool) -> None:
    bits = GRAY[0] > 128
    body = "\n".join("".join(str(int(value)) for value in row) for row in ~bits).encode()
    packed = np.packbits(~bits, axis=1).tobytes()
    (tmp_path / "a.pbm").write_bytes((b"P1\n34 24\n" + body) if text else (b"P4\n34 24\n" + packed))
    np.testing.assert_array_equal(images(tmp_path / "a.pbm")[0], bits * 255)
    colour = np.stack(GRAY[:3], -1)
    words = " ".join(map(str, colour.ravel())).encode()
    (tmp_path / "a.ppm").write_bytes(
        b"P3 34 24 255\n" + words if text else b"P6 34 24 255\n" + colour.tobytes()
    )
    np.testing.assert_array_equal(images(tmp_path / "a.ppm")[0], cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"P5 4 4 0\n" + bytes(16), "no maximum"),
        (b"P5 4 4 70000\n" + bytes(32), "no maximum"),
        (b"P5 4 4 255\n" + bytes(15), "cut: 15 of its 16"),
        (b"P4 9 4\n" + bytes(7), "cut: 3 of its 4 rows"),
        (b"P2 2 2 255\n1 2 x 4", "no number"),
        (b"P2 2 2 255\n1 2 3", "cut: 3 of its 4"),
        (b"P5 9000 9000 255\n", "allowed are 8192"),
    ],
)
def test_a_damaged_pnm_is_told_in_a_line(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "a.pgm").write_bytes(data)
    with pytest.raises(SourceError, match=says) as raised:
        open_source(str(tmp_path / "a.pgm"))
    assert "\n" not in str(raised.value)


JUNK = b"\xff\xda and a maker's own bytes \xff\xd9\xff IEND " * 9


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("junk", [b"\0", b"x" * 200, JUNK])
def test_bytes_after_the_end_are_no_error(tmp_path: Path, suffix: str, junk: bytes) -> None:
    data = encoded(suffix, GRAY[0])
    (tmp_path / f"a{suffix}").write_bytes(data + junk)
    np.testing.assert_array_equal(
        images(tmp_path / f"a{suffix}")[0], cv2.imdecode(np.frombuffer(data, np.uint8), 0)
    )
    assert image_end(data + junk) == len(data)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_is_cut(tmp_path: Path, progressive: bool) -> None:
    data = cv2.imencode(".jpg", GRAY[0], [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)])[1].tobytes()
    assert image_end(data) == len(data)
    assert image_end(data[:-2]) is None
    for cut in range(2, len(data), 50):
        assert image_end(data[:cut]) is None


def exif(orientation: int) -> bytes:
    made = Pillow.Exif()
    made[274] = orientation
    return made.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_everywhere(tmp_path: Path, orientation: int) -> None:
    """In files that are given, in folders, and where training reads them."""
    still = Pillow.fromarray(SMOOTH)
    still.save(tmp_path / "a.png", exif=exif(orientation))
    still.save(tmp_path / "b.webp", exif=exif(orientation), lossless=True)
    still.save(tmp_path / "c.jpg", exif=exif(orientation), quality=100)
    tifffile.imwrite(tmp_path / "d.tif", SMOOTH, extratags=[(274, "H", 1, orientation, True)])
    right = turned(SMOOTH, orientation)
    named = [images(path)[0] for path in sorted(tmp_path.iterdir())]
    for found in (*named, *images(tmp_path), *(read_gray(path) for path in tmp_path.iterdir())):
        assert found.shape == right.shape
        assert np.abs(found.astype(int) - right).max() <= 1
    assert [name for name, _ in read_entry(str(tmp_path))] == ["a.png", "b.webp", "c.jpg", "d.tif"]


@pytest.mark.parametrize(
    "block", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0XX*\0" + bytes(40)]
)
def test_exif_that_is_damaged_turns_nothing(tmp_path: Path, block: bytes) -> None:
    data = encoded(".jpg", SMOOTH)
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    (tmp_path / "a.jpg").write_bytes(data[:2] + segment + data[2:])
    np.testing.assert_array_equal(
        images(tmp_path / "a.jpg")[0], cv2.imdecode(np.frombuffer(data, np.uint8), 0)
    )


def animation(path: Path, frames: list[NDArray[Any]], durations: list[int], **more: Any) -> Path:
    first, *rest = (Pillow.fromarray(frame) for frame in frames)
    first.save(path, save_all=True, append_images=rest, duration=durations, **more)
    return path


@pytest.mark.parametrize("suffix", [".webp", ".png", ".gif"])
def test_every_image_of_an_animation_at_its_time(tmp_path: Path, suffix: str) -> None:
    durations = [40, 200, 40, 1000, 60]
    more = {"lossless": True} if suffix == ".webp" else {}
    path = animation(tmp_path / f"a{suffix}", GRAY, durations, **more)
    for found, right in zip(images(path), GRAY, strict=True):
        np.testing.assert_array_equal(found, right)
    assert times(path) == pytest.approx([0, 0.04, 0.24, 0.28, 1.28])


def test_animations_of_colour(tmp_path: Path) -> None:
    colour = [np.stack([frame, frame[::-1], frame[:, ::-1]], -1) for frame in GRAY]
    right = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in colour]
    for path in (
        animation(tmp_path / "a.webp", colour, [40] * 5, lossless=True),
        animation(tmp_path / "a.png", colour, [40] * 5),
    ):
        for found, image in zip(images(path), right, strict=True):
            np.testing.assert_array_equal(found, image)


def test_images_of_which_a_part_alone_changes_are_composed(tmp_path: Path) -> None:
    frames = [SMOOTH.copy() for _ in range(4)]
    for number, frame in enumerate(frames):
        frame[5:9, 4 * number : 4 * number + 4] = 255
    for path in (
        animation(tmp_path / "a.webp", frames, [40] * 4, lossless=True),
        animation(tmp_path / "a.png", frames, [40] * 4),
    ):
        for found, image in zip(images(path), frames, strict=True):
            np.testing.assert_array_equal(found, image)


def test_a_still_in_front_is_no_part_of_an_animated_png(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.png", [SMOOTH, *GRAY], [40] * 6, default_image=True)
    found = images(path)
    assert len(found) == 5
    np.testing.assert_array_equal(found[0], GRAY[0])


@pytest.mark.parametrize("suffix", [".webp", ".png", ".gif"])
@pytest.mark.parametrize("percent", [2, 15, 30, 50, 70, 90, 95, 99])
def test_an_animation_that_is_cut_gives_its_whole_images(tmp_path: Path, suffix: str, percent: int) -> None:
    more = {"lossless": True} if suffix == ".webp" else {}
    path = animation(tmp_path / f"a{suffix}", GRAY, [40] * 5, **more)
    data = path.read_bytes()
    kept = data[: len(data) * percent // 100]
    path.write_bytes(kept)
    ends = packet_ends(data) if suffix == ".gif" else image_ends(data)
    right = sum(end <= len(kept) for end in ends)
    if not right:
        with pytest.raises(SourceError) as caught:
            open_source(str(path))
        message = str(caught.value)
        assert str(path) in message
        assert "check how it was" in message
        assert not any(word in message for word in ("decoder object", "identify", "\n"))
        return
    frames, corrupt = read(path)
    for frame, image in zip(frames, GRAY[:right], strict=True):
        np.testing.assert_array_equal(frame.image, image)
    assert times(path) == pytest.approx([0.04 * number for number in range(right)])
    assert [one.number for one in corrupt] == [right]
    assert corrupt[0].reason.startswith("the file ends early")


def image_ends(data: bytes) -> list[int]:
    """Where the images of an animation end, by its chunks."""
    webp = data.startswith(b"RIFF")
    at, ends = (12, []) if webp else (8, [])
    while at < len(data):
        if webp:
            kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
            at += 8 + size
        else:
            size, kind = struct.unpack_from(">I4s", data, at)
            at += 12 + size
        if kind in (b"ANMF", b"IDAT", b"fdAT"):
            ends.append(at)
        at += at % 2 if webp else 0
    assert len(ends) == 5
    return ends


def packet_ends(data: bytes) -> list[int]:
    """Where the images of a GIF end, by FFmpeg."""
    with av.open(io.BytesIO(data), "r", format="gif") as container:
        return [(packet.pos or 0) + packet.size for packet in container.demux() if packet.size]


def test_a_gif_is_an_image_among_others_in_a_folder(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), GRAY[4])
    animation(tmp_path / "2.gif", GRAY[:3], [40, 80, 40])
    animation(tmp_path / "3.gif", GRAY[3:4], [40])
    for found, right in zip(images(tmp_path), [GRAY[4], *GRAY[:4]], strict=True):
        np.testing.assert_array_equal(found, right)
    for found, right in zip(images(tmp_path / "3.gif"), GRAY[3:4], strict=True):
        np.testing.assert_array_equal(found, right)


def test_a_gif_of_which_parts_are_transparent_keeps_what_was_there(tmp_path: Path) -> None:
    frames = [SMOOTH.copy() for _ in range(4)]
    for number, frame in enumerate(frames):
        frame[5:9, 4 * number : 4 * number + 4] = 255
    path = animation(tmp_path / "a.gif", frames, [40] * 4)
    for found, image in zip(images(path), frames, strict=True):
        np.testing.assert_array_equal(found, image)


def test_a_small_gif_cannot_ask_for_much(tmp_path: Path) -> None:
    data = animation(tmp_path / "a.gif", GRAY, [40] * 5).read_bytes()
    (tmp_path / "a.gif").write_bytes(data[:6] + struct.pack("<HH", 8000, 8000) + data[10:])
    with pytest.raises(SourceError, match="more than its"):
        open_source(str(tmp_path / "a.gif"))


def test_a_damaged_part_of_an_animated_png_ends_it(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.png", GRAY, [40] * 5)
    data = bytearray(path.read_bytes())
    data[image_ends(bytes(data))[3] - 20] ^= 255
    path.write_bytes(data)
    frames, corrupt = read(path)
    assert len(frames) == 3
    assert "checksum" in corrupt[0].reason


@pytest.mark.parametrize("suffix", [".webp", ".png", ".gif"])
def test_an_animation_plays_until_its_last_image_has_been_shown(tmp_path: Path, suffix: str) -> None:
    more = {"lossless": True} if suffix == ".webp" else {}
    source = open_source(str(animation(tmp_path / f"a{suffix}", GRAY, [40, 200, 40, 1000, 60], **more)))
    source.close()
    assert source.info.seconds == pytest.approx(1.34)


def test_a_small_animation_cannot_ask_for_much(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    first, *rest = (Pillow.fromarray(frame) for frame in GRAY)
    first.save(buffer, "PNG", save_all=True, append_images=rest)
    chunks = [
        (kind, struct.pack(">II", 8000, 8000) + body[8:] if kind == b"IHDR" else body)
        for kind, body in png_chunks(buffer.getvalue())
    ]
    (tmp_path / "a.png").write_bytes(png_file(chunks))
    with pytest.raises(SourceError, match="more than its"):
        open_source(str(tmp_path / "a.png"))


def test_what_systems_leave_in_folders_is_passed_over(tmp_path: Path) -> None:
    for number, image in enumerate(GRAY):
        cv2.imwrite(str(tmp_path / f"Bild {number} ä.PNG"), image)
        (tmp_path / f"._Bild {number} ä.PNG").write_bytes(b"\0\5\x16\7 Mac OS X" + bytes(400))
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.png"):
        (tmp_path / name).write_bytes(b"no image")
    for found, right in zip(images(tmp_path), GRAY, strict=True):
        np.testing.assert_array_equal(found, right)
    assert len(list(read_entry(str(tmp_path)))) == 5


def test_a_folder_of_stacks_plays_every_page_of_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "clesr")
    for number in range(3):
        pages = np.stack(DEEP) + np.uint16(number)
        tifffile.imwrite(tmp_path / f"part{number}.tif", pages.reshape(5, 1, 24, 34).repeat(2, 1), imagej=True,
                         metadata={"axes": "TCYX", "finterval": 0.5})  # fmt: skip
    cv2.imwrite(str(tmp_path / "part9.png"), GRAY[0])
    found = images(tmp_path)
    right = [image + np.uint16(number) for number in range(3) for image in DEEP] + [GRAY[0]]
    for image, expected in zip(found, right, strict=True):
        np.testing.assert_array_equal(image, expected)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("clesr")]
    assert len(said) == 2  # of channels once, however many files say the same; and of the rate
    assert "part0.tif has 2 channels: channel 0 is taken" in said[0]
    (tmp_path / "part9.png").unlink()
    assert times(tmp_path) == pytest.approx([0.5 * number for number in range(15)])  # the files' own
    with pytest.raises(UsageError, match="--channel 2"):
        open_source(str(tmp_path), channel=2)


def test_one_bad_file_is_one_corrupt_frame(tmp_path: Path) -> None:
    for number, image in enumerate(GRAY):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    header = struct.pack("<IiiHHIIiiII", 40, 1 << 30, 1 << 30, 1, 24, 0, 0, 0, 0, 0, 0)
    (tmp_path / "2b.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 118, 0, 0, 54) + header + bytes(64))
    (tmp_path / "3b.tif").write_bytes(b"II*\0 and no TIFF at all")
    (tmp_path / "4b.webp").write_bytes(b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\x02" + bytes(20))
    (tmp_path / "4c.dcm").write_bytes(b"nothing")
    frames, corrupt = read(tmp_path)
    assert [frame.number for frame in frames] == [0, 1, 2, 4, 6]
    assert [item.number for item in corrupt] == [3, 5, 7, 8]
    assert all("\n" not in item.reason for item in corrupt)


def test_the_rate_of_a_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "clesr")
    for number, image in enumerate(GRAY):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    assert times(tmp_path) == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path} states no times that rise: taken as 25 frames/s (--fps)"
    ]
    frames, _ = read(tmp_path, fps=0.0004)
    assert [frame.pts * frame.time_base for frame in frames[:3]] == [0, 2500, 5000]  # type: ignore[operator]


def test_options_of_images_at_other_sources() -> None:
    with pytest.raises(UsageError, match="--channel 1 is for images, stacks and DICOM files, not for demo:"):
        open_source("demo:?size=64", channel=1)
    with pytest.raises(UsageError, match="--fps 5 is for"):
        open_source("demo:?size=64", fps=5.0)


@pytest.mark.parametrize("scheme", ["DEMO:", "Demo:"])
def test_schemes_may_be_in_capitals(scheme: str) -> None:
    source = open_source(f"{scheme}?size=64&frames=1&pace=max")
    frames, _ = read_all(source)
    assert len(frames) == 1


@pytest.mark.parametrize("name", ["a", "a.data", "a.lsm"])
def test_a_stack_whose_name_says_nothing_is_known_by_its_begin(tmp_path: Path, name: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack(DEEP), photometric="minisblack")
    (tmp_path / "a.tif").rename(tmp_path / name)
    assert len(images(tmp_path / name)) == 5
    animation(tmp_path / "b.webp", GRAY, [40] * 5, lossless=True).rename(tmp_path / name)
    assert len(images(tmp_path / name)) == 5
    (tmp_path / name).write_bytes(encoded(".png", DEEP[0]))
    np.testing.assert_array_equal(images(tmp_path / name)[0], DEEP[0])


def test_files_may_be_named_in_capitals(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), GRAY[0])
    (tmp_path / "a.png").rename(tmp_path / "A.PNG")
    np.testing.assert_array_equal(images(tmp_path / "A.PNG")[0], GRAY[0])
    frames, _ = read_all(open_source(f"FILE://{tmp_path}/A.PNG", pace="max"))
    assert len(frames) == 1


@pytest.mark.parametrize(("kind", "maximum"), [(4, 1), (5, 255), (5, 1023), (5, 65535), (6, 255)])
def test_images_one_after_the_other_in_a_pnm_file_are_all_read(
    tmp_path: Path, kind: int, maximum: int
) -> None:
    values = np.random.default_rng(kind).integers(0, maximum + 1, (3, 5, 9, 3 if kind == 6 else 1))
    stored = [np.packbits(image[..., 0], 1) if kind == 4 else image for image in values.astype(np.uint8)]
    if maximum > 255:
        stored = list(values.astype(">u2"))
    head = f"P{kind}\n# of three\n9 5\n".encode() + (f"{maximum}\n".encode() if kind != 4 else b"")
    each = [head + image.tobytes() for image in stored]
    suffix = {4: ".pbm", 5: ".pgm", 6: ".ppm"}[kind]
    right = []
    for image in each:
        (tmp_path / f"one{suffix}").write_bytes(image)
        right += images(tmp_path / f"one{suffix}")
    (tmp_path / f"all{suffix}").write_bytes(b"".join(each) + b"\nno image")
    for found, expected in zip(images(tmp_path / f"all{suffix}"), right, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert is_pnm_sequence(tmp_path / f"all{suffix}")
    assert not is_pnm_sequence(tmp_path / f"one{suffix}")
    (tmp_path / f"cut{suffix}").write_bytes(b"".join(each)[:-1])
    frames, corrupt = read(tmp_path / f"cut{suffix}")
    assert len(frames) == 2
    assert "image 2, is cut" in corrupt[0].reason


@pytest.mark.parametrize("bits", [8, 9, 12, 15, 16])
@pytest.mark.parametrize("suffix", [".jp2", ".j2k"])
def test_the_bits_of_a_jpeg_2000_image_move_to_the_top(tmp_path: Path, bits: int, suffix: str) -> None:
    top = DEEP[0] >> np.uint16(16 - bits) << np.uint16(16 - bits)
    values = (top >> (8 if bits == 8 else 16 - bits)).astype(np.uint8 if bits == 8 else np.uint16)
    codec = "jp2" if suffix == ".jp2" else "j2k"
    data = imagecodecs.jpeg2k_encode(values, codecformat=codec, bitspersample=bits, reversible=True, level=0)
    (tmp_path / f"a{suffix}").write_bytes(data)
    (found,) = images(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(found, values if bits == 8 else top)


def test_what_a_folder_passes_over_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "clesr")
    cv2.imwrite(str(tmp_path / "1.png"), GRAY[0])
    (tmp_path / "2.jfif").write_bytes(encoded(".jpg", GRAY[1]))
    for name in ("3.avif", "4.mp4", "notes.txt", "x.bak", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"anything")
    (tmp_path / "sub").mkdir()
    assert len(images(tmp_path)) == 2
    said = [record.getMessage() for record in caplog.records if "passes over" in record.getMessage()]
    assert said == [
        f"{tmp_path} passes over what is no image that it can read: 3.avif, 4.mp4, notes.txt and 1 more"
    ]


def test_a_recording_without_a_frame_that_can_be_decoded_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.mkv"
    with av.open(str(path), "w") as video:
        stream = video.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = GRAY[0].shape[1], GRAY[0].shape[0], "gray"
        video.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(GRAY[0], np.uint8), "gray")))
        video.mux(stream.encode(None))
    whole = path.read_bytes()
    with av.open(str(path)) as video:
        (frame,) = (bytes(packet) for packet in video.demux(video=0) if packet.size)
    path.write_bytes(whole.replace(frame, bytes(len(frame))))
    with pytest.raises(UsageError, match=r"broken\.mkv cannot be read: it has no frame that can be decoded"):
        read_gray(path)
