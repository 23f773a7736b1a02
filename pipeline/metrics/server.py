"""The server of ``/metrics``, ``/healthz`` and ``/readyz``."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from clesr.engines.common.addresses import host_and_port, is_loopback, names_this_machine
from clesr.engines.common.clock import SYSTEM
from clesr.engines.common.errors import MissingDependencyError, SinkError, told_as
from clesr.pipeline.messages import SafeLogger
from clesr.pipeline.metrics.collector import PipelineCollector, Watched, unready, unwell

log = SafeLogger(logging.getLogger(__name__))
PORT = 9187
FORM = f"write it as HOST:PORT, such as 127.0.0.1:{PORT}"
REQUEST_S = 5.0  # for a request and its answer, all together
LOOK_S = 0.5  # between two looks at who takes longer
MOST_AT_ONCE = 8  # connections
PAUSE_S = 0.01  # where there are more, so that a flood of them leaves the processor to others
WAITING = 128  # connections that are not yet accepted


class MetricsServer(AbstractContextManager["MetricsServer"]):
    """Answers Prometheus and whoever asks for the health of ``streams``, until ``close``. Raises SinkError where the
    address cannot be listened on, MissingDependencyError where prometheus-client is not installed."""

    def __init__(self, address: str, streams: Mapping[str, Watched]) -> None:
        with told_as(
            MissingDependencyError,
            "--metrics needs prometheus-client; pip install 'clesr[metrics]'",
            ModuleNotFoundError,
        ):
            from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
        registry = CollectorRegistry()
        registry.register(PipelineCollector(streams))
        ProcessCollector(registry=registry)
        handler = type(
            "Handler", (_Handler,), {"streams": streams, "metrics": lambda _self: generate_latest(registry)}
        )
        with told_as(SinkError, f"--metrics {address} cannot be listened on: {{why}}"):
            self._server = _Server(host_and_port(address, "--metrics", FORM, PORT), handler)
        host, port = str(self._server.server_address[0]), self._server.server_address[1]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if not self._server.local:
            log.warning(
                f"whoever reaches {self.address} can read the figures of this run, without a password"
            )
        log.info(f"metrics: http://{self.address}/metrics")
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(LOOK_S,), name="clesr metrics", daemon=True
        )
        self._thread.start()

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    """Few connections, of a request each. Where one more comes, the oldest that has not said what it wants goes."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = WAITING

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        self._lock = threading.Lock()  # of all that follows
        self._since_ns: dict[socket.socket, int] = {}  # of each connection, the oldest first
        self._answered: set[socket.socket] = set()
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)
        self.local = is_loopback(str(self.server_address[0]))

    def answers(self, connection: socket.socket) -> None:
        """``connection`` has said what it wants."""
        with self._lock:
            self._answered.add(connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            full = len(self._since_ns) >= MOST_AT_ONCE
            idle = next((each for each in self._since_ns if each not in self._answered), None)
            if full and idle is not None:
                del self._since_ns[idle]
                _cut(idle)
            if not full or idle is not None:
                self._since_ns[request] = SYSTEM.now_ns()
        if full and idle is None:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)
        if full:
            SYSTEM.sleep_until(SYSTEM.now_ns() + int(PAUSE_S * 1e9))

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._since_ns.pop(request, None)
                self._answered.discard(request)

    def service_actions(self) -> None:
        """Cut off who takes too long; called now and then."""
        late_ns = SYSTEM.now_ns() - int(REQUEST_S * 1e9)
        with self._lock:
            for connection, since_ns in self._since_ns.items():
                if since_ns < late_ns:
                    _cut(connection)

    def server_close(self) -> None:
        super().server_close()
        with self._lock:
            for connection in self._since_ns:
                _cut(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to be told."""


def _cut(connection: socket.socket) -> None:
    """End ``connection`` for the thread that waits for it."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "clesr", ""
    server: _Server
    streams: Mapping[str, Watched]
    metrics: Any

    def do_GET(self) -> None:
        self.server.answers(self.connection)
        path, host = self.path.split("?")[0], self.headers.get("Host")
        if self.server.local and host is not None and not names_this_machine(host):
            self._send(421, "text/plain", b"this server is 127.0.0.1 or localhost, and of no other name\n")
        elif path == "/metrics":
            self._send(200, "text/plain; version=0.0.4; charset=utf-8", self.metrics())
        elif path in ("/healthz", "/readyz"):
            troubles = (unwell if path == "/healthz" else unready)(self.streams)
            answer = {"ok": not troubles, "troubles": troubles}
            self._send(503 if troubles else 200, "application/json", json.dumps(answer).encode())
        else:
            self._send(404, "text/plain", b"there are /metrics, /healthz and /readyz\n")

    def _send(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Requests are no news."""
