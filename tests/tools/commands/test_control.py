"""`clesr control`, and the keys and the address that `clesr-live` is given for it."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from commands import Run, one_line
from operated import Stage, on_stage
from support import until
from waits import joined

from clesr.engines.common.errors import UsageError
from clesr.pipeline.operator.control_socket import ask
from clesr.pipeline.session.recorder import NOTHING_KEPT
from clesr.pipeline.session.verify import verify
from clesr.tools.cli import read_config
from clesr.tools.commands.info import lines


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with on_stage(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


def test_without_an_action_all_are_shown_and_how_it_stands(run: Run, stage: Stage) -> None:
    code, out, err = run("clesr", "control", stage.address)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    for action in stage.operator.controls.actions.values():
        assert any(line.split()[:2] == [action.name, action.key or "-"] for line in lines), action.name
    assert any(line.split()[:2] == ["state", "running"] for line in lines)
    lacking = {
        line.split()[0]: after.strip()
        for line, after in itertools.pairwise(lines)
        if "not in this run" in after
    }
    assert lacking["save-last"] == f"not in this run: {NOTHING_KEPT}"
    assert lacking["gain"].startswith("not in this run: scripted has no gain that could be set")
    assert "wipe" not in lacking


def test_an_action_is_done_and_what_it_says_is_printed(run: Run, stage: Stage) -> None:
    code, out, err = run("clesr", "control", stage.address, "wipe", "position=0.25")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "bicubic left of the edge, the up-scaled image right of it"
    assert stage.operator.controls.view.wipe == 0.25
    code, out, _ = run("clesr", "control", "--json", stage.address, "wipe")
    assert code == 0
    assert json.loads(out)["mode"] == "sr"


@pytest.mark.parametrize(
    "reply",
    ['[]', '{"ok": 1}', '{"ok": true, "actions": 5}', '{"ok": true, "actions": [{"name": 1}]}', "no JSON",
     '{"ok": true, "said": ' + "[" * 100 + "]" * 100 + "}"],
)  # fmt: skip
def test_what_answers_and_is_no_clesr_is_a_line(run: Run, reply: str, tmp_path: Path) -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        socket.bind(f"ipc://{tmp_path}/s")
        thread = threading.Thread(target=lambda: (socket.recv(), socket.send(reply.encode())))
        thread.start()
        code, out, err = run("clesr", "control", f"zmq+ipc://{tmp_path}/s", "still")
        joined(thread)
    assert (code, out) == (1, "")
    assert "is no clesr" in one_line(err)


@pytest.mark.parametrize("value", [{"shape": 3}, {"a": [1, {"b": 2}]}, {"shape": {"x": 1}}, {"a": []}])
def test_whatever_is_told_can_be_shown(value: dict[str, Any]) -> None:
    assert list(lines(value))


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["nothing"], 1, "'nothing' is no action; there are freeze"),
        (["wipe", "position=2"], 1, "position is '2'; give a number from -1 to 1"),
        (["wipe", "position"], 2, "'position' is not NAME=VALUE, such as position=0.3"),
        (["--stream", "left", "wipe"], 1, "'left' is no stream; there are live"),
    ],
)
def test_what_is_refused_is_a_line(run: Run, stage: Stage, words: list[str], status: int, said: str) -> None:
    code, out, err = run("clesr", "control", stage.address, *words)
    assert (code, out) == (status, "")
    assert said in one_line(err)


def test_nobody_there_is_a_line_in_time(run: Run, tmp_path: Path) -> None:
    code, _, err = run("clesr", "control", "--wait", "0.1", f"zmq+ipc://{tmp_path}/nobody", "freeze")
    assert code == 1
    assert "has not answered within 0.1 s; is clesr-live running with --control" in one_line(err)


def test_a_live_run_takes_orders(run: Run, tmp_path: Path) -> None:
    """`clesr-live` from its start to its end by orders alone."""
    address, done = f"zmq+ipc://{tmp_path}/control", list[dict[str, object]]()

    def order() -> None:
        until(lambda: (tmp_path / "control").exists())
        until(lambda: bool(ask(address, {"status": True}, 60)["status"]["captured"]))
        done.append(ask(address, {"action": "record"}, 60))
        until(lambda: bool(ask(address, {"status": True}, 60)["status"]["recording_s"]))
        orders: tuple[tuple[str, dict[str, object]], ...] = (
            ("still", {"dicom": True}),
            ("note", {"text": "here"}),
            ("save-map", {}),
        )
        for action, arguments in orders:
            done.append(ask(address, {"action": action, "arguments": arguments}, 60))
        done.append(ask(address, {"action": "quit"}, 60))
        done.append(ask(address, {"action": "quit", "arguments": {"sure": True}}, 60))

    thread = threading.Thread(target=order)
    thread.start()
    code, _, err = run(
        "clesr-live", "--source", "demo:?size=64&fps=25", "--scale", 2, "--model", "nearest", "--display", "none",
        "--record", tmp_path / "s", "--retro", 1, "--stills", tmp_path / "stills", "--control", address,
        "--mosaic", tmp_path / "map.ome.tif", "--seconds", 60,
    )  # fmt: skip
    thread.join(60)
    assert code == 0, err
    assert [told["ok"] for told in done] == [True, True, True, True, False, True], done
    assert sorted(path.name.split(".", 1)[1] for path in (tmp_path / "stills").iterdir()) == [
        "bicubic.png",
        "json",
        "raw.dcm",
        "raw.png",
        "sr.dcm",
        "sr.png",
    ]
    assert [note.text for note in verify(tmp_path / "s").notes] == ["here"]
    assert not (tmp_path / "control").exists()


def test_the_end_of_several_streams_is_asked_for_once(run: Run, tmp_path: Path) -> None:
    """One of them is told, and both end."""
    address, done = f"zmq+ipc://{tmp_path}/control", list[dict[str, object]]()

    def order() -> None:
        until(lambda: (tmp_path / "control").exists())
        status = {"status": True, "stream": "right"}
        until(lambda: bool(ask(address, status, 60)["status"]["recording_s"]))
        for _ in range(2):
            done.append(ask(address, {"action": "quit", "stream": "left"}, 60))

    thread = threading.Thread(target=order)
    thread.start()
    code, _, err = run(
        "clesr-live", "--source", "left=demo:?size=64&fps=25", "--source", "right=demo:?size=64&fps=25",
        "--scale", 2, "--model", "nearest", "--display", "none", "--record", f"{tmp_path}/{{stream}}",
        "--control", address, "--seconds", 60,
    )  # fmt: skip
    thread.join(60)
    assert code == 0, err
    assert [told["ok"] for told in done] == [False, True], done
    assert "left, right are recorded" in str(done[0]["error"])
    assert all(verify(tmp_path / name).complete for name in ("left", "right"))


def test_keys_of_the_settings_file(tmp_path: Path) -> None:
    config = tmp_path / "clesr.toml"
    config.write_text('[live]\nkey = ["note=z"]\n[keys]\nstill = "p"\nzoom-out = ""\nquiet = true\n')
    settings = read_config(config)
    assert settings["live"]["key"] == ["note=z", "still=p", "zoom-out="]
    assert settings["keys"] == {"quiet": True}, "which is for the command of that name"
    config.write_text("[keys]\nstill = 7\n")
    with pytest.raises(UsageError, match=r"\[keys\]: 'still' is '7'; give a key"):
        read_config(config)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('still = "f"', "the key 'f' stands for fidelity and for still; give one of them another"),
        ('stil = "y"', "a key is given to 'stil', which is no action; there are freeze"),
        ('still = "ctrl-s"', "'ctrl-s' is no key for still; give a character, or one of space, esc"),
    ],
)
def test_keys_that_cannot_be_end_the_command_at_the_start(
    run: Run, tmp_path: Path, keys: str, said: str
) -> None:
    config = tmp_path / "clesr.toml"
    config.write_text(f"[keys]\n{keys}\n")
    code, _, err = run("clesr-live", "--config", config, "--source", tmp_path / "none.mkv")
    assert code == 2
    assert said in one_line(err)


def test_a_key_of_another_form_is_a_line(run: Run) -> None:
    code, _, err = run("clesr-live", "--source", "demo:", "--key", "still")
    assert code == 2
    assert "--key 'still' is not ACTION=KEY, such as still=s" in one_line(err)


def test_an_address_for_orders_that_others_reach_ends_the_command_at_the_start(run: Run) -> None:
    code, _, err = run(
        "clesr-live", "--source", "demo:", "--display", "none", "--control", "zmq+tcp://*:5557"
    )
    assert code == 2
    assert "can be reached from other machines" in one_line(err)
