"""A map's file, read back by another library's reader."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from probe import SIDE, along, disc, seen, tissue

from clesr.pipeline.mosaic.mosaic import Mosaic
from clesr.pipeline.mosaic.ome import NAMESPACE, PixelSize, frames_of, write_map
from clesr.pipeline.mosaic.tissue_map import TissueMap


def a_map(dtype: type = np.uint8) -> TissueMap:
    """Of three frames, of which one failed."""
    ended: list[TissueMap] = []
    mosaic = Mosaic(ended.append, limit_mb=64)
    one, other = along(tissue(), [(0, 0), (-7, 4)], 0, dtype)
    mosaic.add(one, 7, 0.0, disc())
    mosaic.fail(8, 1 / 12)
    mosaic.add(other, 9, 1 / 6, disc())
    mosaic.end()
    return ended[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_size_and_frames_are_read_back(dtype: type, tmp_path: Path) -> None:
    made, path = a_map(dtype), tmp_path / "map.ome.tif"
    shape = write_map(path, made, 3, PixelSize(0.3, 0.4))
    box = made.canvas.box
    assert box is not None
    with tifffile.TiffFile(path) as tiff:
        (series,) = tiff.series
        assert (series.axes, series.shape, series.dtype) == ("YX", shape, np.dtype(dtype))
        mean, weight = made.canvas.read(box.left, box.top, shape)
        image = series.asarray()
        np.testing.assert_allclose(image, mean, atol=0.51)
        assert image[weight == 0].max() == 0
        document = ElementTree.fromstring(tiff.ome_metadata or "")
        pixels = next(part for part in document.iter() if part.tag.endswith("Pixels"))
        assert {k: pixels.get(k) for k in ("PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeXUnit", "SizeX")} == {
            "PhysicalSizeX": "0.3", "PhysicalSizeY": "0.4", "PhysicalSizeXUnit": "µm", "SizeX": str(shape[1]),
        }  # fmt: skip
        x, unit = tiff.pages.first.tags["XResolution"].value, tiff.pages.first.tags["ResolutionUnit"].value
        assert (round(x[0] / x[1]), unit) == (round(1e4 / 0.3), 3)


def test_the_frames_lie_in_the_picture_where_it_says(tmp_path: Path) -> None:
    made, path = a_map(), tmp_path / "map.ome.tif"
    write_map(path, made, 3)
    said = frames_of(path)
    assert said["map"] == 3
    assert [(f["number"], f["outcome"]) for f in said["frames"]] == [
        (7, "drawn"),
        (8, "failed"),
        (9, "drawn"),
    ]
    assert [f["seconds"] for f in said["frames"]] == pytest.approx([0, 1 / 12, 1 / 6], abs=1e-6)
    assert "x" not in said["frames"][1]
    picture, (first, last) = tifffile.imread(path), (said["frames"][0], said["frames"][2])
    assert (last["x"] - first["x"], last["y"] - first["y"]) == pytest.approx((-7, 4), abs=0.4)
    x, y = (round(last[axis] - (SIDE - 1) / 2) for axis in "xy")
    there = picture[y + 40 : y + 88, x + 40 : x + 88]
    assert np.corrcoef(there.ravel(), seen(tissue(), (-7, 4))[40:88, 40:88].ravel())[0, 1] > 0.97


@pytest.mark.parametrize(
    "words", [None, "<OME>", f'<OME><a Namespace="{NAMESPACE}"><Value>[</Value></a></OME>']
)
def test_another_file_is_no_map(tmp_path: Path, words: str | None) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((4, 4), np.uint8), description=words, metadata=None)
    with pytest.raises(ValueError, match="no map that clesr wrote"):
        frames_of(tmp_path / "a.ome.tif")
