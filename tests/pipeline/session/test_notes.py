"""Notes, the last seconds as a session, and alarms: of the recorder, beside frames that go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from session_runs import PERIOD_NS, START_NS, frames, make_run, noise
from support import Step, until

from clesr.engines.common.errors import SinkError
from clesr.engines.common.files import WriteRule
from clesr.pipeline import alarms
from clesr.pipeline.alarms import Alarms
from clesr.pipeline.frame import Corrupt, Frame, Outage
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.session import segments
from clesr.pipeline.session.format import NOTES, SessionError
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.session.repair import repair
from clesr.pipeline.session.segments import NoteFuture
from clesr.pipeline.session.verify import verify
from clesr.pipeline.session.video import ImageEncoder

TEXTS = ["crypts are regular", "", 'ä\u2028 \U0001f600 "quoted"\n', "x" * 1000]


def recorder_of(run: Pipeline) -> Recorder:
    assert isinstance(run.recorder, Recorder)
    return run.recorder


def noted(folder: Path, texts: list[str] = TEXTS) -> list[NoteFuture]:
    """A session in ``folder`` of ten frames, with ``texts`` noted from the fifth on."""
    done: list[NoteFuture] = []

    def script() -> Iterator[Step]:
        yield from frames(range(5))
        done.extend(recorder_of(run).note(text, 4) for text in texts)
        yield from frames(range(5, 10))

    run, _ = make_run(script())
    run.start_recording(folder)
    run.run()
    return done


def test_notes_are_in_the_session_in_their_order_and_vouched_for(tmp_path: Path) -> None:
    done = noted(tmp_path / "s")
    assert [future.result(0)[0] for future in done] == [tmp_path / "s"] * len(TEXTS)
    session = read_session(tmp_path / "s")
    assert [(note.text, note.number) for note in session.notes()] == [(text, 4) for text in TEXTS]
    times = [note.time_ns for note in session.notes()]
    assert times == sorted(times)
    certificate = verify(tmp_path / "s")
    assert certificate.problems == ()
    assert certificate.complete
    assert [note["text"] for note in certificate.as_json()["notes"]] == TEXTS


def test_a_session_without_notes_is_as_before(tmp_path: Path) -> None:
    noted(tmp_path / "s", [])
    assert not (tmp_path / "s" / NOTES).exists()
    assert read_session(tmp_path / "s").notes() == []
    assert verify(tmp_path / "s").complete


def test_readers_that_know_no_notes_find_nothing_wrong(tmp_path: Path) -> None:
    noted(tmp_path / "s")
    manifest = json.loads((tmp_path / "s" / "session.json").read_text())
    assert set(manifest["files"]) == {"raw.mkv", "sr.mkv", "frames.jsonl"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b"crypts", b"vessel")),
            "digest does not match",
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "bytes"),
        (lambda path: path.unlink(), "notes.jsonl is missing"),
        (lambda path: path.write_bytes(b"".join(path.read_bytes().splitlines(True)[1:])), "bytes"),
    ],
)
def test_a_changed_note_is_found(tmp_path: Path, change: Any, words: str) -> None:
    noted(tmp_path / "s")
    change(tmp_path / "s" / NOTES)
    assert any(words in problem for problem in verify(tmp_path / "s").problems)


def test_a_note_file_that_nothing_vouches_for_is_found(tmp_path: Path) -> None:
    noted(tmp_path / "s", [])
    noted(tmp_path / "other")
    (tmp_path / "s" / NOTES).write_bytes((tmp_path / "other" / NOTES).read_bytes())
    problems = verify(tmp_path / "s").problems
    assert "session.json states no digest of notes.jsonl" in problems
    assert any("notes.jsonl: line 1 was changed" in problem for problem in problems)


def test_no_output_takes_the_place_of_notes(tmp_path: Path) -> None:
    noted(tmp_path / "s", [])
    with pytest.raises(SinkError, match="would be part of the session"):
        WriteRule(overwrite=True).check(tmp_path / "s" / NOTES)


def test_notes_survive_a_crash_as_far_as_they_were_written(tmp_path: Path) -> None:
    """What a killed process leaves: an open manifest, and a line that is cut."""
    noted(tmp_path / "s", ["one", "two", "three"])
    manifest = json.loads((tmp_path / "s" / "session.json").read_text())
    manifest |= {"closed": False, "totals": None, "lines": None, "chain": None, "files": None, "notes": None}
    (tmp_path / "s" / "session.json").write_text(json.dumps(manifest))
    path = tmp_path / "s" / NOTES
    left = path.read_bytes()[:-7]
    path.write_bytes(left)
    assert [note.text for note in read_session(tmp_path / "s").notes()] == ["one", "two"]
    said = repair(tmp_path / "s")
    assert any(f"line 3 of {NOTES}" in line for line in said)
    assert [note.text for note in read_session(tmp_path / "s").notes()] == ["one", "two"]
    assert verify(tmp_path / "s").problems == ()
    assert (tmp_path / "s" / "before-repair" / NOTES).read_bytes() == left


def test_a_note_while_nothing_is_recorded_is_refused(tmp_path: Path) -> None:
    run, _ = make_run(frames(range(3)), retro_s=10)
    refused = recorder_of(run).note("lost?")
    run.run()
    with pytest.raises(SessionError, match="nothing is being recorded"):
        refused.result(0)
    with pytest.raises(SessionError, match="the run has ended"):
        recorder_of(run).note("later").result(0)


def notes_of(folder: Path) -> list[str]:
    return [note.text for note in read_session(folder).notes()]


@pytest.mark.parametrize("retro_s", [0.0, 10.0])
def test_a_note_is_taken_from_the_order_on(tmp_path: Path, retro_s: float) -> None:
    """Before the first frame of the recording, also while the last frames of another one wait for their outcomes."""
    done: list[NoteFuture] = []

    def begin(name: str) -> None:
        run.start_recording(tmp_path / name)
        done.extend(recorder_of(run).note(f"{name} {number}") for number in range(2))

    def script() -> Iterator[Step]:
        yield from frames(range(2))
        begin("one")
        yield from frames(range(2, 4))
        run.stop_recording()
        begin("two")
        yield from frames(range(4, 6))

    run, _ = make_run(script(), retro_s=retro_s)
    run.run()
    assert [future.result(0) for future in done] == [
        (tmp_path / name, None) for name in ("one", "two") for _ in range(2)
    ]
    for name in ("one", "two"):
        assert notes_of(tmp_path / name) == [f"{name} 0", f"{name} 1"]
        assert verify(tmp_path / name).complete


@pytest.mark.parametrize(("count", "words"), [(1, "1 note for it is lost"), (2, "2 notes for it are lost")])
def test_notes_for_a_recording_that_never_begins_are_an_alarm(tmp_path: Path, count: int, words: str) -> None:
    def script() -> Iterator[Step]:
        run.start_recording(tmp_path / "s")
        done.extend(recorder_of(run).note("where?") for _ in range(count))
        yield None

    done: list[NoteFuture] = []
    run, _ = make_run(script())
    with pytest.raises(SessionError, match=f"no image came; {words}"):
        run.run()
    assert run.status().alarm.endswith(words)


def test_notes_for_a_recording_whose_folder_is_taken_away_are_an_alarm(tmp_path: Path) -> None:
    def script() -> Iterator[Step]:
        run.start_recording(tmp_path / "s")
        recorder_of(run).note("where?").result(30)
        (tmp_path / "s").rmdir()
        yield from frames(range(2))
        run.start_recording(tmp_path / "t")
        yield from frames(range(2, 4))

    run, _ = make_run(script())
    with pytest.raises(SessionError, match=r"no recording can be made in .*; 1 note for it is lost"):
        run.run()
    assert notes_of(tmp_path / "t") == [], "it was for another one"


def test_notes_that_wait_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "EARLY_NOTES", 3)
    done: list[NoteFuture] = []

    def script() -> Iterator[Step]:
        run.start_recording(tmp_path / "s")
        done.extend(recorder_of(run).note(f"{number}") for number in range(5))
        yield from frames(range(2))

    run, _ = make_run(script())
    run.run()
    assert [future.exception(0) is None for future in done] == [True] * 3 + [False] * 2
    assert notes_of(tmp_path / "s") == ["0", "1", "2"]


@pytest.mark.parametrize("seconds", [None, 0.1, 0.2, 3600.0])
def test_the_last_seconds_are_a_session_that_ends_and_can_be_had_again(
    tmp_path: Path, seconds: float | None
) -> None:
    done: list[Future[tuple[Path, int]]] = []

    def save() -> None:
        until(lambda: run.summary().sinks["recorder"]["written"] == run.ledger.captured)
        done.append(recorder_of(run).save_last(tmp_path / "last", seconds))
        done[-1].exception(30)

    run, _ = make_run([*frames(range(10)), save, *frames(range(10, 20)), save], retro_s=0.5)
    run.run()
    folders = [future.result(0)[0] for future in done]
    assert folders == [tmp_path / "last", tmp_path / "last-2"]
    kept = min(0.5, seconds or 0.5)
    for folder, last in zip(folders, (9, 19), strict=True):
        certificate = verify(folder)
        assert certificate.complete
        assert certificate.info.ended == "stopped"
        numbers = [record.number for record in read_session(folder).records()]
        first = max(0, last - round(kept / 0.04))
        assert numbers == list(range(first, last + 1))
    assert not run.status().recording
    assert run.ledger.captured == 20


def test_the_last_seconds_cannot_be_had_where_none_are_kept_or_a_recording_has_them(tmp_path: Path) -> None:
    run, _ = make_run(frames(range(3)))
    with pytest.raises(SessionError, match=r"--retro S keeps"):
        recorder_of(run).save_last(tmp_path / "last").result(0)
    run.run()

    refused: list[Future[tuple[Path, int]]] = []

    def script() -> Iterator[Step]:
        yield from frames(range(5))
        run.start_recording(tmp_path / "s")
        yield from frames(range(5, 8))
        refused.append(recorder_of(run).save_last(tmp_path / "last"))

    run, _ = make_run(script(), retro_s=10)
    run.run()
    with pytest.raises(SessionError, match="a recording is going on, and what came before is in it"):
        refused[0].result(0)
    assert [record.number for record in read_session(tmp_path / "s").records()] == list(range(8))
    assert not (tmp_path / "last").exists()


def test_the_last_seconds_of_nothing_are_refused(tmp_path: Path) -> None:
    run, _ = make_run([], retro_s=10)
    done = recorder_of(run).save_last(tmp_path / "last")
    run.run()
    with pytest.raises(SessionError, match="no image is kept yet"):
        done.result(0)


def test_an_alarm_stays_until_it_is_acknowledged(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    seen: list[str] = []

    def look() -> None:
        until(lambda: run.status().alarm != "")
        seen.append(run.status().alarm)

    def acknowledge() -> None:
        assert run.status().alarm == seen[0], "it stays"
        assert recorder_of(run).acknowledge() == seen[0]
        assert run.status().alarm == ""

    run, _ = make_run([*frames(range(2)), look, *frames(range(2, 4)), acknowledge, *frames(range(4, 6))])
    run.start_recording(tmp_path / "file" / "s")
    with pytest.raises(SessionError, match="no recording can be made"):
        run.run()
    assert seen[0].startswith("NOTHING IS RECORDED: no recording can be made in ")


@pytest.mark.parametrize(("again_ns", "again"), [(0, True), (10**18, False)])
def test_frames_that_go_on_to_be_missing_are_an_alarm_again_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again_ns: int, again: bool
) -> None:
    monkeypatch.setattr(alarms, "AGAIN_NS", again_ns)
    encode, broken = ImageEncoder.encode, [False]

    def breaking(encoder: ImageEncoder, *arguments: Any, **options: Any) -> Any:
        if broken[0]:
            raise ValueError("no")
        return encode(encoder, *arguments, **options)

    def break_it() -> None:
        until(lambda: recorder_of(run)._segments._writer is not None)
        broken[0] = True

    def acknowledge() -> None:
        until(lambda: "FRAMES ARE MISSING" in run.status().alarm)
        recorder_of(run).acknowledge()

    monkeypatch.setattr(ImageEncoder, "encode", breaking)
    run, _ = make_run(
        [
            *frames(range(2)),
            break_it,
            *frames(range(2, 3)),
            acknowledge,
            *frames(range(3, 9)),
        ]
    )
    run.start_recording(tmp_path / "s")
    run.run()
    assert ("FRAMES ARE MISSING" in run.status().alarm) == again
    totals = read_session(tmp_path / "s").info.totals
    assert totals is not None
    assert totals["unrecorded"] >= 6


def test_a_recording_without_an_image_is_an_alarm(tmp_path: Path) -> None:
    run, _ = make_run([])
    run.start_recording(tmp_path / "s")
    with pytest.raises(SessionError, match="nothing was recorded"):
        run.run()
    assert run.status().alarm.startswith("NOTHING IS RECORDED: nothing was recorded in ")


def test_alarms_are_few_and_the_newest_is_seen() -> None:
    alarms = Alarms()
    for number in range(1000):
        alarms.add(f"alarm {number}")
        alarms.add(f"alarm {number}")
    alarms.add("alarm 990")
    assert alarms.waiting[:2] == ("alarm 990", "alarm 999"), "what comes again is the newest"
    assert len(alarms.waiting) == 21
    earlier = "EARLIER ALARMS: 980 more, which stand among the messages"
    assert alarms.waiting[-1] == earlier
    for waiting in alarms.waiting:
        assert alarms.acknowledge() == waiting
    assert alarms.waiting == ()
    assert alarms.acknowledged[-1] == earlier


def test_an_alarm_that_comes_again_is_counted_once() -> None:
    alarms = Alarms()
    for _ in range(2):
        for number in range(22):
            alarms.add(f"alarm {number}")
    assert len(alarms.waiting) == 21
    assert alarms.waiting[-1] == "EARLIER ALARMS: 2 more, which stand among the messages"
    for number in range(5000):
        alarms.add(f"another {number}")
    assert alarms.waiting[-1] == "EARLIER ALARMS: at least 1000 more, which stand among the messages"


def test_an_alarm_that_was_not_shown_is_not_acknowledged_and_comes_next() -> None:
    alarms = Alarms()
    for text in ("first", "second", "third"):
        alarms.add(text)
    shown = alarms.waiting[0]
    alarms.add("came while the third was read")
    assert alarms.acknowledge(shown) == "third"
    assert alarms.acknowledge(shown) == "", "by somebody else, a moment later"
    assert alarms.waiting == ("came while the third was read", "second", "first")
    for _ in range(3):
        shown = alarms.waiting[0]
        assert alarms.acknowledge() == shown
    assert alarms.acknowledge() == ""
    assert alarms.acknowledged == ("third", "came while the third was read", "second", "first")
    alarms.add("x" * 5000)
    assert alarms.acknowledge(alarms.waiting[0]) == "x" * 1000


def test_what_was_acknowledged_is_in_the_session_and_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Those that still wait are not."""

    def acknowledge() -> None:
        until(lambda: "FRAMES ARE MISSING" in run.status().alarm)
        recorder = recorder_of(run)
        recorder._segments.alarms.add("ANOTHER: it waits")
        seen.append(run.status().alarms[1])
        assert recorder.acknowledge(seen[0], 7) == seen[0]
        status = run.status()
        assert (status.alarm, status.alarms, status.acknowledged) == (
            "ANOTHER: it waits", ("ANOTHER: it waits",), (seen[0],),
        )  # fmt: skip

    seen: list[str] = []
    caplog.set_level("INFO")
    run, _ = make_run([*frames(range(2)), *frames(range(5, 7)), acknowledge, *frames(range(7, 9))])
    run.start_recording(tmp_path / "s")
    run.run()
    said = f"alarm acknowledged: {seen[0]}"
    assert said in caplog.messages
    assert [(note.text, note.number) for note in read_session(tmp_path / "s").notes()] == [(said, 7)]
    assert verify(tmp_path / "s").holds


def broken(*numbers: int) -> list[Corrupt]:
    return [Corrupt(number, START_NS + number * 40_000_000, "broken") for number in numbers]


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ([], [], "lost at the source"),
        (broken(2, 3, 4), broken(7, 8), "could not be decoded"),
        ([Outage("the camera was unplugged")], [Outage("again")], "lost at the source"),
    ],
    ids=["a gap in the numbers", "corrupt", "an outage"],
)
def test_frames_that_never_came_are_an_alarm_while_recording_and_again_where_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: list[Step], second: list[Step], words: str
) -> None:
    """In a live view that nobody records they are none."""
    monkeypatch.setattr(alarms, "AGAIN_NS", 0)

    def alarmed() -> None:
        until(lambda: words in run.status().alarm)
        assert run.status().alarm.startswith("FRAMES ARE MISSING FROM THE RECORDING: ")
        assert len(run.status().alarms) == 1, "of many frames one alarm"
        assert recorder_of(run).acknowledge()
        assert run.status().alarm == ""

    script = [*frames(range(2)), *first, *frames(range(5, 7))]
    run, _ = make_run([*script, alarmed, *second, *frames(range(9, 12)), alarmed])
    run.start_recording(tmp_path / "s")
    run.run()
    assert verify(tmp_path / "s").holds
    watched, _ = make_run(script)
    watched.run()
    assert watched.status().alarms == ()


def test_recording_time_and_disk_are_told_while_it_records(tmp_path: Path) -> None:
    seen: list[tuple[float | None, float | None]] = []

    def look() -> None:
        until(lambda: run.status().recording_s == pytest.approx(9 * 0.04))
        seen.append((run.status().recording_s, run.status().disk_minutes))
        until(lambda: run.status().recording_bytes is not None)
        size, free = run.status().recording_bytes, run.status().disk_bytes
        assert size is not None
        assert free is not None
        assert free > size > 0

    def end() -> None:
        run.stop_recording()
        assert run.status().recording_s is None
        assert run.status().disk_minutes is run.status().recording_bytes is run.status().disk_bytes is None

    soon_after_boot = [Frame(noise(n), n, (1 + n) * PERIOD_NS) for n in range(10)]
    run, _ = make_run([*soon_after_boot, look, end])
    assert run.status().recording_s is None
    run.start_recording(tmp_path / "s")
    run.run()
    assert len(seen) == 1
