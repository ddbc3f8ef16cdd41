"""Real worker and scheduler processes, a real broker, a real ledger, and the simulator at the other end."""

from __future__ import annotations

import base64
import platform
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kombu.serialization import enable_insecure_serializers

from corpusmill.app import KEY_PREFIX
from corpusmill.cli.check_scheduler import living_scheduler
from tests.fixtures.fleet import KEY, Fleet, StartFleet, chunks, embeddings, wait_until
from tests.fixtures.shell import PATIENCE_S
from tests.fixtures.simulator import StartSimulator, running
from tests.fixtures.valkey import Server


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, valkey_session: Server) -> Iterator[Fleet]:
    """A scheduler and a worker that several tests use; each has its own texts."""
    home = tmp_path_factory.mktemp("fleet")
    with running(home / "paid.jsonl", latency_ms=20) as simulator:
        fleet = Fleet(home, valkey_session, f"sqlite:///{home}/ledger.db", simulator)
        fleet.scheduler()
        fleet.worker()
        yield fleet
        fleet.close()


def test_completions_and_embeddings_run_whole(fleet: Fleet) -> None:
    spec = embeddings(fleet.endpoint)
    completing = fleet.complete([f"chunk number {number}" for number in range(250)])
    embedding = fleet.submit(spec, chunks(spec, [f"text {number}" for number in range(300)]), shard_size=200)
    for job, items in ((completing, 250), (embedding, 300)):
        counts = fleet.wait(job)
        assert (counts.items, counts.succeeded, counts.failed, counts.cached) == (items, items, 0, 0)
    assert fleet.simulator.stats()["paid_inputs"] == 550
    assert fleet.simulator.stats()["duplicates_paid"] == 0
    assert len({row.item_no for row in fleet.results(completing)}) == 250
    assert all(row.body is not None and len(row.body) == 4 * 8 for row in fleet.results(embedding))


def test_worker_and_scheduler_say_what_they_work_on_once_they_are_ready(fleet: Fleet) -> None:
    wait_until(lambda: len(fleet.events("ready")) >= 2)
    told = fleet.events("ready")
    assert {line["broker"] for line in told} == {fleet.broker.url}
    assert {line["database"] for line in told} == {f"sqlite:///{fleet.home}/ledger.db"}
    assert [(16, f"sim={fleet.endpoint}")] == [(line["slots"], line["serves"]) for line in told if "worker" in line]
    assert any(line.get("scheduler", "").startswith("scheduler@") for line in told)
    assert "serves no provider" not in fleet.log()


def test_doctor_finds_the_scheduler_among_the_processes_of_the_fleet(fleet: Fleet) -> None:
    name = f"scheduler-{fleet.processes[0].pid}@{platform.node()}"
    assert living_scheduler(fleet.settings) == name


@pytest.mark.fault(1)
def test_a_worker_killed_in_the_middle_of_shards_loses_nothing(
    start_fleet: StartFleet, simulator: StartSimulator, sqlite_url: str
) -> None:
    fleet = start_fleet(simulator(latency_ms=300), sqlite_url, window=20)
    fleet.scheduler()
    worker = fleet.worker()
    job = fleet.complete(texts(200), shard_size=40)
    wait_until(lambda: fleet.simulator.stats()["paid_requests"] > 30)
    worker.kill()
    fleet.worker()
    counts = fleet.wait(job)
    assert counts.succeeded == 200
    assert fleet.simulator.stats()["duplicates_paid"] <= 20
    assert counts.unknown_attempts <= 20


def put_to_sleep(process: subprocess.Popen[bytes], ledger: Path) -> None:
    """Stop it at a moment at which it does not hold SQLite's only lock: nobody could write until it woke."""
    with closing(sqlite3.connect(ledger, timeout=0.5, isolation_level=None)) as probe:
        while True:
            process.send_signal(signal.SIGSTOP)
            try:
                probe.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)
                time.sleep(0.05)
            else:
                probe.execute("ROLLBACK")
                return


@pytest.mark.fault(30)
def test_a_worker_that_slept_through_its_lease_sends_nothing_more_for_it(
    start_fleet: StartFleet, simulator: StartSimulator, sqlite_url: str, tmp_path: Path
) -> None:
    fleet = start_fleet(simulator(latency_ms=200), sqlite_url, window=10)
    fleet.scheduler()
    sleeper = fleet.worker()
    job = fleet.complete(texts(200))
    wait_until(lambda: fleet.simulator.stats()["paid_requests"] > 20)
    put_to_sleep(sleeper, tmp_path / "ledger.db")
    fleet.worker()
    before = fleet.simulator.stats()["requests"]
    wait_until(lambda: fleet.simulator.stats()["requests"] > before + 20)
    sleeper.send_signal(signal.SIGCONT)
    assert fleet.wait(job).succeeded == 200
    # Its window, and what it had gathered but not yet written when it fell asleep.
    assert fleet.simulator.stats()["duplicates_paid"] <= 20
    assert sleeper.poll() is None


@pytest.mark.fault(6)
def test_a_broker_that_forgets_everything_gets_its_wake_ups_again(
    start_fleet: StartFleet, simulator: StartSimulator, sqlite_url: str
) -> None:
    fleet = start_fleet(simulator(latency_ms=100), sqlite_url, window=50)
    fleet.scheduler()
    fleet.worker()
    job = fleet.complete(texts(600), shard_size=20)
    wait_until(lambda: fleet.simulator.stats()["paid_requests"] > 50)
    fleet.broker.kill()
    fleet.broker.start()
    assert fleet.wait(job).succeeded == 600
    assert fleet.simulator.stats()["duplicates_paid"] == 0


@pytest.mark.fault(4)
def test_sigterm_lets_calls_land_gives_shards_back_and_exits_with_0(
    start_fleet: StartFleet, simulator: StartSimulator, sqlite_url: str
) -> None:
    fleet = start_fleet(simulator(latency_ms=500), sqlite_url, window=30)
    scheduler, worker = fleet.scheduler(), fleet.worker()
    job = fleet.complete(texts(300))
    wait_until(lambda: fleet.simulator.stats()["paid_requests"] > 30)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    assert fleet.counts(job).succeeded == fleet.simulator.stats()["paid_requests"] < 300
    assert fleet.counts(job).unknown_attempts == 0
    assert fleet.ledger.workers(60) == []
    fleet.worker()
    assert fleet.wait(job).succeeded == 300
    assert fleet.simulator.stats()["duplicates_paid"] == 0
    scheduler.send_signal(signal.SIGTERM)
    assert scheduler.wait(PATIENCE_S) == 0


@pytest.mark.fault(34)
def test_hostile_and_foreign_messages_are_refused_and_the_worker_lives(fleet: Fleet) -> None:
    queue = {"queue": "completion.normal"}
    send = fleet.app.send_task
    send("completion.run_shard", kwargs={"v": 1, "job_id": "1; DROP TABLE jobs", "shard_no": 0}, **queue)
    send("completion.run_shard", kwargs={"v": 99, "job_id": 1, "shard_no": 0}, **queue)
    send("completion.run_shard", kwargs={"v": 1, "job_id": True, "shard_no": 0}, **queue)
    send("completion.run_shard", args=["x"], kwargs={"v": 1, "job_id": 2**80, "shard_no": -1, "more": {}}, **queue)
    send("completion.run_shard", kwargs={"v": 1, "job_id": 4_711, "shard_no": 3}, **queue)
    send("somebody.elses", args=["their own words \x1b[2J"], **queue)
    register_pickle(fleet)
    send("completion.run_shard", kwargs={"v": 1, "job_id": 1, "shard_no": 0}, serializer="pickle", **queue)
    with fleet.broker.client() as redis:
        redis.lpush(KEY_PREFIX + "completion.normal", "no JSON at all", '{"body": 3}', "[]")
    assert fleet.wait(fleet.complete(texts(20, "after"))).succeeded == 20
    assert all(process.poll() is None for process in fleet.processes)
    assert {"task", "protocol"} <= {line["wrong"] for line in fleet.events("message dropped")}
    assert {"fields", "version"} <= {line["wrong"] for line in fleet.events("message refused")}
    assert not any(theirs in fleet.log() for theirs in ("their own words", "DROP TABLE", "no JSON at all", "\x1b"))


def test_two_workers_stay_under_one_limit(
    start_fleet: StartFleet, simulator: StartSimulator, postgres_url: str
) -> None:
    fleet = start_fleet(simulator(rpm=3_000), postgres_url, limits={"rpm": 3_000, "tpm": 0})
    fleet.scheduler()
    fleet.worker()
    fleet.worker()
    job = fleet.complete(texts(500), shard_size=25)
    assert fleet.wait(job).succeeded == 500
    assert fleet.simulator.stats()["answered_429"] == 0
    owners = fleet.log().count("shard ended")
    assert owners == 20


def test_texts_and_keys_are_in_no_message_no_redis_key_and_no_log(fleet: Fleet) -> None:
    canary = "the heron stood in the reeds at dawn"
    fleet.simulator.set_faults("content_policy@text:odd", "drip:0.0005@text:heron")
    job = fleet.complete([f"{canary} {number} {'odd' if number % 3 == 0 else ''}" for number in range(40)])
    seen = bytearray()
    while fleet.state(job) != "finished":
        with fleet.broker.client() as redis:
            for key in redis.scan_iter():
                seen += str(key).encode() + dumped(redis, key)
        time.sleep(0.1)
    fleet.simulator.set_faults()
    everything = bytes(seen) + fleet.log().encode()
    for secret in (canary, KEY, KEY[3:], "Summarise"):
        assert secret.encode() not in everything
        assert base64.b64encode(secret.encode())[4:-4] not in everything
    assert b"completion" in everything
    failed = fleet.events("item failed")[0]
    assert failed["job"] == job.public_id
    assert failed["request_id"]
    assert {"shard", "item", "class", "attempts"} <= failed.keys()


def test_the_solo_pool_runs_shards_for_debugging(
    start_fleet: StartFleet, simulator: StartSimulator, sqlite_url: str
) -> None:
    fleet = start_fleet(simulator(), sqlite_url)
    worker = fleet.worker("--pool", "solo")
    job = fleet.complete(texts(60), shard_size=20)
    wait_until(lambda: fleet.feed() >= 0 and fleet.state(job) == "finished")
    assert fleet.counts(job).succeeded == 60
    worker.send_signal(signal.SIGINT)
    assert worker.wait(PATIENCE_S) == 130


def texts(count: int, what: str = "chunk") -> list[str]:
    return [f"{what} number {number}" for number in range(count)]


def register_pickle(fleet: Fleet) -> None:
    fleet.app.conf.accept_content = ["json", "pickle"]
    enable_insecure_serializers(["pickle"])  # type: ignore[no-untyped-call]


def dumped(redis: Any, key: Any) -> bytes:
    # The raw value whatever its type; a client that decodes cannot read it, so ask over a bare connection.
    connection = redis.connection_pool.get_connection()
    try:
        connection.send_command("DUMP", key)
        return bytes(connection.read_response(disable_decoding=True) or b"")
    finally:
        redis.connection_pool.release(connection)
