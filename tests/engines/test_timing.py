"""The choice among engines on a GPU, by times that a test's clock makes up."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from heard import hear
from random_models import random_model

from clesr.engines import factory as selection
from clesr.engines import timing as choice
from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.errors import EngineError
from clesr.engines.engine import Engine, EngineInfo
from clesr.engines.factory import open_engine
from clesr.engines.models.weights import Model
from clesr.engines.reference import reference_image
from clesr.pipeline.frame import Image

MODEL = random_model("fast", 2, channels=4, depth=2)
SHAPE = (9, 12)
FASTER = "; `clesr doctor` says why no faster one"
GPU = {"gpu": "NVIDIA Test", "compute capability": "9.0", "gpu memory": "80 GiB", "driver": "580.1"}


class FakeEngine:
    """Gives the reference's result, changed, after ``seconds`` of the test's clock."""

    depth = 1

    def __init__(self, bench: Bench, name: str, seconds: float, change: Callable[[Image], Image]) -> None:
        self.info = EngineInfo(name, "NVIDIA Test", "fp16", MODEL.name, MODEL.sha256, 2, SHAPE)
        self.bench, self.seconds, self.change = bench, seconds, change
        self.closed = False

    def submit(self, lr: Image) -> None:
        self.lr = lr

    def collect(self) -> Image:
        self.bench.now += self.seconds
        return self.change(reference_image(MODEL.module, self.lr))

    def close(self) -> None:
        self.closed = True


class Bench:
    """A GPU with engines on it, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.opened: list[FakeEngine] = []

    def candidate(
        self,
        name: str,
        ms: float,
        *,
        kind: str = "cuda",
        opening: float = 0.1,
        change: Callable[[Image], Image] = lambda sr: sr,
        wait: str = "",
        **settings: object,
    ) -> EngineCandidate:
        def start(model: Model, shape: tuple[int, int], threads: int | None) -> Engine:
            self.now += opening
            self.opened.append(FakeEngine(self, name, ms / 1e3, change))
            return self.opened[-1]

        words = "NVIDIA Test" if kind == "cuda" else "a processor"
        defaults: dict[str, object] = {
            "precision": "fp16", "rank": 5, "open": start, "wait": lambda _model, _shape: wait
        }  # fmt: skip
        return EngineCandidate(name=name, kind=kind, device=words, **(defaults | settings))  # type: ignore[arg-type]

    @property
    def names(self) -> list[str]:
        return [engine.info.engine for engine in self.opened]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    found = Bench()
    monkeypatch.setenv("CLESR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(choice, "gpu_key", lambda: GPU)
    monkeypatch.setattr(choice, "perf_counter", lambda: found.now)
    yield found
    assert sum(not engine.closed for engine in found.opened) <= 1, "only the engine that was taken stays open"


def choose(
    monkeypatch: pytest.MonkeyPatch, *candidates: EngineCandidate, shape: tuple[int, int] = SHAPE
) -> tuple[str, list[str]]:
    """The name of the engine that is taken, and what is said."""
    table: dict[str, Callable[[], list[EngineCandidate]]] = {
        o.name: functools.partial(list, [x for x in candidates if x.name == o.name]) for o in candidates
    }
    monkeypatch.setattr(selection, "ENGINES", table)
    said = hear()
    engine = open_engine("auto", MODEL, 2, shape)
    engine.close()
    return engine.info.engine, [*said, engine.info.choice]


def refuse(*_: object) -> Engine:
    raise EngineError("it would not start")


def test_the_fastest_is_taken_and_the_line_has_the_milliseconds(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, said = choose(
        monkeypatch,
        bench.candidate("first", 3.25, rank=1),
        bench.candidate("broken", 0, rank=2, open=refuse),
        bench.candidate("wrong", 0.1, rank=3, change=lambda sr: sr // 2),
        bench.candidate("second", 1.5, rank=4),
        bench.candidate("absent", 0, rank=5, reason="not installed"),
        bench.candidate("processor", 9, rank=6, kind="cpu"),
    )
    assert taken == "second"
    assert said == [
        "engine: second fp16 on NVIDIA Test, fast x2, 1.50 ms a frame; "
        f"not broken fp16 on NVIDIA Test (it would not start){FASTER}"
    ]


def test_the_choice_is_remembered_for_gpu_driver_model_shape_and_candidates(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = [
        bench.candidate("a", 3, rank=1),
        bench.candidate("b", 1, rank=2),
        bench.candidate("x", 0, open=refuse),
    ]
    assert choose(monkeypatch, *candidates)[0] == "b"
    bench.opened.clear()
    taken, said = choose(monkeypatch, *candidates)
    assert (taken, bench.names) == ("b", ["b"]), "nothing is timed again"
    assert said == [
        "engine: b fp16 on NVIDIA Test, fast x2, 1.00 ms a frame, timed earlier; "
        "not x fp16 on NVIDIA Test (it would not start)"
    ]
    candidates.pop()

    changed: list[Callable[[], object]] = [
        lambda: monkeypatch.setattr(choice, "gpu_key", lambda: GPU | {"driver": "590"}),
        lambda: monkeypatch.setattr(choice, "gpu_key", lambda: GPU | {"gpu": "NVIDIA Other"}),
        lambda: candidates.append(bench.candidate("c", 9, rank=3)),
    ]
    for change in changed:
        change()
        bench.opened.clear()
        choose(monkeypatch, *candidates)
        assert len(bench.opened) == len(candidates) + 1


def test_a_remembered_engine_that_fails_gives_way(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, bench.candidate("a", 3, rank=1), bench.candidate("b", 1, rank=2))
    taken, said = choose(
        monkeypatch, bench.candidate("a", 3, rank=1), bench.candidate("b", 1, rank=2, open=refuse)
    )
    assert taken == "a"
    assert "3.00 ms a frame, timed earlier; not b fp16 on NVIDIA Test (it would not start)" in said[0]


def test_a_damaged_memory_is_said_and_measured_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    candidates = [bench.candidate("a", 3, rank=1), bench.candidate("b", 1, rank=2)]
    choose(monkeypatch, *candidates)
    (path,) = tmp_path.rglob("*.choice")
    path.write_bytes(path.read_bytes()[:-3])
    taken, said = choose(monkeypatch, *candidates)
    assert taken == "b"
    assert "the remembered choice of an engine" in said[0]
    assert "it was cut or altered" in said[0]
    assert said[1] == "engine: b fp16 on NVIDIA Test, fast x2, 1.00 ms a frame"


def test_trials_end_after_twenty_seconds_and_are_then_not_remembered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = [
        bench.candidate(name, 5 - rank, rank=rank, opening=12) for rank, name in enumerate("abcd", 1)
    ]
    taken, said = choose(monkeypatch, *candidates)
    assert bench.names == ["a", "b", "b"]
    assert taken == "b"
    assert said[0].endswith(f"; not c fp16 on NVIDIA Test (not timed, the 20 s for that were over){FASTER}")
    bench.opened.clear()
    choose(monkeypatch, *candidates)
    assert bench.names == ["a", "b", "b"]


def test_a_slow_engine_is_not_timed_for_long(bench: Bench) -> None:
    engine = FakeEngine(bench, "slow", 2.0, lambda sr: sr)
    assert choice.seconds_a_frame(engine) == pytest.approx(2.0)
    assert bench.now == pytest.approx(2.0 * (choice.WARM_UPS + choice.FRAMES[0]))
    bench.now = 0.0
    engine.seconds = 1e-4
    choice.seconds_a_frame(engine)
    assert bench.now == pytest.approx(1e-4 * (choice.WARM_UPS + choice.FRAMES[1]))


def test_an_engine_that_must_be_built_first_takes_no_part_until_it_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [bench.candidate("a", 3, rank=2), bench.candidate("b", 2, rank=3)]
    taken, said = choose(
        monkeypatch, bench.candidate("trt", 1, rank=1, wait="not built yet; `clesr build`"), *others
    )
    assert taken == "b"
    assert "not trt fp16 on NVIDIA Test (not built yet; `clesr build`)" in said[0]
    assert choose(monkeypatch, bench.candidate("trt", 1, rank=1), *others)[0] == "trt"


def test_where_none_on_the_gpu_works_the_processor_does_and_a_reason_is_given(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, said = choose(
        monkeypatch,
        bench.candidate("a", 3, rank=1, open=refuse),
        bench.candidate("b", 1, rank=2, wait="not built yet"),
        bench.candidate("processor", 9, rank=6, kind="cpu"),
    )
    assert taken == "processor"
    assert said[0].endswith(f"; not a fp16 on NVIDIA Test (it would not start){FASTER}")


def test_one_engine_on_the_gpu_is_not_timed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, said = choose(
        monkeypatch, bench.candidate("a", 3, rank=1), bench.candidate("processor", 9, rank=6, kind="cpu")
    )
    assert (taken, bench.names) == ("a", ["a"])
    assert "ms" not in said[0]


def test_engines_asked_for_by_name_are_not_timed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = [bench.candidate("a", 3, rank=1), bench.candidate("a", 1, rank=2, precision="fp8")]
    monkeypatch.setattr(selection, "ENGINES", {"a": lambda: candidates})
    open_engine("a", MODEL, 2, SHAPE).close()
    assert bench.names == ["a"]
