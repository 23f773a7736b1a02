"""What ``import clesr`` gives: everything it names, loaded when it is asked for; arrays, streams and sessions."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heard import hear
from numpy.typing import NDArray
from random_models import random_image, random_model
from session_runs import frames, noise, record
from support import FakeEngine

import clesr
from clesr.engines import opener
from clesr.engines.interpolation import open_interpolation
from clesr.engines.models.weights import save_model
from clesr.engines.results import run_frame

LIGHT = """
import sys, time
before, begin = set(sys.modules), time.process_time()
import clesr
dir(clesr), clesr.__version__
seconds = time.process_time() - begin
heavy = {"numpy", "torch", "cv2", "av", "openvino", "zmq", "click", "clesr.engines", "clesr.pipeline"}
assert not heavy & (set(sys.modules) - before), heavy & set(sys.modules)
assert seconds < 0.2, seconds
clesr.UsageError, clesr.SourceOptions
assert not {"torch", "av", "openvino"} & set(sys.modules)
"""


def test_import_is_quick_and_loads_nothing_heavy() -> None:
    finished = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, timeout=100)
    assert finished.returncode == 0, finished.stderr


def test_every_name_is_there_and_type_checkers_see_the_same() -> None:
    tree = ast.parse(Path(clesr.__file__).read_text())
    typed = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {}
    for statement in typed.body:
        assert isinstance(statement, ast.ImportFrom)
        for alias in statement.names:
            assert alias.asname == alias.name, "re-exported for strict type checkers"
            seen[alias.name] = statement.module
    assert {"__version__", *seen} == set(clesr.__all__) == set(dir(clesr))
    assert seen == clesr._PLACES | {"engines": "clesr.engines.factory"}
    for name in clesr.__all__:
        value = getattr(clesr, name)
        documented = name == "__version__" or name in ("SOURCES", "SINKS") or (value.__doc__ or "").strip()
        assert documented, f"{name} has no docstring"
    with pytest.raises(AttributeError, match="upscal'"):
        _ = clesr.upscal  # type: ignore[attr-defined]


def test_engines_and_models_are_listed() -> None:
    assert any(candidate.available for candidate in clesr.engines() if candidate.name == "torch")
    listed = {(model.name, model.scale) for model in clesr.models()}
    assert {("fast", 2), ("fast", 4), ("fast", 8)} <= listed


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_upscale_gives_what_the_engine_gives(dtype: type) -> None:
    image = random_image((20, 14), dtype)
    expected = run_frame(open_interpolation("bicubic", 4, (20, 14)), image)
    sr = clesr.upscale(image, 4, "bicubic")
    assert sr.shape == (80, 56)
    assert sr.dtype == dtype
    np.testing.assert_array_equal(sr, expected)
    np.testing.assert_array_equal(clesr.upscale(np.repeat(image, 2, 1)[:, ::2], 4, "bicubic"), expected)
    assert image.flags.writeable


def test_upscale_by_a_file_of_weights(tmp_path: Path) -> None:
    model = random_model("fast", 2)
    save_model(tmp_path / "mine.safetensors", model.module, model.descriptor)
    said = hear()
    image = random_image((16, 24))
    with clesr.Upscaler(2, str(tmp_path / "mine.safetensors"), engine="torch") as upscaler:
        assert upscaler.info is None
        sr = upscaler(image)
        assert upscaler.info is not None
        assert upscaler.info.model_hash == model.sha256
    (line,) = said
    assert line.startswith("engine: torch")
    assert sr.shape == (32, 48)
    assert not np.array_equal(sr, clesr.upscale(image, 2, "bicubic"))


def test_auto_takes_a_model_by_a_trial() -> None:
    said = hear()
    with clesr.Upscaler(8, engine="torch", fps=1000.0) as upscaler:
        assert upscaler(random_image((8, 8))).shape == (64, 64)
    assert said[0].startswith("model fast")


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((4, 4, 3), np.uint8), r"not \(4, 4, 3\) uint8; convert it to gray"),
        (np.zeros((4, 4)), "not .* float64"),
        ([[1, 2]], "not list"),
        (np.zeros((0, 4), np.uint8), "must have pixels"),
    ],
)
def test_what_is_no_image_is_refused_in_a_line(image: Any, says: str) -> None:
    with pytest.raises(clesr.UsageError, match=says) as raised:
        clesr.upscale(image, 2, "bicubic")
    assert "\n" not in str(raised.value)


def test_names_that_do_not_exist_are_refused_at_once() -> None:
    with pytest.raises(clesr.UsageError, match=r"choose one of auto, .*bicubic.*fast"):
        clesr.Upscaler(2, "fasst")
    with pytest.raises(clesr.WeightsError, match="there is no weights file"):
        clesr.Upscaler(2, "fasst.safetensors")
    with pytest.raises(clesr.UsageError, match="scale 3"):
        clesr.upscale(np.zeros((4, 4), np.uint8), 3, "bicubic")
    with pytest.raises(clesr.UsageError, match="scale '2' is no whole number"):
        clesr.upscale(np.zeros((4, 4), np.uint8), "2", "fast")  # type: ignore[arg-type]
    with pytest.raises(clesr.UsageError, match="engine 'cudda'"):
        clesr.upscale(np.zeros((4, 4), np.uint8), 2, "fast", engine="cudda")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[FakeEngine]:
    """The engines that are opened, which are fake ones that take three images at a time, and fail on 13."""
    engines: list[FakeEngine] = []

    def open_fake(
        _engine: str, _model: object, scale: int, shape: tuple[int, int], **_options: object
    ) -> FakeEngine:
        engines.append(FakeEngine(shape, scale=scale, depth=3, fails=(13,)))
        return engines[-1]

    monkeypatch.setattr(opener, "open_engine", open_fake)
    return engines


def test_a_stream_keeps_the_engine_full_and_its_order_through_changes_of_shape(
    opened: list[FakeEngine],
) -> None:
    shapes = [(4, 4)] * 5 + [(4, 6)] * 2 + [(4, 4)]

    def camera() -> Iterator[NDArray[np.uint8]]:
        memory = {shape: np.zeros(shape, np.uint8) for shape in shapes}
        for number, shape in enumerate(shapes):
            memory[shape][:] = number  # in the same memory again and again
            yield memory[shape]

    with clesr.Upscaler(2, "bicubic") as upscaler:
        results = list(upscaler.stream(camera()))
    assert [int(sr[0, 0]) for sr in results] == list(range(8))
    assert [sr.shape for sr in results] == [(2 * h, 2 * w) for h, w in shapes]
    assert [engine.info.lr_shape for engine in opened] == [(4, 4), (4, 6), (4, 4)]
    assert [engine.most_in_flight for engine in opened] == [3, 2, 1]
    assert all(engine.closed for engine in opened)


def test_one_shape_needs_one_engine(opened: list[FakeEngine]) -> None:
    with clesr.Upscaler(2, "bicubic") as upscaler:
        for number in range(4):
            assert upscaler(np.full((4, 4), number, np.uint8)).max() == number
        assert len(opened) == 1
        assert not opened[0].closed
    assert opened[0].closed


def test_what_is_left_of_a_stream_does_not_come_later(opened: list[FakeEngine]) -> None:
    with clesr.Upscaler(2, "bicubic") as upscaler:
        stream = upscaler.stream(np.full((4, 4), number, np.uint8) for number in range(9))
        assert next(stream).max() == 0
        stream.close()  # type: ignore[attr-defined]
        assert upscaler(np.full((4, 4), 77, np.uint8)).max() == 77
        with pytest.raises(clesr.EngineError, match="told to fail on 13"):
            list(upscaler.stream(np.full((4, 4), number, np.uint8) for number in (12, 13, 14)))
        assert upscaler(np.full((4, 4), 78, np.uint8)).max() == 78
    assert all(engine.closed for engine in opened)


def test_streams_that_would_mix_are_refused(opened: list[FakeEngine]) -> None:
    def camera() -> Iterator[NDArray[np.uint8]]:
        yield from (np.full((4, 4), number, np.uint8) for number in range(5))

    with clesr.Upscaler(2, "bicubic") as upscaler:
        stream, other = upscaler.stream(camera()), upscaler.stream(camera())
        assert next(stream).max() == 0
        with pytest.raises(clesr.UsageError, match="is not at its end"):
            next(other)
        with pytest.raises(clesr.UsageError, match="is not at its end"):
            upscaler(np.full((4, 4), 77, np.uint8))
        assert [sr.max() for sr in stream] == [1, 2, 3, 4]
        assert upscaler(np.full((4, 4), 77, np.uint8)).max() == 77
    assert len(opened) == 1


def test_what_came_before_a_camera_broke_is_not_lost(opened: list[FakeEngine]) -> None:
    def camera() -> Iterator[NDArray[np.uint8]]:
        yield from (np.full((4, 4), number, np.uint8) for number in range(4))
        raise OSError("unplugged")

    found: list[int] = []
    with clesr.Upscaler(2, "bicubic") as upscaler:
        with pytest.raises(OSError, match="unplugged"):
            found.extend(int(sr.max()) for sr in upscaler.stream(camera()))
        assert not opened[0].closed
    assert found == [0, 1, 2, 3]


def test_a_session_into_arrays(tmp_path: Path) -> None:
    record(tmp_path / "s", [*frames([5, 6]), clesr.Corrupt(7, 0, "torn"), *frames([10])])
    session = clesr.Session(tmp_path / "s")
    assert session.info.scale == 2
    assert session.verify().holds
    read = {frame.number: frame for frame in session}
    assert list(read) == [5, 6, 7, 8, 10]
    assert [str(frame.outcome) for frame in read.values()] == [
        "upscaled", "upscaled", "corrupt", "lost-at-source", "upscaled",
    ]  # fmt: skip
    for number in (5, 6, 10):
        frame = read[number]
        assert frame.raw is not None
        assert frame.sr is not None
        np.testing.assert_array_equal(frame.raw, noise(number))
        assert frame.sr.shape == (24, 36)
        assert frame.fidelity is not None
    assert read[5].time == 0
    assert read[6].time == 0.04
    assert (read[8].count, read[8].raw, read[8].sr) == (2, None, None)
    assert (read[7].raw, read[7].sr) == (None, None)


def test_a_session_that_is_none_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(clesr.SessionError, match="is no session"):
        clesr.Session(tmp_path)
    record(tmp_path / "s", frames([0, 1, 2]))
    raw = (tmp_path / "s" / "raw.mkv").read_bytes()
    (tmp_path / "s" / "raw.mkv").write_bytes(raw[: len(raw) * 2 // 3])
    session = clesr.Session(tmp_path / "s")
    assert not session.verify().holds
    with pytest.raises(clesr.SessionError):
        list(session)
