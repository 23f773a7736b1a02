"""Formats that other packages add."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from commands import Run
from recordings import drifting, write_video

from clesr.tools.export.registry import exporters

EXPORTER = """
import numpy as np

class NpyExporter:
    what, named_by_frame = "sr", False

    def __init__(self, *, crf=None, own=3):
        self.crf = crf

    def write(self, clip, path, files):
        images = [still.image for still in clip.stills]
        with files.begin(path).open("wb") as file:
            np.save(file, images)
        return [f"{path}: {len(images)} images, quality {self.crf}"]
"""


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A short video, and an installed package with an exporter for .npy."""
    info = tmp_path / "packages" / "clesr_npy-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: clesr-npy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[clesr.exporters]\nnpy = clesr_npy:NpyExporter\n")
    (info.parent / "clesr_npy.py").write_text(EXPORTER)
    monkeypatch.syspath_prepend(str(info.parent))
    monkeypatch.setattr(exporters, "_foreign", None)
    monkeypatch.setattr(exporters, "_loaded", {})
    write_video(tmp_path / "in.mkv", drifting(4, (48, 64)))
    return tmp_path / "in.mkv"


def test_a_package_adds_a_format(recording: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.npy"
    code, _, err = run("clesr", "export", recording, "-o", out, "--crf", 7, "--frames", "1-2")
    assert code == 0, err
    assert f"wrote {out}: 2 images, quality 7" in err
    np.testing.assert_array_equal(np.load(out), np.stack(drifting(4, (48, 64))[1:3]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv", "out.npy", "packages"]


def test_a_package_that_does_not_load_is_named(
    recording: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "clesr_npy", raising=False)
    (tmp_path / "packages" / "clesr_npy.py").write_text("raise SystemExit(3)")
    code, _, err = run("clesr", "export", recording, "-o", tmp_path / "out.npy")
    assert code == 1
    assert err == (
        "clesr: error: npy in clesr.exporters of the package clesr-npy (clesr_npy:NpyExporter) does not load "
        "(SystemExit: 3)\n"
    )


def test_options_of_other_formats_and_unknown_ones_are_named(
    recording: Path, run: Run, tmp_path: Path
) -> None:
    code, _, err = run("clesr", "export", recording, "-o", tmp_path / "out.npy", "--codec", "h264")
    assert code == 2
    assert "--codec is for .mp4, .dcm, not for .npy" in err
    code, _, err = run("clesr", "export", recording, "-o", tmp_path / "out.mp4", "--frame", 1)
    assert code == 2
    assert "--frame is for .dcm, .png, not for .mp4" in err
    code, _, err = run("clesr", "export", recording, "-o", tmp_path / "out.xyz")
    assert code == 2
    assert "ends in none of .mp4, .ome.tif, .ome.tiff, .dcm, .png, .npy, which name the format" in err
