"""The cuda engine on a GPU: parity, repeatability, steady state, slots that overlap."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from random_models import random_image

from clesr.engines.backends.cuda.buffers import DTYPES, CudaSlot, SlotEngine
from clesr.engines.backends.cuda.checked import CheckedNetwork
from clesr.engines.backends.cuda.engine import build_network, open_cuda
from clesr.engines.degrade import Degrader
from clesr.engines.models.weights import Model, find_model
from clesr.engines.reference import reference_image
from clesr.pipeline.frame import Image

pytestmark = [pytest.mark.cuda, pytest.mark.usefixtures("gpu")]
SHAPES = [(33, 47), (96, 80)]
LIVE = (256, 256)


@pytest.fixture
def opened() -> Iterator[Callable[..., SlotEngine]]:
    """``open_cuda``, whose engines are closed at the end."""
    engines: list[SlotEngine] = []

    def open_one(*args: Any, **options: Any) -> SlotEngine:
        engines.append(open_cuda(*args, **options))
        return engines[-1]

    yield open_one
    for engine in engines:
        engine.close()


def through(engine: SlotEngine, images: list[Image]) -> list[Image]:
    """The results of ``images``, as many in flight as the engine takes."""
    found = []
    for index, lr in enumerate(images):
        engine.submit(lr)
        if index >= engine.depth - 1:
            found.append(engine.collect())
    return [*found, *(engine.collect() for _ in range(len(images) - len(found)))]


def check_parity(model: Model, images: list[Image], found: list[Image]) -> None:
    for lr, sr in zip(images, found, strict=True):
        levels = np.iinfo(lr.dtype).max
        difference = np.abs(sr.astype(float) - reference_image(model.module, lr)) * 255 / levels
        assert difference.mean() <= 1
        assert difference.max() <= 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("name", ["densenet", "fast", "srcnn"])
def test_parity(
    name: str, scale: int, shape: tuple[int, int], dtype: type, opened: Callable[..., SlotEngine]
) -> None:
    """Fresh images; every output buffer poisoned before."""
    model = find_model(name, scale)
    engine = opened(model, shape)
    for slot in engine.prepare(np.dtype(dtype)):
        assert isinstance(slot, CudaSlot)
        slot.host_out.fill(255)
        assert isinstance(slot._network, CheckedNetwork)
        slot._network.sr.fill_(255)
        for between in getattr(slot._network.network, "between", ()):
            between.fill_(float("nan"))
    torch.cuda.synchronize()
    images = [random_image(shape, dtype, None) for _ in range(5)]
    check_parity(model, images, through(engine, images))


@pytest.mark.parametrize("name", ["densenet", "fast"])
def test_the_same_image_gives_the_same_bits(name: str, opened: Callable[..., SlotEngine]) -> None:
    engine = opened(find_model(name, 4), (96, 80))
    one, other = (random_image((96, 80), np.uint8, None) for _ in range(2))
    first, between, *reprojected = through(engine, [one, other, one, one, other, one])
    for found, expected in zip(reprojected, [first, first, between, first], strict=True):
        assert np.array_equal(found, expected)
    assert not np.array_equal(first, between)


@pytest.mark.parametrize("name", ["densenet", "fast"])
def test_nothing_is_allocated_on_the_device_in_steady_state(
    name: str, opened: Callable[..., SlotEngine]
) -> None:
    engine = opened(find_model(name, 4), (96, 80))
    images = [random_image((96, 80), np.uint8) for _ in range(20)]
    through(engine, images)
    torch.cuda.synchronize()
    before = torch.cuda.memory_stats()
    through(engine, images)
    torch.cuda.synchronize()
    after = torch.cuda.memory_stats()
    for what in ("allocation.all.allocated", "segment.all.allocated", "num_alloc_retries"):
        assert after[what] == before[what], what


def test_two_slots_overlap() -> None:
    """On the device's clock a frame of the second slot starts before the first slot's has ended."""
    network = find_model("fast", 4).module
    slots = [CudaSlot(build_network(network, LIVE, DTYPES[np.dtype(np.uint8)], "cuda")) for _ in range(2)]
    overlaps = []
    try:
        for _ in range(20):
            torch.cuda.synchronize()
            marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in slots]  # type: ignore[no-untyped-call]
            for _ in range(10):  # enough work that the host is ahead of the device
                for slot, (begun, ended) in zip(slots, marks, strict=True):
                    begun.record(slot._stream)
                    slot.start()
                    ended.record(slot._stream)
            torch.cuda.synchronize()
            overlaps.append(marks[1][0].elapsed_time(marks[0][1]))
    finally:
        for slot in slots:
            slot.close()
    assert statistics.median(overlaps) > 0


def test_the_report_names_what_was_chosen(opened: Callable[..., SlotEngine]) -> None:
    engine = opened(find_model("densenet", 2), (33, 47))
    assert any(line.startswith("project-128-512-33x47: ") for line in engine.report)
    assert any(line.startswith("early start of kernels: ") for line in engine.report)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_the_image_is_degraded_and_corrected_in_the_graph(
    scale: int, dtype: type, opened: Callable[..., SlotEngine]
) -> None:
    """As on the host, for every frame; the correction is turned on between two frames."""
    engine, degrader = opened(find_model("fast", scale), (33, 47)), Degrader((33, 47), scale)
    near = 1 if dtype == np.uint8 else 65
    for expected in (1, 2):
        for _ in range(5):
            lr = random_image((33, 47), dtype, None)
            engine.submit(lr)
            sr = engine.collect()
            assert len(engine.reprojected) == expected
            assert np.abs(engine.reprojected[-1].astype(int) - degrader(sr)).max() <= near
            errors = [np.abs(reprojected.astype(int) - lr).mean() for reprojected in engine.reprojected]
            assert errors == sorted(errors, reverse=True), "the correction brings it nearer"
        engine.correct()
