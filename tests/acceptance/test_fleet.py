"""The fleet of docker-compose.yml as processes: PostgreSQL, a queue with a password, workers, schedulers, producers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from signal import SIGKILL
from subprocess import Popen
from typing import Any

import psycopg
import pytest

from tests.acceptance.compose import Fleet, Running, fleet_in
from tests.fixtures.shell import PATIENCE_S, shell_in, until
from tests.fixtures.simulator import Simulator, StartSimulator

# Each test has two workers, schedulers, PostgreSQL and a queue: one at a time.
pytestmark = [pytest.mark.xdist_group("fleet"), pytest.mark.timeout(180)]

KEY = "sk-canary-fleet-08d1"
SAY = ("--prompt", "Say", "--model", "gpt-6-luna")
# Leases are short so that a takeover is soon, and the window is small so that much is left in the middle.
QUICK = {"CORPUSMILL_LEASE_S": "5", "CORPUSMILL_WINDOW": "50"}
StartFleet = Callable[..., Fleet]


@pytest.fixture
def start_fleet(tmp_path: Path, empty_postgres_url: str) -> Iterator[StartFleet]:
    """`start_fleet(simulator(), CORPUSMILL_LIMITS__RPM="3000")`: a fleet whose `.env` says so, with no process yet."""
    with ExitStack() as stack:

        def start(endpoint: Simulator, **dotenv: str) -> Fleet:
            known = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": endpoint.base_url}
            limits = {"CORPUSMILL_LIMITS__RPM": "0", "CORPUSMILL_LIMITS__TPM": "0"}
            return stack.enter_context(fleet_in(tmp_path, empty_postgres_url, {**known, **limits, **dotenv}))

        yield start


def write_items(fleet: Fleet, count: int, name: str = "items.jsonl") -> None:
    """A file of so many records with an id and a text each."""
    lines = [{"id": f"i{number}", "text": f"{name} says: sack number {number}"} for number in range(count)]
    fleet.producer.write(name, "".join(json.dumps(line) + "\n" for line in lines))


def write_requests(fleet: Fleet, count: int) -> None:
    """A request file of the Batch API."""
    bodies = [
        {"model": "gpt-6-luna", "messages": [{"role": "user", "content": f"request number {number}"}]}
        for number in range(count)
    ]
    lines = [
        {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for number, body in enumerate(bodies)
    ]
    fleet.producer.write("requests.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def outcomes(fleet: Fleet) -> dict[str, int]:
    """The calls in the ledger by outcome, from the view for SQL."""
    with psycopg.connect(fleet.database_url) as connection:
        return dict(connection.execute("SELECT outcome, count(*) FROM corpusmill_usage GROUP BY outcome").fetchall())


def waiting_at_the_queue(fleet: Fleet) -> int:
    """How many workers and schedulers are up and wait for messages."""
    with fleet.redis.client() as client:
        return sum(each["cmd"] == "brpop" for each in client.client_list())


def ids(fleet: Fleet, name: str, key: str = "id") -> list[Any]:
    """The ids in an output, in its order."""
    return [line[key] for line in fleet.producer.lines(name)]


def numbered(letter: str, count: int) -> list[str]:
    """`i0`, `i1`, …"""
    return [f"{letter}{number}" for number in range(count)]


def complete(name: str) -> Sequence[str]:
    """A command over `items.jsonl`."""
    return ("complete", "items.jsonl", *SAY, "--out", name, "--json")


@pytest.mark.fault(29)
def test_two_workers_and_two_schedulers_do_three_jobs_under_one_limit_that_the_endpoint_hardly_ever_has_to_enforce(
    start_fleet: StartFleet, simulator: StartSimulator
) -> None:
    endpoint = simulator(rpm=3000, latency_ms="100:0.4")
    fleet = start_fleet(endpoint, CORPUSMILL_LIMITS__RPM="3000", CORPUSMILL_LIMITS__TPM="")
    workers = [fleet.start("worker") for _ in range(2)]
    schedulers = [fleet.start("scheduler") for _ in range(2)]
    write_items(fleet, 860)
    write_items(fleet, 5_000, "texts.jsonl")
    write_requests(fleet, 150)
    until(lambda: waiting_at_the_queue(fleet) == 4)

    shell = fleet.producer
    started = [
        shell.start(*complete("x.jsonl")),
        shell.start("embed", "texts.jsonl", "--model", "text-embedding-3-small", "--out", "v.jsonl", "--json"),
        shell.start("run", "requests.jsonl", "--out", "r.jsonl", "--json"),
    ]
    done = [shell.finish(process) for process in started]

    assert [one.code for one in done] == [0, 0, 0], "\n".join(map(str, done))
    assert [one.object["succeeded"] for one in done] == [860, 5_000, 150]
    assert ids(fleet, "x.jsonl") == numbered("i", 860)
    assert ids(fleet, "v.jsonl") == numbered("i", 5_000)
    assert ids(fleet, "r.jsonl", "custom_id") == numbered("r", 150)
    stats = endpoint.stats()
    assert stats["requests"] > 1_000
    assert stats["answered_429"] <= stats["requests"] / 1_000
    assert (stats["paid_inputs"], stats["duplicates_paid"]) == (6_010, 0)
    assert outcomes(fleet) == {"paid": stats["paid_requests"]}
    assert all("shard ended" in worker.said() for worker in workers), "one worker did it all"
    assert [process.end() for process in (*workers, *schedulers)] == [0] * 4


@pytest.mark.parametrize(
    ("command", "there", "missing"),
    [
        (complete("x.jsonl"), "BROKER", "DATABASE"),
        (complete("x.jsonl"), "DATABASE", "BROKER"),
        (("worker",), "BROKER", "DATABASE"),
        (("scheduler",), "DATABASE", "BROKER"),
        (("jobs",), "BROKER", "DATABASE"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_one_of_the_two_urls_alone_is_refused_and_the_other_named(
    command: Sequence[str], there: str, missing: str, tmp_path: Path
) -> None:
    with shell_in(tmp_path, tmp_path / "home") as shell:
        shell.write("items.jsonl", '{"text": "some"}\n')
        urls = {"BROKER": "redis://127.0.0.1:9/0", "DATABASE": "postgresql://127.0.0.1:9/x"}
        done = shell.run(*command, env={f"CORPUSMILL_{there}_URL": urls[there], "OPENAI_API_KEY": KEY})
    assert done.code == 2
    assert f"set CORPUSMILL_{missing}_URL" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "home").exists()


def test_a_job_that_no_worker_can_take_waits_and_says_what_to_start_and_with_which_key(
    start_fleet: StartFleet, simulator: StartSimulator
) -> None:
    endpoint = simulator()
    fleet = start_fleet(endpoint)
    write_items(fleet, 30)
    fleet.start("scheduler")
    command = fleet.start("cli", *complete("x.jsonl"))
    until(lambda: "corpusmill worker" in command.said())

    fleet.start("worker", OPENAI_API_KEY="sk-of-somebody-else")
    second = fleet.start("cli", *complete("x.jsonl"))
    until(lambda: "none holds the provider and key" in second.said())
    assert "OPENAI_API_KEY" in second.said()
    assert endpoint.stats()["requests"] == 0

    fleet.start("worker")
    assert [one.process.wait(PATIENCE_S) for one in (command, second)] == [0, 0]
    assert ids(fleet, "x.jsonl") == numbered("i", 30)
    assert endpoint.stats()["paid_inputs"] == 30
    assert {request["headers"]["authorization"] for request in endpoint.requests(100)} == {f"Bearer {KEY}"}


def in_the_middle(fleet: Fleet, endpoint: Simulator) -> tuple[list[Running], Popen[str]]:
    """Two workers share a thousand items and have done a third; the workers, the busier first, and the command."""
    workers = [fleet.start("worker", **QUICK) for _ in range(2)]
    fleet.start("scheduler")
    write_items(fleet, 1_000)
    until(lambda: waiting_at_the_queue(fleet) == 3)
    command = fleet.producer.start(*complete("x.jsonl"))
    until(lambda: endpoint.stats()["paid_requests"] >= 300)
    return sorted(workers, key=lambda worker: -shards_of(fleet, worker)), command


def shards_of(fleet: Fleet, worker: Running) -> int:
    """How many shards a worker holds now; its process id stands in the owner's name."""
    held = "SELECT count(*) FROM shards WHERE NOT done AND owner LIKE %s"
    with psycopg.connect(fleet.database_url) as connection:
        row = connection.execute(held, [f"%:{worker.process.pid}:%"]).fetchone()
    assert row
    return int(row[0])


def test_a_worker_that_is_told_to_stop_lands_what_is_in_flight_and_the_other_does_the_rest(
    start_fleet: StartFleet, simulator: StartSimulator
) -> None:
    endpoint = simulator(latency_ms="400:0.3")
    fleet = start_fleet(endpoint)
    (busier, other), command = in_the_middle(fleet, endpoint)

    assert busier.end() == 0
    assert "draining" in busier.said()
    assert "in_flight=0" not in busier.said().partition("draining")[2].partition("\n")[0]
    assert endpoint.stats()["paid_requests"] < 1_000, "nothing was left for the other"

    done = fleet.producer.finish(command)
    assert done.code == 0, f"{done}\n{other.said()}"
    assert ids(fleet, "x.jsonl") == numbered("i", 1_000)
    assert (endpoint.stats()["paid_inputs"], endpoint.stats()["duplicates_paid"]) == (1_000, 0)
    assert outcomes(fleet) == {"paid": 1_000}
    assert other.end() == 0
    assert list((fleet.home / "journal").iterdir()) == []


def test_after_a_kill_of_a_worker_the_others_complete_the_job_and_pay_no_more_than_its_window_twice(
    start_fleet: StartFleet, simulator: StartSimulator
) -> None:
    endpoint = simulator(latency_ms="400:0.3")
    fleet = start_fleet(endpoint)
    (busier, other), command = in_the_middle(fleet, endpoint)

    assert busier.end(SIGKILL) == -SIGKILL
    # As `restart: unless-stopped` does.
    fleet.start("worker", **QUICK)

    done = fleet.producer.finish(command)
    assert done.code == 0, f"{done}\n{other.said()}"
    assert ids(fleet, "x.jsonl") == numbered("i", 1_000)
    paid_twice = endpoint.stats()["paid_inputs"] - 1_000
    assert 0 <= paid_twice <= 50
    assert endpoint.stats()["duplicates_paid"] == paid_twice
    bill = outcomes(fleet)
    assert bill["paid"] == 1_000
    assert max(1, paid_twice) <= bill["unknown"] <= 50


@pytest.mark.fault(7)
def test_a_job_outlives_a_restart_of_the_queue_and_the_loss_of_every_connection_to_the_database(
    start_fleet: StartFleet, simulator: StartSimulator
) -> None:
    endpoint = simulator(latency_ms="200:0.3")
    fleet = start_fleet(endpoint)
    worker = fleet.start("worker", **QUICK)
    fleet.start("scheduler")
    write_items(fleet, 1_000)
    command = fleet.producer.start(*complete("x.jsonl"))

    until(lambda: endpoint.stats()["paid_requests"] >= 200)
    fleet.redis.kill()
    until(lambda: endpoint.stats()["paid_requests"] >= 300)
    cut_connections(fleet)
    fleet.redis.start()
    until(lambda: endpoint.stats()["paid_requests"] >= 500)
    with fleet.redis.client() as client:
        client.flushall()

    done = fleet.producer.finish(command)
    assert done.code == 0, f"{done}\n{worker.said()}"
    assert ids(fleet, "x.jsonl") == numbered("i", 1_000)
    assert (endpoint.stats()["paid_inputs"], endpoint.stats()["duplicates_paid"]) == (1_000, 0)
    assert outcomes(fleet) == {"paid": 1_000}


def cut_connections(fleet: Fleet) -> None:
    """As a restart of PostgreSQL does."""
    with psycopg.connect(fleet.database_url) as connection:
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        cut = connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}").fetchall()
    assert len(cut) > 1


def test_ctrl_c_leaves_a_job_of_the_fleet_running(start_fleet: StartFleet, simulator: StartSimulator) -> None:
    endpoint = simulator(latency_ms="300")
    fleet = start_fleet(endpoint)
    fleet.start("worker", **QUICK)
    fleet.start("scheduler")
    write_items(fleet, 300)
    command = fleet.producer.start(*complete("x.jsonl"))
    until(lambda: endpoint.stats()["paid_requests"] >= 20)

    left = fleet.producer.interrupt(command)
    assert left.code == 130
    assert "goes on" in left.err

    job = left.object["job"]
    watched = fleet.producer.ok("watch", job)
    assert (watched["state"], watched["succeeded"]) == ("finished", 300)
    assert ids(fleet, "x.jsonl") == numbered("i", 300)
    assert endpoint.stats()["duplicates_paid"] == 0
