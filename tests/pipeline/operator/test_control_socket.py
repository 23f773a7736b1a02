"""The control socket: whatever is asked is answered in a line, and nobody who asks holds it up."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from operated import Stage, on_stage
from support import ListSink, until
from zmq_peers import peer_context

from clesr.engines.common.errors import ClesrError, SinkError, UsageError
from clesr.pipeline.controls import Action, Argument, Controls
from clesr.pipeline.curve import make_keys
from clesr.pipeline.frame import Result
from clesr.pipeline.operator.control_socket import MOST_BYTES, REFUSED_BYTES, WAITING, ControlSocket, ask
from clesr.pipeline.operator.plain import plain


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with on_stage(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


def sent(stage: Stage, *parts: bytes) -> dict[str, Any]:
    """What is answered to the message of these ``parts``."""
    with peer_context() as context, context.socket(zmq.REQ) as peer:
        peer.connect(stage.address.removeprefix("zmq+"))
        peer.send_multipart(parts)
        answer = json.loads(peer.recv())
    assert isinstance(answer, dict)
    return answer


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (b"", "not understood"),
        (b"\xff\xfe", "not understood"),
        (b"[]", "not understood"),
        (b"{}", "needs one of action, actions and status"),
        (b'{"action": "freeze", "status": true}', "needs one of action, actions and status"),
        (b'{"action": 7}', "action is 7"),
        (b'{"action": "nothing"}', "'nothing' is no action; there are freeze"),
        (b'{"action": "freeze", "more": 1}', "more"),
        (b'{"action": "wipe", "arguments": []}', "arguments is list"),
        (b'{"action": "wipe", "arguments": {"position": NaN}}', "not understood"),
        (b'{"action": "wipe", "arguments": {"position": 1e999}}', "not understood"),
        (b'{"action": "wipe", "arguments": {"position": ' + b"9" * 5000 + b"}}", "not understood"),
        (
            b'{"action": "wipe", "arguments": {"position": ' + b"[" * 60 + b"]" * 60 + b"}}",
            "nested too deeply",
        ),
        (b'{"action": "wipe", "arguments": {"position": ' + b"[" * 30_000, "not understood"),
        (b'{"action": "freeze", "stream": "left"}', "'left' is no stream; there are live"),
        (b'{"action": "note", "arguments": {"text": "' + b"x" * 2000 + b'"}}', "at most 1000 characters"),
        (b" " * (MOST_BYTES + 1), f"the request has {MOST_BYTES + 1} bytes; at most {MOST_BYTES} are read"),
    ],
)
def test_what_is_not_understood_is_answered_in_a_line(stage: Stage, request_: bytes, words: str) -> None:
    answer = sent(stage, request_)
    assert answer["ok"] is False
    assert words in answer["error"]
    assert answer["error"].isprintable()
    assert len(answer["error"]) < 2000


@settings(max_examples=30)
@given(
    st.binary(max_size=200) | st.text(max_size=100).map(lambda text: json.dumps({"action": text}).encode())
)
def test_any_bytes_are_answered(request_: bytes) -> None:
    controls: Controls[None] = Controls(None, ())
    made = ControlSocket("zmq+ipc://@clesr-any-bytes")
    try:
        made._streams = {"live": (controls, lambda: pytest.fail("no status was asked for"))}
        answer = json.loads(made.answer(request_))
    finally:
        made.close()
    assert answer["ok"] is False
    assert answer["error"].isprintable()


def test_a_request_in_parts_is_one(stage: Stage) -> None:
    assert sent(stage, b'{"act', b'ions": true}')["ok"]
    assert sent(stage, *[bytes([each]) for each in b'{"actions": true}'])["ok"]


def test_actions_and_status_are_told(stage: Stage) -> None:
    told = sent(stage, b'{"actions": true}')
    assert told["streams"] == ["live"]
    assert [action["name"] for action in told["actions"]] == list(stage.operator.controls.actions)
    status = sent(stage, b'{"status": true}')
    assert status["status"]["source"] == "scripted"
    assert status["status"]["outcomes"]["upscaled"] > 0
    assert status["status"]["pixel_um"] == 1.5
    assert status["view"]["mode"] == "sr"


def test_who_sends_too_much_is_cut_off_and_others_are_answered(stage: Stage) -> None:
    with peer_context() as context, context.socket(zmq.REQ) as greedy:
        greedy.connect(stage.address.removeprefix("zmq+"))
        greedy.send(b"x" * (REFUSED_BYTES + 1))
        assert sent(stage, b'{"status": true}')["ok"]
        assert not greedy.poll(100)


ENDLESS = 256 << 20  # bytes
GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 3) + b"REQ"


def _resident() -> int:
    """Bytes of memory that this process takes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("size", [REFUSED_BYTES, MOST_BYTES, 100])
def test_a_message_that_never_ends_takes_no_memory(size: int, tmp_path: Path) -> None:
    """ZeroMQ keeps its parts, however many, until the last has come."""
    made = ControlSocket(f"zmq+ipc://{tmp_path}/s")
    made.serve({"live": (Controls(None, ()), lambda: pytest.fail("no status was asked for"))})
    part, sent_bytes = struct.pack(">BQ", 3, size) + bytes(size), 0  # long, and more to come
    try:
        with socket.socket(socket.AF_UNIX) as endless:
            endless.settimeout(30)
            endless.connect(f"{tmp_path}/s")
            endless.sendall(GREETING + b"\x04" + bytes([len(READY)]) + READY)
            before = _resident()
            with suppress(BrokenPipeError, ConnectionResetError):
                while sent_bytes < ENDLESS:
                    endless.sendall(part)
                    sent_bytes += size
            assert sent_bytes < ENDLESS, "its connection was ended"
            assert _resident() - before < 24 << 20
        assert ask(f"zmq+ipc://{tmp_path}/s", {"actions": True}, 30)["ok"]
    finally:
        made.close()


def test_who_asks_and_vanishes_holds_up_nobody(stage: Stage) -> None:
    for _ in range(20):
        with peer_context() as context, context.socket(zmq.DEALER) as gone:
            gone.connect(stage.address.removeprefix("zmq+"))
            gone.send_multipart([b"", b'{"actions": true}'])
            gone.send_multipart([b"", b'{"actions": true}'])
    assert sent(stage, b'{"status": true}')["ok"]


def test_who_never_reads_holds_up_nobody(stage: Stage) -> None:
    with peer_context() as context, context.socket(zmq.DEALER) as deaf:
        deaf.set(zmq.RCVHWM, 1)
        deaf.connect(stage.address.removeprefix("zmq+"))
        for _ in range(200):
            deaf.send_multipart([b"", b'{"actions": true}'])
        assert sent(stage, b'{"status": true}')["ok"]


def test_an_action_that_hangs_is_told_and_others_are_done() -> None:
    gate = threading.Event()

    def hang(_subject: None) -> None:
        assert gate.wait(30)

    actions: tuple[Action[None], ...] = (
        Action("hang", "Hang.", hang),
        Action("now", "Now.", lambda _: {"said": "done", "number": float("nan")}, quick=True),
    )
    controls = Controls(None, actions, wait_s=0.05)
    made = ControlSocket("zmq+ipc://@clesr-hanging")
    made.serve({"live": (controls, lambda: pytest.fail("no status was asked for"))})
    try:
        told = ask("zmq+ipc://@clesr-hanging", {"action": "hang"}, 30)
        assert "hang has not ended within 0.05 s" in told["error"]
        assert ask("zmq+ipc://@clesr-hanging", {"action": "now"}, 30) == {
            "ok": True,
            "said": "done",
            "number": None,
        }
    finally:
        gate.set()
        made.close()


def test_what_waits_is_answered_when_it_ends_and_holds_up_no_other() -> None:
    gate = threading.Event()

    def hang(_subject: None, number: int) -> dict[str, int]:
        assert gate.wait(60)
        return {"number": number}

    actions: tuple[Action[None], ...] = (
        Action("hang", "Hang.", hang, (Argument("number", int, "which"),)),
        Action("now", "Now.", lambda _: {"said": "done"}, quick=True),
    )
    address = "zmq+ipc://@clesr-many"
    made = ControlSocket(address)
    made.serve({"live": (Controls(None, actions, wait_s=60), lambda: pytest.fail("no status was asked for"))})
    try:
        with peer_context() as context, context.socket(zmq.DEALER) as peer:
            peer.connect(address.removeprefix("zmq+"))
            peer.send_multipart([b"no empty part before it"])
            for number in range(WAITING + 1):
                asked = {"action": "hang", "arguments": {"number": number}}
                peer.send_multipart([b"", json.dumps(asked).encode()])
            _, refused = peer.recv_multipart()
            assert f"{WAITING} requests are still at work" in json.loads(refused)["error"]
            assert ask(address, {"action": "now"}, 30)["said"] == "done"
            assert not ask(address, {"action": "nothing"}, 30)["ok"]
            gate.set()
            told = [json.loads(peer.recv_multipart()[1]) for _ in range(WAITING)]
        assert sorted(each["number"] for each in told) == list(range(WAITING))
    finally:
        gate.set()
        made.close()


def test_of_several_streams_one_is_meant_but_by_what_ends_all(tmp_path: Path) -> None:
    with on_stage(tmp_path / "a") as left, on_stage(tmp_path / "b") as right:
        made = ControlSocket("zmq+ipc://@clesr-two")
        made.serve(
            {n: (s.operator.controls, s.operator.pipeline.status) for n, s in (("l", left), ("r", right))}
        )
        try:
            told = ask("zmq+ipc://@clesr-two", {"action": "fidelity"}, 30)
            assert told == {"ok": False, "error": "say which stream; there are l, r"}
            assert ask("zmq+ipc://@clesr-two", {"action": "fidelity", "stream": "r"}, 30)["ok"]
            assert ask("zmq+ipc://@clesr-two", {"action": "quit"}, 30)["ok"]
        finally:
            made.close()
        assert (left.operator.controls.view.overlay, right.operator.controls.view.overlay) == (False, True)


@pytest.mark.parametrize(
    "address",
    ["zmq+tcp://*:0", "zmq+tcp://0.0.0.0:5557", "zmq+tcp://[::]:5557", "zmq+tcp://clesr.example:5557"],
)
def test_an_address_that_others_reach_needs_keys(address: str, tmp_path: Path) -> None:
    _, secret = make_keys(tmp_path / "own")
    for keys in ("", f"?curve_secret={secret}"):
        with pytest.raises(UsageError, match="can be reached from other machines; give 127"):
            ControlSocket(address + keys)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("tcp:5557", "is no ZeroMQ address"),
        (
            "zmq+tcp://127.0.0.1:5557?stream=x",
            "there is no option 'stream'; there are curve_secret, curve_clients",
        ),
        ("zmq+tcp://127.0.0.1:x", "is no ZeroMQ address"),
    ],
)
def test_a_wrong_address_is_a_line(address: str, words: str) -> None:
    with pytest.raises(ClesrError, match=words):
        ControlSocket(address)


def test_an_address_that_is_taken_is_a_line(stage: Stage, tmp_path: Path) -> None:
    first = ControlSocket(f"zmq+ipc://{tmp_path}/s")
    try:
        with pytest.raises(SinkError, match="another program listens there"):
            ControlSocket(f"zmq+ipc://{tmp_path}/s")
    finally:
        first.close()
    assert not (tmp_path / "s").exists(), "its name goes with it"


def test_only_those_with_keys_that_were_let_in_are_answered(stage: Stage, tmp_path: Path) -> None:
    own, _ = make_keys(tmp_path / "own")
    make_keys(tmp_path / "let_in" / "friend")
    make_keys(tmp_path / "stranger")
    address = f"zmq+ipc://{tmp_path}/s"
    made = ControlSocket(f"{address}?curve_secret={tmp_path}/own.key_secret&curve_clients={tmp_path}/let_in")
    made.serve({"live": (stage.operator.controls, stage.operator.pipeline.status)})
    try:
        friend = f"{address}?curve_secret={tmp_path}/let_in/friend.key_secret&curve_server={own}"
        assert ask(friend, {"status": True}, 30)["ok"]
        stranger = f"{address}?curve_secret={tmp_path}/stranger.key_secret&curve_server={own}"
        for other in (stranger, address):
            with pytest.raises(ClesrError, match=r"has not answered within 0\.3 s; is clesr-live running"):
                ask(other, {"status": True}, 0.3)
    finally:
        made.close()


def test_values_are_plain() -> None:
    assert plain({"a": (1, float("inf"), True, None, Path("x")), 2: {"b": -0.5}}) == {
        "a": [1, None, True, None, "x"],
        "2": {"b": -0.5},
    }


def test_an_output_that_breaks_is_an_alarm_until_it_is_acknowledged(tmp_path: Path) -> None:
    def fail(_result: Result) -> None:
        raise SinkError("the network is gone")

    sinks = [ListSink(name="net", on_write=fail), ListSink()]
    with on_stage(tmp_path, sinks=sinks, raising=(SinkError,)) as stage:

        def told() -> dict[str, Any]:
            status: dict[str, Any] = ask(stage.address, {"status": True}, 20)["status"]
            return status

        until(lambda: told()["alarm"] != "")
        status = told()
        assert status["alarm"] == "OUTPUT ENDED: net broke: the network is gone"
        assert status["troubles"] == {"net": "it broke: the network is gone"}
        assert status["sinks"]["net"]["state"] == "broken"
        assert status["sinks"]["net"]["left_out"] > 0
        assert status["sinks"]["recorder"]["state"] == "working"
        seen = ask(stage.address, {"action": "acknowledge"}, 20)
        assert (seen["alarm"], seen["waiting"]) == (status["alarm"], 0)
        assert told()["alarm"] == ""
        assert told()["troubles"] == status["troubles"], "that is as it was"
