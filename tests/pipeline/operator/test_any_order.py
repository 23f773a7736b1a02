"""Freeze, wipe, record, save-last, note and still in any order leave valid sessions and a balanced ledger."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operated import PATIENCE_S, WAYS, on_stage
from session_runs import frames, make_run
from support import ListSink, Step
from waits import joined

from clesr.engines.common.errors import ClesrError
from clesr.pipeline.operator.operator import Operator
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.verify import verify
from clesr.pipeline.settings import LiveSettings
from clesr.pipeline.sinks.mosaic import MosaicFile

NAMES = ("freeze", "wipe", "record", "save-last", "note", "still")
ORDERS = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(1, 4)), max_size=12)


def play(folder: Path, order: list[tuple[str, int]], *, live: bool, retro_s: float) -> None:
    """Each action of ``order``, and so many frames after it; then all that was written is looked at."""
    recorded: list[list[int]] = []  # the numbers of the frames that came during each recording
    noted: list[str] = []
    stills: list[tuple[int, int]] = []  # the number that was told, and that of what was seen
    saved: list[tuple[Path, int]] = []

    def act(name: str, at: int) -> None:
        controls = operator.controls
        seen = controls.shown.frame.number if controls.shown is not None else None
        text, going = f"{name} {at}", operator.recordings.going
        try:
            told = controls.call(name, {"text": text} if name == "note" else {})
        except ClesrError:
            assert name != "note" or not going, "from the order on notes are taken"
            return
        if name == "note":
            noted.append(text)
        elif name == "still" and seen is not None:
            stills.append((json.loads(Path(told["files"][-1]).read_text())["number"], seen))
        elif name == "save-last":
            saved.append((Path(told["folder"]), told["frames"]))
        elif name == "record" and told["recording"]:
            recorded.append([])

    def script() -> Iterator[Step]:
        number = 0
        for name, count in [*order, ("wipe", 2)]:
            act(name, number)
            for frame in frames(range(number, number + count), timed=not live):
                yield frame
                if operator.recordings.going:
                    recorded[-1].append(number)
                number += 1

    sink = ListSink()
    run, _ = make_run(script(), live=live, retro_s=retro_s, sinks=[sink])
    operator = Operator(run, LiveSettings(source="demo:", record=str(folder / "s")), folder)
    summary = run.run()
    assert summary.captured == sum(summary.outcomes.values())
    sessions = {path: read_session(path) for path in folder.iterdir() if path.is_dir()}
    assert len(sessions) == len(recorded) + len(saved)
    numbers = {path: [record.number for record in found.records()] for path, found in sessions.items()}
    for path in sessions:
        certificate = verify(path)
        assert certificate.problems == ()
        assert certificate.complete
        assert certificate.info.ended == "stopped"
    for path, count in saved:
        assert len(numbers.pop(path)) == count
    for expected in recorded:
        assert any(set(expected) <= set(found) for found in numbers.values())
    assert sorted(note.text for found in sessions.values() for note in found.notes()) == sorted(noted)
    assert all(told == seen for told, seen in stills)
    assert all(result.image.shape == (24, 36) for result in sink.results)


@settings(max_examples=8)
@given(ORDERS, st.booleans(), st.sampled_from([0.0, 0.2]))
def test_some_orders_leave_valid_sessions(order: list[tuple[str, int]], live: bool, retro_s: float) -> None:
    with TemporaryDirectory() as folder:
        play(Path(folder), order, live=live, retro_s=retro_s)


@pytest.mark.slow
@settings(max_examples=150)
@given(ORDERS, st.booleans(), st.sampled_from([0.0, 0.1, 0.3, 10.0]))
def test_any_order_leaves_valid_sessions(order: list[tuple[str, int]], live: bool, retro_s: float) -> None:
    with TemporaryDirectory() as folder:
        play(Path(folder), order, live=live, retro_s=retro_s)


def test_all_at_once_leaves_valid_sessions(tmp_path: Path) -> None:
    order = [
        (name, 2) for name in ("freeze", "record", "note", "still", "save-last", "wipe", "freeze", "record")
    ]
    play(tmp_path, [*order, *order, ("save-last", 1)], live=False, retro_s=0.3)
    assert len(list(tmp_path.glob("s*"))) >= 2


TURNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("freeze", {}),
    ("save-last", {}),
    ("record", {"to": "start"}),
    ("scale", {"value": 4}),
    ("wipe", {"position": 0.3}),
    ("mosaic", {}),
    ("still", {}),
    ("note", {"text": "here"}),
    ("save-map", {}),
    ("scale", {"value": 2}),
    ("record", {"to": "stop"}),
)


def test_all_ways_at_the_same_moment_leave_valid_sessions(tmp_path: Path) -> None:
    """Window, page and control socket: what one of them begins another ends. What is refused is told in words."""
    maps, together = MosaicFile(f"mosaic:{tmp_path}/map.ome.tif", share=1), threading.Barrier(len(WAYS))
    broken: list[BaseException] = []

    def act(way: str, first: int) -> None:
        others = [turn for turn in (*TURNS[first:], *TURNS[:first]) if turn[0] != "record"]
        try:
            for name, arguments in (*TURNS, *others, *TURNS):
                together.wait(PATIENCE_S)
                with suppress(ClesrError):
                    told = stage.call(way, name, arguments)
                    assert told.get("said") or told["error"]
                if name == "record":
                    stage.more_frames()  # a recording without any is an alarm
        except BaseException as error:
            broken.append(error)
            together.abort()
            raise

    with on_stage(tmp_path, retro_s=0.3, maps=maps) as stage:
        threads = [threading.Thread(target=act, args=(way, 3 * at)) for at, way in enumerate(WAYS)]
        for thread in threads:
            thread.start()
        joined(*threads, seconds=5 * PATIENCE_S)
        assert not broken
        if stage.operator.recordings.going:
            stage.call("registry", "record", {"to": "stop"})
        run = stage.operator.pipeline
    summary = run.summary()
    assert summary.captured == sum(summary.outcomes.values())
    sessions = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert len(sessions) >= 2
    for certificate in map(verify, sessions):
        assert certificate.problems == ()
        assert certificate.info.closed
    assert not run.alarms.waiting
