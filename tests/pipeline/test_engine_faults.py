"""Whatever an engine gives, raises or says of itself: each frame has one outcome, and only SR images count as such."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from heard import hear
from hypothesis import given
from hypothesis import strategies as st
from support import FakeEngine, ListSink, ManualClock, ScriptedSource

from clesr.engines import results
from clesr.engines.common.errors import EngineError, UsageError
from clesr.engines.common.resample import quantise, resize
from clesr.engines.engine import EngineInfo
from clesr.engines.results import MOST_PIXELS, MOST_SIDE, check_size
from clesr.pipeline.engine_stage import EngineStage
from clesr.pipeline.fidelity import GARBAGE_DB, FidelityCheck, decibels, no_upscaled_image
from clesr.pipeline.frame import Fidelity, Frame, Image, Outcome, PreparedFrame, Result
from clesr.pipeline.live_engine import LiveEngine
from clesr.pipeline.messages import naming
from clesr.pipeline.pipeline import Pipeline

SHAPE = (40, 48)
FAULTY = 4  # the number of the frame on which the engine misbehaves
FRAMES = 12


def picture(number: int, dtype: type = np.uint8, shape: tuple[int, int] = SHAPE) -> Frame:
    """A frame with structure."""
    top = np.iinfo(dtype).max
    coarse = np.random.default_rng(number).uniform(0.1 * top, 0.7 * top, (shape[0] // 4, shape[1] // 4))
    return Frame(np.ascontiguousarray(np.kron(coarse, np.ones((4, 4))).astype(dtype)), number, 0)


def bicubic(lr: Image) -> Image:
    return quantise(resize(lr, 2 * lr.shape[0], 2 * lr.shape[1]), lr.dtype)


class Faulty(FakeEngine):
    """Misbehaves once in a process: ``at`` its FAULTY-th frame, at ``what`` (submit, collect, close)."""

    opened = 0

    def __init__(
        self, shape: tuple[int, int], change: Callable[[Image, Image], object], what: str = "collect"
    ) -> None:
        super().__init__(shape)
        self._change, self._what, self._count = change, what, 0

    def submit(self, lr: Image) -> None:
        if self._what == "submit" and self._count == FAULTY:
            self._change(lr, lr)
        if self._what != "collect":
            self._count += 1
        super().submit(lr)

    def collect(self) -> Any:
        lr = self._in_flight[0]
        result = super().collect()
        number, self._count = self._count, self._count + (self._what == "collect")
        return self._change(lr, result) if (number, self._what) == (FAULTY, "collect") else result


def run(
    make: Callable[[tuple[int, int]], FakeEngine], dtype: type = np.uint8
) -> tuple[Pipeline, list[Result], list[str]]:
    """FRAMES pictures through engines that ``make`` opens."""
    sink, told = ListSink(), hear()
    source = ScriptedSource([picture(i, dtype) for i in range(FRAMES)], shape=SHAPE)
    pipeline = Pipeline(source, make, [sink], scale=2)
    pipeline.run()
    return pipeline, sink.results, told


class Factory:
    """Opens an engine that misbehaves, then sound ones."""

    def __init__(self, change: Callable[[Image, Image], object], what: str = "collect") -> None:
        self.opened: list[FakeEngine] = []
        self._change, self._what = change, what

    def __call__(self, shape: tuple[int, int]) -> FakeEngine:
        engine = FakeEngine(shape) if self.opened else Faulty(shape, self._change, self._what)
        self.opened.append(engine)
        return engine


def assert_one_failed(factory: Factory, dtype: type, words: str) -> None:
    """The FAULTY-th frame alone is the bicubic image, marked; the engine was opened once more; ``words`` were told."""
    pipeline, images, told = run(factory, dtype)
    pipeline.ledger.check()
    assert [r.frame.number for r in images] == list(range(FRAMES))
    failed = [r for r in images if r.outcome is Outcome.FAILED]
    assert [r.frame.number for r in failed] == [FAULTY]
    assert np.array_equal(failed[0].image, bicubic(failed[0].lr))
    assert all(r.image.dtype == dtype and r.image.flags.c_contiguous for r in images)
    assert len(factory.opened) == 2
    assert factory.opened[0].closed
    assert any(words in line and "\n" not in line and len(line) < 300 for line in told), told
    assert "the engine is back" in told


def spot(value: object) -> Callable[[Image, Image], object]:
    return lambda _lr, _sr: value


def coarse_noise(sr: Image) -> Image:
    """Black and white squares as large as 8 pixels of ``sr``."""
    squares = np.random.default_rng(0).integers(0, 2, (sr.shape[0] // 8, sr.shape[1] // 8))
    return np.kron(squares * np.iinfo(sr.dtype).max, np.ones((8, 8))).astype(sr.dtype)


NO_IMAGES: dict[str, tuple[Callable[[Image, Image], object], str]] = {
    "two pixels short": (lambda _lr, sr: sr[:-2, :-2], "(78, 94); {} (80, 96) was expected"),
    "the LR image": (lambda lr, _sr: lr, "(40, 48); {} (80, 96) was expected"),
    "transposed": (lambda _lr, sr: sr.T, "(96, 80); {} (80, 96) was expected"),
    "three axes": (lambda _lr, sr: sr[..., None], "(80, 96, 1); {} (80, 96) was expected"),
    "one axis": (lambda _lr, sr: sr.ravel(), "(7680,); {} (80, 96) was expected"),
    "a scalar": (lambda _lr, sr: sr[0, 0], "a uint"),
    "no rows": (lambda _lr, sr: sr[:0], "(0, 96); {} (80, 96) was expected"),
    "float": (lambda _lr, sr: sr.astype(np.float32) / 255, "gave float32 (80, 96); {} (80, 96) was expected"),
    "NaN": (lambda _lr, sr: np.full(sr.shape, np.nan, np.float32), "gave float32 (80, 96); {}"),
    "signed": (lambda _lr, sr: sr.astype(np.int32), "gave int32 (80, 96); {}"),
    "the other byte order": (lambda _lr, sr: sr.astype(">u4"), "gave >u4 (80, 96); {}"),
    "truth values": (lambda _lr, sr: sr > 9, "gave bool (80, 96); {}"),
    "objects": (lambda _lr, sr: sr.astype(object), "gave object (80, 96); {}"),
    "nothing": (spot(None), "gave None; {}"),
    "a number": (spot(7), "gave a int; {}"),
    "a list": (lambda _lr, sr: sr.tolist(), "gave a list; {}"),
    "bytes": (lambda _lr, sr: sr.tobytes(), "gave a bytes; {}"),
    "inverted": (lambda _lr, sr: np.invert(sr), "dB from the frame"),
    "black": (lambda _lr, sr: np.zeros_like(sr), "an image of level 0 everywhere"),
    "grey": (lambda _lr, sr: np.full_like(sr, sr.mean()), "everywhere"),
    "coarse noise": (lambda _lr, sr: coarse_noise(sr), "dB from the frame"),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", NO_IMAGES)
def test_what_is_no_sr_image_fails_its_frame(name: str, dtype: type) -> None:
    change, words = NO_IMAGES[name]
    assert_one_failed(Factory(change), dtype, words.format(np.dtype(dtype)))


@pytest.mark.parametrize(("dtype", "wrong"), [(np.uint8, np.uint16), (np.uint16, np.uint8)])
def test_the_other_depth_fails_its_frame(dtype: type, wrong: type) -> None:
    words = f"gave {np.dtype(wrong)} (80, 96); {np.dtype(dtype)} (80, 96) was expected"
    assert_one_failed(Factory(lambda _lr, sr: sr.astype(wrong)), dtype, words)


def test_an_image_in_another_order_in_memory_is_an_image() -> None:
    _, images, told = run(Factory(lambda _lr, sr: np.asfortranarray(sr)))
    assert not told
    assert all(r.outcome is Outcome.UPSCALED and r.image.flags.c_contiguous for r in images)
    assert np.array_equal(images[FAULTY].image, images[FAULTY].lr.repeat(2, 0).repeat(2, 1))


class Strange(BaseException):
    """Nobody expects it."""


class Speechless(Exception):
    """It cannot even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Verbose(Exception):
    def __str__(self) -> str:
        return "word " * 10**6

    def __repr__(self) -> str:
        return "Verbose()"


ERRORS = [RuntimeError("broken"), EngineError(""), MemoryError("all of it"), AssertionError(), SystemExit(3),
          GeneratorExit(), Strange("one\ntwo"), StopIteration(), Speechless(), Verbose()]  # fmt: skip


def raising(error: BaseException) -> Callable[..., Any]:
    def change(*_: object) -> object:
        raise error

    return change


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("what", ["submit", "collect"])
def test_whatever_is_raised_fails_its_frame_alone(what: str, error: BaseException) -> None:
    assert_one_failed(Factory(raising(error), what), np.uint8, "the engine failed (")


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("what", ["open", "close"])
def test_opening_again_may_raise_whatever_it_likes(what: str, error: BaseException) -> None:
    class Factories(Factory):
        def __call__(self, shape: tuple[int, int]) -> FakeEngine:
            if what == "open" and self.opened:
                raise error
            engine = super().__call__(shape)
            if what == "close":
                engine.close = raising(error)  # type: ignore[method-assign]
            return engine

    pipeline, images, _ = _run_closing(Factories(raising(RuntimeError("first"))))
    pipeline.ledger.check()
    assert len(images) == FRAMES
    assert {r.frame.number for r in images if r.outcome is Outcome.FAILED} >= {FAULTY}


def test_a_frame_for_which_no_memory_was_left_is_bicubic_once_that_is_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What ended the engine's thread, and with it every stream that used it."""
    asked: list[int] = []

    def scarce(image: Image, height: int, width: int) -> Any:
        asked.append(1)
        if len(asked) == 1:
            raise MemoryError("too little")
        return resize(image, height, width)

    monkeypatch.setattr("clesr.pipeline.live_engine.resize", scarce)
    assert_one_failed(Factory(raising(MemoryError("all of it")), "collect"), np.uint8, "the engine failed (")
    assert len(asked) >= 2


def _run_closing(factory: Factory) -> tuple[Pipeline, list[Result], list[str]]:
    """As ``run``, where closing at the end may be told as the run's error."""
    sink, told = ListSink(), hear()
    source = ScriptedSource([picture(i) for i in range(FRAMES)], shape=SHAPE)
    pipeline = Pipeline(source, factory, [sink], scale=2)
    try:
        pipeline.run()
    except Exception:  # noqa: BLE001 - what closing raised
        assert sink.closed == source.closed == 1
    return pipeline, sink.results, told


@pytest.mark.parametrize("what", ["submit", "collect"])
def test_an_interrupt_stays_one_and_no_frame_is_lost(what: str) -> None:
    sink = ListSink()
    source = ScriptedSource([picture(i) for i in range(FRAMES)], shape=SHAPE)
    factory = Factory(raising(KeyboardInterrupt()), what)
    pipeline = Pipeline(source, factory, [sink], scale=2)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run()
    pipeline.ledger.check()
    assert [r.frame.number for r in sink.results] == list(range(len(sink.results)))
    assert len(sink.results) >= FAULTY
    assert factory.opened[0].closed


def test_a_broken_engine_is_opened_again_after_ever_longer_waits() -> None:
    clock, opened = ManualClock(), list[float]()
    begun = clock.now_ns()

    def broken(_shape: tuple[int, int]) -> FakeEngine:
        opened.append((clock.now_ns() - begun) / 1e9)
        raise EngineError("it does not start")

    live = LiveEngine(broken, 2, clock)
    for number in range(500):
        frame = picture(number)
        (result,) = live.submit(PreparedFrame(frame, frame.image, clock.now_ns()))
        assert result.outcome is Outcome.FAILED
        clock.advance(0.25)
    waits = np.diff(opened)
    assert waits[:6] == pytest.approx([0.25, 1.0, 2.0, 4.0, 8.0, 16.0], abs=0.26)
    assert waits[6:] == pytest.approx(30.0, abs=0.26)


def test_handlers_of_an_application_that_raise_end_no_run() -> None:
    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(f"{vars(record)['stream']}: {record.getMessage()}")
            raise ValueError("a handler broke")

    said: list[str] = []
    handler, logger = Raising(), logging.getLogger("clesr")
    logger.addHandler(handler)
    try:
        source, sink = ScriptedSource([picture(i) for i in range(FRAMES)], shape=SHAPE), ListSink()
        with naming("left"):
            pipeline = Pipeline(source, Factory(raising(RuntimeError("gone"))), [sink], scale=2)
        pipeline.run()
    finally:
        logger.removeHandler(handler)
    assert [r.frame.number for r in sink.results] == list(range(FRAMES))
    assert any(line.startswith("left: the engine failed") for line in said)


def info(**changes: object) -> EngineInfo:
    return replace(FakeEngine(SHAPE).info, **changes)  # type: ignore[arg-type]


LIES: dict[str, tuple[dict[str, object], str]] = {
    "another LR shape": ({"info": info(lr_shape=(48, 40))}, r"is for \(48, 40\) x2; \(40, 48\) x2 was asked for"),
    "no shape": ({"info": info(lr_shape=None)}, "is for None x2"),
    "another scale": ({"info": info(scale=4)}, r"is for \(40, 48\) x4"),
    "no info": ({"info": None}, "describes itself by None"),
    "a number for a name": ({"info": info(model_hash=7)}, "not by five texts"),
    "a limit that is none": ({"info": info(limit_db=float("nan"))}, "limit is nan, not a number"),
    "a name without end": ({"info": info(model="m" * 10**7)}, "not by five texts of at most 1000 characters$"),
    "a limit beyond all": ({"info": info(limit_db=10**5000)}, "limit is a int, not a number of dB"),
    "a limit in words": ({"info": info(limit_db="40")}, "limit is '40', not a number"),
    "no depth": ({"depth": 0}, "takes 0 frames at a time, not 1 or more"),
    "a negative depth": ({"depth": -3}, "takes -3 frames"),
    "half a frame": ({"depth": 0.5}, "takes 0.5 frames"),
    "any depth": ({"depth": None}, "takes None frames"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_an_engine_that_says_what_it_is_not_is_closed_and_refused(name: str) -> None:
    fields, words = LIES[name]
    engine = FakeEngine(SHAPE)
    vars(engine).update(fields)
    with pytest.raises(EngineError, match=words):
        run(lambda _shape: engine)
    assert engine.closed


@pytest.mark.parametrize("name", LIES)
def test_one_that_begins_to_lie_when_it_is_opened_again_leaves_frames_failed(name: str) -> None:
    class Lying(Factory):
        def __call__(self, shape: tuple[int, int]) -> FakeEngine:
            engine = super().__call__(shape)
            if len(self.opened) > 1:
                vars(engine).update(LIES[name][0])
            return engine

    pipeline, images, _ = run(Lying(raising(RuntimeError("first"))))
    pipeline.ledger.check()
    assert [r.outcome is Outcome.FAILED for r in images[:FAULTY]] == [False] * FAULTY
    assert images[FAULTY].outcome is images[-1].outcome is Outcome.FAILED


def test_the_depth_that_counts_is_that_of_its_opening() -> None:
    def change(_lr: Image, sr: Image) -> Image:
        factory.opened[0].depth = 10**6
        return sr

    factory = Factory(change)
    pipeline, images, _ = run(factory)
    pipeline.ledger.check()
    assert len(images) == FRAMES
    assert len(factory.opened) == 1


def test_an_engine_cannot_change_the_frame_that_it_is_given() -> None:
    """Not the frame that is recorded, nor the one that its image is compared with."""

    def change(lr: Image, _sr: Image) -> None:
        lr[:] = 0

    pipeline, images, _ = run(Factory(change, "submit"))
    pipeline.ledger.check()
    assert [r.frame.number for r in images if r.outcome is Outcome.FAILED] == [FAULTY]
    for result in images:
        assert np.array_equal(result.frame.image, picture(result.frame.number).image)
        assert np.array_equal(result.lr, result.frame.image)
        for image in (result.frame.image, result.lr, result.image):
            assert not image.flags.writeable, "sinks share it"


@pytest.mark.parametrize("whole", [True, False], ids=["an array", "a part of one"])
def test_an_image_that_the_engine_goes_on_writing_into_stays_as_it_came(whole: bool) -> None:
    class Reusing(FakeEngine):
        def collect(self) -> Image:
            rows = 2 * SHAPE[0]
            memory[:rows] = super().collect()
            return memory if whole else memory[:rows]

    memory: Image = np.zeros((2 * SHAPE[0] + (not whole), 2 * SHAPE[1]), np.uint8)
    _, images, _ = run(Reusing)
    for result in images:
        assert result.outcome is Outcome.UPSCALED
        assert np.array_equal(result.image, result.lr.repeat(2, 0).repeat(2, 1))


def test_an_image_that_nobody_else_has_is_not_copied() -> None:
    class Giving(FakeEngine):
        def collect(self) -> Image:
            image = super().collect()
            addresses.append(image.ctypes.data)
            return image

    addresses: list[int] = []
    lr = picture(0).image
    assert results.run_frame(Giving(SHAPE), lr).ctypes.data == addresses[0]


AGAIN: dict[str, Callable[[Image], object]] = {
    "none": lambda _lr: (),
    "three": lambda lr: (lr, lr, lr),
    "nothing": lambda _lr: None,
    "of another shape": lambda lr: (lr[1:],),
    "of another depth": lambda lr: (lr.astype(np.float32),),
    "the second of another shape": lambda lr: (lr, lr[:, 1:]),
    "a number": lambda _lr: 5,
    "words": lambda _lr: "a",
}


@pytest.mark.parametrize("name", AGAIN)
def test_an_engine_that_checks_itself_is_believed_only_images(name: str) -> None:
    class Checking(Faulty):
        reprojected: Any = ()

        def collect(self) -> Any:
            lr = self._in_flight[0]
            self.reprojected = AGAIN[name](lr) if self._count == FAULTY else (lr,)
            return super().collect()

        def correct(self) -> None: ...

    class Checkers(Factory):
        def __call__(self, shape: tuple[int, int]) -> FakeEngine:
            self.opened.append(FakeEngine(shape) if self.opened else Checking(shape, lambda _lr, sr: sr))
            return self.opened[-1]

    assert_one_failed(Checkers(lambda _lr, sr: sr), np.uint8, "the fake engine gave")


def looked_at(lr: Image, sr: Image) -> str:
    _, found = FidelityCheck((lr.shape[0], lr.shape[1]), 2)(lr, sr)
    return no_upscaled_image(lr, found)


@given(st.integers(0, 1000), st.sampled_from([0.0, 1 / 64, 0.3, 1.0]), st.sampled_from([np.uint8, np.uint16]))
def test_no_network_is_accused_of_garbage_for_smoothing_noise(seed: int, share: float, dtype: type) -> None:
    """Not even where it leaves nothing of noise of the full range but its mean, and a level of error in it."""
    top = int(np.iinfo(dtype).max)
    rng = np.random.default_rng(seed)
    noise: Image = (rng.integers(0, 2, (64, 48)) * int(share * top)).astype(dtype)
    smoothed = quantise(
        np.full((128, 96), noise.mean(), np.float32)
        + rng.uniform(-0.01 * top, 0.01 * top, (128, 96)).astype(np.float32),
        noise.dtype,
    )
    assert looked_at(noise, smoothed) == ""
    assert looked_at(noise, bicubic(noise)) == ""
    assert looked_at(noise, noise.repeat(2, 0).repeat(2, 1)) == ""


@pytest.mark.parametrize("shape", [(1, 1), (5, 200), (31, 31)])
def test_images_smaller_than_a_tile_are_not_judged(shape: tuple[int, int]) -> None:
    lr = np.full(shape, 200, np.uint8)
    assert looked_at(lr, np.zeros((2 * shape[0], 2 * shape[1]), np.uint8)) == ""


def test_a_flat_frame_may_become_flat_but_not_far_from_it() -> None:
    lr = np.full(SHAPE, 200, np.uint8)
    lr[::2] += 1
    assert looked_at(lr, np.full((80, 96), 180, np.uint8)) == ""
    assert "dB from the frame" in looked_at(lr, np.full((80, 96), 170, np.uint8))


@pytest.mark.parametrize("contrast", [20, 40])
def test_an_image_may_differ_by_twice_the_variance_of_its_frame_and_no_more(contrast: int) -> None:
    lr = np.full(SHAPE, 128, np.uint8)
    lr[::2] += np.uint8(2 * contrast)
    for times, sound in ((1.95, True), (2.05, False)):
        db = decibels(times * contrast**2, 255)
        words = no_upscaled_image(lr, Fidelity(db, None, None, None, None, lr))
        assert (db < GARBAGE_DB and not words) is sound


@pytest.mark.parametrize("mean", [60, 100, 150, 200])
def test_an_inverted_image_is_found_whatever_the_contrast(mean: int) -> None:
    for contrast in (0.02, 0.2, 1.0):
        lr = (mean + contrast * (picture(1).image.astype(float) - 100)).clip(0, 255).astype(np.uint8)
        assert "dB from the frame" in looked_at(lr, np.invert(bicubic(lr)))
        assert looked_at(lr, bicubic(lr)) == ""


def job(number: int, shape: tuple[int, int] = SHAPE) -> PreparedFrame:
    frame = picture(number, shape=shape)
    return PreparedFrame(frame, frame.image, 0)


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(1), KeyboardInterrupt()], ids=repr)
def test_nothing_is_in_flight_after_a_refused_frame(error: BaseException) -> None:
    upscaler = LiveEngine(Factory(raising(error), "submit"), 2, ManualClock())
    for number in range(FAULTY):
        upscaler.submit(job(number))
        upscaler.collect()
    try:
        (result,) = upscaler.submit(job(FAULTY))
        assert result.outcome is Outcome.FAILED
    except KeyboardInterrupt:
        assert isinstance(error, KeyboardInterrupt)
    assert not upscaler._in_flight
    assert not upscaler._ready


def test_a_first_frame_too_large_to_enlarge_ends_the_run_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user may mend it. Its SR image is never allocated, not as the bicubic image either."""
    monkeypatch.setattr(results, "MOST_PIXELS", 4 * SHAPE[0] * SHAPE[1])
    sink = ListSink()
    pipeline = Pipeline(ScriptedSource([picture(0, shape=(44, 48)), picture(0)]), FakeEngine, [sink], scale=2)
    with pytest.raises(
        UsageError, match=r"48x44 pixels at scale 2 would become 96x88.*--roi.*--scale.*--max-size"
    ):
        pipeline.run()
    assert pipeline.ledger.outcomes[Outcome.STALE] >= 1
    pipeline.ledger.check()
    assert not sink.results


def test_a_later_frame_too_large_to_enlarge_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One message of a peer ends no examination."""
    monkeypatch.setattr(results, "MOST_PIXELS", 4 * SHAPE[0] * SHAPE[1])
    said = hear()
    shapes = [SHAPE, (44, 48), SHAPE]
    source = ScriptedSource([picture(number, shape=shape) for number, shape in enumerate(shapes)])
    sink = ListSink()
    pipeline = Pipeline(source, FakeEngine, [sink], scale=2)
    pipeline.run()
    assert pipeline.ledger.outcomes[Outcome.FAILED] == 1
    assert [result.frame.number for result in sink.results] == [0, 2]
    assert any("frame 1 cannot be up-scaled: a frame of 48x44" in line for line in said)


def test_the_limit_of_an_image_is_its_pixels_and_its_sides() -> None:
    check_size((2**12, 2**14), 2)
    assert MOST_PIXELS == 2**12 * 2**14 * 4
    check_size((1, MOST_SIDE // 8), 8)
    for shape in ((2**12 + 1, 2**14), (1, MOST_SIDE // 2 + 1), (MOST_SIDE // 2 + 1, 1)):
        with pytest.raises(UsageError, match="268 million pixels and 131072 a side are allowed"):
            check_size(shape, 2)


def test_a_shared_engine_that_ends_leaves_no_stream_waiting() -> None:
    """Whatever closing raises."""
    engine = FakeEngine(SHAPE)
    engine.close = raising(SystemExit(2))  # type: ignore[method-assign]
    thread = EngineStage(lambda: LiveEngine(lambda _shape: engine, 2, ManualClock()))
    source = ScriptedSource([picture(0)], shape=SHAPE)
    pipeline = Pipeline(source, thread, [ListSink()], scale=2)
    with pytest.raises(EngineError, match="SystemExit"):
        pipeline.run()
