"""Every fault at every place: the run goes on or ends as docs/faults.md says, and nothing is lost without a word."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
from fault_matrix import MATRIX, Claim, Expected
from heard import hear
from support import FakeEngine, ListSink, until
from waits import joined

from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.resample import quantise, resize
from clesr.pipeline.chaos.faulty import FaultySink, FaultySource, faulty_disk, faulty_engine
from clesr.pipeline.chaos.plan import parse_plan
from clesr.pipeline.display.alerts import method_alert, signal_alert
from clesr.pipeline.frame import Frame, Outcome, Result
from clesr.pipeline.frame_queue import Policy
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.prepare import IntensityWindow, Prepare
from clesr.pipeline.session.folder import RESERVE
from clesr.pipeline.session.format import Record
from clesr.pipeline.session.manifest import RecorderSettings
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.session.verify import Certificate, verify
from clesr.pipeline.source import SourceInfo
from clesr.pipeline.sources.reopening import Reopening
from clesr.pipeline.status import Status

SHAPE, FPS = (40, 48), 50.0


def picture(number: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Tissue of a kind, another one in each frame."""
    noise = np.random.default_rng(number).random(SHAPE)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    scaled = cv2.normalize(smooth, None, 20, 230, cv2.NORM_MINMAX)
    return np.asarray(scaled, np.uint8)


class Camera:
    """Gives a frame whenever one is due; a slow reader loses those before the last three."""

    def __init__(self) -> None:
        self.info = SourceInfo("camera", True, FPS, SHAPE)
        self._begin_ns, self._number = SYSTEM.now_ns(), 0

    def read(self, timeout: float) -> Frame | None:
        now = SYSTEM.now_ns()
        self._number = max(self._number, int((now - self._begin_ns) / 1e9 * FPS) - 3)
        due = self._begin_ns + int(self._number / FPS * 1e9)
        if due - now > timeout * 1e9:
            SYSTEM.sleep_until(now + int(timeout * 1e9))
            return None
        SYSTEM.sleep_until(due)
        self._number += 1
        return Frame(picture(self._number - 1), self._number - 1, due)

    def close(self) -> None:
        pass


@dataclass
class Screen:
    """A display that keeps what a person would have seen: the newest image, and how it was marked."""

    name: str = "screen"
    policy: Policy = Policy.DROP_OLDEST
    newest: Result | None = None
    oldest_s: float = 0.0  # age of an image that was marked as old
    wrong: list[str] = field(default_factory=list)
    closed: int = 0
    bicubic: int = 0  # images that were marked as such

    def write(self, result: Result) -> None:
        self.newest = result
        height, width = result.lr.shape
        if result.image.shape != (2 * height, 2 * width):
            self.wrong.append(f"frame {result.frame.number} is {result.image.shape}")

    def refresh(self, status: Status) -> bool:
        age_s = (status.age_ns or 0) / 1e9
        signal = signal_alert(self.newest, status)
        if self.newest is not None and age_s > 1:
            if signal is None or signal.text not in ("NO SIGNAL", "OLD IMAGE"):
                self.wrong.append(f"an image {age_s:.1f} s old is shown as live")
            else:
                self.oldest_s = max(self.oldest_s, age_s)
        if self.newest is not None and self.newest.outcome is Outcome.FAILED:
            method = method_alert(self.newest, status)
            self.bicubic += method is not None and method.text == "BICUBIC ONLY"
        return True

    def close(self) -> str | None:
        self.closed += 1
        return None


@dataclass
class Tried:
    """A run to which a fault happened at the sink ``screen``, or before it; ``other`` is a sink of its own."""

    run: Pipeline
    screen: Screen
    other: ListSink
    folder: Path
    said: list[str]
    alarms: list[str]
    error: BaseException | None = None
    found: list[Certificate] = field(default_factory=list)

    @property
    def records(self) -> list[Record]:
        return [record for each in sorted(self.folder.iterdir()) for record in read_session(each).lines()]

    def count(self, outcome: Outcome) -> int:
        return self.run.ledger.outcomes[outcome]

    def heard(self, words: str) -> bool:
        return any(re.search(words, line) for line in self.said)


def try_out(fault: str, expected: Expected, folder: Path) -> Tried:
    """Run until the fault is over, images go on, and what needs time has come of it."""
    said, plan = hear(), parse_plan(f"{fault}@0.3+{expected.seconds}")
    screen, other = Screen(), ListSink(name="other")

    def source() -> FaultySource:
        return FaultySource(Camera(), plan)

    camera = Reopening(source(), source)
    recorder = Recorder(
        camera.info,
        scale=2,
        settings=RecorderSettings(codec="ffv1"),
    )
    run = Pipeline(
        camera,
        lambda shape: faulty_engine(FakeEngine(shape), plan),
        [FaultySink(screen, plan), other],
        scale=2,
        prepare=Prepare(window=IntensityWindow("full")),
        recorder=recorder,
    )
    run.start_recording(folder / "s")
    tried = Tried(run, screen, other, folder, said, [])

    def go() -> None:
        try:
            run.run()
        except Exception as raised:  # noqa: BLE001 - of sink or disk, on purpose
            tried.error = raised

    with faulty_disk(plan):
        thread = threading.Thread(target=go)
        thread.start()
        try:
            until(lambda: tried.heard(f"chaos: {fault}"))
            over_ns = SYSTEM.now_ns() + int(expected.seconds * 1e9)
            until(lambda: all(AWAITED.get(claim, _at_once)(tried) for claim in expected.claims))
            going_ns = max(over_ns, SYSTEM.now_ns())
            ended = expected.status == 1  # the screen
            until(lambda: _is_shown(other.results[-1:] if ended else [screen.newest], going_ns))
            tried.alarms.append(run.status().alarm)
        finally:
            run.stop()
            joined(thread)
    return tried


def _at_once(_tried: Tried) -> bool:
    return True


def _is_shown(newest: Sequence[Result | None], since_ns: int) -> bool:
    """Whether the last image is the engine's own, of a frame from after ``since_ns``."""
    return any(
        result is not None and result.outcome is Outcome.UPSCALED and result.times.captured > since_ns
        for result in newest
    )


AWAITED: Mapping[Claim, Callable[[Tried], bool]] = {
    Claim.SECOND: lambda tried: (tried.folder / "s-2").exists(),
    Claim.THIRD: lambda tried: (tried.folder / "s-3").exists(),
    Claim.SINK_ALARM: lambda tried: tried.run.status().alarm != "",
    Claim.RECORDING_ALARM: lambda tried: tried.run.status().alarm != "",
    Claim.DISK_LATE: lambda tried: tried.heard("reaches the disk late"),
    Claim.ENGINE_AGAIN: lambda tried: tried.run.status().engine_restarts > 0,
}


def marked(tried: Tried) -> bool:
    return tried.screen.oldest_s > 1


def late(tried: Tried) -> bool:
    """The three that were kept have waited, and no time is another than the camera's own."""
    times = {record.number: record for record in tried.records if record.outcome is not Outcome.LOST}
    first = min(times)
    begin_ns = times[first].captured_ns - int(first / FPS * 1e9)
    own = [abs(each.captured_ns - begin_ns - int(n / FPS * 1e9)) < 1000 for n, each in times.items()]
    waited = [each for each in times.values() if (each.prepared_ns or 0) - each.captured_ns > 1.5e9 / FPS]
    return all(own) and len(waited) > 0


def dropped(tried: Tried) -> bool:
    lost = [record.count for record in tried.records if record.outcome is Outcome.LOST]
    return sum(lost) == tried.count(Outcome.LOST) > 0


def gap(tried: Tried) -> bool:
    (away,) = tried.run.summary().outages
    begin, end, lost = away["begin"], away["end"], away["lost"]
    return begin is not None and end is not None and end - begin > 1 and lost == tried.count(Outcome.LOST)


def unknown_gap(tried: Tried) -> bool:
    (away,) = tried.run.summary().outages
    return away["lost"] is None and any(record.gap_ns is not None for record in tried.records)


def arrival(tried: Tried) -> bool:
    (record,) = (each for each in tried.records if each.reason and "time for it was off by" in each.reason)
    before = max(each.captured_ns for each in tried.records if each.number < record.number)
    after = min(each.captured_ns for each in tried.records if each.number > record.number)
    return before <= record.captured_ns <= after


def next_number(tried: Tried) -> bool:
    records = tried.records
    again, *_ = (each for each in records if each.reason == f"the source called it frame {each.number - 1}")
    by_number = {each.number: each for each in records}
    return len(by_number) == len(records) and by_number[again.number - 1].raw_hash == again.raw_hash


def bicubic(tried: Tried) -> bool:
    """What a person saw was marked each time, and is what it says."""
    failed = [result for result in tried.other.results if result.outcome is Outcome.FAILED]
    right = [np.array_equal(r.image, quantise(resize(r.lr, *r.image.shape), r.lr.dtype)) for r in failed]
    return tried.count(Outcome.FAILED) > 0 and all(right) and tried.screen.bicubic > 0


def skipped(tried: Tried) -> bool:
    sinks = tried.run.summary().sinks
    return sinks["screen"]["skipped"] > 0 and sinks["other"]["skipped"] == 0


def others(tried: Tried) -> bool:
    """They have every result that was made."""
    made = tried.count(Outcome.UPSCALED) + tried.count(Outcome.FAILED)
    return len(tried.other.results) == made and tried.run.summary().sinks["recorder"]["skipped"] == 0


def detached(tried: Tried) -> bool:
    status = tried.run.status()
    return tried.screen.closed == 1 and tried.heard("^screen broke: ") and "screen" in status.troubles


def sink_alarm(tried: Tried) -> bool:
    (alarm,) = tried.alarms
    return alarm.startswith("OUTPUT ENDED: screen broke: ") and alarm == tried.run.alarms.acknowledge()


def complete(tried: Tried) -> bool:
    return sum(each.totals["raw"] for each in tried.found) == tried.run.ledger.captured - tried.count(
        Outcome.LOST
    )


def closed(tried: Tried) -> bool:
    return all(each.info.closed for each in tried.found) and tried.found[0].totals["raw"] > 0


def recording_alarm(tried: Tried) -> bool:
    return tried.alarms[0].startswith(("RECORDING ENDED: ", "NOTHING IS RECORDED: "))


CHECKS: Mapping[Claim, Callable[[Tried], bool]] = {
    Claim.MARKED: marked,
    Claim.LATE: late,
    Claim.DROPPED: dropped,
    Claim.CORRUPT: lambda tried: tried.count(Outcome.CORRUPT) > 0,
    Claim.GAP: gap,
    Claim.UNKNOWN_GAP: unknown_gap,
    Claim.SOURCE_AGAIN: lambda tried: tried.run.status().source_restarts == 1,
    Claim.SECOND: lambda tried: read_session(tried.folder / "s-2").info.first > 0,
    Claim.THIRD: lambda tried: read_session(tried.folder / "s-3").info.first > 0,
    Claim.ARRIVAL: arrival,
    Claim.NUMBER: next_number,
    Claim.ENGINE_TOLD: lambda tried: tried.heard("^the engine has not answered for [34] s$"),
    Claim.STALE: lambda tried: tried.count(Outcome.STALE) > 0,
    Claim.BICUBIC: bicubic,
    Claim.ENGINE_AGAIN: lambda tried: tried.run.status().engine_restarts > 0,
    Claim.WAITS: lambda tried: tried.heard("tried again in 1 s") and tried.heard("^the engine is back$"),
    Claim.SKIPPED: skipped,
    Claim.DETACHED: detached,
    Claim.SINK_ALARM: sink_alarm,
    Claim.DISK_LATE: AWAITED[Claim.DISK_LATE],
    Claim.COMPLETE: complete,
    Claim.CLOSED: closed,
    Claim.RESERVE: lambda tried: not (tried.folder / "s" / RESERVE).exists(),
    Claim.RECORDING_ALARM: recording_alarm,
    Claim.GOES_ON: lambda tried: True,  # else ``try_out`` has waited in vain
    Claim.OTHERS: others,
}


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "expected"), MATRIX.items(), ids=MATRIX)
def test_every_fault_at_every_place(tmp_path: Path, fault: str, expected: Expected) -> None:
    tried = try_out(fault, expected, tmp_path)
    run, error = tried.run, tried.error
    assert run.ledger.captured == sum(run.ledger.outcomes.values())
    assert tried.screen.wrong == []
    assert (0 if error is None else getattr(error, "exit_code", 1)) == expected.status
    tried.found = [verify(session) for session in sorted(tmp_path.iterdir())]
    assert [each.problems for each in tried.found if each.problems] == []
    assert [claim for claim in expected.claims if not CHECKS[claim](tried)] == []


def test_every_word_of_the_table_is_checked() -> None:
    assert set(CHECKS) == set(Claim)
    assert {claim for expected in MATRIX.values() for claim in expected.claims} == set(Claim)
