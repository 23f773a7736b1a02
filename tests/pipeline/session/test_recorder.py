from __future__ import annotations

import errno
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heard import hear
from numpy.typing import NDArray
from session_runs import CLOCK, PERIOD_NS, START_NS, frames, make_run, noise, record
from support import FakeEngine, ListSink, ManualClock, Step, until

from clesr.engines.common.errors import UsageError
from clesr.pipeline.frame import Corrupt, Frame, Image, Outcome, Result, Times
from clesr.pipeline.prepare import IntensityWindow, Prepare, Roi, stretch
from clesr.pipeline.session.commit import DEAD_NS
from clesr.pipeline.session.format import Record, SessionError
from clesr.pipeline.session.manifest import Provenance, RecorderSettings
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.recorder import TOO_SLOW, MessageQueue, Recorder
from clesr.pipeline.session.segments import Segments
from clesr.pipeline.session.verify import verify
from clesr.pipeline.session.video import DurableFile, EncodedImage, ImageEncoder, ImageFormat, hash_pixels
from clesr.pipeline.session.writer import Entry
from clesr.pipeline.source import SourceInfo


def ffmpeg(path: Path, pixels: str, dtype: type, shape: tuple[int, int]) -> NDArray[Any]:
    """The images of ``path`` as the system's ffmpeg decodes them."""
    command = shutil.which("ffmpeg")
    if command is None:
        pytest.skip("ffmpeg is missing: install it")
    options = ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", pixels, "-"]
    done = subprocess.run(
        [command, "-v", "error", "-i", str(path), *options], capture_output=True, check=True, timeout=60
    )
    assert not done.stderr
    return np.frombuffer(done.stdout, dtype).reshape(-1, *shape)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_raw_and_sr_are_exact_and_another_build_of_ffmpeg_agrees(tmp_path: Path, dtype: type) -> None:
    record(tmp_path, frames(range(8), dtype))
    session = read_session(tmp_path)
    raw, sr = list(session.images("raw")), list(session.images("sr"))
    assert [r.number for r, _ in raw] == [r.number for r, _ in sr] == list(range(8))
    for line, image in raw:
        np.testing.assert_array_equal(image, noise(line.number, dtype))
        assert image.dtype == dtype
        assert line.raw_hash == hash_pixels(image)
    for line, image in sr:
        np.testing.assert_array_equal(image[::2, ::2], noise(line.number, dtype))
    decoded = ffmpeg(tmp_path / "raw.mkv", "gray" if dtype == np.uint8 else "gray16le", dtype, (12, 18))
    np.testing.assert_array_equal(decoded, np.stack([noise(n, dtype) for n in range(8)]))
    info = session.info
    assert (info.raw_shape, info.sr_shape, info.dtype) == ((12, 18), (24, 36), np.dtype(dtype).name)
    assert (info.engine, info.model, info.scale, info.closed, info.ended) == (
        "fake",
        "fake",
        2,
        True,
        "stopped",
    )
    assert verify(tmp_path).problems == ()


def test_every_outcome_is_recorded_and_explains_every_gap(tmp_path: Path) -> None:
    corrupt = Corrupt(5, START_NS + 5 * PERIOD_NS, "torn")
    script: list[Step] = [*frames([3, 4]), corrupt, *frames([9, 10, 11])]
    fails = [int(noise(10)[0, 0])]
    record(tmp_path, script, factory=lambda shape: FakeEngine(shape, fails=fails))
    found = {r.number: r for r in read_session(tmp_path).records()}
    assert list(found) == [3, 4, 5, 6, 9, 10, 11]
    assert (found[6].outcome, found[6].count) == (Outcome.LOST, 3)
    assert (found[5].outcome, found[5].reason) == (Outcome.CORRUPT, "torn")
    assert found[10].outcome is Outcome.FAILED
    assert found[10].sr_index is not None, "the bicubic image that was shown"
    assert found[9].ticks == 6 * 40
    certificate = verify(tmp_path)
    assert certificate.problems == ()
    assert [(m.first, m.last, m.reason) for m in certificate.missing] == [
        (5, 5, "torn"),
        (6, 8, "lost-at-source"),
    ]
    assert certificate.totals["captured"] == 9


@pytest.mark.parametrize(("again", "stated"), [
    ("fp32", [(0, "fp32")]),
    ("bf16", [(0, "fp32"), (3, "bf16")]),
])  # fmt: skip
def test_each_engine_is_stated_once_with_the_frame_from_which_it_made_the_images(
    tmp_path: Path, again: str, stated: list[tuple[int, str]]
) -> None:
    """The first one fails on frame 2, and another is opened."""
    precisions = iter(["fp32", again])

    def opened(shape: tuple[int, int]) -> FakeEngine:
        engine = FakeEngine(shape, depth=1, fails=[int(noise(2)[0, 0])])
        engine.info = replace(engine.info, precision=next(precisions))
        return engine

    record(tmp_path, frames(range(6)), factory=opened)
    info = read_session(tmp_path).info
    assert [(engine["from"], engine["precision"]) for engine in info.engines] == stated
    assert info.precision == "fp32"
    assert verify(tmp_path).problems == ()


@pytest.mark.parametrize(("rests_on", "recorded"), [(None, None), (1.0, 1.0), (1.001, 1.01), (2.341, 2.35)])
def test_a_record_says_on_how_many_frames_its_image_rests(
    tmp_path: Path, rests_on: float | None, recorded: float | None
) -> None:
    recorder = Recorder(SourceInfo("scripted", False, 25.0), scale=2, clock=CLOCK)
    recorder.start(tmp_path / "s").result(20)
    (frame,) = (frame for frame in frames([0]) if isinstance(frame, Frame))
    image = np.repeat(np.repeat(frame.image, 2, 0), 2, 1)
    times = Times(frame.time_ns, frame.time_ns, frame.time_ns, frame.time_ns)
    result = Result(frame, frame.image, image, Outcome.UPSCALED, 2, times, "fake", frames=rests_on)
    recorder.capture(frame)
    recorder.settle_result(result)
    recorder.write(result)
    recorder.close()
    session = read_session(tmp_path / "s")
    assert [line.frames for line in session.records()] == [recorded]
    assert session.info.sr_shape == (24, 36)


def test_what_was_recorded_counts_for_nothing_any_more() -> None:
    """After hours of recording there is as much room for what waits as at its begin."""
    queue = MessageQueue(10_000)
    for size in (0, 1, 511, 512, 700, 20_000) * 20:
        assert queue.put(lambda: None, size)
        assert queue.get(0) is not None
    assert queue.put(lambda: None, 4000)
    assert queue.put(lambda: None, 4000)
    assert not queue.over_budget
    assert not queue.put(lambda: None, 4000)


def test_a_hanging_engine_costs_no_raw_frame(tmp_path: Path) -> None:
    gate = threading.Semaphore(0)
    script: list[Step] = [*frames(range(30), timed=False), lambda: gate.release(100)]
    run, _ = make_run(script, live=True, factory=lambda shape: FakeEngine(shape, gate=gate))
    run.start_recording(tmp_path)
    run.run()
    certificate = verify(tmp_path)
    assert certificate.problems == ()
    assert certificate.totals["raw"] == 30
    assert certificate.totals["stale"] >= 24
    assert certificate.totals["stale"] == run.ledger.outcomes[Outcome.STALE]
    assert {m.reason for m in certificate.missing} == {"stale"}


def test_recordings_begin_and_end_while_live(tmp_path: Path) -> None:
    run, said = make_run([])

    def script() -> Iterator[Step]:
        yield from frames(range(5))
        run.start_recording(tmp_path / "a")
        yield from frames(range(5, 12))
        run.stop_recording()
        yield from frames(range(12, 20))
        run.start_recording(tmp_path / "b")
        yield from frames(range(20, 23))

    run, said = make_run(script())
    summary = run.run()
    for name, numbers in (("a", range(5, 12)), ("b", range(20, 23))):
        assert [r.number for r in read_session(tmp_path / name).records()] == list(numbers)
        assert [r.number for r, _ in read_session(tmp_path / name).images("sr")] == list(numbers)
        assert verify(tmp_path / name).problems == ()
    assert f"recording to {tmp_path / 'a'}" in said
    assert "7 frames, 7 up-scaled" in summary.outputs[0]


@pytest.mark.parametrize("codec", ["ffv1", "hevc"])
def test_a_recording_begun_late_contains_the_last_seconds(tmp_path: Path, codec: str) -> None:
    def script() -> Iterator[Step]:
        yield from frames(range(60), shape=(48, 64))
        run.start_recording(tmp_path)
        yield from frames(range(60, 65), shape=(48, 64))

    run, _ = make_run(script(), retro_s=1.0, codec=codec)
    run.run()
    numbers = [r.number for r in read_session(tmp_path).records()]
    assert numbers == list(range(numbers[0], 65))
    assert 60 - 26 <= numbers[0] <= 60 - 25
    certificate = verify(tmp_path)
    assert certificate.problems == ()
    assert certificate.totals["sr"] >= 65 - numbers[0] - (25 if codec == "hevc" else 0)
    for line, image in read_session(tmp_path).images("raw"):
        np.testing.assert_array_equal(image, noise(line.number, shape=(48, 64)))


def test_the_memory_of_the_last_seconds_is_bounded_in_bytes(tmp_path: Path) -> None:
    def script() -> Iterator[Step]:
        yield from frames(range(60), shape=(48, 64))
        run.start_recording(tmp_path)
        yield from frames(range(60, 62), shape=(48, 64))

    run, _ = make_run(script(), retro_s=100.0, retro_bytes=20 * 48 * 64 * 5)
    run.run()
    assert 10 < verify(tmp_path).totals["captured"] < 50
    assert verify(tmp_path).problems == ()


def test_frames_of_another_size_go_on_in_a_folder_of_their_own(tmp_path: Path) -> None:
    script = [*frames(range(4)), *frames(range(4, 9), shape=(20, 30)), *frames([9], np.uint16)]
    said = record(tmp_path / "s", script)
    for name, numbers, shape in (
        ("s", range(4), (12, 18)),
        ("s-2", range(4, 9), (20, 30)),
        ("s-3", [9], (12, 18)),
    ):
        certificate = verify(tmp_path / name)
        assert certificate.problems == ()
        assert certificate.info.raw_shape == shape
        assert [r.number for r, _ in read_session(tmp_path / name).images("sr")] == list(numbers)
    assert any(f"goes on in {tmp_path / 's-2'}" in line for line in said)


def test_hevc_keeps_every_image_and_vouches_for_the_coded_ones(tmp_path: Path) -> None:
    record(tmp_path, frames(range(40), shape=(32, 48)), codec="hevc")
    certificate = verify(tmp_path)
    assert certificate.problems == ()
    assert certificate.totals["sr"] == 40
    assert all(r.sr_coded for r in read_session(tmp_path).records())


def test_levels_are_recorded_and_make_the_same_image_again(tmp_path: Path) -> None:
    prepare = Prepare(roi=Roi(2, 1, 10, 8), window=IntensityWindow("percentile"))
    record(tmp_path, frames(range(5), np.uint16), prepare=prepare)
    session = read_session(tmp_path)
    sr = {line.number: image for line, image in session.images("sr")}
    assert session.info.sr_shape == (16, 20)
    for line, image in session.images("raw"):
        assert line.levels is not None
        lr = stretch(np.ascontiguousarray(image[1:9, 2:12]), *line.levels)
        np.testing.assert_array_equal(sr[line.number][::2, ::2], lr)


def slow_encoder(monkeypatch: pytest.MonkeyPatch, wait: Callable[[], object]) -> threading.Event:
    """Encoding of raw images first waits; set once it does."""
    encode, waits = ImageEncoder.encode, threading.Event()

    def waiting(self: ImageEncoder, image: Image, *, key: bool = False) -> EncodedImage:
        if image.shape == (12, 18):
            waits.set()
            wait()
        return encode(self, image, key=key)

    monkeypatch.setattr(ImageEncoder, "encode", waiting)
    return waits


def test_a_disk_that_is_too_slow_costs_pixels_but_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    slow_encoder(monkeypatch, lambda: go.wait(20))
    display = ListSink(name="display")
    script: list[Step] = [*frames(range(20), timed=False), go.set, *frames(range(20, 25), timed=False)]
    run, said = make_run(script, live=True, sinks=[display], waiting_bytes=4000)
    run.start_recording(tmp_path)
    run.run()
    assert run.ledger.captured == 25
    certificate = verify(tmp_path)
    assert certificate.problems == ()
    assert certificate.totals["captured"] == 25
    assert certificate.totals["unrecorded"] >= 14
    assert not certificate.as_json()["complete"]
    assert {m.reason for m in certificate.missing if m.what == "raw"} == {TOO_SLOW}
    assert any("too slow" in line for line in said)


def test_a_disk_that_takes_nothing_ends_the_recording_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, clock = threading.Event(), ManualClock()
    stuck = slow_encoder(monkeypatch, lambda: go.wait(20))
    waiting = [(lambda: clock.advance(DEAD_NS / 8e9), frame) for frame in frames(range(20, 30), timed=False)]
    script: list[Step] = [
        *frames(range(20), timed=False),
        lambda: stuck.wait(20),
        *(step for steps in waiting for step in steps),
        go.set,
        *frames(range(30, 40), timed=False),
    ]
    run, said = make_run(script, live=True, waiting_bytes=4000, clock=clock)
    run.start_recording(tmp_path)
    with pytest.raises(SessionError, match="took nothing"):
        run.run()
    assert run.ledger.captured == 40
    assert sum("took nothing" in line for line in said) >= 1


def test_after_a_disk_that_took_nothing_the_next_recording_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended with its first frame, and so did all others until the program was started anew."""
    go, clock = threading.Event(), ManualClock()
    stuck = slow_encoder(monkeypatch, lambda: go.wait(20))
    waiting = [(lambda: clock.advance(DEAD_NS / 8e9), frame) for frame in frames(range(20, 30), timed=False)]

    def drained() -> None:
        assert isinstance(run.recorder, Recorder)
        queue = run.recorder._queue
        until(lambda: not queue.messages)

    script: list[Step] = [
        *frames(range(20), timed=False),
        lambda: stuck.wait(20),
        *(step for steps in waiting for step in steps),
        go.set,
        drained,
        lambda: run.start_recording(tmp_path / "second"),
        *(step for frame in frames(range(30, 40), timed=False) for step in (frame, drained)),
    ]
    run, _said = make_run(script, live=True, waiting_bytes=4000, clock=clock)
    run.start_recording(tmp_path / "first")
    with pytest.raises(SessionError, match="took nothing"):
        run.run()
    certificate = verify(tmp_path / "second")
    assert certificate.problems == ()
    assert certificate.totals["captured"] == certificate.totals["raw"] == 10


def test_a_recording_that_is_ordered_while_the_run_ends_is_refused(tmp_path: Path) -> None:
    """It was said to begin, and nothing came of it."""
    refused: list[bool] = []

    def late() -> None:
        run.stop()
        with pytest.raises(UsageError, match="the run ends, and takes no more frames"):
            run.start_recording(tmp_path / "s")
        refused.append(True)

    run, _ = make_run([*frames(range(3)), late])
    run.run()
    assert refused
    assert not (tmp_path / "s").exists()


def test_silence_is_an_alarm_while_the_source_is_read_and_not_while_the_engine_is_opened(
    tmp_path: Path,
) -> None:
    """It said that nothing is recorded, and stayed beside the recording that then went on."""
    clock, said, tick = ManualClock(), hear(), threading.Event()
    source = SourceInfo("camera", True, 25.0, (8, 10))
    recorder = Recorder(source, scale=2, clock=clock)
    recorder.start(tmp_path / "s").result(20)
    for _ in range(3):
        clock.advance(10)
        tick.wait(0.15)
    assert not recorder.alarms.waiting
    recorder.begin()
    for _ in range(3):
        until(lambda: not recorder._queue.messages)
        clock.advance(10)
        until(lambda: bool(recorder.alarms.waiting))
        tick.wait(0.15)
    words = "NOTHING IS RECORDED: no image has come for more than 3 s"
    assert recorder.alarms.waiting == (words,)
    assert said.count(words) == 1, "among the messages once, until it is acknowledged"
    with pytest.raises(SessionError, match="nothing was recorded"):
        recorder.close()


def test_so_does_one_that_takes_nothing_while_no_frame_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits stays bounded though nothing of it is an image."""
    go, clock = threading.Event(), ManualClock()
    stuck = slow_encoder(monkeypatch, lambda: go.wait(20))
    waiting = [(lambda: clock.advance(DEAD_NS / 8e9), Corrupt(n, 0, "torn")) for n in range(20, 60)]
    script: list[Step] = [
        *frames(range(20), timed=False),
        lambda: stuck.wait(20),
        *(step for steps in waiting for step in steps),
        go.set,
        *frames(range(60, 70), timed=False),
    ]
    run, _said = make_run(script, live=True, waiting_bytes=4000, clock=clock)
    run.start_recording(tmp_path)
    with pytest.raises(SessionError, match="took nothing"):
        run.run()
    assert run.ledger.outcomes[Outcome.CORRUPT] == 40


def test_a_process_that_was_stopped_for_an_hour_blames_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-Z and fg, a paused machine: nobody had time, the disk neither."""
    go, clock = threading.Event(), ManualClock()
    slow_encoder(monkeypatch, lambda: go.wait(20))
    script: list[Step] = [
        *frames(range(20), timed=False),
        lambda: clock.advance(3600),
        *frames(range(20, 30), timed=False),
        go.set,
        *frames(range(30, 40), timed=False),
    ]
    run, said = make_run(script, live=True, waiting_bytes=4000, clock=clock)
    run.start_recording(tmp_path)
    run.run()
    assert not any("took nothing" in line for line in said)
    certificate = verify(tmp_path)
    assert certificate.problems == ()
    assert certificate.totals["captured"] == run.ledger.captured == 40


@pytest.mark.parametrize("kept", [3_000, 12_000])
def test_a_full_disk_ends_the_recording_which_stays_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    write = DurableFile.write

    def full(self: DurableFile, data: bytes) -> int:
        if self.name.endswith("raw.mkv") and self.size > kept:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(DurableFile, "write", full)
    display = ListSink(name="display")
    run, said = make_run(frames(range(100)), sinks=[display])
    run.start_recording(tmp_path)
    with pytest.raises(SessionError, match="No space left on device") as raised:
        run.run()
    assert "\n" not in str(raised.value)
    assert len(display.results) == 100, "the live view goes on"
    assert sum("No space left" in line for line in said) == 1
    certificate = verify(tmp_path)
    assert certificate.problems == ()
    assert 100 > certificate.totals["raw"] > 0
    assert certificate.totals["raw"] == sum(1 for _ in read_session(tmp_path).images("raw"))
    assert certificate.info.ended.startswith("writing failed: No space left")


def test_a_folder_with_something_in_it_is_never_recorded_into(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("keep me")
    run, said = make_run(frames(range(3)))
    run.start_recording(tmp_path)
    with pytest.raises(SessionError, match="is not empty"):
        run.run()
    assert run.ledger.captured == 3, "the live view goes on"
    assert sum("is not empty" in line for line in said) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_without_a_frame_there_is_no_session(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match=r"nothing was recorded in .*: no image came"):
        record(tmp_path / "s", [])
    with pytest.raises(SessionError, match="is no session"):
        read_session(tmp_path / "s")


def test_whoever_asked_hears_also_where_the_recorder_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = make_run([], retro_s=1.0)
    recorder = run.recorder
    assert isinstance(recorder, Recorder)

    def broken(*_: object, **__: object) -> None:
        raise MemoryError("no room")

    for name in ("start", "note", "save_last"):
        monkeypatch.setattr(recorder._segments, name, broken)
    for asked in (recorder.start(tmp_path / "s"), recorder.note("x"), recorder.save_last(tmp_path / "t")):
        with pytest.raises(SessionError, match="the recorder failed: "):
            asked.result(60)
    with pytest.raises(SessionError):
        run.run()
    for asked in (recorder.start(tmp_path / "s"), recorder.note("x"), recorder.save_last(tmp_path / "t")):
        with pytest.raises(SessionError, match="the run has ended"):
            asked.result(60)


def test_an_sr_image_that_comes_before_the_first_raw_one_is_no_fault(tmp_path: Path) -> None:
    source = SourceInfo("scripted", True, 25.0)
    provenance = Provenance(source, 2, lambda raw: (2 * raw[0], 2 * raw[1]), RecorderSettings(), CLOCK)
    segments, images = (
        Segments(provenance, fps=25.0),
        ImageFormat((12, 18), np.dtype(np.uint8)),
    )
    messages: list[Callable[[], None]] = [
        lambda: segments.start(tmp_path, Future()),
        lambda: segments.on_missed(Entry(Record(number=0, captured_ns=0, ticks=0)), images, TOO_SLOW),
        lambda: segments.on_sr(0, ImageEncoder("ffv1", images, fps=25.0, threads=1).encode(noise(0))),
        lambda: segments.on_settled(0, {"outcome": Outcome.UPSCALED}),
        lambda: segments.on_frame(Entry(Record(number=1, captured_ns=1, ticks=40)), noise(1), 1),
        segments.close,
    ]
    for message in messages:
        segments.handle(message, ())
    assert segments.errors == []
    certificate = verify(tmp_path)
    assert certificate.problems == ()
    assert (certificate.totals["captured"], certificate.totals["unrecorded"]) == (2, 1)


def test_records_are_given_as_they_are_read_up_to_a_damaged_line(tmp_path: Path) -> None:
    record(tmp_path, frames(range(300, 306)))
    lines = (tmp_path / "frames.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "frames.jsonl").write_bytes(b"".join([*lines[:-1], b"{}\n"]))
    given: list[int] = []
    with pytest.raises(SessionError, match="line 6"):
        given.extend(each.number for each in read_session(tmp_path).records())
    assert given == list(range(300, 305))


def test_frame_numbers_of_recorded_input_keep_its_own_times(tmp_path: Path) -> None:
    from fractions import Fraction

    times = [0, 3, 4, 10]
    script: list[Step] = [Frame(noise(n), n, 0, pts, Fraction(1, 50)) for n, pts in enumerate(times)]
    record(tmp_path, script)
    assert [r.ticks for r in read_session(tmp_path).records()] == [20 * pts for pts in times]
