"""Prometheus and health checks get the truth, and nobody else's time."""

from __future__ import annotations

import json
import platform
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from session_runs import frames, make_run
from support import ListSink, until
from waits import joined

from clesr.engines.common.addresses import host_and_port
from clesr.engines.common.errors import SinkError, UsageError
from clesr.pipeline.frame import Result
from clesr.pipeline.metrics.cards import CardState, CardWatch
from clesr.pipeline.metrics.collector import PipelineCollector
from clesr.pipeline.metrics.server import FORM, MOST_AT_ONCE, PORT, MetricsServer
from clesr.pipeline.pipeline import Pipeline
from clesr.pipeline.stats import STAGES
from clesr.pipeline.status import SinkState, State, Status

ROOT = Path(__file__).resolve().parents[3]


class Told:
    """A run of which only a status is asked."""

    def __init__(self, *, unattended_s: float = 0.0, **fields: Any) -> None:
        self.unattended_s = unattended_s
        usual = {
            "state": State.RUNNING, "age_ns": 40_000_000, "period_ns": 40_000_000, "stalled": False, "alarm": "",
            "message": "", "troubles": {},
        }  # fmt: skip
        self._status = type("Told", (), usual | fields)

    def status(self) -> Status:
        return cast(Status, self._status)


def listening(text: str) -> tuple[str, int]:
    return host_and_port(text, "--metrics", FORM, PORT)


def get(server: MetricsServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{server.address}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def run() -> Pipeline:
    made, _ = make_run(frames([0, 1, 2, 5, 6]))
    made.run()
    return made


@pytest.fixture
def server(run: Pipeline) -> Iterator[MetricsServer]:
    made = MetricsServer("127.0.0.1:0", {"left": run})
    yield made
    made.close()


def figures(text: str) -> dict[tuple[str, ...], float]:
    """What stands in ``text``, by name and values of labels."""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_figures_are_those_of_the_run(server: MetricsServer, run: Pipeline) -> None:
    code, text = get(server, "/metrics")
    assert code == 200
    found = figures(text)
    assert found["clesr_captured_total", "left"] == run.ledger.captured == 7
    for outcome, count in run.ledger.outcomes.items():
        assert found["clesr_frames_total", *sorted(("left", str(outcome)))] == count
    for stage in STAGES:
        assert found["clesr_latency_seconds_count", *sorted(("left", stage))] == 5
        assert found["clesr_latency_seconds_bucket", *sorted(("+Inf", "left", stage))] == 5
    assert found["process_open_fds",] > 0


class Recorded:
    """A run with every figure that there is."""

    unattended_s = 0.0

    def __init__(self, run: Pipeline, **changes: Any) -> None:
        self.stats, usual = run.stats, run.status()
        self._status = replace(
            usual,
            recording=True,
            recording_s=12.0,
            recording_bytes=3_000_000,
            disk_bytes=9_000_000,
            disk_minutes=0.6,
            disk_low=True,
            engine_restarts=2,
            source_restarts=3,
            **changes,
        )

    def status(self) -> Status:
        return self._status


def exposed(run: Pipeline) -> str:
    """All that Prometheus can be told, of ``run`` and two cards."""
    registry = CollectorRegistry()
    registry.register(PipelineCollector({"left": Recorded(run)}, CardWatch(FakeNvml)))
    ProcessCollector(registry=registry)
    return generate_latest(registry).decode()


def test_restarts_disk_and_versions_are_told(run: Pipeline) -> None:
    found = figures(exposed(run))
    assert found["clesr_engine_restarts_total", "left"] == 2
    assert found["clesr_source_restarts_total", "left"] == 3
    assert found["clesr_recording_seconds", "left"] == 12
    assert found["clesr_recording_bytes", "left"] == 3_000_000
    assert found["clesr_disk_free_bytes", "left"] == 9_000_000
    assert found["clesr_disk_seconds", "left"] == 36
    assert found["clesr_disk_low", "left"] == 1
    (build,) = [labels for name, *labels in found if name == "clesr_build_info"]
    assert {version("clesr"), version("numpy"), platform.python_version()} <= set(build)


def test_what_is_not_recorded_has_no_size(server: MetricsServer) -> None:
    names = {name for name, *_ in figures(get(server, "/metrics")[1])}
    assert not names & {"clesr_recording_bytes", "clesr_disk_free_bytes", "clesr_disk_seconds"}
    assert {"clesr_engine_restarts_total", "clesr_source_restarts_total", "clesr_disk_low"} <= names


class FakeNvml:
    """The driver's library, with two cards, of which the second says nothing but its memory."""

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, card: Any) -> int:
        card._obj.value = index.value
        return 0

    def nvmlDeviceGetName(self, card: Any, name: Any, length: Any) -> int:
        name.value = b"NVIDIA Test"
        return 3 if card.value else 0

    def nvmlDeviceGetUtilizationRates(self, card: Any, rates: Any) -> int:
        rates._obj.gpu = 37
        return 3 if card.value else 0

    def nvmlDeviceGetMemoryInfo(self, card: Any, memory: Any) -> int:
        memory._obj.total, memory._obj.used = 8 << 30, 1 << 30
        return 0

    def nvmlDeviceGetTemperature(self, card: Any, sensor: Any, celsius: Any) -> int:
        assert sensor.value == 0
        celsius._obj.value = 54
        return 3 if card.value else 0


def test_cards_are_told_as_far_as_they_tell() -> None:
    first, second = CardWatch(FakeNvml).states()
    assert first == CardState(0, "NVIDIA Test", 0.37, 1 << 30, 8 << 30, 54)
    assert second == CardState(1, "", None, 1 << 30, 8 << 30, None)
    assert CardWatch(lambda: None).states() == []


def test_a_driver_that_hangs_holds_up_no_figures(run: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    release, asked = threading.Event(), list[int]()

    def hang() -> None:
        asked.append(1)
        release.wait(60)

    monkeypatch.setattr("clesr.pipeline.metrics.cards.WAIT_S", 0.01)
    cards = CardWatch(hang)
    families = {family.name for family in PipelineCollector({"left": Recorded(run)}, cards).collect()}
    assert "clesr_captured" in families
    assert not any(name.startswith("clesr_gpu") for name in families)
    assert cards.states() == []
    assert asked == [1], "one thread waits for it, however often it is asked"
    release.set()
    until(lambda: cards._thread is not None and not cards._thread.is_alive())


def test_the_dashboard_asks_for_figures_that_there_are(run: Pipeline) -> None:
    names = {name for name, *_ in figures(exposed(run))}
    panels = json.loads((ROOT / "docs/deploy/grafana.json").read_text())["panels"]
    asked = {
        name
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(r"\b(?:clesr|process)_\w+", target["expr"])
    }
    assert asked - names == set()
    assert len(asked) > 15
    untold = {name.removesuffix("_created") for name in names if name.startswith("clesr")} - asked
    hidden = {
        "clesr_captured_total",
        "clesr_damaged_total",
        "clesr_outages_total",
        "clesr_outage_seconds_total",
    }
    hidden |= {"clesr_state", "clesr_recording_seconds", "clesr_gpu_memory_bytes", "clesr_fidelity_db"}
    assert {name for name in untold if "latency" not in name} <= hidden, "a new figure has its panel"
    places = [tuple(panel["gridPos"].values()) for panel in panels]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in panels})


@pytest.mark.parametrize(
    ("fields", "healthy", "ready"),
    [
        ({}, True, True),
        ({"state": State.STARTING}, True, False),
        ({"age_ns": None}, True, False),
        ({"stalled": True}, True, False),
        ({"age_ns": 130_000_000}, True, False),
        ({"alarm": "RECORDING ENDED: the disk is full"}, True, False),
        ({"state": State.DEGRADED, "message": "the engine failed"}, False, False),
        ({"state": State.FAILED}, False, False),
        ({"troubles": {"out.mkv": "it broke: the disk is full"}}, False, False),
        ({"troubles": {"source": "it has not answered for 4 s"}}, False, False),
        ({"unattended_s": 6.0}, False, False),
        ({"unattended_s": 6.0, "state": State.STARTING}, True, False),
    ],
)
def test_health_is_told_as_it_is(fields: dict[str, Any], healthy: bool, ready: bool) -> None:
    streams = {"a": Told(), "b": Told(**fields)}
    server = MetricsServer("127.0.0.1:0", cast(Any, streams))
    try:
        for path, well in (("/healthz", healthy), ("/readyz", ready)):
            code, text = get(server, path)
            assert code == (200 if well else 503)
            answer = json.loads(text)
            assert answer["ok"] is well
            assert set(answer["troubles"]) == (set() if well else {"b"})
            assert fields.get("troubles", {}).items() <= answer["troubles"].get("b", {}).items()
    finally:
        server.close()


def test_each_sink_has_its_figures_also_where_two_have_a_name() -> None:
    def fail(_result: Result) -> None:
        raise SinkError("the disk\nis full")

    sinks = [ListSink(name="out"), ListSink(name="out", on_write=fail)]
    run, _ = make_run(frames([0, 1, 2]), sinks=sinks)
    with pytest.raises(SinkError):
        run.run()
    server = MetricsServer("127.0.0.1:0", {"left": run})
    try:
        found = figures(get(server, "/metrics")[1])
        health = json.loads(get(server, "/healthz")[1])
    finally:
        server.close()

    def counts(name: str) -> list[float]:
        kinds = ("delivered", "left_out", "errors")
        return [found[f"clesr_sink_{kind}_total", *sorted(("left", name))] for kind in kinds]

    assert counts("out") == [3, 0, 0]
    assert counts("out (2)") == [0, 3, 1]
    for name, state in (("out", SinkState.WORKING), ("out (2)", SinkState.BROKEN)):
        states = [found["clesr_sink_state", *sorted(("left", name, str(each)))] for each in SinkState]
        assert states == [float(each is state) for each in SinkState]
    assert health["troubles"]["left"]["out (2)"] == "it broke: the disk"


def test_other_paths_and_methods_are_refused(server: MetricsServer) -> None:
    assert get(server, "/../etc/passwd")[0] == 404
    assert get(server, "/metrics?name[]=x")[0] == 200
    request = urllib.request.Request(f"http://{server.address}/metrics", b"x", method="POST")
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(request, timeout=20)


def test_other_sites_pages_are_refused(server: MetricsServer) -> None:
    """A name that only leads here may be that of somebody else's page (DNS rebinding)."""
    for host, code in (
        ("evil.example", 421), ("127.0.0.1.evil.example:80", 421), ("[::1", 421), ("", 421), ("localhost", 200),
        (server.address, 200), ("[::1]:80", 200), (None, 200),
    ):  # fmt: skip
        head = "" if host is None else f"Host: {host}\r\n"
        for path in ("/healthz", "/metrics"):
            with connected(server) as connection:
                connection.sendall(f"GET {path} HTTP/1.0\r\n{head}\r\n".encode())
                assert connection.recv(64).startswith(f"HTTP/1.0 {code} ".encode()), host


def connected(server: MetricsServer) -> socket.socket:
    host, port = server.address.split(":")
    return socket.create_connection((host, int(port)), 60)


class Slow:
    """``count`` connections that send a byte a second until ``close``; for one that is cut off another comes."""

    def __init__(self, server: MetricsServer, count: int) -> None:
        self._server, self._over = server, threading.Event()
        self.sent = self.cut = 0
        self._held = [connected(server) for _ in range(count)]
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        joined(self._thread)
        for connection in self._held:
            connection.close()

    def _send(self) -> None:
        while not self._over.wait(1.0):
            for index, connection in enumerate(self._held):
                try:
                    connection.sendall(b"G")
                    self.sent += 1
                except OSError:
                    connection.close()
                    self.cut += 1
                    self._held[index] = connected(self._server)


def healthy_within(server: MetricsServer, seconds: float) -> bool:
    with connected(server) as connection:
        connection.settimeout(seconds)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            return connection.recv(64).startswith(b"HTTP/1.0 200 ")
        except OSError:
            return False


def test_many_slow_clients_hold_up_no_health_check(server: MetricsServer) -> None:
    slow = Slow(server, 20)
    try:
        until(lambda: slow.sent > 0)
        for _ in range(3):
            until(lambda: healthy_within(server, 2.0))
    finally:
        slow.close()


def test_a_request_has_a_time_for_all_of_it(server: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a byte comes; and room is there again."""
    monkeypatch.setattr("clesr.pipeline.metrics.server.REQUEST_S", 1.5)
    slow = Slow(server, MOST_AT_ONCE)
    try:
        until(lambda: slow.cut >= MOST_AT_ONCE)
        with connected(server) as silent:
            assert silent.recv(1) == b""
    finally:
        slow.close()
    until(lambda: not server._server._since_ns)


def test_who_is_being_answered_is_not_given_up(run: Pipeline) -> None:
    go_on = threading.Event()

    class Waiting(Told):
        def status(self) -> Status:
            assert go_on.wait(60)
            return super().status()

    server = MetricsServer("127.0.0.1:0", cast(Any, {"a": Waiting()}))
    try:
        with ExitStack() as held:
            asked = [held.enter_context(connected(server)) for _ in range(MOST_AT_ONCE)]
            for connection in asked:
                connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            until(lambda: len(server._server._answered) == MOST_AT_ONCE)
            with connected(server) as one_more:
                assert one_more.recv(1) == b""
            go_on.set()
            for connection in asked:
                assert connection.recv(64).startswith(b"HTTP/1.0 200 ")
    finally:
        go_on.set()
        server.close()


def test_an_address_in_use_is_one_line(server: MetricsServer, run: Pipeline) -> None:
    with pytest.raises(SinkError, match="cannot be listened on: Address already in use"):
        MetricsServer(server.address, {"left": run})


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "a:b",
        "127.0.0.1:99999",
        "1.2.3.4:-1",
        "host:",
        "a:²",
        "a:" + "9" * 5000,
        "::1",
        "::1:9",
        "[a]:1",
        "[]:1",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"write it as HOST:PORT, such as 127\.0\.0\.1:9187"):
        listening(text)


def test_a_port_alone_is_this_machine_s() -> None:
    assert listening("9000") == ("127.0.0.1", 9000)
    assert listening("0.0.0.0") == ("0.0.0.0", 9187)
    assert listening("[::1]:9000") == ("::1", 9000)
    assert listening("[fe80::1]") == ("fe80::1", 9187)
