"""Every action by the registry, by the control socket and by the page's socket, on a stream that runs."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import operated
import pydicom
import pytest
from bundles import draw_bundle
from operated import PATIENCE_S, Stage, on_stage
from support import FakeEngine, ScriptedSource, until

from clesr.engines.common.errors import ClesrError, UsageError
from clesr.pipeline import stats
from clesr.pipeline.cores import flat_field
from clesr.pipeline.cores.calibration import load_cores
from clesr.pipeline.display import facts
from clesr.pipeline.display.view_state import Mode, ViewState
from clesr.pipeline.operator.actions import cores
from clesr.pipeline.operator.operator import Operator
from clesr.pipeline.operator.registry import ACTIONS, all_actions
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.prepare import Roi
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.recorder import NOTHING_KEPT
from clesr.pipeline.session.verify import verify
from clesr.pipeline.settings import LiveSettings
from clesr.pipeline.sinks.mosaic import MosaicFile
from clesr.pipeline.sources.masked import Masked
from clesr.pipeline.sources.reopening import Reopening

Check = Callable[[Stage, dict[str, Any]], None]
WAYS = pytest.mark.parametrize("way", operated.WAYS)


def shows(**changed: Any) -> Check:
    """The view is as at first, but for what is ``changed``."""

    def check(stage: Stage, _told: dict[str, Any]) -> None:
        view, first = stage.operator.controls.view, ViewState()
        found = {f.name: getattr(view, f.name) for f in fields(view) if f.name != "said"}
        assert found == {f.name: getattr(first, f.name) for f in fields(first) if f.name != "said"} | changed

    return check


def froze(stage: Stage, told: dict[str, Any]) -> None:
    shows(frozen=True)(stage, told)
    held = stage.operator.controls.shown
    assert held is not None
    assert held.frame.number == told["number"]
    stage.more_frames()
    assert stage.operator.seen is held


def wrote_still(stage: Stage, told: dict[str, Any]) -> None:
    assert len(told["files"]) == 4
    assert all(Path(file).is_file() for file in told["files"])


def told_alarms(_stage: Stage, told: dict[str, Any]) -> None:
    assert (told["alarm"], told["waiting"]) == ("", 0)


VIEWS: dict[str, list[tuple[dict[str, Any], Check]]] = {
    "freeze": [({}, froze)],
    "wipe": [({}, shows(mode="wipe")), ({"position": 0.25}, shows(mode="wipe", wipe=0.25))],
    "side-by-side": [({}, shows(mode="side-by-side"))],
    "bicubic": [({}, shows(mode="bicubic"))],
    "raw": [({}, shows(mode="raw"))],
    "mode": [({}, shows(mode="wipe")), ({"mode": "raw"}, shows(mode="raw"))],
    "fidelity": [({}, shows(overlay=True))],
    "contrast": [({}, shows(contrast="auto")), ({"mode": "clahe"}, shows(contrast="clahe"))],
    "levels": [({"low": 10, "high": 90.5}, shows(contrast="fixed", levels=(10.0, 90.5)))],
    "lookup-table": [({}, shows(lookup_table="green")), ({"name": "fire"}, shows(lookup_table="fire"))],
    "zoom": [({}, shows(zoom=1.5)), ({"value": 4}, shows(zoom=4))],
    "zoom-out": [({}, shows())],
    "whole": [({}, shows())],
    "centre": [({"x": 0.2, "y": 1}, shows(centre=(0.2, 1.0)))],
    "region": [
        ({"x": 3, "y": 2, "width": 6, "height": 4}, shows(region=(3, 2, 6, 4))),
        (
            {"x": 0, "y": 0, "width": 9, "height": 6, "zoom": True},
            shows(region=(0, 0, 9, 6), zoom=2.0, centre=(0.25, 0.25)),
        ),
        ({}, shows()),
    ],
    "scale-bar": [({}, shows(scale_bar=True))],
    "hud": [({}, shows(hud="beside")), ({"place": "off"}, shows(hud="off"))],
    "full-screen": [({}, shows(full_screen=True))],
    "help": [({}, shows(help=True))],
    "acknowledge": [({}, told_alarms)],
    "still": [({}, wrote_still)],
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with on_stage(tmp_path_factory.mktemp("stage"), retro_s=0.5) as stage:
        yield stage


@pytest.fixture
def stage(running: Stage) -> Stage:
    """The stream, seen as at first."""
    controls, first = running.operator.controls, ViewState()
    controls.shown = None
    controls.change(**{each.name: getattr(first, each.name) for each in fields(first)})
    return running


def test_every_action_has_a_help_and_a_key_of_its_own() -> None:
    actions = list(all_actions())
    keys = [action.key for action in actions if action.key]
    assert len(keys) == len(set(keys))
    assert all(action.help.endswith(".") and action.group for action in actions)


def test_every_action_is_done_in_every_way_by_a_test() -> None:
    assert {action.name for action in all_actions()} == {*VIEWS, *OTHERS}
    for name, test in OTHERS.items():
        assert WAYS.mark in test.pytestmark  # type: ignore[attr-defined]
        assert f'"{name}"' in inspect.getsource(test)


@WAYS
@pytest.mark.parametrize(
    ("name", "arguments", "check"),
    [(name, arguments, check) for name, cases in VIEWS.items() for arguments, check in cases],
)
def test_an_action_does_what_it_says(
    stage: Stage, way: str, name: str, arguments: dict[str, Any], check: Check
) -> None:
    check(stage, stage.call(way, name, arguments))


@pytest.mark.parametrize(
    "name", ["freeze", "wipe", "side-by-side", "bicubic", "raw", "fidelity", "scale-bar"]
)
def test_a_key_that_switches_on_switches_off(stage: Stage, name: str) -> None:
    key = ACTIONS[name].key
    assert stage.operator.controls.press(key)
    assert stage.operator.controls.press(key)
    shows()(stage, {})


@pytest.mark.parametrize(
    ("name", "count"), [("mode", len(Mode)), ("contrast", 3), ("lookup-table", 4), ("hud", 3)]
)
def test_a_key_goes_round_all_choices(stage: Stage, name: str, count: int) -> None:
    seen = []
    for _ in range(count):
        stage.operator.controls.press(ACTIONS[name].key)
        seen.append(stage.operator.controls.view)
    shows()(stage, {})
    assert len({(v.mode, v.contrast, v.lookup_table, v.hud) for v in seen}) == count


@WAYS
@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("levels", {"low": 9, "high": 9}, "low 9 is not below high 9"),
        ("region", {"x": 10, "width": 20, "height": 4}, "the region 10,0,20,4 leaves the 18x12 frame"),
        ("exposure", {"value": 5}, "scripted has no exposure that could be set"),
        ("gain", {"value": 5}, "scripted has no gain that could be set"),
        ("still", {"dicom": True}, "writes no DICOM stills"),
        ("cores", {}, "no probe is calibrated; start with --cores FILE, or do calibrate-cores"),
        ("calibrate-cores", {"name": "../probe"}, "'../probe' is no name"),
        ("mosaic", {}, "no map is made; start with --mosaic FILE.ome.tif"),
        ("save-map", {}, "no map is made; start with --mosaic FILE.ome.tif"),
        ("scale", {"value": 3}, "value is 3; give one of 0, 2, 4, 8"),
        ("model", {"name": "/etc/x.safetensors"}, "'/etc/x.safetensors' is a file"),
        ("model", {"name": "x.bin"}, "'x.bin' is a file; only that of --model"),
        ("model", {"name": "w.SAFETENSORS"}, "'w.SAFETENSORS' is a file"),
        ("model", {"name": "w/densenet"}, "'w/densenet' is a file"),
        ("record", {"to": "stop"}, "nothing is recorded that could be stopped"),
        ("record", {"folder": "../x"}, "'../x' is no name"),
        ("record", {"folder": "/etc/x"}, "'/etc/x' is no name"),
        ("save-last", {"folder": ".hidden"}, "'.hidden' is no name"),
        ("note", {}, "nothing is being recorded that the note could go into"),
        ("note", {"text": ""}, "text is ''"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(
    stage: Stage, way: str, name: str, arguments: dict[str, Any], words: str
) -> None:
    if way == "registry":
        with pytest.raises(ClesrError) as refused:
            stage.call(way, name, arguments)
        assert words in str(refused.value)
        return
    told = stage.call(way, name, arguments)
    assert not told["ok"]
    assert words in told["error"]


@WAYS
def test_a_recording_with_notes_begins_and_ends(tmp_path: Path, way: str) -> None:
    with on_stage(tmp_path) as stage:
        told = stage.call(way, "record", {"folder": "findings"})
        assert told["folder"] == str(tmp_path / "findings")
        assert stage.call(way, "note", {"text": "first site"})["folder"] == told["folder"], "at once"
        assert stage.operator.pipeline.status().recording
        stage.more_frames()
        noted = stage.call(way, "note", {"text": "second site"})
        assert noted["folder"] == str(tmp_path / "findings")
        stage.more_frames()
        stage.call(way, "record", {"to": "stop"})
        stage.more_frames()
        assert not stage.operator.pipeline.status().recording
        stage.call(way, "record", {})
        stage.more_frames()
        assert stage.operator.pipeline.status().recording_s is not None
    notes = read_session(tmp_path / "findings").notes()
    assert [note.text for note in notes] == ["first site", "second site"]
    numbers = [record.number for record in read_session(tmp_path / "findings").records()]
    assert notes[1].number in numbers
    for name in ("findings", "s"):
        assert verify(tmp_path / name).complete


def test_a_recording_says_which_folder_it_got_or_why_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with on_stage(tmp_path, raising=(ClesrError,)) as stage:
        for name, made in (("", "s"), ("findings", "findings"), ("findings", "findings-2"), ("", "s-2")):
            told = stage.call("registry", "record", {"folder": name})
            assert told["folder"] == str(tmp_path / made)
            stage.more_frames()
            stage.call("registry", "record", {"to": "stop"})
            stage.more_frames()
        with pytest.raises(ClesrError, match=r"no recording can be made beside .*file"):
            stage.call("registry", "record", {"folder": "file"})
        assert stage.operator.pipeline.status().alarm.startswith("NOTHING IS RECORDED: ")
        assert not stage.operator.recordings.going
        stage.operator.pipeline.alarms.acknowledge()
    for made in ("s", "findings", "findings-2", "s-2"):
        assert verify(tmp_path / made).complete


@WAYS
def test_scale_and_model_are_switched_while_it_records(tmp_path: Path, way: str) -> None:
    def shown(operator: Operator, scale: int, model: str) -> bool:
        seen = operator.newest
        return seen is not None and (seen.scale, seen.model) == (scale, model)

    with on_stage(tmp_path) as stage:
        stage.call(way, "record", {})
        stage.more_frames()
        for name, arguments, scale, model in (
            ("scale", {}, 4, "fake"),
            ("model", {"name": "other"}, 4, "other"),
            ("scale", {"value": 2}, 2, "other"),
        ):
            stage.call(way, name, arguments)
            until(partial(shown, stage.operator, scale, model), PATIENCE_S)
        stage.more_frames()
    found = [read_session(path) for path in tmp_path.glob("s*")]
    assert [found.info.scale for found in sorted(found, key=lambda each: each.info.first)] == [2, 4, 4, 2]
    assert all(verify(each.folder).complete for each in found)


@WAYS
def test_a_map_is_shown_and_written_while_it_grows(tmp_path: Path, way: str) -> None:
    maps = MosaicFile(f"mosaic:{tmp_path}/map.ome.tif", share=1)
    with on_stage(tmp_path, maps=maps) as stage:
        assert stage.call(way, "mosaic", {})["on"]
        assert stage.operator.controls.view.mosaic
        assert not (tmp_path / "map.ome.tif").exists()
        until(lambda: maps.mosaic.growing, PATIENCE_S)
        stage.call(way, "save-map", {})
        until((tmp_path / "map.ome.tif").exists, PATIENCE_S)
        assert not stage.call(way, "mosaic", {})["on"]


@WAYS
def test_the_cores_of_a_probe_are_calibrated_and_removed(tmp_path: Path, way: str) -> None:
    flat = draw_bundle().show()
    with on_stage(tmp_path, image_of=lambda _number: flat) as stage:
        prepare = stage.operator.pipeline.prepare
        told = stage.call(way, "calibrate-cores", {"name": "probe", "frames": 2})
        assert told["file"] == str(tmp_path / "probe.cores")
        assert prepare.remove_cores
        assert stage.operator.pipeline.status().cores
        assert prepare.cores is not None
        assert len(load_cores(told["file"]).places) == told["cores"] == len(prepare.cores.places)
        assert not stage.call(way, "cores", {})["on"]
        assert not prepare.remove_cores
        assert not stage.operator.pipeline.status().cores
        stage.more_frames()
        kept = Path(told["file"]).read_bytes()
        again = {"name": "probe", "frames": 2}
        if way == "registry":
            with pytest.raises(ClesrError, match=r"probe\.cores exists"):
                stage.call(way, "calibrate-cores", again)
        else:
            assert "probe.cores exists" in stage.call(way, "calibrate-cores", again)["error"]
        assert Path(told["file"]).read_bytes() == kept


@WAYS
def test_exposure_and_gain_of_a_camera_are_set(
    stage: Stage, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    was_set: list[tuple[str, str]] = []
    source = stage.operator.pipeline.source
    monkeypatch.setattr(source, "adjust", lambda *what: was_set.append(what), raising=False)
    assert stage.call(way, "exposure", {"value": 120})["exposure"] == 120
    assert stage.call(way, "gain", {"value": -3})["gain"] == -3
    assert was_set == [("exposure", "120"), ("gain", "-3")]


def test_what_the_source_and_the_run_have_not_is_told_before() -> None:
    """Whatever stands around the source; a run without a recorder is no error."""

    def missing(source: Any) -> dict[str, str]:
        run = Pipeline(source, lambda shape: FakeEngine(shape), [], scale=2)
        operator = Operator(run, LiveSettings(source="demo:"))
        return {each["name"]: each["missing"] for each in operator.controls.describe()}

    plain = ScriptedSource([])
    around = Reopening(Masked(plain, [Roi(0, 0, 1, 1)]), lambda: plain)
    for source in (plain, around):
        told = missing(source)
        for name in ("exposure", "gain"):
            assert told[name] == f"scripted has no {name} that could be set; cameras of V4L2 have one"
        assert told["save-last"] == NOTHING_KEPT
    plain.lacks = lambda name: "it has none" if name == "gain" else ""  # type: ignore[attr-defined]
    for source in (plain, around):
        told = missing(source)
        assert (told["exposure"], told["gain"]) == ("", "it has none")


@WAYS
def test_earlier_frames_help_or_not(stage: Stage, way: str) -> None:
    for _ in range(2):
        before = stage.operator.pipeline.temporal
        assert stage.call(way, "temporal", {})["on"] is not before
        assert stage.operator.pipeline.temporal is not before


@WAYS
def test_the_last_seconds_are_saved(tmp_path: Path, way: str) -> None:
    told: list[dict[str, Any]] = []

    with on_stage(tmp_path, retro_s=4.0) as stage:

        def six_frames() -> bool:  # fewer while images of the first ones are still being encoded
            with suppress(ClesrError):  # nor any at all
                told.append(stage.call(way, "save-last", {"seconds": 0.2, "folder": f"last{len(told)}"}))
            return bool(told and told[-1].get("frames") == 6)

        stage.more_frames(12)
        until(six_frames, PATIENCE_S)
        last = tmp_path / f"last{len(told) - 1}"
        assert told[-1]["folder"] == str(last)
        assert verify(last).complete, "it is closed when that is told"
        assert len(list(read_session(last).records())) == 6
        assert stage.call(way, "save-last", {})["folder"] == str(tmp_path / "s")


def test_what_the_disk_holds_up_goes_on_and_says_when_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is not done again meanwhile; other actions are."""
    saved: Future[tuple[Path, int]] = Future()
    noted: Future[tuple[Path, float | None]] = Future()
    save, note = (mock.Mock(return_value=future) for future in (saved, noted))
    with on_stage(tmp_path, retro_s=0.5) as stage:
        controls = stage.operator.controls
        monkeypatch.setattr(stage.operator.recorder, "save_last", save)
        monkeypatch.setattr(stage.operator.recorder, "note", note)
        for name in ("save-last", "note"):
            controls.wait_s = 0.01
            with pytest.raises(
                ClesrError, match=f"^{name} has not ended within 0.01 s; it goes on, and says so"
            ):
                stage.call("registry", name, {})
            with pytest.raises(ClesrError, match=f"^{name} was not begun: {name} has not ended yet"):
                stage.call("registry", name, {})
        controls.wait_s = PATIENCE_S
        assert stage.call("registry", "still", {})["files"]
        saved.set_result((Path("last"), 7))
        until(lambda: controls.view.said == "the last 7 frames are in last", PATIENCE_S)
        noted.set_result((Path("s"), 1.25))
        until(lambda: controls.view.said == "noted at 1.2 s", PATIENCE_S)
        assert (save.call_count, note.call_count) == (1, 1)


def test_a_still_and_a_note_are_of_the_moment_at_which_they_were_asked_for(tmp_path: Path) -> None:
    """Whatever they had to wait for."""
    looked = {name: threading.Event() for name in ("still", "note")}
    told: dict[str, Any] = {}

    def telling(name: str, look: Any, operator: Operator, **arguments: Any) -> Any:
        found = look(operator, **arguments)
        looked[name].set()
        return found

    with on_stage(tmp_path) as stage:
        controls = stage.operator.controls
        controls.wait_s = PATIENCE_S
        stage.call("registry", "record", {})
        stage.more_frames()
        held = controls.shown = stage.operator.look()
        threads = []
        for name in looked:
            action = controls.actions[name]
            controls.actions[name] = replace(action, seen=partial(telling, name, action.seen))
            work = partial(stage.call, "registry", name, {})
            threads.append(threading.Thread(target=lambda name=name, work=work: told.update({name: work()})))
        with controls._turn, controls._turns["note"]:
            for thread in threads:
                thread.start()
            assert all(each.wait(PATIENCE_S) for each in looked.values())
            before_ns = stage.operator.pipeline.clock.now_ns()
            controls.shown = None
            stage.more_frames()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert told["still"]["number"] == held.frame.number
    (note,) = read_session(tmp_path / "s").notes()
    assert note.number == held.frame.number
    assert note.time_ns <= before_ns


@WAYS
def test_the_image_that_was_seen_is_meant_by_its_number(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newer ones have come since, which nobody has seen."""
    monkeypatch.setattr(stats, "RECENT_NS", PATIENCE_S * 1e9)  # on any machine
    with on_stage(tmp_path) as stage:
        operator = stage.operator
        stage.call("registry", "record", {})
        stage.more_frames()
        seen = operator.look()
        stage.more_frames()
        number = seen.frame.number
        assert stage.call(way, "freeze", {"number": number})["number"] == number
        assert operator.controls.shown is seen
        stage.call(way, "freeze", {"number": number})
        assert operator.controls.shown is None
        told = stage.call(way, "still", {"number": number})
        stage.call(way, "note", {"number": number})
        assert told["number"] == number
        written = cv2.imread(told["files"][1], cv2.IMREAD_UNCHANGED)
        assert np.array_equal(np.asarray(written), seen.image.astype(np.uint16) * 257)
        for name in ("still", "note", "freeze"):
            said = stage.call(way, name, {"number": 10**9})["said"]
            assert said.startswith("frame 1000000000 is no longer kept, this is frame ")
    numbers = [note.number for note in read_session(tmp_path / "s").notes()]
    assert numbers[0] == number
    assert numbers[1] is not None
    assert number < numbers[1] < 10**9


def test_a_map_that_has_not_begun_is_not_said_to_be_written(own_stage: Stage) -> None:
    own_stage.operator.maps = MosaicFile(f"mosaic:{own_stage.folder}/map.ome.tif")
    with pytest.raises(UsageError, match="no map has begun; save it when an image has come"):
        own_stage.call("registry", "save-map", {})


def test_without_kept_seconds_a_line_says_how_to_keep_them(tmp_path: Path) -> None:
    with on_stage(tmp_path) as stage, pytest.raises(ClesrError, match=r"--retro S keeps"):
        stage.call("registry", "save-last", {})


@WAYS
def test_quit_asks_while_something_is_recorded(tmp_path: Path, way: str) -> None:
    with on_stage(tmp_path) as stage:
        stage.call(way, "record", {})
        stage.more_frames()
        if way != "registry":
            told = stage.call(way, "quit", {})
            assert not told["ok"]
            assert "a recording is going on" in told["error"]
            stage.call(way, "fidelity", {})
            assert not stage.call(way, "quit", {})["ok"], "another action came between"
            assert stage.call(way, "quit", {"sure": True})["ok"]
        else:
            stage.operator.controls.press("q")
            assert stage.operator.controls.view.asking
            stage.more_frames()
            stage.operator.controls.press("q")
        until(lambda: stage.operator.pipeline.status().state in ("draining", "stopped"))
    assert verify(tmp_path / "s").complete


def test_a_question_that_one_was_asked_another_does_not_answer(tmp_path: Path) -> None:
    with on_stage(tmp_path) as stage:
        stage.call("registry", "record", {})
        stage.more_frames()
        for way in ("socket", "page", "registry"):
            stage.call(way, "quit", {})
            assert not has_ended(stage), way
        stage.call("page", "quit", {})
        assert stage.call("page", "quit", {})["said"] == "stopping"


def has_ended(stage: Stage) -> bool:
    return stage.operator.pipeline.status().state in ("draining", "stopped")


@contextmanager
def three_streams(folder: Path) -> Iterator[list[Stage]]:
    """Streams a, b and c of one run."""
    with ExitStack() as opened:
        stages = [opened.enter_context(on_stage(folder / name, name=name)) for name in "abc"]
        for stage in stages:
            stage.operator.others = [other.operator for other in stages if other is not stage]
        yield stages


@WAYS
@pytest.mark.parametrize(
    ("recorded", "question"),
    [
        ("a", "a is recorded; once more ends it and quits"),
        ("c", "c is recorded; once more ends it and quits"),
        ("bc", "b, c are recorded; once more ends them and quits"),
    ],
)
def test_quit_asks_once_for_all_streams_and_ends_all(
    tmp_path: Path, way: str, recorded: str, question: str
) -> None:
    """In the first of them, whichever are recorded."""
    with three_streams(tmp_path) as stages:
        first = stages[0]
        for stage in stages:
            if stage.operator.stream in recorded:
                stage.call("registry", "record", {})
                stage.more_frames()
        if way == "registry":
            first.operator.controls.press("q")
            assert first.operator.controls.view.asking == question
        else:
            assert question in first.call(way, "quit", {})["error"]
        assert not any(has_ended(stage) for stage in stages)
        first.call(way, "quit", {})
        until(lambda: all(has_ended(stage) for stage in stages))
    for name in recorded:
        assert verify(tmp_path / name / "s").complete


def test_quit_asks_nothing_where_no_stream_is_recorded(tmp_path: Path) -> None:
    with three_streams(tmp_path) as stages:
        stages[1].operator.controls.press("q")
        until(lambda: all(has_ended(stage) for stage in stages))


def test_quit_asks_nothing_where_nothing_is_recorded(tmp_path: Path) -> None:
    with on_stage(tmp_path) as stage:
        stage.operator.controls.press("q")
        until(lambda: stage.operator.pipeline.status().state in ("draining", "stopped"))


def test_a_still_is_of_the_frozen_image_and_says_all_that_is_known(stage: Stage) -> None:
    stage.call("registry", "region", {"x": 1, "y": 2, "width": 3, "height": 4})
    stage.call("registry", "freeze", {})
    held = stage.operator.look()
    stage.more_frames()
    told = stage.call("registry", "still", {})
    raw, sr, bicubic, stated = map(Path, told["files"])
    images = [np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)) for path in (raw, sr, bicubic)]
    assert all(image.dtype == np.uint16 for image in images)
    assert np.array_equal(images[0], held.frame.image.astype(np.uint16) * 257)
    assert np.array_equal(images[1], held.image.astype(np.uint16) * 257)
    assert images[2].shape == held.image.shape
    known = json.loads(stated.read_text())
    assert known["number"] == held.frame.number == told["number"]
    assert known["region"] == [1, 2, 3, 4]
    assert known["status"]["source"] == "scripted"
    assert known["pixel_um"] == 1.5
    assert known["files"]["sr"]["file"] == sr.name


@pytest.fixture
def own_stage(tmp_path: Path) -> Iterator[Stage]:
    """For tests that change what the stream of the others is, its engine or its limits."""
    with on_stage(tmp_path) as stage:
        yield stage


def _calibrating(stage: Stage, frames: int) -> None:
    """A calibration goes on, which nobody waits for any more."""
    stage.operator.controls.wait_s = 0.01
    with pytest.raises(ClesrError, match="it goes on, and says so"):
        stage.call("registry", "calibrate-cores", {"name": "probe", "frames": frames})
    stage.operator.controls.wait_s = PATIENCE_S


def test_beside_a_long_calibration_other_actions_go_on_and_it_says_how_far_it_is(
    own_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = own_stage
    monkeypatch.setattr(cores, "TELL_S", 0.01)
    goes_on, begun = threading.Event(), threading.Event()

    def slow(*_: Any, **__: Any) -> Any:
        begun.set()
        assert goes_on.wait(PATIENCE_S)
        raise UsageError("no cores here")

    monkeypatch.setattr(flat_field.FlatField, "calibration", slow)
    controls = stage.operator.controls
    _calibrating(stage, 2)
    assert begun.wait(PATIENCE_S)
    until(lambda: controls.view.said == "calibration: the cores are being found", PATIENCE_S)
    assert len(stage.call("registry", "still", {})["files"]) == 4, "which waits for the disk, and its turn"
    stage.call("registry", "scale", {"value": 4})
    controls.wait_s = 0.01
    with pytest.raises(ClesrError, match="was not begun: calibrate-cores has not ended yet"):
        stage.call("registry", "calibrate-cores", {"name": "another"})
    goes_on.set()
    until(lambda: controls.view.said == "calibrate-cores: no cores here", PATIENCE_S)


@pytest.mark.parametrize(
    ("limit", "frames", "words"),
    [("FRAME_S", 1000, "of 1000 frames, and no more for"), ("FIND_S", 2, "the cores were not found within")],
)
def test_a_calibration_that_comes_to_nothing_in_time_says_so_in_a_line(
    own_stage: Stage, monkeypatch: pytest.MonkeyPatch, limit: str, frames: int, words: str
) -> None:
    stage = own_stage
    ended = threading.Event()
    monkeypatch.setattr(cores, "TELL_S", 0.01)
    monkeypatch.setattr(cores, limit, -1.0)
    monkeypatch.setattr(flat_field.FlatField, "calibration", lambda *_, **__: ended.wait(PATIENCE_S))
    stage.operator.controls.wait_s = PATIENCE_S
    with pytest.raises(ClesrError, match=words):
        stage.call("registry", "calibrate-cores", {"name": "probe", "frames": frames})
    until(lambda: not stage.operator.pipeline.prepare._takers, PATIENCE_S)
    ended.set()


def test_a_still_of_a_frozen_image_names_what_made_it_after_the_engine_was_switched(
    own_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = own_stage
    from clesr.tools.export import still_dicom

    def known() -> tuple[dict[str, Any], Any]:
        files = stage.call("registry", "still", {"dicom": True})["files"]
        dicom = next(file for file in files if file.endswith("sr.dcm"))
        return json.loads(Path(files[-1]).read_text()), pydicom.dcmread(dicom)

    def is_switched() -> bool:
        newest = stage.operator.newest
        return newest is not None and newest.scale == 4

    monkeypatch.setattr(stage.operator, "write_dicom", still_dicom.write_dicom)
    stage.call("registry", "freeze", {})
    held = stage.operator.look()
    before, first = known()
    stage.operator.pipeline.switch(scale=4, model="other")
    until(is_switched, PATIENCE_S)
    after, again = known()
    assert stage.operator.pipeline.status().model == "other"
    for name in ("scale", "model", "engine", "settings", "number"):
        assert after[name] == before[name], name
    assert (after["scale"], after["engine"]["model"], after["engine"]["scale"]) == (2, "fake", 2)
    assert "other" not in str(again)
    assert str(again.get("DerivationDescription")) == str(first.get("DerivationDescription"))
    line = facts.engine_facts(stage.operator.pipeline.status(), held)[0].value
    assert "fake x2" in line, "above the image that is held"
    stage.call("registry", "freeze", {})
    now, _ = known()
    assert (now["scale"], now["engine"]["model"], now["settings"]["model"]) == (4, "other", "other")


def test_stills_of_one_frame_in_one_second_keep_each_other(stage: Stage) -> None:
    stage.call("registry", "freeze", {})
    files = [file for _ in range(3) for file in stage.call("registry", "still", {})["files"]]
    assert len(set(files)) == 12


def test_a_still_goes_to_dicom_on_wish(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    from clesr.tools.export.still_dicom import write_dicom

    monkeypatch.setattr(stage.operator, "write_dicom", write_dicom)
    stage.call("registry", "freeze", {})
    held = stage.operator.look()
    files = stage.call("registry", "still", {"dicom": True})["files"]
    objects = {
        Path(file).name.split(".")[1]: pydicom.dcmread(file) for file in files if file.endswith(".dcm")
    }
    assert np.array_equal(objects["raw"].pixel_array, held.frame.image)
    assert np.array_equal(objects["sr"].pixel_array, held.image)
    assert objects["raw"].StudyInstanceUID == objects["sr"].StudyInstanceUID


def test_a_dicom_that_fails_leaves_the_still_whole(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: Any) -> list[Path]:
        raise ClesrError("the disk is full")

    monkeypatch.setattr(stage.operator, "write_dicom", fail)
    monkeypatch.setattr(stage.operator, "folder", tmp_path)
    with pytest.raises(ClesrError, match="are written, but no DICOM: the disk is full"):
        stage.call("registry", "still", {"dicom": True})
    (stated,) = tmp_path.glob("*.json")
    files = {each["file"] for each in json.loads(stated.read_text())["files"].values()}
    assert len(files) == 3
    assert files | {stated.name} == {path.name for path in tmp_path.iterdir()}


def test_keys_of_the_settings_take_the_place_of_others(tmp_path: Path) -> None:
    with on_stage(tmp_path, key=(("still", "f"), ("fidelity", ""))) as stage:
        stage.operator.controls.press("f")
        until(lambda: "more" in stage.operator.controls.view.said)
        assert not stage.operator.controls.view.overlay
    with pytest.raises(UsageError, match="the key 'f' stands for"), on_stage(tmp_path, key=(("still", "f"),)):
        pass


def test_a_run_that_has_ended_takes_no_orders(tmp_path: Path) -> None:
    with on_stage(tmp_path) as stage:
        controls = stage.operator.controls
    with pytest.raises(ClesrError, match="the run has ended"):
        controls.call("freeze")
    assert controls.press("r")
    assert "the run has ended" in controls.view.said


OTHERS: dict[str, Callable[..., None]] = {
    "cores": test_the_cores_of_a_probe_are_calibrated_and_removed,
    "calibrate-cores": test_the_cores_of_a_probe_are_calibrated_and_removed,
    "mosaic": test_a_map_is_shown_and_written_while_it_grows,
    "save-map": test_a_map_is_shown_and_written_while_it_grows,
    "scale": test_scale_and_model_are_switched_while_it_records,
    "model": test_scale_and_model_are_switched_while_it_records,
    "temporal": test_earlier_frames_help_or_not,
    "record": test_a_recording_with_notes_begins_and_ends,
    "save-last": test_the_last_seconds_are_saved,
    "note": test_a_recording_with_notes_begins_and_ends,
    "exposure": test_exposure_and_gain_of_a_camera_are_set,
    "gain": test_exposure_and_gain_of_a_camera_are_set,
    "quit": test_quit_asks_while_something_is_recorded,
}
