"""A source that was away: counted, told, shown, recorded, and never called complete."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from session_runs import PERIOD_NS, START_NS, frames, make_run, record
from support import FakeEngine, ListSink, ManualClock, Step

from clesr.pipeline.frame import Corrupt, Frame, Outage, Outcome
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.session.format import MANIFEST, Record, format_manifest
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.session.repair import repair
from clesr.pipeline.session.sessions import Session
from clesr.pipeline.session.verify import Certificate, _within, verify
from clesr.pipeline.sources.masked import Masked
from clesr.pipeline.sources.pacing import Paced
from clesr.pipeline.sources.session import SessionSource
from clesr.tools.commands.verify import describe

AWAY = 264  # frames that did not come


def late(numbers: range, by: int) -> list[Step]:
    """Frames that follow an outage of ``by`` periods."""
    taken = [frame for frame in frames(numbers) if isinstance(frame, Frame)]
    return [replace(frame, time_ns=frame.time_ns + by * PERIOD_NS) for frame in taken]


def unknown() -> list[Step]:
    return [*frames(range(5)), Outage("the connection was lost"), *late(range(5, 9), AWAY)]


def known() -> list[Step]:
    return [*frames(range(5)), Outage("its times have a gap", known=True), *frames(range(5 + AWAY, 9 + AWAY))]


def complete(certificate: Certificate) -> bool:
    assert certificate.problems == ()
    found: bool = certificate.as_json()["complete"]
    return found


def gaps(folder: Path) -> list[Record]:
    return [line for line in read_session(folder).records() if line.gap_ns is not None]


def test_an_outage_of_unknown_number_is_recorded_with_begin_and_end_and_never_complete(
    tmp_path: Path,
) -> None:
    said = record(tmp_path, unknown())
    certificate = verify(tmp_path)
    assert not complete(certificate)
    (gap,) = gaps(tmp_path)
    assert (gap.number, gap.count, gap.outcome) == (5, 0, Outcome.LOST)
    assert gap.gap_ns == (START_NS + 4 * PERIOD_NS, START_NS + (5 + AWAY) * PERIOD_NS)
    assert certificate.totals["captured"] == 9, "what nobody counted is in no count"
    assert (certificate.totals["outages"], certificate.totals["uncounted"]) == (1, 1)
    (missing,) = certificate.missing
    assert str(missing).startswith("before frame 5: the source was away for 10.60 s: an unknown number")
    (told,) = [line for line in said if "was away" in line]
    assert "10.6 s (the connection was lost)" in told
    assert "about 265" in told


def test_an_outage_of_known_number_is_counted_and_not_complete_either(tmp_path: Path) -> None:
    said = record(tmp_path, known())
    certificate = verify(tmp_path)
    assert not complete(certificate)
    (gap,) = gaps(tmp_path)
    assert (gap.number, gap.count) == (5, AWAY)
    assert certificate.totals["captured"] == 9 + AWAY
    assert certificate.totals["lost-at-source"] == AWAY
    assert "uncounted" not in certificate.totals
    assert any(f"{AWAY} frames are lost" in line for line in said)


@pytest.mark.parametrize(("script", "words"), [
    (unknown, "everything holds, but it is not complete: the source was away 1 time, 1 of unknown number"),
    (known, "everything holds, but it is not complete: the source was away 1 time"),
    (lambda: frames(range(9)), "everything holds, and it is complete"),
])  # fmt: skip
def test_the_printed_certificate_says_so(script: Any, words: str, tmp_path: Path) -> None:
    record(tmp_path, script())
    *lines, verdict = describe(verify(tmp_path))
    assert verdict == f"verdict    {words}"
    assert any("the source was away for" in line for line in lines) == ("not complete" in words)
    assert not any(line.startswith("damaged") for line in lines)


def test_an_outage_without_a_loss_is_none(tmp_path: Path) -> None:
    script: list[Step] = [
        *frames(range(5)),
        Outage("it sends nothing", over=False),
        Outage("it sent nothing", known=True),
        *frames(range(5, 9)),
    ]
    record(tmp_path, script)
    assert complete(verify(tmp_path))
    assert gaps(tmp_path) == []


def test_a_run_that_ends_while_its_source_is_away_says_so(tmp_path: Path) -> None:
    clock = ManualClock(START_NS - 10**9)
    script: list[Step] = [
        lambda: clock.advance(2.0),
        *frames(range(5)),
        Outage("it sends nothing", over=False),
        None,
        lambda: clock.advance(60.0),
    ]
    record(tmp_path, script, live=True, clock=clock)
    certificate = verify(tmp_path)
    assert not complete(certificate)
    (gap,) = gaps(tmp_path)
    assert (gap.number, gap.count) == (5, 0)
    assert gap.gap_ns == (START_NS + 4 * PERIOD_NS, clock.now_ns())


def test_an_outage_that_ends_before_the_first_frame_is_none(tmp_path: Path) -> None:
    record(tmp_path, [Outage("it sends nothing", over=False), Outage("it was away"), *frames(range(3))])
    assert complete(verify(tmp_path))


def test_frames_dropped_after_an_outage_of_unknown_number_are_counted_beside_it(tmp_path: Path) -> None:
    record(tmp_path, [*frames(range(5)), Outage("lost"), *late(range(8, 10), 40)])
    lines = [(line.number, line.count) for line in read_session(tmp_path).records()]
    assert lines == [*((n, 1) for n in range(5)), (5, 0), (5, 3), (8, 1), (9, 1)]
    assert verify(tmp_path).problems == ()


def test_a_corrupt_frame_after_an_outage_keeps_its_gap(tmp_path: Path) -> None:
    torn = Corrupt(5, START_NS + 100 * PERIOD_NS, "torn")
    record(tmp_path, [*frames(range(5)), Outage("lost"), torn, *late(range(6, 8), 100)])
    assert verify(tmp_path).problems == ()
    assert [gap.number for gap in gaps(tmp_path)] == [5]


def test_a_look_back_over_an_outage_has_it(tmp_path: Path) -> None:
    run, _ = make_run([], retro_s=3600.0)

    def script() -> Iterator[Step]:
        yield from unknown()
        run.start_recording(tmp_path)
        yield from late(range(9, 12), AWAY)

    run.source._script = script()  # type: ignore[attr-defined]
    run.run()
    assert not complete(verify(tmp_path))
    assert [gap.number for gap in gaps(tmp_path)] == [5]


@pytest.mark.parametrize("script", [unknown, known])
def test_a_replayed_recording_has_the_outage_again(script: Any, tmp_path: Path) -> None:
    record(tmp_path / "first", script())
    source = Masked(Paced(SessionSource(tmp_path / "first"), pace="max"), [])
    recorder = Recorder(source.info, scale=2)
    again = Pipeline(source, FakeEngine, [], scale=2, recorder=recorder)
    again.start_recording(tmp_path / "again")
    again.run()
    assert not complete(verify(tmp_path / "again"))
    (first,), (second,) = gaps(tmp_path / "first"), gaps(tmp_path / "again")
    assert (first.number, first.count) == (second.number, second.count)


@pytest.mark.parametrize("lines", [5, 6, 7])
def test_a_recording_cut_off_around_an_outage_is_repaired(lines: int, tmp_path: Path) -> None:
    record(tmp_path, unknown())
    kept = (tmp_path / "frames.jsonl").read_bytes().splitlines(keepends=True)
    gap = next(index for index, line in enumerate(kept) if b"gap_ns" in line)
    (tmp_path / "frames.jsonl").write_bytes(b"".join(kept[: gap + lines - 5]))
    reopen(tmp_path)
    repair(tmp_path)
    assert verify(tmp_path).problems == ()
    assert len(gaps(tmp_path)) == (lines > 5)


def reopen(folder: Path) -> None:
    """Make the session in ``folder`` one that was cut off."""
    info = replace(
        read_session(folder).info, closed=False, ended="", totals=None, lines=None, chain=None, files=None
    )
    (folder / MANIFEST).write_bytes(format_manifest(info))


def test_the_library_gives_the_gap_of_a_recording(tmp_path: Path) -> None:
    record(tmp_path, unknown())
    (found,) = [frame for frame in Session(tmp_path) if frame.gap is not None]
    assert (found.number, found.count, found.raw, found.outcome) == (5, 0, None, Outcome.LOST)
    assert found.gap == pytest.approx((4 * 0.04, (5 + AWAY) * 0.04))


def test_the_summary_and_the_status_tell_of_outages(tmp_path: Path) -> None:
    run, _ = make_run(unknown(), sinks=[ListSink()])
    run.start_recording(tmp_path)
    summary = run.run()
    assert any("9 frames, 9 up-scaled, 1 outage of the source" in line for line in summary.outputs)
    (outage,) = summary.as_json()["outages"]
    assert outage["lost"] is None
    assert outage["end"] - outage["begin"] == pytest.approx((AWAY + 1) * 0.04, abs=0.002)
    assert summary.outage_total == "1 outage of 10.6 s, 1 of unknown number"
    assert str(run.status().outages) == summary.outage_total


def test_a_source_that_comes_and_goes_is_few_lines_and_every_gap_counts(tmp_path: Path) -> None:
    script: list[Step] = []
    for number in range(60):
        script += [Outage("lost"), *late(range(number, number + 1), 5 * number)]
    said = record(tmp_path, script)
    assert len(gaps(tmp_path)) == 59
    assert len([line for line in said if "was away" in line]) < 5
    assert verify(tmp_path).problems == ()


def test_the_first_frame_after_an_outage_rests_on_none_before_it() -> None:
    run, _ = make_run(unknown())
    seen: list[bool] = []
    put = run._client.queue.put

    def spy(prepared: Any) -> Any:
        seen.append(prepared.alone)
        return put(prepared)

    run._client.queue.put = spy  # type: ignore[method-assign,assignment]
    run.run()
    assert seen == [False] * 5 + [True] + [False] * 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"gap_ns": (5, 4), "count": 0},
        {"outcome": Outcome.CORRUPT, "gap_ns": (1, 2)},
        {"damaged": True},
    ],
)
def test_verify_refuses_outages_that_cannot_be(wrong: dict[str, Any]) -> None:
    values: dict[str, Any] = {"number": 5, "captured_ns": 9, "outcome": Outcome.LOST} | wrong
    assert list(_within(Record(**values)))


def damaged(numbers: range) -> list[Step]:
    taken = [frame for frame in frames(numbers) if isinstance(frame, Frame)]
    return [replace(frame, damaged=True) for frame in taken]


def test_damaged_frames_are_shown_and_marked(tmp_path: Path) -> None:
    sink = ListSink()
    script = [*frames(range(3)), *damaged(range(3, 6)), *frames(range(6, 9))]
    run, said = make_run(script, sinks=[sink])
    run.start_recording(tmp_path)
    summary = run.run()
    assert [result.frame.number for result in sink.results if result.frame.damaged] == [3, 4, 5]
    found = [line.number for line in read_session(tmp_path).records() if line.damaged]
    assert found == [3, 4, 5]
    assert run.ledger.outcomes[Outcome.UPSCALED] == 9
    assert (summary.damaged, verify(tmp_path).totals["damaged"], run.status().damaged) == (3, 3, 3)
    assert any("builds on a damaged picture" in line for line in said)
    assert "damaged    3 frames build on a damaged picture" in describe(verify(tmp_path))
    again = SessionSource(tmp_path)
    items = [again.read(0) for _ in range(9)]
    again.close()
    assert [item.damaged for item in items if isinstance(item, Frame)] == [False] * 3 + [True] * 3 + [
        False
    ] * 3


def test_damaged_frames_that_are_dropped_are_corrupt(tmp_path: Path) -> None:
    sink = ListSink()
    script = [*frames(range(3)), *damaged(range(3, 6)), *frames(range(6, 9))]
    run, _ = make_run(script, sinks=[sink])
    run._capture.drop_damaged = True
    run.start_recording(tmp_path)
    run.run()
    assert [result.frame.number for result in sink.results] == [0, 1, 2, 6, 7, 8]
    assert run.ledger.outcomes[Outcome.CORRUPT] == 3
    lines = [line for line in read_session(tmp_path).records() if line.outcome is Outcome.CORRUPT]
    assert [(line.number, line.reason) for line in lines] == [
        (n, "builds on a damaged picture") for n in (3, 4, 5)
    ]
    assert verify(tmp_path).problems == ()


def test_nothing_rests_on_a_damaged_frame() -> None:
    run, _ = make_run([*frames(range(2)), *damaged(range(2, 4)), *frames(range(4, 6))])
    fusion = object()
    run.prepare.temporal = fusion  # type: ignore[assignment]
    seen: list[tuple[bool, bool]] = []

    def take(prepared: Any) -> None:
        seen.append((prepared.temporal is fusion, prepared.alone))
        prepared.temporal = None
        put(prepared)

    put = run._client.queue.put
    run._client.queue.put = take  # type: ignore[method-assign,assignment]
    run.run()
    assert [used for used, _ in seen] == [True, True, False, False, True, True]
    assert seen[4] == (True, True), "the first clean one stands alone"
