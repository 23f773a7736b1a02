"""Debian's ImageJ opens what `clesr export` writes as OME-TIFF."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import noise

from clesr.pipeline.frame import Image
from clesr.tools.export.clip import Clip
from clesr.tools.export.ome_tiff import OmeTiffExporter

Save = Callable[..., list[str]]
MakeClip = Callable[..., Clip]
MACRO = """
files = split(getArgument(), ";");
for (i = 0; i < files.length; i++) {
    open(files[i]);
    Stack.getDimensions(width, height, channels, slices, frames);
    getVoxelSize(pixel, tall, deep, unit);
    for (n = 1; n <= nSlices; n++) {
        setSlice(n);
        getStatistics(area, mean);
        means = "" + mean;
        if (n > 1) means = all + " " + mean;
        all = means;
    }
    print("opened;" + width + "x" + height + ";" + channels + ";" + slices + ";" + frames + ";" + bitDepth() + ";"
        + d2s(pixel, 6) + ";" + unit + ";" + d2s(Stack.getFrameInterval(), 6) + ";" + all);
    close();
}
run("Quit");
"""


def expected(images: Sequence[Image], *about: object) -> list[str]:
    height, width = images[0].shape
    return [f"{width}x{height}", "1", "1", str(len(images)), str(8 * images[0].itemsize), *map(str, about)]


@pytest.mark.slow
def test_imagej_opens_size_frames_interval_and_micrometres(
    make_clip: MakeClip, save: Save, program: Callable[[str, str], str], tmp_path: Path
) -> None:
    cases: dict[str, tuple[list[Image], dict[str, Any], tuple[str, str, str]]] = {
        "bytes": (noise(5, (31, 42), np.uint8), {"pixel_um": 0.3}, ("0.300000", "µm", "0.140000")),
        "words": (noise(5, (40, 27), np.uint16), {"pixel_um": 1.25}, ("1.250000", "µm", "0.140000")),
        "unsized": (noise(5, (31, 42), np.uint8), {}, ("1.000000", "pixels", "0.140000")),
        "one": (noise(1, (31, 42), np.uint8), {"pixel_um": 2.0}, ("2.000000", "µm", "0.040000")),
    }
    for name, (images, about, _) in cases.items():
        times = (0, 40_000_000, 80_123_000, 520_000_000, 560_000_000)
        save(OmeTiffExporter, make_clip(images, times, **about), tmp_path / f"{name}.ome.tif")
    (tmp_path / "look.ijm").write_text(MACRO)
    command = [program("xvfb-run", "xvfb"), "-a", program("imagej", "imagej"), "-b", "look.ijm"]
    files = ";".join(f"./{name}.ome.tif" for name in cases)
    done = subprocess.run([*command, files], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    opened = [line.split(";")[1:] for line in done.stdout.splitlines() if line.startswith("opened;")]
    assert len(opened) == len(cases), done.stdout + done.stderr
    for (*said, means), (images, _, shown) in zip(opened, cases.values(), strict=True):
        assert said == expected(images, *shown)
        np.testing.assert_allclose(
            [float(mean) for mean in means.split()], [image.mean() for image in images], rtol=1e-3
        )
