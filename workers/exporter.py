"""`/metrics` for Prometheus and `/healthz` for whoever restarts processes: on 127.0.0.1, from a thread of its own.

Nothing is counted for it: what the process counts anyway is read when somebody asks. A thread, so that a process whose
event loop hangs can still say so.
"""

from __future__ import annotations

import errno
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from corpusmill.errors import UsageError
from workers import parent

log = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"
# A client that says nothing holds a thread for so long.
SILENT_S = 5.0

# What is looked at, and what is wrong with it; None: nothing.
Health = Mapping[str, str | None]


class Collector(Protocol):
    """What prometheus-client asks at each scrape."""

    def collect(self) -> Iterable[Metric]:
        """The figures as they are now."""


@contextmanager
def serving(port: int, collector: Collector, health: Callable[[], Health]) -> Iterator[None]:
    """Answer on `port` while this context is open.

    Raises:
        UsageError: the port is taken.
    """
    try:
        server = _listening(port, _registry(collector), health)
    except UsageError as error:
        if not parent.is_there():
            raise
        # Of one that is started again and again nobody would see why.
        log.warning("%s where=%s", error.what, error.where)
        yield
        return
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def _registry(collector: Collector) -> CollectorRegistry:
    """Our own: the library's global one would take in whatever others register."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    return registry


def _listening(port: int, registry: CollectorRegistry, health: Callable[[], Health]) -> _Server:
    handler = type("Handler", (_Handler,), {"registry": registry, "health": staticmethod(health)})
    try:
        return _Server((ADDRESS, port), handler)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise UsageError(
            f"the port for metrics {'is taken' if taken else 'cannot be used'}",
            where=f"{ADDRESS}:{port}",
            next_step="give each process a port of its own: --metrics PORT, or CORPUSMILL_METRICS_PORT",
        ) from None


class _Server(ThreadingHTTPServer):
    """One thread a question."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a monitor that hung or left before it had its answer; the library would print a traceback."""
        error = sys.exception()
        if not isinstance(error, OSError):
            log.error("a monitor's question failed", exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    """GET /metrics and GET /healthz, nothing else."""

    registry: CollectorRegistry
    health: Callable[[], Health]
    timeout = SILENT_S
    server_version, sys_version = "corpusmill", ""

    def do_GET(self) -> None:
        """Answer; the name is http.server's."""
        if self.path == "/metrics":
            self._answer(200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self.registry))
        elif self.path == "/healthz":
            found = self.health()
            wrong = {name: what for name, what in found.items() if what}
            body = {"healthy": not wrong, **{name: what or "ok" for name, what in found.items()}}
            self._answer(503 if wrong else 200, "application/json", json.dumps(body).encode())
        else:
            self._answer(404, "text/plain", b"/metrics or /healthz\n")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: who asks every few seconds is no news."""
