"""The choice of an engine, on candidates that tests make up and on this machine's."""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from heard import hear
from random_models import random_image, random_model

from clesr.engines import factory as selection
from clesr.engines import selftest, trial
from clesr.engines.candidate import EngineCandidate
from clesr.engines.common.errors import EngineError, UsageError, first_line
from clesr.engines.engine import Engine, EngineInfo
from clesr.engines.factory import engines, open_engine
from clesr.engines.guidance import Guidance
from clesr.engines.models.registry import LEVELS
from clesr.engines.models.weights import Model
from clesr.engines.reference import reference_image
from clesr.engines.trial import choose_model
from clesr.engines.worker import WorkerEngine
from clesr.pipeline.frame import Image

MODEL = random_model("fast", 2, channels=4, depth=2)
SHAPE = (9, 12)
opened: list[WorkerEngine] = []


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    opened.clear()
    selftest._passed.clear()
    yield
    for engine in opened:
        engine.close()


def refuse(*_: object) -> Engine:
    raise EngineError("it would not start")


def fake(name: str, change: Callable[[Image], Image] = lambda sr: sr, **kwargs: object) -> EngineCandidate:
    """An engine that gives the reference's result, changed."""

    def start(model: Model, shape: tuple[int, int], threads: int | None) -> WorkerEngine:
        info = EngineInfo(name, "a test", "fp32", model.name, model.sha256, model.scale, shape)
        opened.append(WorkerEngine(info, lambda lr: change(reference_image(model.module, lr))))
        return opened[-1]

    settings: dict[str, object] = {"kind": "cpu", "device": "a test", "precision": "fp32", "open": start}
    return EngineCandidate(name=name, **(settings | kwargs))  # type: ignore[arg-type]


def having(monkeypatch: pytest.MonkeyPatch, *candidates: EngineCandidate) -> None:
    table: dict[str, Callable[[], list[EngineCandidate]]] = {
        o.name: functools.partial(list, [x for x in candidates if x.name == o.name]) for o in candidates
    }
    monkeypatch.setattr(selection, "ENGINES", table)


FASTER = "; `clesr doctor` says why no faster one"


def test_the_first_that_works_is_taken_and_one_reason_given(monkeypatch: pytest.MonkeyPatch) -> None:
    having(
        monkeypatch,
        fake("slow", rank=9),
        fake("slower", rank=10),
        fake("good", rank=5),
        fake("absent", rank=1, reason="no such card", present=False),
        fake("broken", rank=2, open=refuse),
        fake("wrong", lambda sr: sr // 2, rank=3),
        fake("dead", lambda sr: sr * 0, rank=4),
    )
    engine = open_engine("auto", MODEL, 2, SHAPE)
    assert engine.info.engine == "good"
    assert (
        engine.info.choice == f"engine: {engine.info}; not broken fp32 on a test (it would not start){FASTER}"
    )
    alive = [e.info.engine for e in opened if not e._closed]
    assert alive == ["good"]


@pytest.mark.parametrize(
    ("faster", "words"),
    [
        ([], ""),
        ([{"reason": "no such card", "present": False}], ""),
        ([{"reason": "not installed; pip install it"}], FASTER),
        ([{"open": refuse}], "; not a0 fp32 on a test (it would not start)"),
        (
            [{"reason": "not installed"}, {"open": refuse}],
            f"; not a1 fp32 on a test (it would not start){FASTER}",
        ),
        ([{"open": refuse}, {"open": refuse}], f"; not a0 fp32 on a test (it would not start){FASTER}"),
    ],
)
def test_the_line_has_one_reason_and_none_for_what_is_not_there(
    faster: list[dict[str, Any]], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slower = [fake("slow", rank=9), fake("missing", rank=10, reason="not installed")]
    having(
        monkeypatch, *(fake(f"a{i}", rank=i, **more) for i, more in enumerate(faster)), fake("good", rank=5), *slower
    )  # fmt: skip
    engine = open_engine("auto", MODEL, 2, SHAPE)
    assert engine.info.choice == f"engine: good fp32 on a test, fast x2{words}"
    assert engine.info.engine == "good"


def test_every_engine_can_be_asked_why_it_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = [
        fake("absent", rank=1, reason="no such card", present=False),
        fake("broken", rank=2, open=refuse),
        fake("wrong", lambda sr: sr * 0, rank=3),
        fake("unbuilt", rank=4, wait=lambda _model, _shape: "not built yet", open=refuse),
        fake("good", rank=5),
    ]
    reasons = [selection.why_not(candidate, MODEL, SHAPE) for candidate in candidates]
    assert reasons == [
        "no such card", "it would not start", "self-test: the result is constant", "not built yet", ""
    ]  # fmt: skip
    assert all(e._closed for e in opened)


class Odd(BaseException):
    """Nobody expects it."""


NONSENSE: dict[str, tuple[Callable[[Image], object], str]] = {
    "nothing": (lambda _sr: None, r"gave None; uint8 \(18, 24\) was expected"),
    "floats": (lambda sr: sr / 255, r"gave float64 \(18, 24\)"),
    "NaN": (lambda sr: np.full(sr.shape, np.nan), r"gave float64"),
    "16 bits": (lambda sr: sr.astype(np.uint16) * 257, r"gave uint16 \(18, 24\)"),
    "a cut image": (lambda sr: sr[1:], r"gave uint8 \(17, 24\)"),
    "a plane more": (lambda sr: sr[None], r"gave uint8 \(1, 18, 24\)"),
    "no pixels": (lambda sr: sr[:0], r"gave uint8 \(0, 24\)"),
    "words": (lambda _sr: "image", "gave a str"),
}


@pytest.mark.parametrize("name", NONSENSE)
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_one_that_gives_nonsense_in_its_self_test_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    change, words = NONSENSE[name]
    having(monkeypatch, fake("bad", change, rank=1, kind=kind), fake("good", rank=2))  # type: ignore[arg-type]
    info = open_engine("auto", MODEL, 2, SHAPE).info
    assert info.engine == "good"
    assert re.search(words, info.choice)
    assert [e.info.engine for e in opened if not e._closed] == ["good"]


ERRORS = [RuntimeError("broken driver"), ImportError("no such library"), MemoryError("all of it"), SystemExit(3),
          Odd("odd"), ValueError("odd\nand more"), AssertionError()]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("what", ["open", "compute"])
def test_whatever_a_candidate_raises_it_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, what: str
) -> None:
    def raising(*_: object) -> Any:
        raise error

    bad = fake("bad", raising, rank=1) if what == "compute" else fake("bad", rank=1, open=raising)
    having(monkeypatch, bad, fake("good", rank=2))
    info = open_engine("auto", MODEL, 2, SHAPE).info
    assert info.engine == "good"
    assert first_line(error) in info.choice
    assert "\n" not in info.choice


@pytest.mark.parametrize(
    "candidates",
    [
        lambda: None,
        lambda: [42],
        lambda: [fake("bad", rank="first")],
        lambda: [fake("bad", rank=1, open=lambda *_: 42)],
        lambda: sys.exit("bye"),
    ],
)
def test_a_foreign_engine_that_is_none_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, candidates: Callable[[], Any]
) -> None:
    table = {"bad": candidates, "good": lambda: [fake("good", rank=2)]}
    monkeypatch.setattr(selection, "ENGINES", table)
    assert open_engine("auto", MODEL, 2, SHAPE).info.engine == "good"
    assert all(selection.why_not(found, MODEL, SHAPE) for found in engines("bad"))


@pytest.mark.parametrize("lie", [{"lr_shape": (4, 4)}, {"scale": 4}, {"model": None}])
def test_one_that_is_not_for_what_was_asked_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, lie: dict[str, Any]
) -> None:
    good = fake("good", rank=2)

    def lying(*arguments: Any) -> Engine:
        engine = good.open(*arguments)
        engine.info = dataclasses.replace(engine.info, **lie)
        return engine

    having(monkeypatch, fake("bad", rank=1, open=lying), good)
    assert "not bad" in open_engine("auto", MODEL, 2, SHAPE).info.choice
    assert [e._closed for e in opened] == [True, False]


@pytest.mark.parametrize("change", [lambda _sr: None, lambda sr: 1 // int(sr.mean() < 0)])
def test_a_model_whose_engine_fails_in_its_trial_gives_way(
    change: Callable[[Image], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "clean_only", lambda _best, _light: "")
    candidates, said = {"densenet": fake("bad", change, rank=1), "fast": fake("good", rank=2)}, hear()

    def open_one(model: Model, shape: tuple[int, int]) -> Engine:
        return candidates[model.name].open(MODEL, shape, None)

    assert choose_model(2, SHAPE, 10.0, open_one).name == "fast"
    assert said[0].startswith("model fast: densenet does not run here (")
    assert all(e._closed for e in opened)


def test_a_model_for_clean_images_alone_gives_way_without_a_trial() -> None:
    """Until DenseNet's weights know noise, and where both do or neither does, not."""
    told = random_model("fast", 2, channels=4, depth=3, levels=LEVELS)
    assert "trained on clean images alone" in trial.clean_only(MODEL, told)
    assert not trial.clean_only(told, told)
    assert not trial.clean_only(MODEL, MODEL)
    assert not trial.clean_only(told, MODEL)


def test_a_person_who_interrupts_the_opening_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> Engine:
        raise KeyboardInterrupt

    having(monkeypatch, fake("bad", rank=1, open=interrupted), fake("good", rank=2))
    with pytest.raises(KeyboardInterrupt):
        open_engine("auto", MODEL, 2, SHAPE)


def test_when_nothing_works_every_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    having(
        monkeypatch,
        fake("broken", rank=2, open=refuse),
        fake("absent", rank=1, reason="no card"),
    )
    with pytest.raises(EngineError, match=r"no card.*it would not start.*clesr doctor"):
        open_engine("auto", MODEL, 2, SHAPE)


def test_an_engine_asked_for_by_name_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    having(monkeypatch, fake("good", rank=1), fake("broken", rank=2, open=refuse))
    with pytest.raises(EngineError, match="it would not start"):
        open_engine("broken", MODEL, 2, SHAPE)


def test_device_and_precision_narrow_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    having(
        monkeypatch,
        fake("a", rank=1, kind="gpu"),
        fake("a", rank=2, precision="bf16"),
        fake("b", rank=3, precision="fp32"),
    )
    names = []
    for options in ({}, {"device": "cpu"}, {"precision": "fp32", "device": "cpu"}):
        engine = open_engine("auto", MODEL, 2, SHAPE, **options)  # type: ignore[arg-type]
        names.append(engine.info.engine)
    assert names == ["a", "a", "b"]
    with pytest.raises(UsageError, match=r"no engine a fp16.*choose from a fp32 on gpu, a bf16 on cpu"):
        open_engine("a", MODEL, 2, SHAPE, precision="fp16")


def test_bf16_is_passed_over_for_a_network_that_does_not_carry_the_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    having(monkeypatch, fake("a", rank=1, precision="bf16"), fake("b", rank=2))
    srcnn = random_model("srcnn", 2)
    info = open_engine("auto", srcnn, 2, SHAPE).info
    assert info.engine == "b"
    assert "not a bf16 on a test (it rounds the image" in info.choice
    assert open_engine("auto", srcnn, 2, SHAPE, precision="bf16").info.engine == "a"
    assert open_engine("auto", MODEL, 2, SHAPE).info.engine == "a"


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (
            ("cuda9", MODEL, 2, SHAPE),
            {},
            "'cuda9' is unknown; choose one of auto, tensorrt, cuda, openvino, torch",
        ),
        (("auto", MODEL, 3, SHAPE), {}, "scale 3 is not one of 2, 4, 8"),
        (("auto", MODEL, 4, SHAPE), {}, "fast is for scale 2, not 4; give --scale 2"),
        (("auto", MODEL, 2, (0, 5)), {}, "0 x 5"),
        (("auto", MODEL, 2, (10**5, 10**4)), {}, "10000x100000 pixels at scale 2 would become 20000x200000"),
        (("auto", "lanczos", 2, SHAPE), {}, "'lanczos' is unknown"),
        (("torch", "bicubic", 2, SHAPE), {}, "bicubic has an engine of its own"),
        (("auto", MODEL, 2, SHAPE), {"device": "tpu"}, "'tpu' is unknown; choose cpu, cuda"),
        (("auto", MODEL, 2, SHAPE), {"precision": "int4"}, "'int4' is unknown; choose one of fp32"),
        (("auto", MODEL, 2, SHAPE), {"threads": 0}, "0 threads"),
    ],
)
def test_wrong_use_is_one_line(arguments: tuple[object, ...], options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("(", r"\(")) as caught:
        open_engine(*arguments, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["bicubic", "bilinear", "nearest"])
def test_interpolations_need_no_weights(method: str) -> None:
    engine = open_engine("auto", method, 4, (5, 6))
    engine.submit(random_image((5, 6)))
    assert engine.collect().shape == (20, 24)
    engine.close()
    assert engine.info.choice == f"engine: {engine.info}"


def test_self_test_limits() -> None:
    image = selftest.probe_image(40, 50)
    selftest.compare(image, image)
    shifted = np.clip(image.astype(int) + 1, 0, 255).astype(np.uint8)
    selftest.compare(shifted, image)
    two = np.where(image < 250, image + 2, image - 2).astype(np.uint8)
    with pytest.raises(EngineError, match=r"2\.00 levels .* on average and 2 at most; 1 and 4 are allowed"):
        selftest.compare(two, image)
    spot = image.copy()
    spot[3, 3] = image[3, 3] - 5 if image[3, 3] > 5 else image[3, 3] + 5
    with pytest.raises(EngineError, match="and 5 at most"):
        selftest.compare(spot, image)
    with pytest.raises(EngineError, match="constant"):
        selftest.compare(np.full_like(image, 100), image)
    with pytest.raises(EngineError, match=r"\(50, 40\), not \(40, 50\)"):
        selftest.compare(image.T, image)


@pytest.mark.parametrize("heeds_trust", [True, False])
def test_the_self_test_sees_an_engine_that_does_not_heed_trust(
    heeds_trust: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = random_model("fast", 2, channels=4, depth=2, levels=LEVELS)
    shape = (3 * selftest.CORNER, 2 * selftest.CORNER)  # of whose parts the levels are not those of the whole

    def start(model: Model, shape: tuple[int, int], threads: int | None) -> WorkerEngine:
        def compute(lr: Image, guidance: Guidance) -> Image:
            trust = guidance.trust if heeds_trust else np.full_like(guidance.trust, 255)
            return reference_image(model.module, lr, Guidance(guidance.levels, trust))

        info = EngineInfo(
            "told", "a test", "fp32", model.name, model.sha256, model.scale, shape, levels=LEVELS
        )
        opened.append(WorkerEngine(info, compute))
        return opened[-1]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    having(monkeypatch, fake("told", rank=1, kind="cuda", open=start))
    if heeds_trust:
        assert open_engine("told", told, 2, shape).info.engine == "told"
    else:
        with pytest.raises(EngineError, match="from the FP32 reference on average"):
            open_engine("told", told, 2, shape)


def test_a_large_engine_is_tested_by_a_small_one_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "AFFORDABLE", 0.0)
    having(monkeypatch, fake("good", rank=1))
    for shape in ((50, 60), (60, 50)):
        open_engine("auto", MODEL, 2, shape)
    assert [e.info.lr_shape for e in opened] == [selftest.SMALL, (50, 60), (60, 50)]
    assert [e._closed for e in opened] == [True, False, False]
    having(monkeypatch, fake("wrong", lambda sr: sr // 2, rank=1))
    with pytest.raises(EngineError, match="from the FP32 reference"):
        open_engine("auto", MODEL, 2, (50, 60))


def test_on_a_gpu_the_engine_itself_is_tested_in_two_corners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "AFFORDABLE", 0.0)
    monkeypatch.setattr(selftest, "CORNER", 48)

    def spoil(y: slice, x: slice) -> Callable[[Image], Image]:
        def change(sr: Image) -> Image:
            sr[y, x] = 255 - sr[y, x]
            return sr

        return change

    top, bottom = slice(None, 20), slice(-20, None)
    for corner in ((top, top), (bottom, bottom)):
        having(monkeypatch, fake("wrong", spoil(*corner), rank=1, kind="cuda"))
        with pytest.raises(EngineError, match="from the FP32 reference"):
            open_engine("auto", MODEL, 2, (90, 100))
    having(monkeypatch, fake("good", rank=1, kind="cuda"))
    assert open_engine("auto", MODEL, 2, (90, 100)).info.engine == "good"
    assert {e.info.lr_shape for e in opened} == {(90, 100)}


def test_this_machine_takes_an_engine_and_says_which() -> None:
    engine = open_engine("auto", MODEL, 2, SHAPE)
    lr = random_image(SHAPE)
    engine.submit(lr)
    assert np.abs(engine.collect().astype(int) - reference_image(MODEL.module, lr)).max() <= 4
    engine.close()
    assert engine.info.choice.startswith(f"engine: {engine.info}")
    faster = [o for o in engines() if not str(engine.info).startswith(str(o)) and o.rank < 30]
    if not any(o.present for o in faster):
        assert engine.info.choice == f"engine: {engine.info}"


def test_this_machines_engines_are_listed_fastest_first() -> None:
    found = engines()
    assert {candidate.name for candidate in found} == {"tensorrt", "cuda", "openvino", "torch"}
    assert [o.rank for o in found] == sorted(o.rank for o in found)
    assert all(bool(candidate.reason) != candidate.available and candidate.device for candidate in found)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("shape", [(8, 8), (1, 16), (17, 1), (33, 20)])
def test_every_size_works(engine: str, shape: tuple[int, int]) -> None:
    one = open_engine(engine, MODEL, 2, shape, device="cpu", precision="fp32", threads=1)
    one.submit(random_image(shape, np.uint16))
    assert one.collect().shape == (2 * shape[0], 2 * shape[1])
    one.close()
