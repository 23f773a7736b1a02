"""What scripts are told by the exit status of a run: that it failed, or that nothing but its recording did."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import Run, one_line
from support import FakeEngine, ListSink, ScriptedSource, make_frame, until

from clesr.engines.common.errors import RecordingError
from clesr.pipeline.frame import Result
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.session.folder import RESERVE
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.session.verify import verify
from clesr.pipeline.session.video import DurableFile

LIVE = ("clesr-live", "--scale", 2, "--model", "nearest", "--display", "none")


def fill_disk(monkeypatch: pytest.MonkeyPatch, below: Path) -> None:
    """No session at ``below`` gets anything written but what closes it."""

    def before(name: str) -> None:
        folder = Path(name).parent
        if folder == below and (folder / RESERVE).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(DurableFile, "before_writing", before)


def test_a_recording_that_ends_early_is_status_3(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch, tmp_path / "s")
    code, _, err = run(*LIVE, "--source", "demo:?size=64&fps=50", "--frames", 20, "--record", tmp_path / "s")
    assert code == 3, err
    assert "No space left on device" in one_line(err)
    assert "captured 20 frames" in err, "the run went on to its end"


def test_a_run_that_cannot_begin_leaves_nothing_open(run: Run, tmp_path: Path) -> None:
    """Its source, sinks and recorder went on where the address of --metrics was taken."""
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, _, err = run(
            *LIVE, "--source", "demo:?size=64", "--record", tmp_path / "s", "--metrics", address
        )
    assert code == 1, err
    assert "cannot be listened on: Address already in use" in err
    until(lambda: not any(t.name.startswith("clesr") for t in set(threading.enumerate()) - before))


def test_of_several_streams_the_one_that_cannot_be_opened_is_named_and_no_folder_stays(
    run: Run, tmp_path: Path
) -> None:
    sources = ("--source", "left=demo:?size=64", "--source", f"right={tmp_path}/no.mpeg")
    code, _, err = run(*LIVE, *sources, "--record", tmp_path / "{stream}")
    assert code != 0
    assert one_line(err).startswith("clesr-live: error: right: ") or "error: right: " in one_line(err)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_which_nothing_was_recorded_does_not_stay_unless_it_was_there(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    for name in ("there", "new"):
        source = ("--source", "demo:?size=64&pace=max", "--frames", 3, "--retro", 5)
        code, _, err = run(*LIVE, *source, "--record", tmp_path / name)
        assert code == 0, err
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_so_it_is_when_a_session_is_replayed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = run(*LIVE, "--source", "demo:?size=64&pace=max", "--frames", 5, "--record", tmp_path / "s")
    assert code == 0, err
    fill_disk(monkeypatch, tmp_path / "again")
    code, _, err = run("clesr", "replay", tmp_path / "s", "--display", "none", "--record", tmp_path / "again")
    assert code == 3, err


@pytest.mark.slow
def test_of_several_streams_it_is_3_where_nothing_but_recordings_failed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch, tmp_path / "b")
    several = ("--share", "one", "--frames", 5, "--record", tmp_path / "{stream}")
    demo = ("--source", "b=demo:?size=64&fps=50")
    code, _, err = run(*LIVE, "--source", "a=demo:?size=64&fps=50", *demo, *several)
    assert (code, "1 of 2 streams broke: b: the recording" in one_line(err)) == (3, True), err
    assert verify(tmp_path / "a").complete

    deep = tmp_path / "deep"
    deep.mkdir()
    cv2.imwrite(str(deep / "0.png"), np.zeros((32, 32), np.uint16))
    fill_disk(monkeypatch, tmp_path / "b2")
    output = ("--codec", "h264", "--output", tmp_path / "{stream}.mkv")
    several = ("--share", "one", "--frames", 5, "--record", tmp_path / "{stream}2")
    code, _, err = run(*LIVE, "--source", f"a={deep}", *demo, *several, *output)
    assert (code, "2 of 2 streams broke" in one_line(err)) == (1, True), err


def test_what_cannot_begin_is_1_or_2(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    code, _, err = run(*LIVE, "--source", "demo:?size=64", "--record", tmp_path)
    assert (code, "is not empty" in one_line(err)) == (1, True), err
    code, _, err = run(*LIVE, "--source", "demo:?size=64", "--record", tmp_path / "s", "--retro", "-1")
    assert code == 2, err


def test_an_alarm_that_was_seen_changes_no_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_disk(monkeypatch, tmp_path / "s")

    def acknowledged() -> None:
        until(lambda: bool(run.status().alarm))
        assert recorder.acknowledge()
        assert not run.status().alarm

    source = ScriptedSource([*map(make_frame, range(5)), acknowledged, make_frame(5)])
    recorder = Recorder(source.info, scale=2)
    run = Pipeline(source, FakeEngine, [], scale=2, recorder=recorder)
    run.start_recording(tmp_path / "s")
    with pytest.raises(RecordingError, match="ended early") as raised:
        run.run()
    assert raised.value.exit_code == 3


@pytest.mark.parametrize("output_breaks", [False, True])
def test_a_recorder_that_breaks_is_a_recording_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output_breaks: bool
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    def output(_result: Result) -> None:
        if output_breaks:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Recorder, "write", fail)
    source = ScriptedSource(map(make_frame, range(5)))
    recorder = Recorder(source.info, scale=2)
    run = Pipeline(source, FakeEngine, [ListSink(on_write=output)], scale=2, recorder=recorder)
    run.start_recording(tmp_path / "s")
    with pytest.raises(Exception, match=r"Input/output error" if output_breaks else "a fault") as raised:
        run.run()
    assert isinstance(raised.value, RecordingError) != output_breaks
