"""Sinks, sources and engines that break, fall behind or never come back: the run, and above all its recording, goes on
and ends without them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heard import hear
from support import FakeEngine, ListSink, ManualClock, ScriptedSource, Step, make_frame, until
from waits import joined

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import EngineError, RecordingError, SinkError, SourceError, first_line
from clesr.pipeline.frame import Corrupt, Frame, Image, Outcome, Result, Times
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.pipeline import Limits, Pipeline
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.session.segments import Segments
from clesr.pipeline.session.verify import verify
from clesr.pipeline.session.writer import Entry
from clesr.pipeline.sharing import run_together
from clesr.pipeline.sink_worker import CALM_S, RESULTS, SinkWorker
from clesr.pipeline.sinks.window.hud import draw
from clesr.pipeline.sinks.window.scene import Scene
from clesr.pipeline.status import SinkState, State, Status
from clesr.pipeline.watchdog import CallTimer, Part, Timeouts, Watchdog, calls_of, left_behind

SHORT = Timeouts(told=0.05, full=0.05, close=0.2, recorder=30.0, abort=0.2, abort_recorder=30.0)
SHAPE = (16, 20)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What the hanging parts of a test wait for; they come back at its end."""
    event = threading.Event()
    yield event
    event.set()


class Screen(ListSink):
    """A sink that a person looks at."""

    def __init__(self, on_refresh: Callable[[], None] = lambda: None, **options: Any) -> None:
        super().__init__(name="screen", policy=Policy.DROP_OLDEST, **options)
        self.on_refresh = on_refresh

    def refresh(self, status: Status) -> bool:
        self.on_refresh()
        return True


class Camera(ScriptedSource):
    """A live source of ``count`` frames that then waits for ``stop``; ``on_read`` comes before each frame."""

    def __init__(self, count: int = 30, on_read: Callable[[int], None] = lambda _n: None) -> None:
        super().__init__((), live=True, shape=SHAPE)
        self.count, self.on_read, self.number = count, on_read, 0
        self.on_close: Callable[[], None] = lambda: None
        self.read_all = threading.Event()

    def read(self, timeout: float) -> Frame | Corrupt | None:
        if self.number == self.count:
            self.read_all.set()
            threading.Event().wait(0.01)
            return None
        self.on_read(self.number)
        self.number += 1
        frame = make_frame(self.number - 1, SHAPE)
        return Frame(frame.image, frame.number, SYSTEM.now_ns())

    def close(self) -> None:
        self.on_close()
        super().close()


def record(
    source: ScriptedSource, folder: Path, *sinks: object, **options: Any
) -> tuple[Pipeline, list[str]]:
    """A pipeline that records into ``folder``, and what it tells."""
    said = hear()
    recorder = Recorder(source.info, scale=2)
    factory = options.pop("factory", FakeEngine)
    options = {"timeouts": SHORT, **options}
    run = Pipeline(source, factory, sinks, scale=2, recorder=recorder, **options)  # type: ignore[arg-type]
    run.start_recording(folder)
    return run, said


def holds(folder: Path, frames: int) -> None:
    """The recording in ``folder`` is whole: all frames, each with its image and outcome."""
    found = verify(folder)
    assert found.holds, found.problems
    assert found.totals["captured"] == found.totals["raw"] == frames


def ends(run: Pipeline, act: Callable[[], None]) -> BaseException | None:
    """Run, doing ``act`` beside it; the error."""
    acting = threading.Thread(target=act)
    acting.start()
    try:
        run.run()
    except BaseException as error:  # noqa: BLE001 - what the test asks for
        return error
    finally:
        joined(acting)
    return None


@pytest.mark.parametrize(
    "error", [RuntimeError("gone"), OSError(28, "full"), SystemExit(3), KeyboardInterrupt()]
)
@pytest.mark.parametrize("where", ["write", "refresh", "close"])
def test_a_sink_that_raises_whatever_wherever_is_dropped(
    tmp_path: Path, where: str, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    broken = Screen(on_refresh=fail) if where == "refresh" else Screen()
    if where == "write":
        broken.on_write = fail
    if where == "close":
        broken.close = fail  # type: ignore[method-assign]
    other, camera = ListSink(name="other"), Camera()
    run, said = record(camera, tmp_path / "s", broken, other)

    seen: list[Status] = []

    def stop() -> None:
        assert camera.read_all.wait(20)
        until(lambda: where == "close" or bool(run.status().alarm))
        seen.append(run.status())
        run.stop()

    raised = ends(run, stop)
    assert raised is error or (raised is not None and raised.__cause__ is error)
    assert other.closed == 1
    assert len(other.results) + run.ledger.outcomes[Outcome.STALE] == 30
    holds(tmp_path / "s", 30)
    if where != "close":
        (line,) = (line for line in said if "screen broke" in line)
        assert line.endswith("; the recording goes on")
        assert "\n" not in line
        (status,) = seen
        why = first_line(error)
        assert status.alarm == f"OUTPUT ENDED: screen broke: {why}"
        assert status.troubles == {"screen": f"it broke: {why}"}
        assert status.sinks["screen"].state is SinkState.BROKEN
        assert status.sinks["screen"].errors == 1
        assert status.sinks["screen"].error == why
        assert status.sinks["other"].state is status.sinks["recorder"].state is SinkState.WORKING
        assert status.recording
        assert run.recorder is not None
        assert run.alarms.acknowledge() == status.alarm
        assert run.status().alarm == ""


def test_a_sink_that_does_not_answer_is_named_until_it_does(release: threading.Event) -> None:
    screen, camera = Screen(), Camera()
    screen.on_write = lambda _result: assert_set(release)
    run = Pipeline(camera, FakeEngine, [screen, ListSink(name="other")], scale=2, timeouts=SHORT)

    seen: list[Status] = []

    def act() -> None:
        until(lambda: "screen" in run.status().troubles)
        seen.append(run.status())
        release.set()
        until(lambda: run.status().sinks["screen"].state is SinkState.WORKING)
        run.stop()

    assert ends(run, act) is None
    assert seen[0].troubles["screen"].startswith("screen has not answered for ")
    assert seen[0].sinks["screen"].state is SinkState.SILENT
    assert seen[0].alarm == "", "it may come back"


@pytest.mark.parametrize("hangs", [True, False])
def test_a_source_that_gives_nothing_is_a_part_that_fails(release: threading.Event, hangs: bool) -> None:
    """Stuck in a driver it is told as such, else as one without frames; a line in either case."""
    camera, said = Camera(count=5), hear()
    if hangs:
        camera.on_read = lambda number: assert_set(release) if number == 3 else None
    run = Pipeline(camera, FakeEngine, [ListSink()], scale=2, timeouts=replace(SHORT, told=1.5, close=30.0))

    seen: list[Mapping[str, str]] = []

    def act() -> None:
        until(lambda: "source" in run.status().troubles)
        seen.append(run.status().troubles)
        release.set()
        until(lambda: not hangs or any(line.startswith("scripted answers again") for line in said))
        run.stop()

    assert ends(run, act) is None
    words = "scripted has not answered" if hangs else "no frame has come from scripted"
    assert seen[0]["source"].startswith(words)
    first, *_ = (line for line in said if "scripted" in line)
    assert first.startswith(words)
    assert hangs or not any("scripted has not answered" in line for line in said)


def test_the_last_sink_that_breaks_ends_a_run_that_records_nothing() -> None:
    def fail(_result: Result) -> None:
        raise SinkError("gone")

    camera = Camera(count=10**9, on_read=lambda _n: None)
    recorder = Recorder(camera.info, scale=2)
    run = Pipeline(camera, FakeEngine, [Screen(on_write=fail)], scale=2, recorder=recorder)
    with pytest.raises(SinkError, match="gone"):
        run.run()


def test_a_file_that_hangs_holds_up_neither_display_nor_recorder_and_tells_what_it_misses(
    tmp_path: Path,
) -> None:
    clock, gate, said = ManualClock(), threading.Event(), hear()
    file = ListSink(name="out.mkv", on_write=lambda _r: assert_set(gate))
    display = ListSink(name="display", policy=Policy.DROP_OLDEST)

    def shown(number: int) -> Iterator[Step]:
        while not display.results or display.results[-1].frame.number < number:
            clock.advance(0.05)
            yield None

    def script() -> Iterator[Step]:
        for i in range(60):
            clock.advance(0.04)
            yield make_frame(i, time_ns=clock.now_ns())
            yield from shown(i)
        gate.set()
        while file.results[-1:] == [] or file.results[-1].frame.number < 4:
            yield None
        for i in range(60, 70):
            clock.advance(0.04)
            yield make_frame(i, time_ns=clock.now_ns())
            while file.results[-1].frame.number < i:
                yield None

    run = Pipeline(
        ScriptedSource(script(), live=True, clock=clock), FakeEngine, [file, display], scale=2,
        clock=clock, timeouts=Timeouts(told=10**6),
    )  # fmt: skip
    summary = run.run()
    assert run.ledger.outcomes[Outcome.UPSCALED] == 70
    written = [r.frame.number for r in file.results]
    assert written == sorted(written)
    assert written[-10:] == list(range(60, 70))
    missing = 70 - len(written)
    assert missing == 55, "one in its hands, four waiting"
    assert summary.outputs[0] == f"15 results; {missing} results are missing, which it could not take in time"
    assert summary.sinks["out.mkv"] == {"written": 15, "skipped": 55}
    assert said == [
        "out.mkv is too slow: results are missing from it from here on",
        f"out.mkv takes results again; {missing} are missing so far",
    ]


def assert_set(event: threading.Event) -> None:
    assert event.wait(30)


def test_a_file_that_hangs_again_and_again_holds_up_the_display_once() -> None:
    """The first time it may keep others waiting for a while; then images are shown without any time passing."""
    clock, taken = ManualClock(), threading.Semaphore(0)
    shown, file = list[int](), ListSink(name="out.mkv", on_write=lambda _r: _acquire(taken))
    display = ListSink(
        name="display", policy=Policy.DROP_OLDEST, on_write=lambda result: shown.append(result.frame.number)
    )

    def time_passes() -> bool:
        clock.advance(0.05)
        return True

    def script() -> Iterator[Step]:
        for i in range(60):
            yield make_frame(i, time_ns=clock.now_ns())
            until(lambda i=i: (i >= 20 or time_passes()) and i in shown)  # type: ignore[misc]
            if i in (20, 40):  # it takes what it has, and hangs again
                before = len(file.results)
                for _ in range(RESULTS + 1):
                    taken.release()
                until(lambda before=before: len(file.results) == before + RESULTS + 1)  # type: ignore[misc]
        for _ in range(60):
            taken.release()

    run = Pipeline(
        ScriptedSource(script(), live=True, clock=clock), FakeEngine, [file, display], scale=2,
        clock=clock, timeouts=Timeouts(told=10**6),
    )  # fmt: skip
    run.run()
    assert run.ledger.outcomes[Outcome.UPSCALED] == 60
    assert shown == list(range(60))
    assert 60 - len(file.results) == run._workers[0].missed > 30


def _acquire(semaphore: threading.Semaphore) -> None:
    assert semaphore.acquire(timeout=60)


def test_a_recorder_whose_sr_thread_hangs_keeps_every_captured_frame(
    tmp_path: Path, release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SR images that it could not take are named in the session, which holds."""
    write = Recorder.write

    def slow(self: Recorder, result: Result) -> None:
        assert_set(release)
        write(self, result)

    monkeypatch.setattr(Recorder, "write", slow)
    display, camera = ListSink(name="display"), Camera()
    camera.on_read = lambda _number: until(
        lambda: run.ledger.captured - sum(run.ledger.outcomes.values()) < 2
    )
    run, said = record(camera, tmp_path / "s", display)
    workers = {worker.sink.name: worker for worker in run._workers}

    def stop() -> None:
        assert camera.read_all.wait(20)
        until(lambda: len(display.results) + run.ledger.outcomes[Outcome.STALE] == 30)
        release.set()
        run.stop()

    assert ends(run, stop) is None
    holds(tmp_path / "s", 30)
    assert verify(tmp_path / "s").totals["sr"] == workers["recorder"].written
    assert workers["recorder"].missed > 0
    assert any("recorder is too slow" in line for line in said)


@pytest.mark.parametrize(
    "part", ["write", "refresh", "close", "read", "source close", "collect", "submit", "reopen"]
)
def test_what_never_returns_is_given_up_after_an_abort_and_the_recording_holds(
    tmp_path: Path, release: threading.Event, part: str
) -> None:
    hanging = threading.Event()

    def hang(*_: object) -> None:
        hanging.set()
        release.wait(60)

    screen, camera = Screen(), Camera()
    engines: list[FakeEngine] = []

    class Hanging(FakeEngine):
        def submit(self, lr: Image) -> None:
            if part == "submit" and lr[0, 0] == 12:
                hang()
            super().submit(lr)

        def collect(self) -> Image:
            image = super().collect()
            if image[0, 0] == 12 and part == "collect":
                hang()
            if image[0, 0] == 12 and part == "reopen":
                raise EngineError("once")
            return image

    def factory(shape: tuple[int, int]) -> FakeEngine:
        engines.append(Hanging(shape))
        if len(engines) > 1:
            hang()
        return engines[-1]

    if part == "write":
        screen.on_write = lambda result: hang() if result.frame.number >= 12 else None
    if part == "refresh":
        screen.on_refresh = lambda: hang() if screen.results else None
    if part == "close":
        screen.close = hang  # type: ignore[method-assign]
    if part == "read":
        camera.on_read = lambda number: hang() if number == 29 else None
    if part == "source close":
        camera.on_close = hang
    gate = threading.Event()
    reading = camera.on_read

    def paced(number: int) -> None:
        """Frame 12 must not be replaced by a newer one before the engine has it."""
        until(lambda: run.ledger.captured - sum(run.ledger.outcomes.values()) < 2 or hanging.is_set())
        reading(number)

    camera.on_read = paced
    run, said = record(camera, tmp_path / "s", screen, ListSink(name="other"), factory=factory)

    def abort() -> None:
        if part in ("close", "source close"):
            assert camera.read_all.wait(20)
            run.stop()
        else:
            assert hanging.wait(20)
        gate.set()
        run.abort()

    error = ends(run, abort)
    assert isinstance(error, (SinkError, SourceError, EngineError)), said
    name = {
        "write": "screen",
        "refresh": "screen",
        "close": "screen",
        "read": "scripted",
        "source close": "scripted",
    }
    assert name.get(part, "the engine") in str(error)
    assert "given up" in str(error) or "cannot be closed" in str(error)
    run.ledger.check()
    holds(tmp_path / "s", run.ledger.captured)
    assert run.summary().state is State.FAILED


def test_a_sink_that_never_closes_does_not_hang_the_end_of_a_run(
    tmp_path: Path, release: threading.Event
) -> None:
    sink, other = ListSink(name="out.mkv"), ListSink(name="other")
    sink.close = lambda: str(release.wait(60))  # type: ignore[method-assign]
    source = ScriptedSource((make_frame(i, SHAPE) for i in range(20)), shape=SHAPE)
    run, _ = record(source, tmp_path / "s", sink, other)
    error = ends(run, lambda: None)
    assert isinstance(error, SinkError)
    assert "out.mkv has not answered" in str(error)
    assert other.closed == source.closed == 1
    holds(tmp_path / "s", 20)


def test_a_recorder_that_has_much_to_write_at_the_end_is_waited_for_while_it_comes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an overload that took longer than it had, and the recording was left unclosed."""
    handle, ended, tick = Segments.handle, threading.Event(), threading.Event()

    def slowly(self: Segments, *arguments: Any) -> None:
        ended.wait(20)
        tick.wait(0.02)
        handle(self, *arguments)

    monkeypatch.setattr(Segments, "handle", slowly)
    script: list[Step] = [*(make_frame(i, SHAPE) for i in range(30)), ended.set]
    source = ScriptedSource(script, live=True, shape=SHAPE)
    run, _ = record(source, tmp_path / "s", timeouts=replace(SHORT, recorder=0.5, close=30.0, told=10.0))
    begun_ns = SYSTEM.now_ns()
    run.run()
    assert (SYSTEM.now_ns() - begun_ns) / 1e9 > 0.5, "longer than a recorder has that does nothing"
    holds(tmp_path / "s", 30)


def test_a_sink_is_given_up_once(tmp_path: Path, release: threading.Event) -> None:
    """It was said and counted at each look, for as long as another had not answered."""
    sinks = [ListSink(name=f"sink {n}") for n in range(2)]
    sinks[0].on_write = lambda _result: assert_set(release)
    waits = iter(range(10))
    sinks[1].close = lambda: str([threading.Event().wait(0.01) for _ in waits])  # type: ignore[method-assign]
    source = ScriptedSource((make_frame(i, SHAPE) for i in range(3)), shape=SHAPE)
    run, said = record(source, tmp_path / "s", *sinks)
    before = len(left_behind)
    assert isinstance(ends(run, lambda: None), SinkError)
    assert sum("is given up" in line for line in said) == 1
    assert len(left_behind) == before + 1
    assert run.status().sinks["sink 0"].errors == 1


def test_the_recording_of_a_stream_is_closed_while_another_hangs_in_its_end(
    tmp_path: Path, release: threading.Event
) -> None:
    first, manifest = ListSink(name="first"), tmp_path / "s" / "session.json"

    def close() -> None:
        until(lambda: manifest.exists() and json.loads(manifest.read_bytes())["closed"], 20)

    first.close = close  # type: ignore[method-assign]
    sources = [ScriptedSource((make_frame(i, SHAPE) for i in range(5)), shape=SHAPE) for _ in range(2)]
    hanging = Pipeline(sources[0], FakeEngine, [first], scale=2, timeouts=replace(SHORT, close=30.0))
    run, _ = record(sources[1], tmp_path / "s", ListSink(name="other"), timeouts=replace(SHORT, close=30.0))
    run_together([hanging, run])
    assert [hanging.error, run.error] == [None, None]
    holds(tmp_path / "s", 5)


def test_the_recording_is_closed_before_any_sink_is(tmp_path: Path) -> None:
    closed: list[bool] = []
    sink = ListSink()
    sink.close = lambda: closed.append(verify(tmp_path / "s").holds)  # type: ignore[method-assign]
    source = ScriptedSource((make_frame(i, SHAPE) for i in range(5)), shape=SHAPE)
    run, _ = record(source, tmp_path / "s", sink)
    run.run()
    assert closed == [True]


def engine_part(timer: CallTimer) -> Part:
    return Part("engine", timer, lambda: True, *calls_of("the engine"))


def test_what_does_not_answer_is_said_once_and_so_is_its_return() -> None:
    clock, said = ManualClock(), hear()
    timer = CallTimer(clock)
    dog = Watchdog([engine_part(timer)], Timeouts())

    def call(seconds: int) -> None:
        timer.since_ns = clock.now_ns()
        for _ in range(seconds):
            clock.advance(1)
            dog.look()
        timer.since_ns = clock.now_ns()  # the next call has begun before anybody looks
        clock.advance(0.1)
        dog.look()
        timer.since_ns = None

    call(3)
    call(8)
    call(20)
    assert said == [], "what is slow by nature is not taken for hung: three times what it took before"
    call(70)
    assert said == ["the engine has not answered for 61 s", "the engine answers again, after 70 s"]
    assert dog.silent == {}
    said.clear()
    call(1)
    call(3600)
    call(1)
    call(70)
    assert [line for line in said if "has not" in line] == ["the engine has not answered for 61 s"] * 2, (
        "an outage makes nobody deaf for the next one"
    )
    said.clear()
    for _ in range(3):
        timer.since_ns = clock.now_ns()
        for _ in range(100):
            clock.advance(1)
            dog.look()
    assert len(said) == 4, "two in a row are usual from then on"


def test_an_engine_that_hangs_degrades_the_run_within_seconds(release: threading.Event) -> None:
    clock, heard, seen = ManualClock(), hear(), list[Status]()

    def said() -> list[str]:
        return [line for line in heard if line.startswith("the engine")]

    class Hanging(FakeEngine):
        def collect(self) -> Image:
            if self._in_flight[0][0, 0] == 2:
                assert_set(release)
            return super().collect()

    sink = ListSink()

    def script() -> Iterator[Step]:
        for i in range(4):
            yield make_frame(i, time_ns=clock.now_ns())
            while len(sink.results) < min(i + 1, 2):
                yield None
        while not said():
            clock.advance(0.5)
            threading.Event().wait(0.02)
            yield None
        seen.append(run.status())
        release.set()
        while len(said()) < 2 or run.status().state is State.DEGRADED:  # said first, then seen
            yield None
        seen.append(run.status())

    run = Pipeline(
        ScriptedSource(script(), live=True, clock=clock),
        Hanging,
        [sink],
        scale=2,
        clock=clock,
    )
    run.run()
    assert said()[0].startswith("the engine has not answered for ")
    assert said()[1].startswith("the engine answers again, after ")
    assert [status.state for status in seen] == [State.DEGRADED, State.RUNNING]
    assert seen[0].message.startswith("the engine has not answered for ")
    assert seen[1].message == ""


def test_a_recording_that_breaks_off_is_no_longer_shown_and_alarms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_frame = Segments.on_frame

    def fail(self: Segments, entry: Entry, image: Image, taken_ns: int) -> None:
        if entry.record.number == 10:
            raise RuntimeError("a fault")
        on_frame(self, entry, image, taken_ns)

    monkeypatch.setattr(Segments, "on_frame", fail)
    camera = Camera()
    run, _ = record(camera, tmp_path / "s", ListSink())
    seen: list[Status] = []

    def stop() -> None:
        assert "recorder" not in run.status().troubles
        until(lambda: bool(run.status().alarm) and not run.status().recording)
        run.alarms.acknowledge()
        seen.append(run.status())
        run.start_recording(tmp_path / "again")
        seen.append(run.status())
        run.stop()

    error = ends(run, stop)
    assert "a fault" in str(error)
    assert not seen[0].recording
    assert "a fault" in seen[0].troubles["recorder"], "that somebody has seen it brings no recording back"
    assert "recorder" not in seen[1].troubles
    assert seen[0].acknowledged[-1].startswith("RECORDING ENDED")
    shown, quiet = (
        draw(Scene(None, status), (400, 600)).canvas
        for status in (replace(seen[0], alarm=seen[0].acknowledged[-1]), seen[0])
    )
    assert np.any(shown != quiet)


def test_the_seconds_of_a_run_end_it_though_its_source_never_returns(release: threading.Event) -> None:
    camera = Camera(on_read=lambda number: assert_set(release) if number == 3 else None)
    run = Pipeline(camera, FakeEngine, [ListSink()], scale=2, limits=Limits(seconds=0.1), timeouts=SHORT)
    with pytest.raises(SourceError, match="given up"):
        run.run()
    run.ledger.check()


def test_the_seconds_of_a_live_run_end_it_though_its_engine_never_returns(
    tmp_path: Path, release: threading.Event
) -> None:
    class Hanging(FakeEngine):
        def collect(self) -> Image:
            assert_set(release)
            return super().collect()

    run, _ = record(Camera(), tmp_path / "s", ListSink(), factory=Hanging, limits=Limits(seconds=0.1))
    error = ends(run, lambda: None)
    assert isinstance(error, EngineError)
    assert "given up" in str(error)
    run.ledger.check()
    holds(tmp_path / "s", run.ledger.captured)


def test_what_does_not_answer_is_told_of_after_three_seconds() -> None:
    clock, said = ManualClock(), hear()
    timer = CallTimer(clock)
    watchdog = Watchdog([engine_part(timer)], Timeouts())
    timer.since_ns = clock.now_ns()
    clock.advance(2.9)
    watchdog.look()
    assert said == []
    clock.advance(0.2)
    watchdog.look()
    assert said == ["the engine has not answered for 3 s"]


def test_a_sink_without_room_holds_the_engine_up_for_as_long_as_it_may() -> None:
    clock, said = ManualClock(), hear()
    worker = SinkWorker(ListSink(name="slow"), clock=clock, full_s=0.5)
    assert worker.takes(3)
    assert not worker.takes(4), "as many as it has room for are on their way"
    clock.advance(0.49)
    assert not worker.takes(4)
    assert said == []
    clock.advance(0.02)
    assert worker.takes(4)
    assert said == ["slow is too slow: results are missing from it from here on"]


def test_a_sink_that_is_behind_again_and_again_keeps_nobody_waiting() -> None:
    clock = ManualClock()
    worker = SinkWorker(ListSink(name="slow"), clock=clock, full_s=0.5)
    result = make_result()

    def fall_behind() -> float:
        """Seconds for which it held up the engine before it was passed by."""
        for _ in range(RESULTS):
            assert worker.takes(0)
            worker.put(result)
        begun = clock.now_ns()
        while not worker.takes(0):
            clock.advance(0.01)
        waited = (clock.now_ns() - begun) / 1e9
        worker.queue.drain()
        worker.put(result)  # it has caught up
        worker.queue.drain()
        return waited

    assert fall_behind() == pytest.approx(0.5, abs=0.02)
    assert fall_behind() == fall_behind() == 0
    clock.advance(CALM_S)
    assert fall_behind() == pytest.approx(0.5, abs=0.02)


def make_result() -> Result:
    frame = make_frame(0, SHAPE)
    return Result(frame, frame.image, frame.image, Outcome.UPSCALED, 2, Times(0, 0, 0, 0), "")


def test_no_recording_is_closed_while_frames_come(tmp_path: Path) -> None:
    script: list[Step] = [*(make_frame(i, SHAPE) for i in range(5)), lambda: run.close_recording()]
    script += [make_frame(i, SHAPE) for i in range(5, 10)]
    run, _ = record(ScriptedSource(script, shape=SHAPE), tmp_path / "s")
    run.run()
    holds(tmp_path / "s", 10)
    assert verify(tmp_path / "s").totals["sr"] == 10


def test_a_camera_that_gives_nothing_is_told_of_while_it_is_recorded(tmp_path: Path) -> None:
    clock = ManualClock()

    def silent() -> bool:
        clock.advance(10)
        return bool(run.alarms.waiting)

    source = ScriptedSource([lambda: until(silent, 20)], live=True, shape=SHAPE, clock=clock)
    recorder = Recorder(source.info, scale=2, clock=clock)
    run = Pipeline(source, FakeEngine, [], scale=2, recorder=recorder, clock=clock)
    run.start_recording(tmp_path / "s")
    with pytest.raises(RecordingError, match="no image came"):
        run.run()
    assert "NOTHING IS RECORDED: no image has come for more than 3 s" in run.alarms.waiting
