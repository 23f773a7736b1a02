"""Tiles: their geometry, that they give what the whole gives, and when they are taken."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from heard import hear
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import random_image, random_model

from clesr.engines import factory as selection
from clesr.engines.backends.openvino.engine import open_openvino
from clesr.engines.backends.torch import open_torch
from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.errors import EngineError
from clesr.engines.engine import Engine, EngineInfo
from clesr.engines.factory import open_engine
from clesr.engines.guidance import Guidance
from clesr.engines.memory import is_out_of_memory
from clesr.engines.models.registry import LEVELS, level_names
from clesr.engines.models.weights import Model, find_model, shipped
from clesr.engines.reference import reference_image
from clesr.engines.tiles import HALO, SMALLEST, Grid, in_tiles, open_fitting, spans
from clesr.engines.worker import WorkerEngine
from clesr.pipeline.frame import Frame, Image
from clesr.pipeline.sources.simulator.demo import DemoSource
from clesr.tools.data.images import read_gray

MODEL = random_model("fast", 2, channels=4, depth=4)  # sees 4 + 2 pixels around each


def small(shape: tuple[int, int]) -> WorkerEngine:
    return open_torch(MODEL, shape, None, device="cpu")


@given(length=st.integers(1, 400), count=st.integers(1, 9), halo=st.integers(0, 40))
def test_spans_cover_every_pixel_once_and_keep_away_from_cuts(length: int, count: int, halo: int) -> None:
    found = spans(length, count, halo)
    assert [pixel for one in found for pixel in range(one.first, one.last)] == list(range(length))
    assert len({one.stop - one.start for one in found}) == 1, "one engine computes all of them"
    for one in found:
        assert 0 <= one.start <= one.first < one.last <= one.stop <= length
        assert one.start == 0 or one.first - one.start >= halo
        assert one.stop == length or one.stop - one.last >= halo


def test_tiles_are_told_of_the_whole_image() -> None:
    """Each alone would estimate other levels; and what is not trusted is a part of each."""
    shape = 41, 50
    model = random_model("fast", 2, channels=4, depth=4, levels=LEVELS)
    grid = Grid(shape, 2, 3, halo=6)
    tile = open_torch(model, grid.tile, None, device="cpu")
    tile.info = replace(tile.info, levels=LEVELS)
    engine, lr = in_tiles(tile, grid), random_image(shape) // 2
    trust = random_image(shape, seed=4).astype(np.uint8)
    for told in (None, Guidance(np.array((0.3, 0.9, 0.1, 0.0, 0.2), np.float32), trust)):
        engine.submit(lr, told)
        difference = np.abs(engine.collect().astype(int) - reference_image(model.module, lr, told))
        assert difference.max() <= 1
    engine.close()


@settings(max_examples=25)
@given(height=st.integers(9, 40), width=st.integers(9, 40), rows=st.integers(1, 4), columns=st.integers(1, 4))
def test_tiles_give_what_the_whole_gives(height: int, width: int, rows: int, columns: int) -> None:
    grid = Grid((height, width), rows, columns, halo=6)
    engine = in_tiles(small(grid.tile), grid)
    lr = random_image((height, width))
    engine.submit(lr)
    sr = engine.collect()
    engine.close()
    assert np.abs(sr.astype(int) - reference_image(MODEL.module, lr)).max() <= 1


def test_too_small_a_halo_is_seen_by_this_test() -> None:
    grid = Grid((40, 40), 2, 2, halo=1)
    engine = in_tiles(small(grid.tile), grid)
    lr = random_image((40, 40))
    engine.submit(lr)
    assert np.abs(engine.collect().astype(int) - reference_image(MODEL.module, lr)).max() > 1
    engine.close()


def test_frames_in_tiles_come_in_order_in_their_dtype() -> None:
    grid = Grid((30, 20), 2, 1, halo=6)
    inner = small(grid.tile)
    engine = in_tiles(inner, grid)
    assert engine.info.lr_shape == (30, 20)
    assert engine.info.sr_shape == (60, 40)
    images = [np.full((30, 20), value, dtype) for dtype in (np.uint8, np.uint16) for value in (7, 200)]
    results = []
    for lr in images:
        engine.submit(lr)
        results.append(engine.collect())
    assert [r.dtype for r in results] == [np.uint8, np.uint8, np.uint16, np.uint16]
    for lr, result in zip(images, results, strict=True):
        assert np.abs(result.astype(int) - reference_image(MODEL.module, lr)).max() <= 1
    engine.close()
    assert inner._closed


def test_a_tile_that_fails_fails_its_frame_and_no_other() -> None:
    def compute(lr: Image) -> Image:
        if lr.max() == 13:
            raise RuntimeError("the device is unhappy")
        return lr.repeat(2, 0).repeat(2, 1)

    grid = Grid((40, 40), 2, 2, halo=2)
    info = EngineInfo("fake", "a test", "fp32", "none", "", 2, grid.tile)
    engine = in_tiles(WorkerEngine(info, compute), grid)
    bad, good = np.zeros((40, 40), np.uint8), np.maximum(random_image((40, 40)), 64)
    bad[30, 3] = 13
    for _ in range(2):
        engine.submit(bad)
        engine.submit(good)
        with pytest.raises(EngineError, match="the device is unhappy"):
            engine.collect()
        assert np.array_equal(engine.collect(), good.repeat(2, 0).repeat(2, 1))
    engine.close()


def test_an_engine_of_another_shape_is_refused() -> None:
    engine = small((8, 8))
    with pytest.raises(ValueError, match="the engine is for"):
        in_tiles(engine, Grid((40, 40), 2, 2))
    engine.close()


# ---- when the memory does not suffice


def needing(
    pixels: int, error: Callable[[], Exception], asked: list[tuple[int, int]]
) -> Callable[..., Engine]:
    """Opens up to ``pixels`` pixels."""

    def open_one(shape: tuple[int, int]) -> Engine:
        asked.append(shape)
        if shape[0] * shape[1] > pixels:
            raise error()
        return small(shape)

    return open_one


def told(line: str) -> Exception:
    return EngineError(line)


def caused() -> Exception:
    error = EngineError("NVIDIA Test cannot run it")
    error.__cause__ = torch.OutOfMemoryError("allocation failed")
    return error


@pytest.mark.parametrize(
    "error",
    [
        functools.partial(told, "NVIDIA Test cannot run it: CUDA out of memory. Tried to allocate 2 GiB"),
        functools.partial(told, "DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"),
        functools.partial(torch.OutOfMemoryError, "CUDA"),
        MemoryError,
        caused,
    ],
)
def test_tiles_are_halved_until_they_fit_and_the_user_is_told_once(error: Callable[[], Exception]) -> None:
    asked: list[tuple[int, int]] = []
    said = hear()
    engine = open_fitting(needing(40_000, error, asked), (300, 400))
    assert asked == [(300, 400), (300, 264), (214, 264), (214, 164)]
    (line,) = said
    assert line.startswith("400x300 pixels are too many for the memory of")
    assert line.endswith(f"computed in 8 tiles of 164x214 with a halo of {HALO} pixels")
    lr = random_image((300, 400))
    engine.submit(lr)
    assert np.abs(engine.collect().astype(int) - reference_image(MODEL.module, lr)).max() <= 1
    engine.close()


def test_what_fits_is_not_cut_and_not_spoken_of() -> None:
    asked: list[tuple[int, int]] = []
    said = hear()
    open_fitting(needing(10**6, MemoryError, asked), (300, 400)).close()
    assert (asked, said) == ([(300, 400)], [])


def test_another_failure_is_not_taken_for_want_of_memory() -> None:
    asked: list[tuple[int, int]] = []
    with pytest.raises(EngineError, match="no such card"):
        open_fitting(needing(0, functools.partial(told, "no such card"), asked), (300, 400))
    assert len(asked) == 1
    assert not is_out_of_memory(EngineError("self-test: the result is constant"))
    ended = RuntimeError("the capture has failed")  # what the end of a graph's capture adds
    ended.__context__ = torch.OutOfMemoryError("CUDA out of memory")
    assert is_out_of_memory(ended)
    assert not is_out_of_memory(None)


def test_it_ends_where_even_the_smallest_tiles_do_not_fit() -> None:
    asked: list[tuple[int, int]] = []
    with pytest.raises(EngineError, match="not even tiles fit"):
        open_fitting(needing(0, MemoryError, asked), (1000, 2000))
    assert asked[-1] <= (2 * SMALLEST + 2 * HALO, 2 * SMALLEST + 2 * HALO)
    assert len(asked) < 12


def test_any_engine_falls_back_to_tiles_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user sees it: the choice of an engine, its self-test, the result."""

    def start(model: Model, shape: tuple[int, int], threads: int | None) -> Engine:
        if max(shape) > 150:
            raise EngineError("NVIDIA Test cannot run it: CUDA out of memory")
        return open_openvino(model, shape, threads, device="cpu", precision="fp32")

    candidate = EngineCandidate(
        name="fake", kind="cpu", device="a test", precision="fp32", rank=1, open=start
    )
    monkeypatch.setattr(selection, "ENGINES", {"fake": lambda: [candidate]})
    said = hear()
    engine = open_engine("auto", MODEL, 2, (120, 300))
    assert said[0].endswith(f"computed in 4 tiles of 139x120 with a halo of {HALO} pixels")
    assert engine.info.choice.startswith("engine: openvino fp32 on")
    lr = random_image((120, 300))
    engine.submit(lr)
    assert np.abs(engine.collect().astype(int) - reference_image(MODEL.module, lr)).max() <= 1
    engine.close()


# ---- seams of the shipped models


def phantom() -> Image:
    source = DemoSource("demo:?size=256&pace=max")
    frame = source.read(1.0)
    source.close()
    assert isinstance(frame, Frame)
    return frame.image


@pytest.fixture(scope="module")
def stills(data: Path) -> dict[str, Image]:
    """From the middles of an endomicroscopy still and of the phantom, 32 x 144."""
    images = {"still": read_gray(data / "train" / "cle_original37.png"), "phantom": phantom()}
    return {
        name: np.ascontiguousarray(
            image[image.shape[0] // 2 - 16 :][:32, image.shape[1] // 2 - 72 :][:, :144]
        )
        for name, image in images.items()
    }


def test_the_default_halo_is_beyond_every_measured_one() -> None:
    results = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "seams.json"
    rows = json.loads(results.read_text())["rows"]
    assert {(row["model"], row["scale"]) for row in rows} >= set(shipped())
    assert all(row["halo"] is not None and row["halo"] <= HALO for row in rows)
    assert all(row["levels"][str(HALO)] < 0.01 for row in rows)


SHIPPED = [
    pytest.param(name, scale, marks=() if name == "fast" else pytest.mark.slow)
    for name, scale in sorted(shipped())
]


@pytest.mark.parametrize(("name", "scale"), SHIPPED)
def test_seams_at_the_default_halo_are_one_level_at_most(
    name: str, scale: int, stills: dict[str, Image]
) -> None:
    model = find_model(name, scale)
    grid = Grid((32, 144), 1, 3)
    tile = open_torch(model, grid.tile, None, device="cpu")
    tile.info = replace(tile.info, levels=level_names(model.module))
    engine = in_tiles(tile, grid)
    for lr in stills.values():
        engine.submit(lr)
        assert np.abs(engine.collect().astype(int) - reference_image(model.module, lr)).max() <= 1
    engine.close()
