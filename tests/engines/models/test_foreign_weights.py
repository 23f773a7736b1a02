"""Weights of others: no header and no descriptor takes memory that the file does not hold, or raises another error."""

from __future__ import annotations

import copy
import json
import resource
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import FOREIGN, check_line, mutated, places, replaced

from clesr.engines.common.errors import WeightsError
from clesr.engines.models.registry import MOST_PARAMETERS, build_model, level_names
from clesr.engines.models.safetensors_file import FILE_BYTES, HEADER_BYTES
from clesr.engines.models.weights import identity, load_model, read_descriptor, save_model, shipped

MEGABYTE = 1 << 20
Values = dict[str, Any]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Values, bytes]:
    """Header and body of a file like the shipped ones, but small."""
    about = load_model(shipped()["fast", 2]).descriptor
    arguments = {**about.arguments, "channels": 4, "depth": 3}
    path = tmp_path_factory.mktemp("parts") / "fast.safetensors"
    save_model(path, build_model("fast", 2, arguments), replace(about, arguments=arguments))
    whole = path.read_bytes()
    size = struct.unpack("<Q", whole[:8])[0]
    return json.loads(whole[8 : 8 + size]), whole[8 + size :]


def pack(header: Any, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def with_descriptor(parts: tuple[Values, bytes], descriptor: Any) -> bytes:
    header = copy.deepcopy(parts[0])
    header["__metadata__"]["clesr"] = descriptor if isinstance(descriptor, str) else json.dumps(descriptor)
    return pack(header, parts[1])


def descriptor_of(parts: tuple[Values, bytes]) -> Values:
    found: Values = json.loads(parts[0]["__metadata__"]["clesr"])
    return found


def most_memory() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def use(path: Path, content: bytes) -> bool:
    """Whether ``content`` is loaded; False where it is refused in one line."""
    path.write_bytes(content)
    before = most_memory()
    try:
        json.dumps(load_model(path).descriptor.training)
    except WeightsError as error:
        check_line(error)
        return False
    finally:
        assert most_memory() - before < 300 * MEGABYTE
    return True


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_every_foreign_value_anywhere_in_a_descriptor(
    every: int, parts: tuple[Values, bytes], tmp_path: Path
) -> None:
    """At each place ``every``-th of them: others at the next place."""
    whole = descriptor_of(parts)
    whole["training"] = {"steps": whole["training"]["steps"], "images": ["a"]}
    taken = [
        use(tmp_path / "x.safetensors", with_descriptor(parts, replaced(whole, path, new)))
        for number, path in enumerate(places(whole))
        for new in FOREIGN[number % every :: every]
    ]
    assert any(taken)
    assert taken.count(False) > 100 / every


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_foreign_headers(data: st.DataObject, parts: tuple[Values, bytes], tmp_path: Path) -> None:
    use(tmp_path / "x.safetensors", pack(data.draw(mutated(parts[0])), parts[1]))


@pytest.mark.parametrize(
    ("architecture", "arguments", "words"),
    [
        ("fast", {"channels": 10**9}, "channels is 1000000000: expected `int` <= 4096"),
        ("fast", {"channels": -1}, "channels is -1: expected `int` >= 1"),
        ("fast", {"depth": 10**7}, "depth is 10000000: expected `int` <= 256"),
        ("fast", {"channels": 4096, "depth": 256}, f"numbers, at most {MOST_PARAMETERS} are allowed"),
        ("densenet", {"blocks": 10**7}, "blocks is 10000000: expected `int` <= 64"),
        ("densenet", {"growth": 10**5}, "growth is 100000: expected `int` <= 256"),
        ("densenet", {"layers": 10**5}, "layers is 100000: expected `int` <= 32"),
        ("densenet", {"blocks": 64, "layers": 32, "growth": 256}, f"at most {MOST_PARAMETERS} are allowed"),
        ("densenet", {"blocks": True}, "blocks is True: expected `int`, got `bool`"),
        ("fast", {"channels": 1024, "depth": 16}, "the file was made by another model"),
    ],
)
def test_no_descriptor_takes_memory_that_the_file_does_not_hold(
    architecture: str, arguments: Values, words: str, parts: tuple[Values, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    descriptor = {"name": "x", "format": 1, "architecture": architecture, "scale": 2, "arguments": arguments}
    path.write_bytes(with_descriptor(parts, descriptor))
    before = most_memory()
    with pytest.raises(WeightsError) as caught:
        load_model(path)
    assert words in str(caught.value)
    assert most_memory() - before < 50 * MEGABYTE
    if "another model" not in words:
        with pytest.raises(WeightsError):
            build_model(architecture, 2, arguments)


@pytest.mark.parametrize(
    "deep", ["[" * 100_000, '{"a":' * 50_000, '{"format":1,"training":' + "[" * 900 + "]" * 900 + "}"]
)
def test_nesting_in_a_descriptor_is_one_line(deep: str, parts: tuple[Values, bytes], tmp_path: Path) -> None:
    assert not use(tmp_path / "x.safetensors", with_descriptor(parts, deep))
    whole = descriptor_of(parts)
    nested = json.dumps(whole | {"training": 0}).replace(
        '"training": 0', f'"training": {{"a": {"[" * 900 + "]" * 900}}}'
    )
    assert not use(tmp_path / "x.safetensors", with_descriptor(parts, nested))


def test_a_long_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", HEADER_BYTES + 1) + b"{")
    with pytest.raises(WeightsError, match=f"header has {HEADER_BYTES + 1} bytes, at most {HEADER_BYTES}"):
        read_descriptor(path)


def test_a_giant_file_is_not_read(parts: tuple[Values, bytes], tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(pack(*parts))
    with path.open("r+b") as file:
        file.truncate(FILE_BYTES + 1)
    with pytest.raises(WeightsError, match=f"at most {FILE_BYTES} are allowed"):
        load_model(path)


def test_tensors_beyond_the_end_of_the_file_are_refused(parts: tuple[Values, bytes], tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(pack(parts[0], parts[1][:-4]))
    with pytest.raises(WeightsError, match=r"is not the .* bytes that its shape takes"):
        read_descriptor(path)


@pytest.mark.parametrize("key", sorted(shipped()))
def test_shipped_weights_are_what_they_were(key: tuple[str, int]) -> None:
    """As torch and safetensors read them by themselves."""
    import safetensors.torch

    path = shipped()[key]
    stored = safetensors.torch.load_file(path)
    model = load_model(path)
    assert model.sha256 == identity(stored)
    assert not model.module.training
    plain = build_model(model.descriptor.architecture, model.scale, model.descriptor.arguments)
    plain.load_state_dict(stored)
    levels = level_names(plain)
    inputs = [torch.rand(1, 1, 9, 12), *([torch.rand(1, len(levels))] if levels else [])]
    with torch.no_grad():
        assert torch.equal(model.module(*inputs), plain(*inputs))
    assert all(parameter.requires_grad for parameter in model.module.parameters())


def test_half_precision_is_loaded_as_fp32(parts: tuple[Values, bytes], tmp_path: Path) -> None:
    import safetensors.torch

    stored = {name: tensor.half() for name, tensor in safetensors.torch.load(pack(*parts)).items()}
    path = tmp_path / "half.safetensors"
    safetensors.torch.save_file(stored, path, parts[0]["__metadata__"])
    model = load_model(path)
    assert model.sha256 == identity(stored)
    assert {parameter.dtype for parameter in model.module.parameters()} == {torch.float32}
