"""Earlier frames of a stream, on the live path: what they help, and where a frame stands alone."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import FakeEngine, ListSink, ManualClock, ScriptedSource, Step, until

from clesr.engines.common.errors import UsageError
from clesr.engines.common.image import Pixels
from clesr.engines.guidance import Guidance
from clesr.engines.models.registry import LEVELS
from clesr.engines.trust import trust_map
from clesr.pipeline.frame import Frame, Image, Outcome, Result
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.temporal import PAUSE_S, WATCHED, StreamFusion

SHAPE = (72, 80)


def noisy(number: int, scene: int = 1) -> Pixels:
    """Still tissue, with noise of its own for each frame; its first pixel is the number."""
    field = cv2.GaussianBlur(np.random.default_rng(scene).standard_normal(SHAPE), (0, 0), 3)
    noise = np.random.default_rng(100 + number).normal(0, 6, SHAPE)
    image = np.asarray(np.clip(np.rint(120 + 35 * field / field.std() + noise), 0, 255), np.uint8)
    image[0, 0] = number
    return image


def network(shape: tuple[int, int]) -> FakeEngine:
    engine = FakeEngine(shape, fails=(5,))
    engine.info = replace(engine.info, model_hash="0" * 64)
    return engine


def run(
    frames: list[Pixels], *, engine: object = network, fps: float | None = 25.0, fused: bool = True
) -> list[Result]:
    sink = ListSink()
    source = ScriptedSource(
        [Frame(image, number, 1 + number) for number, image in enumerate(frames)], fps=fps
    )
    prepare = Prepare(temporal=StreamFusion() if fused else None)
    Pipeline(source, engine, [sink], scale=2, prepare=prepare).run()  # type: ignore[arg-type]
    return sink.results


def plain(lr: Image) -> Image:
    return np.repeat(np.repeat(lr, 2, 0), 2, 1)


def error(result: Result, truth: Pixels) -> float:
    inner = np.s_[16:-16, 16:-16]
    return float(np.std(result.image[inner].astype(float) - plain(truth)[inner]))


def test_images_rest_on_more_and_more_frames_and_have_less_noise() -> None:
    results = run([noisy(n) for n in range(5)])
    frames = [result.frames or 0.0 for result in results]
    assert frames[0] == 1.0
    assert frames == sorted(frames)
    assert frames[-1] > 2
    field = cv2.GaussianBlur(np.random.default_rng(1).standard_normal(SHAPE), (0, 0), 3)
    truth = np.asarray(120 + 35 * field / field.std(), np.uint8)
    assert error(results[-1], truth) < 0.75 * error(results[0], truth)
    for result in results:
        assert result.check is not None
        assert result.fidelity == result.check.db, "of the image that is shown"


def test_a_frame_after_a_failed_one_stands_alone() -> None:
    results = run([noisy(n) for n in range(9)])
    assert results[5].outcome is Outcome.FAILED
    assert results[5].frames is None
    assert results[6].frames == 1.0
    np.testing.assert_array_equal(results[6].image, plain(results[6].lr))
    assert results[8].frames is not None
    assert results[8].frames > 1


def test_another_scene_and_another_size_stand_alone() -> None:
    cut = [noisy(0), noisy(1), noisy(2, scene=9), noisy(3, scene=9), noisy(4)[:60].copy()]
    results = run(cut)
    assert [result.frames for result in results[2::2]] == [1.0, 1.0]
    for result in results[2::2]:
        np.testing.assert_array_equal(result.image, plain(result.lr))


@pytest.mark.parametrize(
    ("engine", "fps", "fused"),
    [(FakeEngine, 25.0, True), (network, None, True), (network, 25.0, False)],
    ids=["interpolation", "images without a rate", "off"],
)
def test_where_frames_do_not_help_each_other(engine: object, fps: float | None, fused: bool) -> None:
    for result in run([noisy(n) for n in range(4)], engine=engine, fps=fps, fused=fused):
        assert result.frames is None
        np.testing.assert_array_equal(result.image, plain(result.lr))


def test_a_network_is_told_of_each_frame_and_others_are_not() -> None:
    told: list[Guidance] = []

    class Guided(FakeEngine):
        def submit(self, lr: Image, guidance: Guidance | None = None) -> None:
            assert guidance is not None
            told.append(guidance)
            super().submit(lr)

    def guided(shape: tuple[int, int]) -> Guided:
        engine = Guided(shape)
        engine.info = replace(engine.info, levels=LEVELS)
        return engine

    results = run([noisy(n) for n in range(4)], engine=guided, fused=False)
    assert [result.told.guidance for result in results if result.told] == told
    assert len(told) == 4
    assert all(4 < result.told.levels.noise < 8 for result in results if result.told)
    assert all(result.told is None for result in run([noisy(0)], fused=False))


def test_the_noise_that_a_network_is_told_of_can_be_set_while_it_runs() -> None:
    def guided(shape: tuple[int, int]) -> FakeEngine:
        class Guided(FakeEngine):
            def submit(self, lr: Image, guidance: Guidance | None = None) -> None:
                super().submit(lr)

        engine = Guided(shape)
        engine.info = replace(engine.info, levels=LEVELS)
        return engine

    sink = ListSink()

    def assume(noise: float | None, count: int) -> None:
        until(lambda: len(sink.results) == count)
        pipeline.denoise = noise

    frames = [Frame(noisy(number), number, 1 + number) for number in range(4)]
    script: list[Step] = [frames[0], lambda: assume(0.0, 1), frames[1], lambda: assume(40.0, 2), frames[2]]
    pipeline = Pipeline(
        ScriptedSource([*script, lambda: assume(None, 3), frames[3]]), guided, [sink], scale=2
    )
    pipeline.run()
    told = [result.told.levels.noise for result in sink.results if result.told]
    assert told[1:3] == [0.0, 40.0]
    assert 4 < told[0] < 8
    assert 4 < told[3] < 8
    for wrong in (-1.0, 65.0, float("nan")):
        with pytest.raises(UsageError, match="is neither None nor 0 to 64 grey levels"):
            pipeline.denoise = wrong
    assert pipeline.denoise is None


class TickingClock(ManualClock):
    """``tick`` seconds pass whenever it is looked at."""

    tick = 0.01

    def now_ns(self) -> int:
        self.advance(self.tick)
        return super().now_ns()


def fused(fusion: StreamFusion, numbers: range) -> list[bool]:
    """Whether each of these frames rests on earlier ones, or could."""
    lr = noisy(0)
    return [fusion(lr, plain(lr), number) is not None for number in numbers]


def test_where_frames_are_left_out_for_want_of_time_images_stand_alone_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = TickingClock()
    fusion = StreamFusion(hurried=True, clock=clock)
    assert fused(fusion, range(0, 2 * WATCHED, 2)) == [True] * WATCHED
    assert (
        "50% of the frames were left out" in caplog.text or "49% of the frames were left out" in caplog.text
    )
    assert not any(fused(fusion, range(200, 300)))
    clock.advance(PAUSE_S)
    image = noisy(3)
    again = fusion(image, plain(image), 1000)
    assert again is not None
    assert again.frames == 1.0
    assert all(fused(fusion, range(1001, 1000 + 4 * WATCHED))), "the rate holds again"


def test_frames_that_the_camera_did_not_give_are_not_held_against_it() -> None:
    """Fusing takes next to nothing of the time."""

    class Idle(TickingClock):
        tick = 1e-4

    clock = Idle()
    fusion = StreamFusion(hurried=True, clock=clock)
    lr = noisy(0)
    for number in range(0, 6 * WATCHED, 2):
        assert fusion(lr, plain(lr), number) is not None
        clock.advance(0.08)


def test_what_does_not_hurry_goes_on_whatever_the_time() -> None:
    assert all(fused(StreamFusion(clock=TickingClock()), range(0, 6 * WATCHED, 2)))


def test_another_size_is_tried_at_once_and_paused_for_as_long_as_the_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fusion = StreamFusion(hurried=True, clock=TickingClock())
    small, large = noisy(0)[:60].copy(), noisy(0)
    for lr in (large, small):
        for number in range(0, 2 * WATCHED, 2):
            assert fusion(lr, plain(lr), number) is not None
        assert fusion(lr, plain(lr), 2 * WATCHED) is None
    assert caplog.text.count(f"for {PAUSE_S:.0f} s images do without earlier frames") == 2


def test_images_after_a_cut_are_what_they_would_be_had_the_stream_begun_there() -> None:
    """In their own field of view, whichever the scene before had."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    disc = (y - 36) ** 2 + (x - 40) ** 2 < 33**2
    after = [np.asarray(noisy(n, scene=9) * disc, np.uint8) for n in range(5, 9)]
    through, anew = StreamFusion(), StreamFusion()
    for number in range(5):
        through(noisy(number), plain(noisy(number)), number)
    for number, lr in enumerate(after, 5):
        one, other = through(lr, plain(lr), number), anew(lr, plain(lr), number)
        assert one is not None
        assert other is not None
        assert (one.frames, one.noise) == (other.frames, other.noise)
        np.testing.assert_array_equal(one.image, other.image)
    assert one is not None
    assert one.frames > 1


def test_a_frame_that_has_to_stand_alone_and_is_left_out_has_the_next_one_stand_alone(tmp_path: Path) -> None:
    """The first frame of a recording."""
    gate, prepared = threading.Semaphore(2), list[int]()

    class Noted(Prepare):
        def __call__(self, frame: Frame) -> Image:
            prepared.append(frame.number)
            return super().__call__(frame)

    def gated(shape: tuple[int, int]) -> FakeEngine:
        engine = FakeEngine(shape, gate=gate)
        engine.info = replace(engine.info, model_hash="0" * 64)
        return engine

    sink = ListSink()
    frames = [Frame(noisy(number), number, 0) for number in range(9)]
    script: list[Step] = [*frames[:2], lambda: until(lambda: len(sink.results) == 2), *frames[2:5]]
    script += [lambda: pipeline.start_recording(tmp_path), *frames[5:], lambda: until(lambda: 8 in prepared)]
    script += [lambda: gate.release(len(frames))]
    source = ScriptedSource(script, live=True)
    recorder = Recorder(source.info, scale=2)
    prepare = Noted(temporal=StreamFusion())
    pipeline = Pipeline(source, gated, [sink], scale=2, prepare=prepare, recorder=recorder)
    pipeline.run()
    first = next(read_session(tmp_path).records())
    assert (first.number, first.outcome) == (5, Outcome.STALE)
    results = {result.frame.number: result.frames for result in sink.results}
    assert results[8] == 1.0


def test_where_the_network_is_not_trusted_earlier_frames_do_not_count() -> None:
    """Burnt-in text stays where it is while tissue moves."""
    fusion = StreamFusion()
    for number in range(4):
        lr = np.roll(noisy(number), number, 1)
        cv2.putText(lr, "12:07", (4, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255)
        trust = trust_map(lr)
        found = fusion(lr, plain(lr), number, trust)
    assert found is not None
    assert found.frames > 1
    written = np.asarray(cv2.erode((trust == 0).astype(np.uint8), np.ones((3, 3))), np.uint8)
    assert written.sum() > 100
    np.testing.assert_array_equal(found.image[plain(written) > 0], plain(lr)[plain(written) > 0])


def test_where_a_frame_is_too_noisy_for_the_network_earlier_frames_count() -> None:
    fusion = StreamFusion()
    for number in range(3):
        found = fusion(noisy(number), plain(noisy(number)), number, np.zeros(SHAPE, np.uint8))
    assert found is not None
    assert found.frames > 1
