"""`clesr-live --record` and what works on the sessions that it leaves."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from commands import Run, one_line
from support import FakeEngine, ScriptedSource

from clesr.engines.common.errors import SinkError
from clesr.pipeline.operator.operator import Recordings
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.session.format import SessionError, format_manifest
from clesr.pipeline.session.reader import read_session
from clesr.pipeline.session.recorder import Recorder
from clesr.pipeline.session.verify import Missing, verify
from clesr.tools.commands.live import live
from clesr.tools.commands.verify import describe
from clesr.tools.common import runs


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of the simulated endomicroscope, up-scaled by a network."""
    folder = tmp_path_factory.mktemp("recorded") / "session"
    arguments = [
        "--source", "demo:?size=64&pace=max&drop=0.2", "--scale", "2", "--model", "fast", "--display", "none",
        "--frames", "12", "--record", str(folder), "--pixel-size", "1.5", "--mask", "0,0,10,8",
    ]  # fmt: skip
    live.main(arguments, standalone_mode=False)
    return folder


@pytest.fixture
def session(recorded: Path, tmp_path: Path) -> Path:
    """A copy of ``recorded`` to do with as a test likes."""
    return Path(shutil.copytree(recorded, tmp_path / "session"))


def test_a_recording_of_the_demo_is_complete(run: Run, session: Path, tmp_path: Path) -> None:
    code, out, err = run("clesr", "verify", session, "--json", tmp_path / "certificate.json")
    assert code == 0, err
    assert "verdict    everything holds" in out
    certificate = json.loads((tmp_path / "certificate.json").read_text())
    assert certificate["complete"]
    assert certificate["holds"]
    totals = certificate["totals"]
    assert totals["captured"] == totals["upscaled"] + totals.get("lost-at-source", 0) >= 12
    assert certificate["digest"] in out
    info = read_session(session).info
    assert (info.pixel_um, info.model, info.scale) == (1.5, "fast", 2)
    for _, image in read_session(session).images("raw"):
        assert not image[:8, :10].any(), "the mask was blanked before anything was written"
        assert image[8:, 10:].any()


def test_verify_names_what_was_changed_and_exits_with_1(run: Run, session: Path) -> None:
    data = bytearray((session / "raw.mkv").read_bytes())
    data[-1] ^= 1
    (session / "raw.mkv").write_bytes(data)
    code, out, err = run("clesr", "verify", session)
    assert code == 1
    assert "PROBLEM    raw.mkv was changed" in out
    assert "DOES NOT HOLD" in out
    assert "raw.mkv was changed" in one_line(err)


def test_render_makes_the_same_images_again(run: Run, session: Path) -> None:
    code, _, err = run("clesr", "render", session)
    assert code == 0, err
    assert "0.000 levels mean difference" in err


def test_render_says_when_another_engine_is_used(run: Run, session: Path) -> None:
    code, _, err = run("clesr", "render", session, "--engine", "torch", "--device", "cpu")
    assert code == 0, err
    assert "another engine than the session's: torch" in err


def test_render_finds_images_that_another_model_made(run: Run, session: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    code, _, err = run("clesr", "render", session, "--model", "nearest", "-o", other)
    assert code == 0, err
    info = read_session(session).info
    forged = replace(
        read_session(other).info, model=info.model, model_hash=info.model_hash, engine=info.engine
    )
    (other / "session.json").write_bytes(format_manifest(forged))
    code, _, err = run("clesr", "render", other)
    assert code == 1
    assert "levels on average, 1 is allowed" in one_line(err)


def test_render_with_another_model_into_a_new_session(run: Run, session: Path, tmp_path: Path) -> None:
    code, _, err = run("clesr", "render", session, "--scale", 4, "--model", "bicubic", "-o", tmp_path / "new")
    assert code == 0, err
    code, _, err = run("clesr", "verify", tmp_path / "new")
    assert code == 0, err
    old, new = read_session(session), read_session(tmp_path / "new")
    assert new.info.scale == 4
    assert new.info.model == "bicubic"
    assert new.info.started == old.info.started
    assert [(r.number, r.ticks, r.outcome) for r in new.records()] == [
        (r.number, r.ticks, r.outcome) for r in old.records()
    ]
    for (_, a), (_, b) in zip(old.images("raw"), new.images("raw"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_render_of_sixteen_bits_uses_the_recorded_levels(run: Run, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for n in range(6):
        image = np.random.default_rng(n).integers(100, 1000 + 500 * n, (40, 48)).astype(np.uint16)
        cv2.imwrite(str(images / f"{n}.png"), image)
    code, _, err = run(
        "clesr-live", "--source", images, "--scale", 2, "--model", "fast", "--display", "none", "--pace", "max",
        "--roi", "4,2,32,24", "--consistent", "--record", tmp_path / "s",
    )  # fmt: skip
    assert code == 0, err
    code, _, err = run("clesr", "render", tmp_path / "s")
    assert code == 0, err
    assert "6 frames rendered again, 6 of them the same to the bit" in err


def test_replay_goes_through_the_live_path_with_the_sessions_settings(
    run: Run, session: Path, tmp_path: Path
) -> None:
    summary = tmp_path / "summary.json"
    code, _, err = run(
        "clesr", "replay", session, "--display", "none", "--pace", "max", "--summary", summary,
        "--record", tmp_path / "again",
    )  # fmt: skip
    assert code == 0, err
    figures = json.loads(summary.read_text())
    old, new = read_session(session), read_session(tmp_path / "again")
    assert (figures["scale"], figures["model"]) == (2, "fast")
    assert [r.number for r in new.records()] == [r.number for r in old.records()]
    assert [r.sr_hash for r in new.records()] == [r.sr_hash for r in old.records()]


def test_info_of_a_session_a_model_and_a_video(run: Run, session: Path) -> None:
    code, out, _ = run("clesr", "info", session, "--json")
    assert code == 0
    assert json.loads(out)["kind"] == "session"
    assert json.loads(out)["raw_shape"] == [64, 64]
    weights = Path(__file__).parents[3] / "engines" / "models" / "shipped" / "fast-x2.safetensors"
    code, out, _ = run("clesr", "info", weights)
    assert code == 0
    assert "fast" in out
    assert not set("{}[]") & set(out), "lines for people, no JSON and no Python"
    code, out, _ = run("clesr", "info", session / "sr.mkv", "--json")
    assert json.loads(out)["kind"] == "recording"
    assert json.loads(out)["shape"] == [128, 128]
    code, _, err = run("clesr", "info", session / "nothing")
    assert code == 1
    assert "no such file" in one_line(err)


def test_info_of_a_session_is_lines_for_people(run: Run, session: Path) -> None:
    code, out, _ = run("clesr", "info", session)
    assert code == 0
    assert not set("{}[]\"'") & set(out)
    assert re.search(r"^raw shape +64 x 64 pixels$", out, re.MULTILINE)
    assert re.search(r"^closed +yes$", out, re.MULTILINE)
    assert re.search(r"^totals\n(  \w.*\n)+", out, re.MULTILINE)
    assert re.search(r"^  captured +\d+$", out, re.MULTILINE)
    assert re.search(r"^  masks +0,0,10,8$", out, re.MULTILINE)


def test_verify_says_each_cause_of_gaps_once(session: Path) -> None:
    gaps = [Missing("raw", n, n + 1, "lost at source") for n in range(0, 120, 4)]
    others = [Missing("sr", 7, 7, "stale"), Missing("raw", 130, 130, "the disk was slow")]
    certificate = replace(verify(session), missing=(*gaps, *others))
    assert [line for line in describe(certificate) if line.startswith("missing")] == [
        "missing    raw 60 frames in 30 runs from 0 to 117: lost at source",
        "missing    raw frame 130: the disk was slow",
        "missing    sr frame 7: stale",
    ]


def test_export_says_what_an_unclosed_session_lacks(run: Run, session: Path, tmp_path: Path) -> None:
    info = read_session(session).info
    unclosed = replace(info, closed=False, ended="", totals=None, lines=None, chain=None, files=None)
    (session / "session.json").write_bytes(format_manifest(unclosed))
    stored = read_session(session)
    count = sum(record.count for record in stored.records())
    raw, sr = (count - len(list(stored.images(kind))) for kind in ("raw", "sr"))
    code, _, err = run("clesr", "export", session, "-o", tmp_path / "out.mp4")
    assert code == 0, err
    assert err.count("was never closed") == 1
    assert f"it has {count} frames, {raw} without a raw and {sr} without an up-scaled image" in err
    assert "`clesr repair` closes it" in err


def test_repair_of_a_session_that_was_cut_off(run: Run, session: Path) -> None:
    info = read_session(session).info
    unclosed = replace(info, closed=False, ended="", totals=None, lines=None, chain=None, files=None)
    (session / "session.json").write_bytes(format_manifest(unclosed))
    code, out, err = run("clesr", "verify", session)
    assert code == 1
    assert "`clesr repair` closes it" in one_line(err)
    code, _, err = run("clesr", "repair", session)
    assert code == 0, err
    assert "closed with" in err
    code, out, err = run("clesr", "verify", session)
    assert code == 0, err
    assert "repaired" in out


def test_a_signal_begins_and_ends_recordings(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGUSR1 at the 5th, 10th and 15th frame, with the seconds before in memory."""
    from clesr.pipeline.sources.simulator.demo import DemoSource

    read, toggle, toggled = DemoSource.read, Recordings.toggle, threading.Event()

    def reading(self: DemoSource, timeout: float) -> object:
        item = read(self, timeout)
        if item is not None and item.number in (5, 10, 15):
            toggled.clear()
            os.kill(os.getpid(), signal.SIGUSR1)
            assert toggled.wait(20), "the handler runs on the main thread"
        return item

    def toggling(self: Recordings) -> None:
        toggle(self)
        toggled.set()

    monkeypatch.setattr(DemoSource, "read", reading)
    monkeypatch.setattr(Recordings, "toggle", toggling)
    code, _, err = run(
        "clesr-live", "--source", "demo:?size=64&fps=25", "--scale", 2, "--model", "bicubic", "--display", "none",
        "--frames", 40, "--record", tmp_path / "s", "--retro", 100,
    )  # fmt: skip
    assert code == 0, err
    first = [r.number for r in read_session(tmp_path / "s").records()]
    second = [r.number for r in read_session(tmp_path / "s-2").records()]
    assert first[0] <= 5
    assert first == list(range(first[0], first[-1] + 1))
    assert second == list(range(first[-1] + 1, second[-1] + 1)), "nothing between the two is missing"
    for name in ("s", "s-2"):
        code, _, err = run("clesr", "verify", tmp_path / name)
        assert code == 0, err


def test_beginning_a_recording_waits_for_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key r and SIGUSR1 come on threads that have others to serve: only the recorder's looks at the folder."""
    folder, threads = tmp_path / "s", set[str]()

    def watched(look: Callable[..., Any]) -> Callable[..., Any]:
        def looking(self: Path, *arguments: Any, **options: Any) -> Any:
            if self == folder:
                threads.add(threading.current_thread().name)
            return look(self, *arguments, **options)

        return looking

    for name in ("exists", "iterdir", "mkdir", "stat"):
        monkeypatch.setattr(Path, name, watched(getattr(Path, name)))
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "notes.txt").touch()
    threads.clear()
    source = ScriptedSource([], live=True)
    recorder = Recorder(source.info, scale=2, sr_shape=lambda raw: raw)
    pipeline = Pipeline(source, FakeEngine, [], scale=2, recorder=recorder)
    Recordings(pipeline, str(folder)).toggle()
    with pytest.raises(SessionError, match=r"nothing was recorded in .*/s-2"):
        recorder.close()
    assert threads == {"clesr recorder"}


def test_a_summary_that_cannot_be_written_keeps_those_of_the_other_streams(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clesr.engines.common.files import write_json as write

    def writing(path: Path, *arguments: Any) -> None:
        if path.name == "a.json":
            raise SinkError(f"{path} cannot be written: No space left on device")
        write(path, *arguments)

    monkeypatch.setattr(runs, "write_json", writing)
    code, _, err = run(
        "clesr-live", "--source", "a=demo:?size=64", "--source", "b=demo:?size=64", "--scale", 2, "--model", "nearest",
        "--display", "none", "--share", "one", "--frames", 3, "--summary", tmp_path / "{stream}.json",
    )  # fmt: skip
    assert code == 1
    assert json.loads((tmp_path / "b.json").read_text())["captured"] == 3
    assert "1 of 2 streams broke: a: " in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mask", "0,0,900,10"], "--mask 0,0,900,10 leaves the 64x64 frame"),
        (["--mask", "0,0"], "--mask '0,0' is not X,Y,WIDTH,HEIGHT"),
        (["--retro", "-1"], "--retro -1.0 is negative"),
        (["--pixel-size", "0"], "--pixel-size 0.0 is not positive"),
    ],
)
def test_a_recording_that_cannot_be_made_is_one_line(
    run: Run, tmp_path: Path, arguments: list[str], words: str
) -> None:
    code, _, err = run(
        "clesr-live", "--source", "demo:?size=64", "--display", "none", "--record", tmp_path / "s", *arguments
    )
    assert code == 2
    assert words in one_line(err)
    assert not (tmp_path / "s").exists()


def test_bad_sessions_are_one_line(run: Run, session: Path) -> None:
    text = (session / "session.json").read_bytes()
    for command in ("verify", "render", "repair", "info", "replay"):
        (session / "session.json").write_bytes(text.replace(b'"version": 1', b'"version": 9'))
        code, _, err = run("clesr", command, session)
        assert code == 1
        assert "format version 9, this clesr reads 1" in one_line(err), command

    (session / "session.json").write_bytes(text)
    unknown = replace(read_session(session).info, model="mine", model_hash="0" * 64)
    (session / "session.json").write_bytes(format_manifest(unknown))
    code, _, err = run("clesr", "render", session)
    assert code == 1
    assert "the model mine x2 (000000000000)" in one_line(err)
    assert "is not installed; give its file with --model" in one_line(err)

    (session / "session.json").write_bytes(text)
    (session / "raw.mkv").unlink()
    code, _, err = run("clesr", "render", session)
    assert code == 1
    assert "raw.mkv" in one_line(err)
    code, _, err = run("clesr", "verify", session)
    assert code == 1
    assert "raw.mkv is missing" in one_line(err)


def test_a_read_only_disk_is_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    code, _, err = run(
        "clesr-live", "--source", "demo:?size=64", "--display", "none", "--record", tmp_path / "s"
    )
    assert code == 1
    assert "Read-only file system" in one_line(err)


def test_each_stream_has_its_own_recording(run: Run, tmp_path: Path) -> None:
    code, _, err = run(
        "clesr-live", "--source", "a=demo:?size=64&fps=25", "--source", "b=demo:?size=96&fps=25&seed=2", "--scale", 2,
        "--model", "bicubic", "--display", "none", "--frames", 8, "--record", tmp_path / "{stream}", "--share", "one",
    )  # fmt: skip
    assert code == 0, err
    for name, side in (("a", 64), ("b", 96)):
        assert read_session(tmp_path / name).info.raw_shape == (side, side)
        assert run("clesr", "verify", tmp_path / name)[0] == 0
