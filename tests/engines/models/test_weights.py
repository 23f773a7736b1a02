"""Weights files: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from random_models import SMALL_DENSENET, random_model

from clesr.engines.common.errors import SinkError, UsageError, WeightsError
from clesr.engines.models.registry import build_model
from clesr.engines.models.weights import (
    METADATA_KEY,
    Descriptor,
    find_model,
    identity,
    load_model,
    read_descriptor,
    save_model,
    shipped,
)

DESCRIPTOR = Descriptor(
    name="small",
    architecture="densenet",
    scale=4,
    arguments=dict(SMALL_DENSENET),
    training={"steps": 7},
    metrics={"test_gain_db": 1.5},
    commit="0123456",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_model(path, random_model("densenet", 4, **SMALL_DENSENET).module, DESCRIPTOR)
    return path


def rewrite(path: Path, descriptor: str | None, **tensors: torch.Tensor) -> None:
    """The file with another descriptor text, and with ``tensors`` in place of those of the same name."""
    metadata = {} if descriptor is None else {METADATA_KEY: descriptor}
    safetensors.torch.save_file(safetensors.torch.load_file(path) | tensors, path, metadata)


def test_what_is_saved_is_loaded(path: Path) -> None:
    model = load_model(path)
    saved = random_model("densenet", 4, **SMALL_DENSENET)
    assert model.descriptor == DESCRIPTOR == read_descriptor(path)
    assert model.sha256 == saved.sha256
    assert not model.module.training
    x = torch.rand(1, 1, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(model.module(x), saved.module(x), rtol=0, atol=0)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_saved_files_are_as_readable_as_any_other(path: Path) -> None:
    (path.parent / "other").touch()
    assert path.stat().st_mode == (path.parent / "other").stat().st_mode


def test_identity_is_that_of_names_and_values_alone(path: Path) -> None:
    tensors = load_model(path).module.state_dict()
    assert identity(dict(reversed(tensors.items()))) == load_model(path).sha256
    name = next(iter(tensors))
    changed = dict(tensors)
    changed[name] = changed[name] + torch.finfo(torch.float32).eps
    assert identity(changed) != identity(tensors)
    renamed = {("x" + n if n == name else n): t for n, t in tensors.items()}
    assert identity(renamed) != identity(tensors)


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_refused_whatever_they_are_called(tmp_path: Path, name: str, zipped: bool) -> None:
    path = tmp_path / name
    torch.save({"x": torch.zeros(3)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"refused.*weights_only=True.*save_model"):
        load_model(path)


def test_safetensors_under_a_pickles_name_are_refused(path: Path) -> None:
    with pytest.raises(WeightsError, match="refused"):
        load_model(path.rename(path.with_suffix(".pth")))


def test_damaged_files_are_refused(tmp_path: Path, path: Path) -> None:
    content = path.read_bytes()
    for name, damaged in {
        "cut": content[:-100],
        "head": content[:5],
        "text": b"not weights at all",
        "empty": b"",
    }.items():
        broken = tmp_path / f"{name}.safetensors"
        broken.write_bytes(damaged)
        with pytest.raises(WeightsError, match=name):
            load_model(broken)
    with pytest.raises(WeightsError, match=r"no weights file.*clesr models"):
        load_model(tmp_path / "absent.safetensors")


def test_foreign_tensors_are_refused(path: Path) -> None:
    rewrite(path, json.dumps({"name": "f", "architecture": "fast", "scale": 4, "format": 1}))
    with pytest.raises(WeightsError, match=r"not those of fast x4.*another model"):
        load_model(path)


def test_files_without_descriptor_are_refused(path: Path) -> None:
    rewrite(path, None)
    with pytest.raises(WeightsError, match="no clesr descriptor"):
        load_model(path)


@pytest.mark.parametrize(
    "text", ["{", "[]", "7", "null", '"text"', "{}", '{"format": 1}', '{"format": 1, "name": "x"}']
)
def test_damaged_descriptors_are_refused(path: Path, text: str) -> None:
    rewrite(path, text)
    with pytest.raises(WeightsError, match="damaged"):
        load_model(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": "4"},
        {"scale": 5},
        {"arguments": [1]},
        {"arguments": {"layers": "8"}},
        {"architecture": ["fast"]},
    ],
)
def test_descriptors_of_the_wrong_kind_are_refused(path: Path, wrong: dict[str, object]) -> None:
    whole = {"name": "x", "architecture": "densenet", "scale": 4, "arguments": SMALL_DENSENET, "format": 1}
    rewrite(path, json.dumps(whole | wrong))
    with pytest.raises(WeightsError):
        load_model(path)


def test_newer_formats_are_refused_and_unknown_fields_are_not(path: Path) -> None:
    whole = {"name": "x", "architecture": "densenet", "scale": 4, "arguments": SMALL_DENSENET}
    rewrite(path, json.dumps(whole | {"format": 2}))
    with pytest.raises(WeightsError, match="format 2; this clesr reads 1; update"):
        load_model(path)
    rewrite(path, json.dumps(whole | {"format": 1, "mood": "good"}))
    assert load_model(path).name == "x"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(path: Path, value: float) -> None:
    descriptor = json.dumps(
        {"name": "x", "architecture": "densenet", "scale": 4, "arguments": SMALL_DENSENET, "format": 1}
    )
    rewrite(path, descriptor, **{"last.bias": torch.tensor([value])})
    with pytest.raises(WeightsError, match="not finite"):
        load_model(path)


def test_an_unwritable_folder_leaves_nothing(tmp_path: Path) -> None:
    module = build_model("fast", 2, {"channels": 4, "depth": 2})
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot be written: Not a directory"):
        save_model(tmp_path / "file" / "model.safetensors", module, DESCRIPTOR)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_models_are_found_by_path_and_name(path: Path) -> None:
    assert find_model(str(path), 4).sha256 == load_model(path).sha256
    with pytest.raises(WeightsError, match=r"is for scale 4, not 2; give --scale 4"):
        find_model(str(path), 2)
    with pytest.raises(UsageError, match=r"'nosuch' is unknown.*\.safetensors"):
        find_model("nosuch", 4)


def test_a_scale_without_weights_names_those_with(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr(
        "clesr.engines.models.weights.shipped", lambda: {("small", 4): path, ("other", 2): path}
    )
    assert find_model("small", 4).scale == 4
    with pytest.raises(UsageError, match=r"small has no weights for scale 2, only for 4.*works with other"):
        find_model("small", 2)


def test_shipped_models_are_what_lies_in_the_package() -> None:
    assert all(
        path.is_file() and path.stem == f"{name}-x{scale}" for (name, scale), path in shipped().items()
    )
