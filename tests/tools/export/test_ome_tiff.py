from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from recordings import noise

from clesr.pipeline.frame import Image
from clesr.tools.export import ome_tiff
from clesr.tools.export.clip import Clip
from clesr.tools.export.ome_tiff import OmeTiffExporter

Save = Callable[..., list[str]]
MakeClip = Callable[..., Clip]
TIMES_S = [0.0, 0.04, 0.080123, 0.52, 0.560000456]
NAMES = {"o": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tifffile_reads_pixels_size_and_times(
    dtype: type, make_clip: MakeClip, save: Save, tmp_path: Path
) -> None:
    images, path = noise(5, (31, 42), dtype), tmp_path / "sr.ome.tif"
    (said,) = save(OmeTiffExporter, make_clip(images, sr=True, pixel_um=0.25), path)
    assert said == f"{path}: 5 planes, 42x31, {np.dtype(dtype).itemsize * 8} bit"
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        assert not tiff.is_bigtiff
        (series,) = tiff.series
        assert (series.axes, series.dtype) == ("TYX", np.dtype(dtype))
        np.testing.assert_array_equal(series.asarray(), images)
        root = ElementTree.fromstring(tiff.ome_metadata or "")
    pixels = root.find(".//o:Pixels", NAMES)
    assert pixels is not None
    assert (pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit")) == ("0.25", "µm")
    assert [float(plane.get("DeltaT", "nan")) for plane in pixels.findall("o:Plane", NAMES)] == TIMES_S
    description = root.findtext(".//o:Description", namespaces=NAMES)
    assert description is not None
    assert "derived by super-resolution: x4 by model fast" in description
    (image,) = root.findall("o:Image", NAMES)
    assert image.get("Name") == "super-resolved"
    assert [p.name for p in tmp_path.iterdir()] == ["sr.ome.tif"]


def test_the_interval_is_that_of_the_planes_and_not_of_the_camera(
    make_clip: MakeClip, save: Save, images: list[Image], tmp_path: Path
) -> None:
    """At 25 frames/s, of which every third was up-scaled."""
    for name, times, seconds in (("a", (0, 120_000_000, 240_000_000), 0.12), ("b", (0,), 0.04)):
        path = tmp_path / f"{name}.ome.tif"
        save(OmeTiffExporter, make_clip(images[: len(times)], times), path)
        with tifffile.TiffFile(path) as tiff:
            root = ElementTree.fromstring(tiff.ome_metadata or "")
            described = tiff.imagej_metadata
        pixels = root.find(".//o:Pixels", NAMES)
        assert pixels is not None
        assert float(pixels.get("TimeIncrement", "nan")) == pytest.approx(seconds)
        assert described is not None
        assert (described["frames"], described["finterval"]) == (len(times), pytest.approx(seconds))
        assert described["fps"] == pytest.approx(1 / seconds)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*parser argument is ignored")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_bioio_reads_pixels_size_and_times(
    make_clip: MakeClip, save: Save, deep_images: list[Image], tmp_path: Path
) -> None:
    import bioio_ome_tiff
    from bioio import BioImage

    path = tmp_path / "raw.ome.tif"
    save(OmeTiffExporter, make_clip(deep_images, pixel_um=0.83), path)
    image = BioImage(path, reader=bioio_ome_tiff.Reader)
    assert image.dims.order == "TCZYX"
    np.testing.assert_array_equal(image.data[:, 0, 0], deep_images)
    assert (image.physical_pixel_sizes.X, image.physical_pixel_sizes.Y) == (0.83, 0.83)
    planes = image.ome_metadata.images[0].pixels.planes
    assert [plane.delta_t for plane in planes] == TIMES_S
    assert {plane.delta_t_unit.value for plane in planes} == {"s"}


def test_a_single_image_is_a_series_of_one(
    make_clip: MakeClip, save: Save, images: list[Image], tmp_path: Path
) -> None:
    save(OmeTiffExporter, make_clip(images[:1]), tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.ome.tif"), images[0])


@pytest.mark.parametrize("total", [None, 5])
def test_bigtiff_where_it_may_be_needed(
    total: int | None, make_clip: MakeClip, save: Save, images: list[Image], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(ome_tiff, "CLASSIC", 5 * images[0].nbytes - 1)
    save(OmeTiffExporter, make_clip(images, total=total), tmp_path / "a.ome.tif")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tiff:
        assert tiff.is_bigtiff
        np.testing.assert_array_equal(tiff.asarray(), images)


def test_pixels_that_fill_four_gigabytes_leave_a_classic_tiff_no_room(
    make_clip: MakeClip, save: Save, images: list[Image], tmp_path: Path
) -> None:
    for name, room, big in (("small", 2**26, False), ("full", 0, True)):
        clip = make_clip(images, total=(2**32 - room) // images[0].nbytes)
        save(OmeTiffExporter, clip, tmp_path / f"{name}.ome.tif")
        with tifffile.TiffFile(tmp_path / f"{name}.ome.tif") as tiff:
            assert tiff.is_bigtiff is big


def test_nothing_of_machine_or_date_is_in_it(
    make_clip: MakeClip, save: Save, images: list[Image], tmp_path: Path
) -> None:
    """A time-based identifier would hold the address of the network card and the time of the export."""
    save(OmeTiffExporter, make_clip(images), tmp_path / "a.ome.tif")
    xml = tifffile.tiffcomment(tmp_path / "a.ome.tif")
    assert isinstance(xml, str)
    assert xml.partition("urn:uuid:")[2][14] == "4", "a random identifier"
    assert "AcquisitionDate" not in xml
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tiff:
        assert {"DateTime", "HostComputer", "Artist"}.isdisjoint(tag.name for tag in tiff.pages.first.tags)


def test_what_is_asked_for_is_kept(
    make_clip: MakeClip, save: Save, images: list[Image], tmp_path: Path
) -> None:
    clip = make_clip(images, started="2026-03-04T05:06:07+00:00", notes="source /dev/video0")
    save(OmeTiffExporter, clip, tmp_path / "a.ome.tif")
    xml = tifffile.tiffcomment(tmp_path / "a.ome.tif")
    assert "<AcquisitionDate>2026-03-04T05:06:07" in str(xml)
    assert "source /dev/video0" in str(xml)
