"""Monitors that hang: whoever asks and never reads, or stops reading events, holds nobody up but himself."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from prometheus_client.core import GaugeMetricFamily, Metric
from pytest import CaptureFixture, MonkeyPatch

from corpusmill.ledger.records import JobView
from tests.fixtures.fleet import Fleet, StartFleet, wait_until
from tests.fixtures.simulator import StartSimulator
from tests.fixtures.valkey import free_port
from workers import exporter

ITEMS = 600


class Figures:
    """More figures than a socket's buffers hold."""

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily("sacks", "of the mill " * 10, labels=["mill"])
        for number in range(5_000):
            family.add_metric([f"a mill with a long name, of which there are many: {number}"], number)
        yield family


def connect(port: int) -> socket.socket:
    """A connection with hardly any buffer."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    made.connect((exporter.ADDRESS, port))
    return made


@contextmanager
def mute_monitors(port: int, count: int) -> Iterator[None]:
    """Half of them ask and never read, the others never even ask."""
    with ExitStack() as stack:
        for number in range(count):
            end = stack.enter_context(connect(port))
            if number % 2:
                end.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        yield


def ask(port: int) -> float:
    """Ask for the health as a monitor should; the seconds that it took."""
    started = time.monotonic()
    with urllib.request.urlopen(f"http://{exporter.ADDRESS}:{port}/healthz", timeout=20) as answer:
        assert answer.status == 200
        answer.read()
    return time.monotonic() - started


def answering() -> int:
    """Threads that serve a monitor."""
    return sum("process_request" in thread.name for thread in threading.enumerate())


@pytest.mark.fault(38)
def test_monitors_that_never_read_keep_nobody_from_asking_and_are_dropped(
    monkeypatch: MonkeyPatch, capfd: CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exporter._Handler, "timeout", 2.0)
    port = free_port()
    with exporter.serving(port, Figures(), lambda: {"mill": None}), mute_monitors(port, 8):
        assert ask(port) < 5
        assert answering() > 0
        wait_until(lambda: answering() == 0, what="the end of those who never read")
        ask(port)
    assert capfd.readouterr().err == "", "a monitor that hangs is no event of ours"


@contextmanager
def deaf_subscriber(fleet: Fleet) -> Iterator[None]:
    """Who asked for all events and reads none: what a stopped Flower is to the queue."""
    with connect(fleet.broker.port) as end:
        end.sendall(b"PSUBSCRIBE *\r\n")
        yield


@pytest.mark.slow
@pytest.mark.fault(38)
@pytest.mark.xdist_group("monitors")
def test_a_worker_is_as_fast_with_fifty_monitors_that_hang_as_without(
    start_fleet: StartFleet, simulator: StartSimulator, postgres_url: str
) -> None:
    # As many as the window allows: 100 a second, whatever the machine has to do besides.
    fleet = start_fleet(simulator(latency_ms=200), postgres_url, window=20)
    fleet.scheduler()
    port = free_port()
    fleet.worker(metrics_port=port)
    seconds(fleet, submit(fleet, "to warm up"))
    alone_s = seconds(fleet, submit(fleet, "alone"))
    with mute_monitors(port, 50), deaf_subscriber(fleet):
        watched_s = seconds(fleet, submit(fleet, "watched"))
        asked_s = ask(port)
    print(
        f"\n{ITEMS} calls: {alone_s:.1f} s alone, {watched_s:.1f} s beside 51 that hang; health told in {asked_s:.2f} s"
    )
    assert watched_s < 1.3 * alone_s + 1
    assert asked_s < 5


def submit(fleet: Fleet, what: str) -> JobView:
    return fleet.complete([f"{what}: chunk number {number}" for number in range(ITEMS)], shard_size=25)


def seconds(fleet: Fleet, job: JobView) -> float:
    """How long the job takes from its first reply on."""
    wait_until(lambda: fleet.counts(job).succeeded > 0)
    started = time.monotonic()
    assert fleet.wait(job).succeeded == ITEMS
    return time.monotonic() - started
