"""Recordings across a switch of engine: every captured frame is in one session, each session is of one engine."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import drifting
from support import ListSink, ScriptedSource, Step, until
from switched_runs import READY, Openers, Run

from clesr.engines.opener import EngineOpener
from clesr.pipeline.frame import Frame, Outcome
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.prepare import Prepare
from clesr.pipeline.session import segments
from clesr.pipeline.session.format import Record, SessionError
from clesr.pipeline.session.manifest import RecorderSettings
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.session.verify import verify
from clesr.pipeline.temporal import StreamFusion

LARGE = (32, 48)  # which HEVC takes


def sessions(folder: Path) -> list[Path]:
    """``s``, ``s-2`` and so on."""
    return sorted(folder.glob("s*"), key=lambda path: int(path.name.partition("-")[2] or 1))


def check(folder: Path, count: int) -> list[tuple[int, str, int, int]]:
    """Of each session scale, model, frames and SR images. Together they have the frames 0 to ``count``, each once, with
    its raw image, and by verify each is complete."""
    found, numbers = [], list[int]()
    for path in sessions(folder):
        certificate = verify(path)
        assert certificate.complete, certificate.problems
        info = certificate.info
        numbers += [record.number for record in read_session(path).records()]
        assert info.sr_shape == (info.raw_shape[0] * info.scale, info.raw_shape[1] * info.scale)
        found.append((info.scale, info.model, certificate.totals["raw"], certificate.totals["sr"]))
    assert numbers == list(range(count))
    assert sum(raw for _, _, raw, _ in found) == count
    return found


def record(folder: Path, openers: Openers | None = None, *, later: bool = False, **options: Any) -> Run:
    """A run that records from its first frame on, or ``later``; what it began with is in the settings."""
    stated = {"model": "one", "engine": "auto", "temporal": "off", "denoise": None}
    run = Run(openers or Openers(), record=RecorderSettings(settings=stated, **options))
    if not later:
        run.pipeline.start_recording(folder / "s")
    return run


def records(path: Path) -> list[Record]:
    return list(read_session(path).records())


def test_each_engine_has_a_session_of_its_own_and_no_frame_is_lost(tmp_path: Path) -> None:
    run = record(tmp_path)
    run.frames(3)
    for change, count in (
        ({"scale": 4}, 3),
        ({"model": "two"}, 2),
        ({"scale": 8, "model": "one"}, 2),
        ({"scale": 2}, 1),
    ):
        run.switch(**change)
        run.ready()
        run.frames(count)
    run.run()
    assert check(tmp_path, 11) == [
        (2, "one", 3, 3), (4, "one", 3, 3), (4, "two", 2, 2), (8, "one", 2, 2), (2, "one", 1, 1),
    ]  # fmt: skip
    infos = [read_session(path).info for path in sessions(tmp_path)]
    assert [info.settings["model"] for info in infos] == ["one", "one", "two", "one", "one"]
    assert [info.settings["engine"] for info in infos] == ["auto", *["fake"] * 4]
    assert all(len(info.engines) == 1 for info in infos)
    assert f"images are x4 one now: the recording goes on in {tmp_path / 's-2'}" in run.said
    for path in sessions(tmp_path):
        assert all(line.reason is None for line in records(path))


@pytest.mark.parametrize("codec", ["ffv1", "hevc"])
def test_every_image_is_recorded_where_only_the_model_changes(tmp_path: Path, codec: str) -> None:
    """The first picture of a video needs none before it."""
    run = record(tmp_path, codec=codec)
    run.frames(5, LARGE)
    run.switch(model="two")
    run.ready()
    run.frames(5, LARGE)
    run.run()
    assert check(tmp_path, 10) == [(2, "one", 5, 5), (2, "two", 5, 5)]


def test_an_engine_that_fails_on_its_first_frame_costs_no_raw_frame(tmp_path: Path) -> None:
    run = record(tmp_path, Openers(options={(4, "one"): {"fails": range(2, 251)}}))
    run.frames(2)
    run.switch(scale=4)
    run.ready()
    run.frames(3)
    run.settled()
    run.frames(2)
    assert run.run() == [2] * 7
    found = check(tmp_path, 7)
    assert [scale for scale, *_ in found] == [2, 4, 2]
    assert found[0][2:] == (2, 2)
    assert found[1][3] == 0
    assert found[2][2] == found[2][3]
    for line in records(tmp_path / "s-2"):
        assert line.reason == "the SR image has another size or depth than those of this recording"
    assert run.pipeline.status().recording is False
    assert run.pipeline.status().alarm == ""


def test_frames_from_before_a_recording_keep_their_raw_images_across_a_switch(tmp_path: Path) -> None:
    run = record(tmp_path, later=True, retro_s=1000.0)
    run.frames(3)
    run.switch(scale=4)
    run.ready()
    run.frames(2)
    run.switch(model="two")
    run.ready()
    run.frames(1)
    run.do(lambda: run.pipeline.start_recording(tmp_path / "s"))
    run.frames(2)
    run.run()
    assert check(tmp_path, 8) == [(4, "two", 8, 3)]
    assert read_session(tmp_path / "s").info.settings["model"] == "two"
    reasons = [line.reason or "" for line in records(tmp_path / "s")]
    assert ["engine before" in reason for reason in reasons] == [True] * 5 + [False] * 3


def test_where_no_folder_can_be_made_raw_frames_go_on_in_the_present_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path, *, above: bool = True) -> None:
        raise SessionError(f"no recording can be made in {folder}: the disk is full; free some space")

    run = record(tmp_path)
    run.frames(2)
    run.do(lambda: monkeypatch.setattr(segments, "make_folder", refuse))
    run.switch(scale=4)
    run.ready()
    run.frames(3)
    with pytest.raises(SessionError, match="the disk is full"):
        run.run()
    assert check(tmp_path, 5) == [(2, "one", 5, 2)]
    assert "another size" in str(records(tmp_path / "s")[-1].reason)


def test_a_recording_that_begins_after_a_switch_is_of_the_engine_that_is_there(tmp_path: Path) -> None:
    run = record(tmp_path, later=True)
    run.frames(2)
    run.switch(scale=8)
    run.ready()
    run.frames(1)
    run.do(lambda: run.pipeline.start_recording(tmp_path / "t"))
    run.frames(2)
    run.run()
    info = read_session(tmp_path / "t").info
    assert (info.scale, info.first, info.model) == (8, 3, "one")


def test_settings_that_change_stand_in_recordings_that_begin_later(tmp_path: Path) -> None:
    run = record(tmp_path)
    run.frames(1)

    def change() -> None:
        run.pipeline.temporal, run.pipeline.denoise = True, 3.0

    run.do(change)
    run.frames(1)
    run.switch(scale=4)
    run.ready()
    run.frames(1)
    run.run()
    first, second = (read_session(path).info.settings for path in sessions(tmp_path))
    assert first == {"model": "one", "engine": "auto", "temporal": "off", "denoise": None}
    assert {name: second[name] for name in first} == {
        "model": "one", "engine": "fake", "temporal": "auto", "denoise": 3.0,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads /proc, which is Linux")
def test_fifty_switches_of_a_real_network_lose_nothing_and_keep_memory_flat(tmp_path: Path) -> None:
    """``fast`` at x2, x4 and x8, while all is recorded. A scale takes the memory that it takes: the highest of four
    switches counts, which have every scale."""
    order, memory = ([4, 8, 4, 2] * 13)[:50], list[int]()
    script: list[Step] = []
    images = drifting(6 + 2 * 50, (48, 64))

    def until_settled() -> None:
        until(lambda: not pipeline.status().switching)
        memory.append(int(Path("/proc/self/statm").read_text().split()[1]))

    def add(count: int) -> None:
        script.extend(Frame(images.pop(), 105 - len(images), 0) for _ in range(count))

    add(6)
    for scale in order:
        script.append(partial(lambda scale: pipeline.switch(scale=scale), scale))
        script.append(lambda: until(lambda: pipeline.status().switching.endswith(READY)))
        add(2)
        script.append(until_settled)
    source, sink = ScriptedSource(script, shape=(48, 64)), ListSink()
    prepare = Prepare(temporal=StreamFusion())
    recorder = Recorder(source.info, scale=2, settings=RecorderSettings())
    opener = EngineOpener(2, "fast")
    pipeline = Pipeline(source, opener, [sink], scale=2, prepare=prepare, recorder=recorder)
    pipeline.start_recording(tmp_path / "s")
    pipeline.run()
    scales = [2] * 6 + [scale for scale in order for _ in range(2)]
    assert [(r.frame.number, r.scale) for r in sink.results] == list(enumerate(scales))
    for result in sink.results:
        assert result.outcome is Outcome.UPSCALED
        assert result.image.shape == (48 * result.scale, 64 * result.scale)
        assert result.image.max() > 100, "not black"
    assert check(tmp_path, 106) == [(2, "fast", 6, 6), *((scale, "fast", 2, 2) for scale in order)]
    early, late = max(memory[14:18]), max(memory[46:50])
    assert late <= 1.05 * early


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("frames"), st.integers(1, 3)),
        st.tuples(st.just("switch"), st.sampled_from([2, 4, 8])),
        st.tuples(st.just("model"), st.sampled_from(["one", "two", "broken", "late"])),
        st.tuples(st.just("wait"), st.just(0)),
        st.tuples(st.just("record"), st.booleans()),
        st.tuples(st.just("temporal"), st.booleans()),
    ),
    max_size=12,
)


@settings(max_examples=12, deadline=None)
@given(STEPS)
def test_whatever_is_switched_every_frame_is_recorded_that_came_while_it_was_to_be(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any]]
) -> None:
    folder, made = tmp_path_factory.mktemp("switched"), list[Path]()
    always = {"fails": range(251)}
    late = {"fails": range(6, 251)}  # sound on the frames before
    options = {(scale, "broken"): always for scale in (2, 4, 8)} | {(scale, "late"): late for scale in (4, 8)}
    run = Run(Openers(options=options), record=RecorderSettings())
    recording, expected = False, list[int]()

    def begin() -> None:
        made.append(folder / f"r{len(made)}x")
        run.pipeline.start_recording(made[-1])

    def set_temporal(on: bool) -> None:
        run.pipeline.temporal = on

    for kind, value in [*steps, ("wait", 0), ("frames", 1), ("wait", 0)]:
        if kind == "frames":
            expected += range(run.number, run.number + value) if recording else []
            run.frames(value)
        elif kind == "switch":
            run.switch(scale=value)
        elif kind == "model":
            run.switch(model=value)
        elif kind == "wait":
            run.frames(1)
            expected += [run.number - 1] if recording else []
        elif kind == "temporal":
            run.do(lambda value=value: set_temporal(value))  # type: ignore[misc]
        elif value != recording:
            recording = value
            run.do(begin if value else run.pipeline.stop_recording)
            if value:  # at least one frame, so that there is a session
                expected.append(run.number)
                run.frames(1)
    run.script.append(run.pipeline.stop)
    run.pipeline.run()
    assert [r.frame.number for r in run.sink.results] == list(range(run.number))
    for result in run.sink.results:
        height, width = result.lr.shape
        assert result.image.shape == (result.scale * height, result.scale * width)
    assert run.openers.count_open() == 0
    found = list[int]()
    for path in sorted(folder.iterdir(), key=lambda path: read_session(path).info.first):
        assert verify(path).complete
        found += [line.number for line in records(path)]
    assert found == expected
