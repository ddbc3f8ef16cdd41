"""What worker and scheduler tell monitors: figures that are true, health that turns bad when it is, no secrets."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.fixtures.fleet import KEY, StartFleet, wait_until
from tests.fixtures.simulator import StartSimulator
from tests.fixtures.valkey import free_port

CANARY = "the bittern booms at night"


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def healthy(port: int) -> bool:
    try:
        return ask(port, "/healthz")[0] == 200
    except urllib.error.URLError:  # it does not listen yet
        return False


def figures(port: int) -> dict[str, float]:
    status, text = ask(port, "/metrics")
    assert status == 200
    assert CANARY not in text
    assert KEY not in text
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values() if "://" not in value): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_worker_and_scheduler_tell_monitors_what_they_did(
    start_fleet: StartFleet, simulator: StartSimulator, postgres_url: str
) -> None:
    faults = ["rate_limit_requests@3", "content_policy@text:odd"]
    limits = {"rpm": 60_000, "tpm": 10_000_000}
    fleet = start_fleet(simulator(latency_ms=20, fault=faults), postgres_url, limits=limits)
    working, scheduling = free_port(), free_port()
    fleet.scheduler(metrics_port=scheduling)
    fleet.worker(metrics_port=working)
    job = fleet.complete([f"{CANARY} {number} {'odd' if number == 7 else ''}" for number in range(40)])
    fleet.wait(job)

    told = figures(working)
    stats = fleet.simulator.stats()
    assert told["corpusmill_requests_total"] == stats["requests"]
    assert told["corpusmill_items_succeeded_total"] == 39
    assert told["corpusmill_items_failed_total content_policy"] == 1
    assert told["corpusmill_answers_429_total"] == stats["answered_429"] >= 1
    assert told["corpusmill_admitted_requests_total gpt-6-luna"] == stats["requests"]
    assert told["corpusmill_limit_tokens_per_minute gpt-6-luna"] == limits["tpm"]
    assert told["corpusmill_in_flight"] == told["corpusmill_unwritten_bytes"] == 0
    assert told["process_resident_memory_bytes"] > 10_000_000
    assert json.loads(ask(working, "/healthz")[1]) == {"healthy": True, "loop": "ok", "ledger": "ok", "broker": "ok"}

    fleet.ledger.resume(fleet.complete(["parked"]).id)
    fleet.ledger.pause_lane(fleet.endpoint, job.key_fingerprint, "billing", None)
    seen = figures(scheduling)
    assert seen["corpusmill_workers"] == seen["corpusmill_ledger_up"] == seen["corpusmill_broker_up"] == 1
    assert seen["corpusmill_ticks_total feed"] >= 1
    assert ask(scheduling, "/healthz")[0] == 200
    assert ask(scheduling, "/")[0] == 404


def test_a_worker_without_its_broker_is_not_healthy(
    start_fleet: StartFleet, simulator: StartSimulator, sqlite_url: str
) -> None:
    fleet = start_fleet(simulator(), sqlite_url)
    port = free_port()
    fleet.worker(metrics_port=port)
    wait_until(lambda: healthy(port))
    fleet.broker.kill()
    status, told = ask(port, "/healthz")
    assert status == 503
    assert "does not answer" in json.loads(told)["broker"]
    fleet.broker.start()
    wait_until(lambda: healthy(port))
    wait_until(lambda: bool(fleet.events("the broker is away no longer")))
    lines = [json.loads(line) for line in fleet.log().splitlines()]
    events = [line["event"].partition(":")[0] for line in lines if line["level"] in ("warning", "error")]
    # One line that it is away and one that it is back, however often it was tried.
    assert [event for event in events if "broker" in event or "consumer" in event] == [
        "the broker is away, trying on", "the broker is away no longer",
    ]  # fmt: skip


def test_a_port_that_is_taken_ends_a_worker_with_what_to_type(
    start_fleet: StartFleet, simulator: StartSimulator, sqlite_url: str
) -> None:
    fleet = start_fleet(simulator(), sqlite_url)
    process = fleet.start("workers", metrics_port=fleet.broker.port)
    assert process.wait(30) == 2
    assert "--metrics PORT" in fleet.log()
