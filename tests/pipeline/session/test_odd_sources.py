"""Sources whose numbers, times, sizes and frames cannot be relied on: nothing ends a recording, and nothing is lost
without being counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from session_runs import frames, make_run, noise
from support import ManualClock, ScriptedSource, Step, until

from clesr.engines.common.errors import SourceError, UsageError
from clesr.pipeline.frame import Corrupt, Frame, InvalidFrame, Outcome
from clesr.pipeline.prepare import IntensityWindow, Prepare, Roi
from clesr.pipeline.session.format import SessionError
from clesr.pipeline.session.preroll import AT_ONCE, IN_A_ROW, WITHIN_NS
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.verify import Certificate, verify

PERIOD_S = 0.04
HOUR_NS = 3600 * 10**9
SMALL, LARGE = (12, 18), (20, 30)


def sessions(folder: Path) -> list[Certificate]:
    """What ``verify`` says of each session that a recording into ``folder`` left, in the order of their frames."""
    found = [verify(path) for path in folder.parent.glob(folder.name + "*")]
    return sorted(found, key=lambda certificate: certificate.info.first)


@dataclass
class Recorded:
    certificates: list[Certificate]
    said: list[str]
    captured: int
    outcomes: dict[Outcome, int]

    @property
    def captured_in_sessions(self) -> int:
        return sum(c.totals["captured"] for c in self.certificates)


def record_from(
    folder: Path,
    change: Callable[[Frame], Frame | Corrupt | Exception],
    count: int = 60,
    prepare: Prepare | None = None,
    live: bool = True,
    **options: Any,
) -> Recorded:
    """A source's ``count`` frames as ``change`` makes them, recorded into ``folder``."""
    clock = ManualClock()

    def script() -> Iterator[Step]:
        for number in range(count):
            clock.advance(PERIOD_S)
            yield change(Frame(noise(number), number, clock.now_ns()))

    run, said = make_run(script(), live=live, clock=clock, prepare=prepare, **options)
    run.start_recording(folder)
    run.run()
    return Recorded(sessions(folder), said, run.ledger.captured, run.ledger.outcomes)


def at(number: int, change: Callable[[Frame], Frame]) -> Callable[[Frame], Frame]:
    return lambda frame: change(frame) if frame.number == number else frame


def since(number: int, change: Callable[[Frame], Frame]) -> Callable[[Frame], Frame]:
    return lambda frame: change(frame) if frame.number >= number else frame


def later(nanoseconds: int) -> Callable[[Frame], Frame]:
    return lambda frame: replace(frame, time_ns=frame.time_ns + nanoseconds)


def numbered(change: Callable[[int], int]) -> Callable[[Frame], Frame]:
    return lambda frame: replace(frame, number=change(frame.number))


def sized(shape: tuple[int, int], dtype: type = np.uint8) -> Callable[[Frame], Frame]:
    return lambda frame: replace(frame, image=noise(frame.number, dtype, shape))


CLOCKS_AND_NUMBERS = {
    "an hour back": since(20, later(-HOUR_NS)),
    "an hour back from the first frame on": later(-HOUR_NS),
    "one frame an hour back": at(20, later(-HOUR_NS)),
    "one frame 100 ms back": at(20, later(-100_000_000)),
    "one frame 100 ms forth": at(20, later(100_000_000)),
    "one frame and a half back": at(20, later(-int(1.5 * PERIOD_S * 1e9))),
    "a second back": since(20, later(-(10**9))),
    "an hour forth": since(20, later(HOUR_NS)),
    "negative": at(20, lambda frame: replace(frame, time_ns=-5)),
    "huge": at(20, lambda frame: replace(frame, time_ns=2**70)),
    "every number twice": since(20, numbered(lambda n: n // 2)),
    "one number twice": at(20, numbered(lambda n: n - 1)),
    "numbers from 0 again": since(20, numbered(lambda n: n - 20)),
    "a number jumps once": at(20, numbered(lambda n: n + 2**62)),
    "numbers jump": since(20, numbered(lambda n: n + 2**62)),
    "numbers jump beyond all bounds": since(20, numbered(lambda n: n + 2**5000)),
}


@pytest.mark.parametrize("change", CLOCKS_AND_NUMBERS.values(), ids=CLOCKS_AND_NUMBERS.keys())
def test_a_wrong_clock_or_counter_costs_no_frame_and_stands_in_the_record(
    tmp_path: Path, change: Callable[[Frame], Frame]
) -> None:
    found = record_from(tmp_path / "s", change)
    first = 60 if change is CLOCKS_AND_NUMBERS["an hour back from the first frame on"] else 0
    captured = found.captured
    if first:  # for a second they are taken for frames that waited in the driver
        assert captured >= 60 - 1 / PERIOD_S - 1
    else:
        assert captured == 60
    (certificate,) = found.certificates
    assert certificate.problems == ()
    assert certificate.totals["captured"] == certificate.totals["raw"] == captured
    records = list(read_session(tmp_path / "s").records())
    odd = [record for record in records if record.reason]
    assert odd
    assert all("the source" in (record.reason or "") for record in odd)
    if not first:
        assert odd[0].number == 20
    told = [line for line in found.said if "it was put right" in line]
    assert 1 <= len(told) <= 4
    assert records[-1].ticks == pytest.approx(1000 * PERIOD_S * (captured - 1), abs=3000 * PERIOD_S)


def test_frames_that_do_not_come_are_found_in_the_files(tmp_path: Path) -> None:
    found = record_from(tmp_path / "s", since(20, numbered(lambda n: n + 7)))
    assert found.certificates[0].totals["lost-at-source"] == 7
    assert found.captured == 67


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        (at(20, sized(LARGE)), [(SMALL, 20), (LARGE, 1), (SMALL, 39)]),
        (since(20, sized(LARGE)), [(SMALL, 20), (LARGE, 40)]),
        (since(20, sized(SMALL, np.uint16)), [(SMALL, 20), (SMALL, 40)]),
        (since(20, sized((1, 1))), [(SMALL, 20), ((1, 1), 40)]),
        (at(20, sized((1, 7))), [(SMALL, 20), ((1, 7), 1), (SMALL, 39)]),
    ],
    ids=["once", "for good", "depth", "one pixel", "one line once"],
)
def test_another_size_or_depth_begins_a_session_and_ends_no_recording(
    tmp_path: Path, change: Callable[[Frame], Frame], kinds: list[tuple[tuple[int, int], int]]
) -> None:
    found = record_from(tmp_path / "s", change)
    assert [(c.info.raw_shape, c.totals["raw"]) for c in found.certificates] == kinds
    assert all(c.holds for c in found.certificates)
    assert found.captured_in_sessions == found.captured == 60
    assert sum("the recording goes on in" in line for line in found.said) == len(kinds) - 1


def test_a_size_that_changes_when_all_before_has_its_outcome_ends_no_recording(tmp_path: Path) -> None:
    """Then nothing of the old session is waited for, and the new one has not begun."""
    states = []

    def script() -> Iterator[Step]:
        for number in range(12):
            until(lambda: run.summary().sinks["recorder"]["written"] == number)  # noqa: B023 - called at once
            states.append(run.status().recording)
            yield from frames([number], shape=SMALL if number < 6 else LARGE)

    run, _ = make_run(script())
    run.start_recording(tmp_path / "s")
    run.run()
    assert all(states)
    assert [(c.holds, c.totals["raw"]) for c in sessions(tmp_path / "s")] == [(True, 6), (True, 6)]
    assert run.recorder is not None
    assert run.recorder.alarm is None


def test_sizes_that_go_to_and_fro_make_few_folders_and_every_number_is_there(tmp_path: Path) -> None:
    found = record_from(tmp_path / "s", lambda f: sized(LARGE)(f) if f.number % 2 else f, count=200)
    assert len(found.certificates) == AT_ONCE + 1
    assert all(c.holds for c in found.certificates)
    assert found.captured_in_sessions == 200
    last = found.certificates[-1]
    assert last.totals["unrecorded"] == (200 - AT_ONCE) // 2
    reasons = {m.reason for m in last.missing if m.what == "raw"}
    assert reasons == {"other size: 30x20 uint8 in a recording of 18x12 uint8"}
    assert sum("frames are missing" in line and "other size" in line for line in found.said) == 1


def test_a_size_that_stays_is_followed_however_often_it_changed_before(tmp_path: Path) -> None:
    def change(frame: Frame) -> Frame:
        return sized(LARGE)(frame) if frame.number % 2 or frame.number >= 40 else frame

    found = record_from(tmp_path / "s", change, count=100)
    assert all(c.holds for c in found.certificates)
    assert found.captured_in_sessions == 100
    last = found.certificates[-1]
    assert (last.info.raw_shape, last.info.first) == (LARGE, 39 + IN_A_ROW - 1)
    assert last.totals["raw"] == 100 - last.info.first


def test_after_a_quiet_minute_changes_are_followed_at_once_again(tmp_path: Path) -> None:
    clock = ManualClock()

    def script() -> Iterator[Step]:
        for number in range(2 * AT_ONCE + 1):
            if number == AT_ONCE + 1:
                clock.advance(WITHIN_NS / 1e9)
            yield Frame(noise(number, shape=LARGE if number % 2 else SMALL), number, clock.now_ns())

    run, _ = make_run(script(), clock=clock)
    run.start_recording(tmp_path / "s")
    run.run()
    assert [c.totals["raw"] for c in sessions(tmp_path / "s")] == [1] * (2 * AT_ONCE + 1)


@pytest.mark.parametrize("codec", ["ffv1", "hevc"])
def test_up_scaled_images_of_sizes_that_go_to_and_fro_stay_whole(tmp_path: Path, codec: str) -> None:
    def change(frame: Frame) -> Frame:
        return sized((32, 40))(frame) if frame.number % 2 else sized((24, 24))(frame)

    found = record_from(tmp_path / "s", change, count=80, live=False, codec=codec)
    assert all(c.holds for c in found.certificates)
    last = found.certificates[-1]
    assert last.totals["raw"] == 38
    assert last.totals["sr"] >= 38 - 4, "those that were coded before the session began"


def test_a_frame_that_no_coder_takes_is_recorded_by_its_number(tmp_path: Path) -> None:
    found = record_from(tmp_path / "s", at(20, sized((400, 1))))  # FFV1 cannot cut it into slices
    (certificate,) = found.certificates
    assert certificate.holds
    assert (certificate.totals["captured"], certificate.totals["unrecorded"]) == (60, 1)
    (missing,) = (m for m in certificate.missing if m.what == "raw")
    assert missing.first == 20
    assert missing.reason.startswith("could not be coded: 1x400 uint8: ")
    assert sum("could not be coded" in line for line in found.said) == 1


def test_a_recording_of_nothing_but_frames_that_no_coder_takes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match=r"nothing was recorded in .*60 frames came without an image"):
        record_from(tmp_path / "s", sized((400, 1)))


@settings(max_examples=10, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=4),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    codec=st.sampled_from(["ffv1", "hevc"]),
)
def test_every_small_size_is_recorded_exactly(shapes: list[tuple[int, int]], dtype: type, codec: str) -> None:
    with TemporaryDirectory() as folder:
        script = [f for n, shape in enumerate(shapes) for f in frames([n], dtype, shape)]
        run, _ = make_run(script, codec=codec)
        run.start_recording(Path(folder) / "s")
        run.run()
        found = sessions(Path(folder) / "s")
        assert all(c.holds for c in found)
        assert sum(c.totals["raw"] for c in found) == len(shapes)
        for certificate in found:
            for record, image in read_session(Path(certificate.folder)).images("raw"):
                np.testing.assert_array_equal(image, noise(record.number, dtype, shapes[record.number]))


def test_a_frame_of_a_wrong_form_is_corrupt_and_the_run_goes_on(tmp_path: Path) -> None:
    def change(frame: Frame) -> Frame | Exception:
        return InvalidFrame("a frame's image must be C-contiguous") if frame.number == 20 else frame

    found = record_from(tmp_path / "s", change)
    assert found.outcomes[Outcome.CORRUPT] == 1
    (certificate,) = found.certificates
    assert certificate.holds
    assert (certificate.totals["captured"], certificate.totals["corrupt"]) == (60, 1)
    assert [m.reason for m in certificate.missing if m.first == 20] == [
        "a frame's image must be C-contiguous"
    ]


def changed(frame: Frame, **values: Any) -> Frame:
    """As a program without types would make it."""
    return replace(frame, **values)


def spoilt(number: Any, time_ns: Any) -> Corrupt:
    return Corrupt(number, time_ns, "bad")


WHOLE: dict[str, Callable[[Frame], Any]] = {
    "NumPy's": lambda frame: changed(frame, number=np.int64(frame.number), time_ns=np.uint64(frame.time_ns)),
    "Corrupt with NumPy's": lambda frame: spoilt(np.uint8(frame.number), np.int64(frame.time_ns)),
}
NOT_WHOLE: dict[str, Callable[[Frame], Any]] = {
    "a number that is a float": lambda frame: changed(frame, number=float(frame.number)),
    "a time that is a float": lambda frame: changed(frame, time_ns=frame.time_ns + 0.5),
    "a time that is none": lambda frame: changed(frame, time_ns=float("nan")),
    "a presentation time that is a float": lambda frame: changed(frame, pts=1.5, time_base=Fraction(1, 25)),
    "Corrupt without a number": lambda _frame: spoilt(None, 0),
    "no frame at all": lambda _frame: "frame",
    "an image alone": lambda frame: frame.image,
}


class Unchecked(ScriptedSource):
    """Gives each item as ``change`` makes it, whatever that is."""

    def __init__(self, count: int, change: Callable[[Frame], Any], clock: ManualClock) -> None:
        super().__init__((), live=True, clock=clock)
        self._numbers, self._change, self._time = iter(range(count)), change, clock

    def read(self, timeout: float) -> Any:
        for number in self._numbers:
            self._time.advance(PERIOD_S)
            frame = Frame(noise(number), number, self._time.now_ns())
            return self._change(frame) if number >= 10 else frame
        return super().read(timeout)


@pytest.mark.parametrize("name", [*WHOLE, *NOT_WHOLE])
def test_numbers_and_times_that_are_none_cost_their_frames_alone(tmp_path: Path, name: str) -> None:
    clock = ManualClock()
    run, _ = make_run((), clock=clock)
    source = Unchecked(20, (WHOLE | NOT_WHOLE)[name], clock)
    run.source = run._capture.source = source
    run.start_recording(tmp_path / "s")
    run.run()
    (certificate,) = sessions(tmp_path / "s")
    assert certificate.problems == ()
    corrupt = 0 if name == "NumPy's" else 10
    assert run.ledger.captured == certificate.totals["captured"] == 20
    assert run.ledger.outcomes[Outcome.CORRUPT] == corrupt
    assert certificate.totals["raw"] == 20 - corrupt
    numbers = [record.number for record in read_session(tmp_path / "s").records()]
    assert numbers == list(range(20))


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ValueError("no"), RuntimeError()])
def test_a_source_that_raises_ends_the_run_and_the_session_holds(tmp_path: Path, error: Exception) -> None:
    def change(frame: Frame) -> Frame | Exception:
        return error if frame.number == 20 else frame

    kind, said = (
        (SourceError, "broke: Input/output error") if isinstance(error, OSError) else (type(error), "^(no)?$")
    )
    with pytest.raises(kind, match=said):
        record_from(tmp_path / "s", change)
    (certificate,) = sessions(tmp_path / "s")
    assert certificate.holds
    assert certificate.totals["captured"] == 20


@pytest.mark.parametrize("live", [True, False])
def test_a_frame_for_which_a_source_has_no_memory(tmp_path: Path, live: bool) -> None:
    """A live source goes on; one that is read may never get past it."""
    script: list[Step] = [*frames(range(10)), MemoryError(), *frames(range(11, 20))]
    run, _ = make_run(script, live=live)
    run.start_recording(tmp_path / "s")
    if live:
        run.run()
    else:
        with pytest.raises(MemoryError):
            run.run()
    assert run.ledger.captured == (20 if live else 10)
    assert run.ledger.outcomes[Outcome.CORRUPT] == live
    (certificate,) = sessions(tmp_path / "s")
    assert certificate.holds
    assert certificate.totals["captured"] == run.ledger.captured


def test_frames_that_the_region_of_interest_leaves_are_recorded_and_fail(tmp_path: Path) -> None:
    prepare = Prepare(roi=Roi(2, 2, 10, 10), window=IntensityWindow("full"))
    found = record_from(tmp_path / "s", since(20, sized((8, 8))), prepare=prepare)
    assert found.outcomes[Outcome.FAILED] == 40
    assert [c.totals["raw"] for c in found.certificates] == [20, 40]
    assert all(c.holds for c in found.certificates)
    assert any("cannot be up-scaled: --roi 2,2,10,10" in line for line in found.said)
    with pytest.raises(UsageError, match="--roi"):
        record_from(tmp_path / "t", sized((8, 8)), prepare=prepare)


def test_many_corrupt_frames_are_few_lines(tmp_path: Path) -> None:
    found = record_from(
        tmp_path / "s", lambda f: Corrupt(f.number, f.time_ns, "torn") if f.number > 10 else f, count=300
    )
    assert found.outcomes[Outcome.CORRUPT] == 289
    assert 2 <= sum("is corrupt: torn" in line for line in found.said) <= 6
    assert found.certificates[0].totals["corrupt"] == 289


ODD = st.fixed_dictionaries(
    {},
    optional={
        "number": st.one_of(st.integers(-60, 60), st.integers(0, 2**70)),
        "time_ns": st.one_of(st.integers(-(10**8), 10**8), st.integers(-(2**70), 2**70)),
        "shape": st.sampled_from([(1, 1), (1, 5), LARGE, (400, 1)]),
        "dtype": st.just(np.uint16),
        "corrupt": st.just(True),
        "invalid": st.just(True),
    },
)


@settings(max_examples=15, deadline=None)
@given(odds=st.lists(st.one_of(st.just({}), ODD), min_size=1, max_size=30))
@example(odds=[{"time_ns": -40_000_001}])
def test_whatever_comes_the_ledger_balances_and_every_session_holds(odds: list[dict[str, object]]) -> None:
    def change(frame: Frame) -> Frame | Corrupt | Exception:
        odd = odds[frame.number]
        number = frame.number + odd.get("number", 0)  # type: ignore[operator]
        time_ns = frame.time_ns + odd.get("time_ns", 0)  # type: ignore[operator]
        if "invalid" in odd:
            return InvalidFrame("not a frame")
        if "corrupt" in odd:
            return Corrupt(number, time_ns, "torn")
        shape, dtype = odd.get("shape", SMALL), odd.get("dtype", np.uint8)
        return Frame(noise(frame.number, dtype, shape), max(0, number), time_ns)  # type: ignore[arg-type]

    taken = odds[skipped(odds) :]
    images = [o for o in taken if not {"invalid", "corrupt"} & set(o) and o.get("shape") != (400, 1)]
    with TemporaryDirectory() as name:
        folder = Path(name) / "s"
        if not images:
            with pytest.raises(SessionError, match="nothing was recorded"):
                record_from(folder, change, count=len(odds))
            return
        found = record_from(folder, change, count=len(odds))
        assert found.captured == sum(found.outcomes.values())
        assert found.captured - found.outcomes[Outcome.LOST] == len(odds) - skipped(odds)
        assert [c.problems for c in found.certificates] == [()] * len(found.certificates)
        assert found.captured_in_sessions == found.captured


def skipped(odds: list[dict[str, object]]) -> int:
    """Frames at the beginning that say they are from before the start: they are passed over."""
    count = 0
    for n, odd in enumerate(odds):
        if "invalid" in odd or (n + 1) * PERIOD_S * 1e9 + odd.get("time_ns", 0) >= 0 or n + 1 >= 1 / PERIOD_S:  # type: ignore[operator]
            return count
        count += 1
    return count
