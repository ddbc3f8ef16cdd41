"""The asyncio pool under a real Celery worker and a real broker."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
import redis
from celery import Celery

from tests.fixtures.shell import PATIENCE_S
from tests.fixtures.valkey import Server

POOL = "workers.asyncpool:TaskPool"
Start = Callable[[str], subprocess.Popen[bytes]]


class Probe:
    """The tests' side of `pool_app`: sends its tasks and reads what happened to them."""

    def __init__(self, url: str) -> None:
        self.app = Celery("probe", broker=url, set_as_current=False)
        self.store = redis.Redis.from_url(url, decode_responses=True)

    def send(self, name: str, *args: object, **options: object) -> str:
        sent: str = self.app.send_task(name, args=args, **options).id
        return sent

    def events(self) -> list[str]:
        return [str(event) for event in self.store.lrange("events", 0, -1)]

    def wait_for(self, *events: str, within_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + within_s
        while missing := set(events) - set(self.events()):
            assert time.monotonic() < deadline, f"{missing} did not happen, only {self.events()}"
            time.sleep(0.02)


@pytest.fixture
def probe(valkey_session: Server) -> Iterator[Probe]:
    valkey_session.flush()
    probe = Probe(valkey_session.url)
    yield probe
    probe.store.close()
    probe.app.close()


@pytest.fixture
def start(valkey_session: Server) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def start(pool: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.integration.pool_app", valkey_session.url, pool]
        started.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_forty_tasks_are_in_flight_at_the_same_time(probe: Probe, start: Start) -> None:
    start(POOL)
    for _ in range(40):
        probe.send("meet", 40)
    deadline = time.monotonic() + 15
    while probe.events().count("met") < 40:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_plain_task_and_a_failing_one_leave_the_loop_alive(probe: Probe, start: Start) -> None:
    start(POOL)
    probe.send("fail")
    probe.send("plain", "plain")
    probe.send("nap", "after", 0)
    probe.wait_for("plain done", "after done")


def test_revoke_with_terminate_cancels_one_task_and_no_other(probe: Probe, start: Start) -> None:
    start(POOL)
    victim = probe.send("nap", "victim", 60)
    probe.send("nap", "other", 1)
    probe.wait_for("victim started", "other started")
    probe.app.control.revoke(victim, terminate=True)
    probe.wait_for("victim cancelled", "other done")


@pytest.mark.parametrize("limit", ["soft_time_limit", "time_limit"])
def test_time_limits_cancel_the_task(probe: Probe, start: Start, limit: str) -> None:
    start(POOL)
    probe.send("nap", "late", 60, **{limit: 1})
    probe.wait_for("late cancelled")
    probe.send("nap", "next", 0)
    probe.wait_for("next done")


def test_warm_shutdown_finishes_every_task_and_exits_with_0(probe: Probe, start: Start) -> None:
    worker = start(POOL)
    probe.send("nap", "slow", 1.5)
    probe.wait_for("slow started")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    assert probe.events() == ["slow started", "slow done"]
    assert unacknowledged(probe) == 0


def test_soft_then_cold_shutdown_cancels_what_is_left_and_gives_its_message_back(probe: Probe, start: Start) -> None:
    worker = start(POOL)
    probe.send("nap", "short", 0.3)
    probe.send("nap", "long", 60)
    probe.wait_for("short started", "long started")
    worker.send_signal(signal.SIGQUIT)
    worker.wait(PATIENCE_S)
    assert {"short done", "long cancelled"} <= set(probe.events())
    assert waiting(probe) + unacknowledged(probe) == 1


def test_the_solo_pool_runs_the_same_tasks(probe: Probe, start: Start) -> None:
    worker = start("solo")
    probe.send("nap", "one", 0)
    probe.send("fail")
    probe.send("nap", "two", 0)
    probe.wait_for("one done", "two done")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0


def waiting(probe: Probe) -> int:
    return int(str(probe.store.llen("celery")))


def unacknowledged(probe: Probe) -> int:
    return int(str(probe.store.hlen("unacked")))
