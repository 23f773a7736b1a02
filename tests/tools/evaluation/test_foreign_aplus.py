"""A+ files of others are loaded whole or refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import FOREIGN, check_line, mutated, places, replaced

from clesr.engines.common.errors import WeightsError
from clesr.tools.evaluation.aplus import About, APlus, is_aplus, load, shipped


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], bytes]:
    """Header and body of a small file."""
    rng = np.random.default_rng(0)
    shapes = {"basis": (144, 2), "atoms": (3, 2), "regressors": (3, 4, 2), "details": (4, 36)}
    tensors = {name: rng.random(shape, np.float32) for name, shape in shapes.items()}
    path = tmp_path_factory.mktemp("a") / "a.safetensors"
    APlus(About(scale=2, training={"images": ["a"]}), **tensors).save(path)
    assert load(path).upscale(np.zeros((5, 6), np.uint8)).shape == (10, 12)
    whole = path.read_bytes()
    size = struct.unpack("<Q", whole[:8])[0]
    return json.loads(whole[8 : 8 + size]), whole[8 + size :]


def use(path: Path, header: Any, body: bytes) -> bool:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    is_aplus(path)
    try:
        model = load(path)
    except WeightsError as error:
        check_line(error)
        return False
    model.upscale(np.zeros((5, 6), np.uint8))
    return True


def test_every_foreign_value_in_its_description(parts: tuple[dict[str, Any], bytes], tmp_path: Path) -> None:
    about = json.loads(parts[0]["__metadata__"]["clesr-a+"])
    taken = []
    for place in places(about):
        for new in FOREIGN:
            metadata = {"clesr-a+": json.dumps(replaced(about, place, new))}
            taken.append(use(tmp_path / "x.safetensors", {**parts[0], "__metadata__": metadata}, parts[1]))
    assert True in taken
    assert False in taken


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_foreign_headers(data: st.DataObject, parts: tuple[dict[str, Any], bytes], tmp_path: Path) -> None:
    use(tmp_path / "x.safetensors", data.draw(mutated(parts[0])), parts[1])


def test_what_is_shipped_is_loaded() -> None:
    assert [load(path).scale for path in shipped().values()] == [2, 4, 8]
