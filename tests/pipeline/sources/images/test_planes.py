"""Which planes of a stack are shown, in which order, and when: OME, ImageJ, ScanImage, previews."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from recordings import noise, read_all

from clesr.engines.common.errors import SourceError, UsageError
from clesr.pipeline.sources.images.ome import LONGEST, Index, OmeError, parse_ome, seconds_of
from clesr.pipeline.sources.registry import open_source

PAGES = np.stack(noise(12, (20, 30), np.uint16))
GRAY: dict[str, Any] = {"photometric": "minisblack"}
NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def played(path: Path, **options: Any) -> tuple[list[NDArray[Any]], list[float]]:
    """Images and times, of which none is corrupt."""
    source = open_source(str(path), pace="max", **options)
    frames, corrupt = read_all(source)
    assert not corrupt
    times = [
        float(frame.pts * frame.time_base) for frame in frames if frame.pts is not None and frame.time_base
    ]
    return [frame.image for frame in frames], times


def same(images: Any, expected: Any) -> None:
    assert len(images) == len(expected)
    for image, right in zip(images, expected, strict=True):
        np.testing.assert_array_equal(image, right)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("clesr")]


def ome(
    names: Sequence[str], own: int, *, count: int, each: int = 1, pixels: str = "", more: str = ""
) -> bytes:
    """OME-XML of a time series of ``count`` planes, ``each`` so many in a file."""
    data = "".join(
        f'<TiffData FirstT="{t}" IFD="{t % each}" PlaneCount="1">'
        f'<UUID FileName="{names[t // each]}">urn:uuid:{t // each:032}</UUID></TiffData>'
        for t in range(count)
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{NAMESPACE}" UUID="urn:uuid:{own:032}"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="30" SizeY="20" SizeC="1" SizeZ="1" '
        f'SizeT="{count}" {pixels}><Channel ID="C:0" SamplesPerPixel="1"/>{data}{more}</Pixels></Image></OME>'
    ).encode()


def write_set(
    folder: Path, *, count: int, each: int, there: int, tail: bool = False, **words: Any
) -> list[Path]:
    """A stack of several files, of which the first ``there`` are written."""
    names = [f"s_{number:04}.ome.tif" for number in range(count // each)]
    for number in range(there):
        document = ome(names, number, count=count, each=each, **words)
        with tifffile.TiffWriter(folder / names[number]) as tiff:
            for page in range(each):
                first = b"OME" if tail else document
                tiff.write(
                    PAGES[number * each + page], contiguous=False, metadata=None,
                    description=first if page == 0 else None, **GRAY,
                )  # fmt: skip
        if tail:  # behind the pixels, as Bio-Formats does
            tifffile.tiffcomment(folder / names[number], document)
    return [folder / name for name in names]


@pytest.mark.parametrize("tail", [False, True])
@pytest.mark.parametrize(("each", "there"), [(1, 12), (3, 4)])
def test_a_stack_of_several_files_is_one(tmp_path: Path, each: int, there: int, tail: bool) -> None:
    words = 'TimeIncrement="80" TimeIncrementUnit="ms"'
    paths = write_set(tmp_path, count=12, each=each, there=there, tail=tail, pixels=words)
    for path in (paths[0], paths[-1], tmp_path):  # whichever file is given, or the folder
        images, times = played(path)
        same(images, PAGES)
        assert times == pytest.approx([0.08 * number for number in range(12)])


def test_files_of_a_stack_that_are_missing_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = write_set(tmp_path, count=400, each=1, there=4, tail=True)
    for place in (paths[2], tmp_path):
        caplog.clear()
        same(played(place, fps=5.0)[0], PAGES[:4])
        (line,) = told(caplog)
        assert "lacks 396 of the 400 planes" in line
        assert "s_0004.ome.tif and 395 more" in line


def test_times_go_on_where_a_file_is_missing(tmp_path: Path) -> None:
    paths = write_set(tmp_path, count=12, each=3, there=4, pixels='TimeIncrement="0.5"')
    paths[1].unlink()
    images, times = played(paths[0])
    same(images, [*PAGES[:3], *PAGES[6:]])
    assert times == [0, 0.5, 1, 3, 3.5, 4, 4.5, 5, 5.5]


@pytest.mark.parametrize(("unit", "scale"), [("s", 1), ("ms", 1e-3), ("µs", 1e-6), ("min", 60), ("h", 3600)])
def test_ome_times_and_their_units(tmp_path: Path, unit: str, scale: float) -> None:
    seconds = [2, 3, 5, 9]
    planes = "".join(
        f'<Plane TheT="{t}" TheC="0" TheZ="0" DeltaT="{time}" DeltaTUnit="{unit}"/>'
        for t, time in enumerate(seconds)
    )
    (path,) = write_set(tmp_path, count=4, each=4, there=1, more=planes, pixels='TimeIncrement="99"')
    _, times = played(path)
    assert times == pytest.approx([(time - 2) * scale for time in seconds])


def test_units_of_time() -> None:
    assert seconds_of("Ms") == 1e6
    assert seconds_of("ms") == 1e-3
    assert seconds_of("parsec") is None


@pytest.mark.parametrize(
    "name", ["../outside.tif", "/etc/passwd", "pipe", "..", "text.tif", "C:\\\\b\\\\text.tif"]
)
def test_files_that_an_ome_tiff_names_are_taken_from_its_folder_alone(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    tifffile.imwrite(tmp_path / "outside.tif", PAGES[9], **GRAY)
    os.mkfifo(folder / "pipe")
    (folder / "text.tif").write_text("no TIFF")
    document = ome(["a.tif", name], 0, count=2)
    tifffile.imwrite(folder / "a.tif", PAGES[0], description=document, metadata=None, **GRAY)
    frames, corrupt = read_all(open_source(str(folder / "a.tif"), pace="max"))
    same([frame.image for frame in frames], PAGES[:1])
    assert len(corrupt) == ("text" in name)


def test_a_renamed_ome_file_plays_its_own_pages(tmp_path: Path) -> None:
    (path,) = write_set(tmp_path, count=4, each=4, there=1)
    renamed = path.rename(tmp_path / "renamed.tif")
    same(played(renamed)[0], PAGES[:4])


def test_ome_that_cannot_be_used_is_told_and_all_pages_are_played(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    document = b"<?xml version='1.0'?><OME><Image><Pixels DimensionOrder='XYQ'/></Image></OME>"
    tifffile.imwrite(tmp_path / "a.tif", PAGES, description=document, metadata=None, **GRAY)
    same(played(tmp_path / "a.tif", fps=1.0)[0], PAGES)
    (line,) = told(caplog)
    assert "DimensionOrder" in line


@pytest.mark.parametrize(
    ("lie", "count"),
    [
        ("SizeC='99' SizeT='9999999999'><TiffData/>", 12),
        ("SizeC='2' SizeT='6'><TiffData FirstT='999999'/>", 12),
        ("SizeC='2' SizeT='6'><TiffData IFD='99'/>", 12),
        ("SizeC='0' SizeT='6'><TiffData/>", 12),
        ("SizeC='-2' SizeT='6'><TiffData/>", 12),
        ("SizeC='99' SizeT='6'><TiffData/>", 1),
        ("SizeC='1' SizeT='6'><TiffData/>", 6),
        ("SizeC='2' SizeT='6'><TiffData IFD='0' PlaneCount='4'/>", 2),
    ],
)
def test_a_description_that_does_not_fit_its_file_is_told(
    tmp_path: Path, lie: str, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    document = f"<OME><Image><Pixels DimensionOrder='XYCZT' {lie}</Pixels></Image></OME>".encode()
    tifffile.imwrite(tmp_path / "a.tif", PAGES, description=document, metadata=None, **GRAY)
    assert len(played(tmp_path / "a.tif", fps=1.0)[0]) == count
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings
    assert all("OME-XML" in line for line in warnings)
    assert count < 12 or "one after the other" in warnings[0]


@pytest.mark.parametrize(
    "document",
    [
        b"<OME",
        b"<OME></OME>",
        b"<!DOCTYPE x [<!ENTITY a 'b'>]><OME>&a;</OME>",
        b"<OME><Image><Pixels SizeT='99999999' SizeC='99999999'/></Image></OME>",
        b"<OME><Image><Pixels SizeT='x'/></Image></OME>",
        b" " * (LONGEST + 1),
    ],
)
def test_ome_that_is_damaged(document: bytes) -> None:
    with pytest.raises(OmeError) as raised:
        parse_ome(document, 3)
    assert "\n" not in str(raised.value)


def test_planes_without_places_follow_the_stated_order() -> None:
    pixels = b"<Pixels DimensionOrder='XYZCT' SizeZ='2' SizeC='3' SizeT='2'><TiffData/></Pixels>"
    document = b"<OME><Image>" + pixels + b"</Image></OME>"
    image = parse_ome(document, 12)
    assert image.places[Index(0, 1, 0)].ifd == 1
    assert image.places[Index(1, 0, 0)].ifd == 2
    assert image.places[Index(2, 1, 1)].ifd == 11


def test_a_small_description_cannot_ask_for_much() -> None:
    block = b"<TiffData IFD='0' PlaneCount='900000'><UUID FileName='b.tif'>x</UUID></TiffData>"
    document = b"<OME><Image><Pixels SizeT='900000'>" + block * 9 + b"</Pixels></Image></OME>"
    with pytest.raises(OmeError, match="more than"):
        parse_ome(document, 1)


STACK = PAGES.reshape(3, 2, 2, 20, 30)  # T Z C


@pytest.mark.parametrize("kind", ["imagej", "ome", "shaped"])
def test_channels_and_depth_are_chosen(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "clesr")
    path = tmp_path / ("a.ome.tif" if kind == "ome" else "a.tif")
    tifffile.imwrite(path, STACK, imagej=kind == "imagej", metadata={"axes": "TZCYX"}, **GRAY)
    same(played(path, fps=1.0)[0], STACK[:, 0, 0])
    assert [line.removeprefix(f"{path} ") for line in told(caplog)] == [
        "has 2 channels: channel 0 is taken (--channel 0 to 1)",
        "has 2 planes of depth: plane 0 is taken (--plane 0 to 1)",
    ]
    caplog.clear()
    for channel in (0, 1):
        for plane in (0, 1):
            same(played(path, fps=1.0, channel=channel, plane=plane)[0], STACK[:, plane, channel])
    assert not told(caplog)
    for channel, wrong in ((2, 0), (0, 2)):
        with pytest.raises(UsageError, match="allowed is 0 to 1"):
            open_source(str(path), channel=channel, plane=wrong)


@pytest.mark.parametrize("axes", ["CTYX", "TCYX"])
@pytest.mark.parametrize("ending", [".ome.tif", ".tif"])
def test_the_order_of_channels_is_that_of_the_file(tmp_path: Path, axes: str, ending: str) -> None:
    shape = (2, 6) if axes[0] == "C" else (6, 2)
    stack = PAGES.reshape(*shape, 20, 30)
    tifffile.imwrite(tmp_path / f"a{ending}", stack, metadata={"axes": axes}, **GRAY)
    expected = stack if axes[0] == "C" else stack.swapaxes(0, 1)
    for channel in (0, 1):
        same(played(tmp_path / f"a{ending}", channel=channel)[0], expected[channel])


def test_depth_alone_is_played_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "clesr")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PAGES, imagej=True, metadata={"axes": "ZYX", "finterval": 0.25})
    images, times = played(path)
    same(images, PAGES)
    assert times[:3] == [0, 0.25, 0.5]
    assert told(caplog) == [
        f"{path} has 12 planes of depth: all are taken, one after the other (--plane 0 to 11)"
    ]
    same(played(path, plane=7)[0], PAGES[7:8])


def test_times_that_were_called_channels_are_played_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Which tifffile does where nobody says what the images are."""
    caplog.set_level(logging.INFO, "clesr")
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, PAGES, **GRAY)
    same(played(path, fps=1.0)[0], PAGES)
    assert told(caplog) == [f"{path} has 12 channels: all are taken, one after the other (--channel 0 to 11)"]
    same(played(path, channel=7)[0], PAGES[7:8])


def test_imagej_channels_in_one_page_that_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PAGES.reshape(6, 2, 20, 30), imagej=True, truncate=True, metadata={"axes": "TCYX"})
    same(played(path, channel=1)[0], PAGES[1::2])
    path.write_bytes(path.read_bytes()[: -PAGES[0].nbytes * 7 - 100])
    frames, corrupt = read_all(open_source(str(path), pace="max", channel=1))
    same([frame.image for frame in frames], PAGES[1:4:2])
    assert len(corrupt) == 1


@pytest.mark.parametrize(
    ("metadata", "fps"),
    [
        ({"finterval": 80.0, "tunit": "ms"}, 12.5),
        ({"finterval": 0.5, "tunit": "min"}, 1 / 30),
        ({"finterval": 80_000.0, "tunit": "usec"}, 12.5),
        ({"finterval": 0.08}, 12.5),
        ({"finterval": 0.08, "fps": 7.0}, 12.5),  # fps is what ImageJ plays with
        ({"finterval": 0.0, "fps": 7.0}, 7),
        ({"finterval": 3.0, "tunit": "fortnight", "fps": 7.0}, 7),
        ({"finterval": 1e30}, 25),
    ],
)
def test_imagej_times_and_their_units(tmp_path: Path, metadata: dict[str, Any], fps: float) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PAGES, imagej=True, metadata={"axes": "TYX", **metadata})
    with closing(open_source(str(tmp_path / "a.tif"))) as source:
        assert source.info.fps == pytest.approx(fps)
    _, times = played(tmp_path / "a.tif")
    assert times == pytest.approx([number / fps for number in range(12)])
    assert played(tmp_path / "a.tif", fps=2.0)[1][:3] == [0, 0.5, 1]  # the user knows better


def test_scanimage_channels(tmp_path: Path) -> None:
    words = "SI.hChannels.channelSave = [1;2]\nSI.hRoiManager.scanFrameRate = 30.5\n"
    tifffile.imwrite(tmp_path / "a.tif", PAGES, software=words, metadata=None, **GRAY)
    images, times = played(tmp_path / "a.tif", channel=1)
    same(images, PAGES[1::2])
    assert times[1] == pytest.approx(1 / 30.5, abs=1e-4)


@pytest.mark.parametrize("behind", [False, True])
def test_a_preview_is_no_frame_and_told(
    tmp_path: Path, behind: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        small = PAGES[0, ::4, ::4].astype(np.uint8)
        for page in [*PAGES, small] if behind else [small, *PAGES]:
            tiff.write(page.copy(), contiguous=False, **GRAY)
    same(played(tmp_path / "a.tif")[0], PAGES)
    assert told(caplog) == [f"{tmp_path / 'a.tif'} has 1 page of another size or depth, passed over"]


def test_images_that_change_their_size_are_all_frames(tmp_path: Path) -> None:
    pages = [*PAGES[:3], *PAGES[3:6, 4:, 4:]]
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for page in pages:
            tiff.write(page.copy(), contiguous=False, **GRAY)
    same(played(tmp_path / "a.tif")[0], pages)


@pytest.mark.parametrize("count", [2, 4, 5])
def test_samples_of_a_page_are_channels(tmp_path: Path, count: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "clesr")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.moveaxis(PAGES[:count], 0, -1), planarconfig="contig", **GRAY)
    same(played(path)[0], PAGES[:1])
    assert told(caplog) == [f"{path} has {count} channels: channel 0 is taken (--channel 0 to {count - 1})"]
    same(played(path, channel=count - 1)[0], PAGES[count - 1 : count])


def test_gray_with_alpha_is_one_channel(tmp_path: Path) -> None:
    stack = np.moveaxis(PAGES[:2], 0, -1)
    tifffile.imwrite(tmp_path / "a.tif", stack, extrasamples=["unassalpha"], planarconfig="contig", **GRAY)
    same(played(tmp_path / "a.tif")[0], PAGES[:1])
    with pytest.raises(UsageError, match="1 channel;"):
        open_source(str(tmp_path / "a.tif"), channel=1)


def test_a_stack_of_previews_alone_has_no_image(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PAGES, subfiletype=1, **GRAY)
    with pytest.raises(SourceError, match="no image"):
        open_source(str(tmp_path / "a.tif"))


OME_PIXELS = (
    "<?xml version='1.0'?><OME><Image><Pixels DimensionOrder='XYCZT' Type='uint8' SizeX='20' SizeY='16' SizeC='1' "
    "SizeZ='1' SizeT='3' {}><TiffData/></Pixels></Image></OME>"
)


@pytest.mark.parametrize(
    ("sizes", "aspect"),
    [
        ("PhysicalSizeX='0.5' PhysicalSizeY='0.4'", Fraction(5, 4)),
        ("PhysicalSizeX='0.5' PhysicalSizeY='400' PhysicalSizeYUnit='nm'", Fraction(5, 4)),
        ("PhysicalSizeX='5e-4' PhysicalSizeXUnit='mm' PhysicalSizeY='0.5'", Fraction(1)),
        (
            "PhysicalSizeX='3' PhysicalSizeXUnit='pixel' PhysicalSizeY='2' PhysicalSizeYUnit='pixel'",
            Fraction(3, 2),
        ),
        ("PhysicalSizeX='0.5'", Fraction(1)),
        ("PhysicalSizeX='0.5' PhysicalSizeY='0.4' PhysicalSizeYUnit='furlong'", Fraction(1)),
        ("PhysicalSizeX='0.5' PhysicalSizeY='0'", Fraction(1)),
        ("PhysicalSizeX='-0.5' PhysicalSizeY='0.4'", Fraction(1)),
        ("PhysicalSizeX='0.5' PhysicalSizeY='NaN'", Fraction(1)),
        ("PhysicalSizeX='5000' PhysicalSizeY='1'", Fraction(1)),
        ("", Fraction(1)),
    ],
)
def test_the_form_of_pixels_in_ome(tmp_path: Path, sizes: str, aspect: Fraction) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path, np.stack(noise(3, (16, 20))), **GRAY, description=OME_PIXELS.format(sizes), metadata=None
    )
    for place in (path, tmp_path):
        with closing(open_source(str(place))) as source:
            assert source.info.pixel_aspect == aspect


@pytest.mark.parametrize(
    ("resolution", "lying", "aspect"),
    [
        ((200, 100), 1, Fraction(1, 2)),  # twice the pixels across: each half as wide
        ((200, 100), 6, Fraction(2)),  # turned by a quarter
        ((72, 72), 1, Fraction(1)),
        ((0, 72), 1, Fraction(1)),
        (None, 1, Fraction(1)),
    ],
)
@pytest.mark.parametrize("imagej", [False, True])
def test_the_form_of_pixels_by_resolution(
    tmp_path: Path, resolution: tuple[int, int] | None, lying: int, aspect: Fraction, imagej: bool
) -> None:
    path, tags = tmp_path / "a.tif", [(274, "H", 1, lying, True)]
    tifffile.imwrite(
        path, np.stack(noise(3, (16, 20))), **GRAY, resolution=resolution, imagej=imagej, extratags=tags
    )
    with closing(open_source(str(path))) as source:
        assert source.info.pixel_aspect == aspect


@pytest.mark.parametrize(("imagej", "separate"), [(True, False), (False, False), (False, True)])
def test_colour_images_that_one_page_describes_are_all_there(
    tmp_path: Path, imagej: bool, separate: bool
) -> None:
    colours = np.random.default_rng(3).integers(0, 256, (6, 20, 30, 3), np.uint8)
    gray = [np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)) for image in colours]
    form: dict[str, Any] = {"imagej": True, "metadata": {"axes": "TYXS", "finterval": 0.1}} if imagej else {}
    stored = np.moveaxis(colours, -1, 1) if separate else colours
    tifffile.imwrite(
        tmp_path / "a.tif", stored, truncate=True, photometric="rgb",
        planarconfig="separate" if separate else "contig", **form,
    )  # fmt: skip
    images, _ = played(tmp_path / "a.tif")
    same(images, gray)
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(data[: -20 * 30])
    frames, corrupt = read_all(open_source(str(tmp_path / "cut.tif"), pace="max"))
    same([frame.image for frame in frames], gray[:5])
    assert "5 of the 6 images" in corrupt[0].reason
