"""The server of ``/metrics``, ``/healthz`` and ``/readyz``."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from clesr.engines.common.errors import MissingDependencyError, SinkError, UsageError, told_as
from clesr.engines.common.numbers import shortened
from clesr.pipeline.messages import SafeLogger
from clesr.pipeline.metrics.collector import PipelineCollector, Watched, unready, unwell

log = SafeLogger(logging.getLogger(__name__))
PORT = 9187
TIMEOUT_S = 5.0  # for a request
MOST_AT_ONCE = 8


def parse_listen(text: str) -> tuple[str, int]:
    """``PORT``, ``HOST:PORT`` or ``HOST``; raises UsageError for anything else."""
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = ("127.0.0.1", text) if _is_number(text) else (text, str(PORT))
    if not host or not _is_number(port) or int(port) > 65535:
        raise UsageError(f"--metrics {shortened(text)} is not HOST:PORT, such as 127.0.0.1:{PORT}")
    return host, int(port)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5


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
            self._server = _Server(parse_listen(address), handler)
        host, port = self._server.server_address[:2]
        self.address = f"{host!s}:{port}"
        if not str(host).startswith("127."):
            log.warning(
                f"whoever reaches {self.address} can read the figures of this run, without a password"
            )
        log.info(f"metrics: http://{self.address}/metrics")
        self._thread = threading.Thread(target=self._server.serve_forever, name="clesr metrics", daemon=True)
        self._thread.start()

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        self._room = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to be told."""


class _Handler(BaseHTTPRequestHandler):
    timeout = TIMEOUT_S
    server_version, sys_version = "clesr", ""
    streams: Mapping[str, Watched]
    metrics: Any

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path == "/metrics":
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
