"""The order of the steps, what is bounded, and what becomes of lost workers: with an executor that computes nothing."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from waits import joined

from clesr.engines.common.errors import ClesrError
from clesr.pipeline.prepare import IntensityWindow
from clesr.pipeline.sources.video.ranges import FrameRange
from clesr.tools.archive.eta import Survey, expected_pixels
from clesr.tools.archive.journal import FileStatus, Journal, JournalEntry
from clesr.tools.archive.messages import (
    Answer,
    Done,
    Event,
    Failure,
    Fatal,
    SegmentPlan,
    Step,
    Task,
)
from clesr.tools.archive.recording import Scan
from clesr.tools.archive.runner import ATTEMPTS, Report, Runner
from clesr.tools.archive.settings import Settings
from clesr.tools.archive.tree import InputFile, UnreadableEntry

SETTINGS = Settings(scale=2, model="fast", model_sha256="ab")
SOMEWHERE = Path("/archive/video.mkv")
Trouble = Callable[[Task, int], "Answer | None"]


def plan_of(file: InputFile, segments: int) -> SegmentPlan:
    spans = tuple(FrameRange(10 * i, 10 * i + 10) for i in range(segments))
    return SegmentPlan(
        file,
        "hash of " + file.name,
        "key " + file.name,
        Scan(10 * segments, (4, 5), 25.0, 0, spans, IntensityWindow()),
    )


def entry_of(file: InputFile, out: Path, frames: int) -> JournalEntry:
    (out / file.target).parent.mkdir(parents=True, exist_ok=True)
    (out / file.target).write_text(file.name)
    return JournalEntry(
        input=file.name, status=FileStatus.DONE, size=file.size, mtime_ns=file.mtime_ns, settings=SETTINGS.identity,
        input_sha256="hash of " + file.name, frames=frames, pixels=20 * frames, output=file.target,
        output_size=len(file.name),
    )  # fmt: skip


class FakeExecutor:
    """Answers the oldest task. ``segments`` of a file by its name, 0: done in one step; ``trouble`` may answer in
    place of the work, told how often the same was asked before."""

    def __init__(
        self, out: Path, *, room: int = 4, segments: int = 0, trouble: Trouble = lambda _t, _n: None
    ) -> None:
        self.out, self.room, self.segments, self.trouble = out, room, segments, trouble
        self.tasks: deque[Task] = deque()
        self.done: Counter[tuple[str, Step, int]] = Counter()
        self.asked: Counter[tuple[str, Step, int]] = Counter()
        self.most = 0

    def choose_model(self) -> str:
        return "fast"

    def configure(self, settings: Settings) -> None:
        pass

    def free(self) -> int:
        return self.room - len(self.tasks)

    def submit(self, task: Task) -> None:
        self.tasks.append(task)
        self.most = max(self.most, len(self.tasks))

    def wait(self) -> list[tuple[Task, Answer]]:
        if not self.tasks:
            return []
        task = self.tasks.popleft()
        return [(task, self._answer(task))]

    def _answer(self, task: Task) -> Answer:
        what = (task.file.name, task.step, task.index)
        answer = self.trouble(task, self.asked[what])
        self.asked[what] += 1
        if answer is not None:
            return answer
        self.done[what] += 1
        if task.step is Step.SEGMENT:
            return Event.SEGMENT_DONE
        if task.step is Step.BEGIN and self.segments:
            return plan_of(task.file, self.segments)
        return Done(entry_of(task.file, self.out, max(1, 10 * self.segments)))

    def progress(self) -> int:
        return 0

    def stop(self) -> None:
        self.tasks.clear()

    def close(self) -> None:
        pass


def entries(count: int) -> Iterator[InputFile | UnreadableEntry]:
    for number in range(count):
        yield InputFile(f"{number}.mkv", SOMEWHERE, f"{number}.mkv", 100, 5)


def run_all(
    out: Path, executor: FakeExecutor, found: Iterator[InputFile | UnreadableEntry] | None = None
) -> tuple[Runner, Report]:
    with closing(Journal(out)) as journal:
        run = Runner(executor, entries(6) if found is None else found, journal, SETTINGS, out)
        return run, run.run()


def test_every_file_is_done_once_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    executor = FakeExecutor(tmp_path, segments=3)
    _, report = run_all(tmp_path, executor)
    assert (report.done, report.broken, report.frames, report.pixels) == (6, 0, 180, 3600)
    assert set(executor.done.values()) == {1}
    assert len(executor.done) == 6 * (1 + 3 + 1)
    again = FakeExecutor(tmp_path)
    _, report = run_all(tmp_path, again)
    assert (report.done, report.skipped) == (0, 6)
    assert not again.asked


@pytest.mark.slow
@pytest.mark.parametrize("segments", [0, 3])
def test_of_100000_files_only_a_few_are_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, segments: int
) -> None:
    count = 100_000 if not segments else 5_000
    journal = Journal(tmp_path)
    monkeypatch.setattr(journal, "add", lambda _record: None)
    monkeypatch.setattr(f"{__name__}.entry_of", quick_entry)
    monkeypatch.setattr(Runner, "_clear", lambda *_: None)
    executor = FakeExecutor(tmp_path, room=8, segments=segments)
    seen = 0
    most_ahead = most_held = 0

    def lazily() -> Iterator[InputFile | UnreadableEntry]:
        nonlocal seen, most_ahead, most_held
        for entry in entries(count):
            seen += 1
            most_ahead = max(most_ahead, seen - run.report.done)
            most_held = max(most_held, len(run._open) + len(run._ready) + len(executor.tasks))
            yield entry

    run = Runner(executor, lazily(), journal, SETTINGS, tmp_path)
    executor.asked = executor.done = Counter()
    report = run.run()
    journal.close()
    assert report.done == seen == count
    assert executor.most <= 8
    assert most_ahead <= 8 * 2
    assert most_held <= 8 * (2 + segments)


def quick_entry(file: InputFile, _out: Path, frames: int) -> JournalEntry:
    return JournalEntry(input=file.name, status=FileStatus.DONE, frames=frames)


def test_a_lost_worker_costs_an_attempt_and_nothing_else(tmp_path: Path) -> None:
    executor = FakeExecutor(
        tmp_path,
        segments=3,
        trouble=lambda task, before: (
            Failure("gone", again=True) if task.index == 1 and before < ATTEMPTS - 1 else None
        ),
    )
    _, report = run_all(tmp_path, executor)
    assert (report.done, report.broken) == (6, 0)
    assert set(executor.done.values()) == {1}


def test_a_file_that_costs_every_worker_is_given_up(tmp_path: Path) -> None:
    executor = FakeExecutor(
        tmp_path,
        segments=3,
        trouble=lambda task, _n: (
            Failure("gone", again=True) if task.file.name == "2.mkv" and task.index else None
        ),
    )
    _, report = run_all(tmp_path, executor)
    assert report.done == 5
    assert report.listed == [("2.mkv", f"gone ({ATTEMPTS} attempts)")]
    assert max(executor.asked.values()) == ATTEMPTS
    again = FakeExecutor(tmp_path, segments=3)
    _, report = run_all(tmp_path, again)
    assert (report.done, report.skipped, report.broken) == (1, 5, 0)  # failed ones are tried again


def test_a_joined_file_that_lacks_a_piece_is_done_again_but_not_for_ever(tmp_path: Path) -> None:
    executor = FakeExecutor(
        tmp_path,
        segments=2,
        trouble=lambda task, _n: Failure("gone", again=True) if task.step is Step.FINISH else None,
    )
    _, report = run_all(tmp_path, executor, entries(1))
    assert report.listed == [("0.mkv", f"gone ({ATTEMPTS} attempts)")]
    assert executor.asked["0.mkv", Step.FINISH, 0] == ATTEMPTS
    assert executor.asked["0.mkv", Step.SEGMENT, 1] == ATTEMPTS


def test_a_broken_file_is_tried_once_and_the_others_go_on(tmp_path: Path) -> None:
    def trouble(task: Task, _n: int) -> Answer | None:
        return Failure(f"{task.file.path}: no\nvideo") if task.file.name == "3.mkv" else None

    def found() -> Iterator[InputFile | UnreadableEntry]:
        yield UnreadableEntry("locked/", "the folder cannot be read")
        yield from entries(6)

    _, report = run_all(tmp_path, FakeExecutor(tmp_path, trouble=trouble), found())
    assert report.done == 5
    assert report.listed == [("locked/", "the folder cannot be read"), ("3.mkv", "no video")]


def test_an_inseparable_video_is_done_as_a_whole(tmp_path: Path) -> None:
    executor = FakeExecutor(
        tmp_path,
        segments=3,
        trouble=lambda task, _n: (
            Event.INSEPARABLE if task.plan and task.plan.scan.spans and task.index == 2 else None
        ),
    )
    _, report = run_all(tmp_path, executor, entries(2))
    assert (report.done, report.broken) == (2, 0)
    assert executor.done["0.mkv", Step.FINISH, 0] == 1


def test_a_full_disk_ends_the_run(tmp_path: Path) -> None:
    executor = FakeExecutor(
        tmp_path, trouble=lambda task, _n: Fatal("No space left") if task.file.name == "2.mkv" else None
    )
    with pytest.raises(ClesrError, match="No space left"):
        run_all(tmp_path, executor)
    _, report = run_all(tmp_path, FakeExecutor(tmp_path))
    assert (report.done, report.skipped) == (4, 2)


def test_stopping_leaves_the_rest_for_the_next_run(tmp_path: Path) -> None:
    executor = FakeExecutor(
        tmp_path, room=1, trouble=lambda task, _n: Event.HALTED if task.file.name == "2.mkv" else None
    )
    run, report = run_all(tmp_path, executor)
    assert run.stopped
    assert (report.done, report.broken) == (2, 0)
    _, report = run_all(tmp_path, FakeExecutor(tmp_path))
    assert (report.done, report.skipped) == (4, 2)


def test_changed_inputs_settings_and_lost_results_are_done_again(tmp_path: Path) -> None:
    run_all(tmp_path, FakeExecutor(tmp_path))
    (tmp_path / "4.mkv").unlink()
    (tmp_path / "5.mkv").write_text("cut in the copying")

    def changed() -> Iterator[InputFile | UnreadableEntry]:
        for entry in entries(6):
            assert isinstance(entry, InputFile)
            touched = entry.name in ("0.mkv", "1.mkv")
            yield InputFile(entry.name, entry.path, entry.target, entry.size, 6 if touched else 5)

    asked: dict[str, str] = {}

    def trouble(task: Task, _n: int) -> Answer | None:
        asked[task.file.name] = task.file.known
        if task.file.name == "0.mkv":  # touched, with the same content
            return Done(
                JournalEntry(input="0.mkv", status=FileStatus.DONE, input_sha256=task.file.known),
                unchanged=True,
            )
        return None

    _, report = run_all(tmp_path, FakeExecutor(tmp_path, trouble=trouble), changed())
    assert asked == {"0.mkv": "hash of 0.mkv", "1.mkv": "hash of 1.mkv", "4.mkv": "", "5.mkv": ""}
    assert (report.done, report.skipped) == (3, 3)
    executor = FakeExecutor(tmp_path)
    _, report = run_all(tmp_path, executor, changed())
    assert not executor.asked  # the new time of change is recorded
    journal = Journal(tmp_path)
    other = Settings(scale=4, model="fast", model_sha256="ab")
    report = Runner(FakeExecutor(tmp_path), changed(), journal, other, tmp_path).run()
    journal.close()
    assert (report.done, report.skipped) == (6, 0)


def test_the_time_left_is_reckoned_from_pixels_a_byte(tmp_path: Path) -> None:
    def found() -> Iterator[InputFile | UnreadableEntry]:
        yield from entries(10)
        yield InputFile("a.png", Path("a.png"), "a.png", 50, 5)
        yield InputFile("b.png", Path("b.png"), "b.png", 50, 5)

    survey = Survey(found())
    joined(survey._thread)
    assert survey.files == 12
    report = Report()
    assert expected_pixels(report, survey) is None
    report.met[".mkv"] = 200, 1000  # two of ten videos: 5 pixels a byte
    assert expected_pixels(report, survey) == 1000 + 800 * 5 + 100 * 5
    report.met[".png"] = 50, 50
    report.passed[".mkv"] = 300
    assert expected_pixels(report, survey) == 1000 + 500 * 5 + 50 + 50 * 1
    survey.close()
