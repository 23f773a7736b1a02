"""The file of a calibration: whole, never overwritten unasked, and not trusted when it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from bundles import draw_bundle
from hypothesis import given
from hypothesis import strategies as st

from clesr.engines.common.errors import SinkError, SourceError
from clesr.engines.common.files import OWN
from clesr.pipeline.cores import calibration as module
from clesr.pipeline.cores.calibration import KEY, decode, load_cores, save_cores

CALIBRATION = draw_bundle((60, 70), 9.0).calibration()
ARRAYS = safetensors.numpy.load(CALIBRATION.data)
FACTS = {"shape": [60, 70], "spacing": 9.0, "saturated": 0, "frames": 1, "version": 1}


def stored(facts: dict[str, Any] | None = None, **changed: Any) -> bytes:
    """A file with some facts or arrays changed; None leaves one out."""
    arrays = {name: array for name, array in (ARRAYS | changed).items() if array is not None}
    return safetensors.numpy.save(arrays, {KEY: json.dumps(FACTS | (facts or {}))})


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "probe.cores"
    save_cores(path, CALIBRATION)
    found = load_cores(path)
    assert (found.sha256, found.facts, found.name) == (CALIBRATION.sha256, CALIBRATION.facts, "probe.cores")
    for name in ("places", "flat", "dead", "triangles", "map", "weights"):
        np.testing.assert_array_equal(getattr(found, name), getattr(CALIBRATION, name))
    with pytest.raises(SinkError, match="exists"):
        save_cores(path, CALIBRATION)
    save_cores(path, CALIBRATION, OWN)
    assert decode(stored(), "again").sha256 != "", "the changes below change what is whole without them"


BEYOND = np.full_like(ARRAYS["map"], len(ARRAYS["triangles"]))
SWAPPED = np.where(ARRAYS["map"] >= 0, len(ARRAYS["triangles"]) - 1 - ARRAYS["map"], -1).astype(np.int32)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no header"),
        (b"\xff" * 100, "no header"),
        (CALIBRATION.data[:200], "no header"),
        (CALIBRATION.data[:-1], "."),
        (safetensors.numpy.save(ARRAYS), "metadata"),
        (safetensors.numpy.save(ARRAYS, {"other": "{}"}), "it holds something else"),
        (stored({"version": 2}), "it has version 2, this clesr reads 1"),
        (stored({"shape": [60, 71]}), "its map are int32"),
        (stored({"shape": [60_000, 60_000]}), "allowed are 8192"),
        (stored({"spacing": -1}), "spacing"),
        (stored({"frames": 0}), "frames"),
        (stored(map=None), "it holds dead, flat"),
        (stored(more=np.zeros(3, np.float32)), "it holds dead, flat"),
        (stored(map=ARRAYS["map"].astype(np.int64)), "its map are int64"),
        (stored(places=ARRAYS["places"].ravel()), "its places are"),
        (stored(flat=ARRAYS["flat"][1:]), "cores with the brightness of"),
        (stored(flat=0 * ARRAYS["flat"]), "no brightness"),
        (stored(flat=ARRAYS["flat"] * np.float32(1e-30)), "no brightness"),
        (stored(flat=np.nan * ARRAYS["flat"]), "its flat are not all finite"),
        (stored(places=ARRAYS["places"] + np.float32(30)), "outside of the frame"),
        (stored(triangles=ARRAYS["triangles"] + np.int32(9)), "its triangles name what is not there"),
        (stored(map=BEYOND), "its map name what is not there"),
        (stored(map=SWAPPED), "do not lie in their triangles"),
    ],
)
def test_what_is_damaged_is_refused_in_one_line(tmp_path: Path, data: bytes, why: str) -> None:
    path = tmp_path / "probe.cores"
    path.write_bytes(data)
    with pytest.raises(SourceError, match=why) as error:
        load_cores(path)
    assert str(error.value).startswith(f"{path} is no calibration of cores that can be read (")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spacing", [100.0, 65_535.0])
def test_a_spacing_that_its_cores_have_not_is_refused(spacing: float) -> None:
    """With it, each frame would take seconds."""
    with pytest.raises(ValueError, match=f"its cores lie closer than the {spacing:g} pixels that it states"):
        decode(stored({"spacing": spacing}), "slow")


@given(st.data())
def test_no_changed_byte_makes_another_error(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, 1500) | st.integers(0, len(CALIBRATION.data) - 1))
    changed = bytearray(CALIBRATION.data)
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        found = decode(bytes(changed), "changed")
    except ValueError:
        pass
    else:
        assert found.sha256 != CALIBRATION.sha256
        assert np.isfinite(found.weights).all()


def test_what_is_no_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        SourceError, match=r"there is no calibration .*none\.cores; `clesr calibrate` makes one"
    ):
        load_cores(tmp_path / "none.cores")
    with pytest.raises(SourceError, match="Is a directory"):
        load_cores(tmp_path)
    save_cores(tmp_path / "probe.cores", CALIBRATION)
    monkeypatch.setattr(module, "FILE_BYTES", 1000)
    with pytest.raises(SourceError, match="at most 1000 are allowed"):
        load_cores(tmp_path / "probe.cores")
