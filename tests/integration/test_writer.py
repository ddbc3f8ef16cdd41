"""The writer thread on real ledgers: group commits, leases, a ledger that goes away, and one that refuses."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, event

from corpusmill.errors import Unavailable
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import Batch, ClaimedShard, CommitReport, JobView, ShardRef
from tests.fixtures import jobs
from tests.fixtures.shell import PATIENCE_S
from workers.journal import Journal, Reply, Sent, adopt
from workers.writer import Writer, awake_s

Reports = list[CommitReport]


@contextmanager
def writing(ledger: Ledger, folder: Path, **settings: Any) -> Iterator[tuple[Writer, Journal, Reports]]:
    """A running writer of worker `w1`, its journal, and the reports it gave."""
    journal, reports = Journal.open(folder / "journal"), Reports()
    plain: dict[str, Any] = {"worker_id": "w1", "lease_s": jobs.LEASE_S, "on_report": reports.append}
    writer = Writer(ledger, journal, **{**plain, **settings})
    writer.start()
    try:
        yield writer, journal, reports
    finally:
        writer.close(5)
        journal.close()


def until(condition: Callable[[], bool], within_s: float = 60) -> None:
    """Wait for a condition, not for a time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


def held(ledger: Ledger, writer: Writer, keys: str = "abc") -> tuple[JobView, ClaimedShard]:
    """A shard claimed and held."""
    job = jobs.submit(ledger, keys)
    claimed = jobs.claim(ledger, job, 0)
    writer.hold(claimed.ref, claimed.fence)
    return job, claimed


def single(claimed: ClaimedShard, number: int) -> Batch:
    """What the call for one item brought."""
    return replace(jobs.paid(claimed, [claimed.items[number]]), fences={})


def test_what_many_calls_bring_is_written_in_few_commits(ledger: Ledger, tmp_path: Path) -> None:
    with writing(ledger, tmp_path) as (writer, _, reports):
        job, claimed = held(ledger, writer)
        for number in range(3):
            writer.submit(single(claimed, number))
        writer.flush().result(10)
        assert len(reports) <= 2
        assert ledger.counts(job.id).succeeded == 3


def test_a_shard_is_closed_after_its_results_and_let_go(ledger: Ledger, tmp_path: Path) -> None:
    with writing(ledger, tmp_path) as (writer, _, reports):
        job, claimed = held(ledger, writer)
        writer.submit(jobs.paid(claimed))
        writer.submit(Batch(fences={claimed.ref: claimed.fence}, closing=[claimed.ref]))
        writer.flush().result(10)
        assert ledger.job(job.id).state == "finished"
        assert any(claimed.ref in report.closed for report in reports)
        assert writer._held == {}


def test_who_asks_is_told_when_his_batch_is_written(ledger: Ledger, tmp_path: Path) -> None:
    with writing(ledger, tmp_path) as (writer, _, _reports):
        job, claimed = held(ledger, writer)
        counted: list[int] = []
        told = threading.Event()

        def then(report: CommitReport) -> None:
            counted.append(ledger.counts(job.id).succeeded)
            assert report.job_states == {job.id: "running"}
            told.set()

        writer.submit(jobs.paid(claimed), then=then)
        assert told.wait(PATIENCE_S)
        assert counted == [3]


def test_somebody_who_fails_when_told_does_not_stop_the_writer(ledger: Ledger, tmp_path: Path) -> None:
    with writing(ledger, tmp_path) as (writer, _, _reports):
        job, claimed = held(ledger, writer)
        writer.submit(single(claimed, 0), then=lambda _: 1 / 0)  # type: ignore[arg-type]
        writer.flush().result(10)
        writer.submit(single(claimed, 1))
        writer.flush().result(10)
        assert ledger.counts(job.id).succeeded == 2


def test_the_journal_forgets_what_is_written_and_keeps_what_is_not(ledger: Ledger, tmp_path: Path) -> None:
    with writing(ledger, tmp_path) as (writer, journal, _):
        _, claimed = held(ledger, writer)
        batch = jobs.paid(claimed)
        written, unwritten = os.urandom(16), os.urandom(16)
        for attempt_id in (written, unwritten):
            journal.sent(Sent(attempt_id, []))
            journal.reply(Reply(attempt_id, batch.answers, batch.results, batch.usage))
        writer.submit(batch, attempts=[written])
        writer.flush().result(10)
    assert sum(1 for _ in adopt(tmp_path / "journal")) == 1


def test_a_pause_is_reported_within_a_second_though_there_is_nothing_to_write(ledger: Ledger, tmp_path: Path) -> None:
    with writing(ledger, tmp_path) as (writer, _, reports):
        job, _claimed = held(ledger, writer)
        ledger.pause(job.id, "user")
        until(lambda: any(report.job_states.get(job.id) == "paused" for report in reports))


def test_leases_are_renewed_for_as_long_as_shards_are_held(ledger: Ledger, tmp_path: Path) -> None:
    with writing(ledger, tmp_path, lease_s=1.0) as (writer, _, _reports):
        job = jobs.submit(ledger, "abc")
        claimed = ledger.claim(ShardRef(job.id, 0), worker_id="w1", lease_s=1.0, holds={jobs.LANE})
        assert claimed is not None
        writer.hold(claimed.ref, claimed.fence)
        held_until = time.monotonic() + 1.4
        while time.monotonic() < held_until:
            assert jobs.try_claim(ledger, job, 0, worker="w2") is None
            assert not writer.stale
            time.sleep(0.1)
        writer.let_go(claimed.ref)
        until(lambda: jobs.try_claim(ledger, job, 0, worker="w2") is not None)


def test_a_lease_that_came_while_the_others_were_renewed_is_as_old_as_it_was(ledger: Ledger, tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal")
    writer = Writer(ledger, journal, worker_id="w1", lease_s=60.0, on_report=lambda _: None)
    one, two = (jobs.claim(ledger, jobs.submit(ledger, keys), 0) for keys in ("abc", "def"))
    writer.hold(one.ref, one.fence, since_s=awake_s() - 30)

    def meanwhile(_conn: Connection) -> None:
        writer.hold(two.ref, two.fence, since_s=awake_s() - 45)

    event.listen(ledger._db._engine, "commit", meanwhile, once=True)
    stale = [writer._wrote([]) and writer.stale for _ in range(2)]

    assert stale == [True, False], "the second is to be renewed before anything is sent for it"
    journal.close()


def test_a_shard_that_somebody_else_has_taken_is_reported_and_let_go(ledger: Ledger, tmp_path: Path) -> None:
    with writing(ledger, tmp_path) as (writer, _, reports):
        _, claimed = held(ledger, writer)
        writer.hold(claimed.ref, claimed.fence - 1)
        until(lambda: any(claimed.ref in report.lost for report in reports))
        assert writer._held == {}


def test_too_much_that_waits_stops_the_senders(ledger: Ledger, tmp_path: Path) -> None:
    with writing(ledger, tmp_path, backlog_bytes=500) as (writer, _, _reports):
        _, claimed = held(ledger, writer)
        seen = [writer.full]
        writer.submit(jobs.paid(claimed))
        seen.append(writer.full)
        writer.flush().result(10)
        assert [*seen, writer.full] == [False, True, False]


def test_closing_writes_everything_first(ledger: Ledger, tmp_path: Path) -> None:
    with writing(ledger, tmp_path) as (writer, _, _reports):
        job, claimed = held(ledger, writer)
        for number in range(3):
            writer.submit(single(claimed, number))
        assert writer.close(10)
        assert ledger.counts(job.id).succeeded == 3


def test_what_the_ledger_refuses_stops_the_senders_and_the_rest_is_written(ledger: Ledger, tmp_path: Path) -> None:
    with writing(ledger, tmp_path) as (writer, journal, _reports):
        job, claimed = held(ledger, writer)
        refused = replace(jobs.reply(b"r" * 32), model=None)  # type: ignore[arg-type]
        attempt_id = os.urandom(16)
        journal.reply(Reply(attempt_id, [refused], [], []))
        writer.submit(Batch(answers=[refused]), attempts=[attempt_id])
        writer.submit(jobs.paid(claimed))
        until(lambda: ledger.counts(job.id).succeeded == 3)
        assert writer.full
        assert writer.trouble is not None
        assert not writer.close(1)
    assert [batch.answers for batch in adopt(tmp_path / "journal")] == [[refused]], "it is still in the journal"


# --- a ledger that goes away ------------------------------------------------------------------------------------


@contextmanager
def away(postgres_server: str, url: str) -> Iterator[None]:
    """Throw everybody out of a PostgreSQL database and let nobody in."""
    name = url.split("?")[0].rpartition("/")[2]
    with psycopg.connect(postgres_server.format("postgres"), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        yield
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Ledger]:
    """A ledger on a PostgreSQL database of the test's own."""
    with Ledger.open(postgres_url) as opened:
        yield opened


@pytest.mark.fault(13)
def test_while_the_database_is_away_nothing_is_lost_and_then_all_is_written(
    postgres: Ledger, postgres_server: str, postgres_url: str, tmp_path: Path
) -> None:
    with writing(postgres, tmp_path) as (writer, _, _reports):
        job, claimed = held(postgres, writer)
        with away(postgres_server, postgres_url):
            for number in range(3):
                writer.submit(single(claimed, number))
            until(lambda: isinstance(writer.trouble, Unavailable))
        writer.flush().result(20)
        assert writer.trouble is None
        assert postgres.counts(job.id).succeeded == 3
        assert postgres.counts(job.id).usd == 3 * jobs.PRICE


def test_a_worker_that_cannot_renew_stops_sending_before_its_lease_is_over(
    postgres: Ledger, postgres_server: str, postgres_url: str, tmp_path: Path
) -> None:
    with writing(postgres, tmp_path, lease_s=2.0) as (writer, _, _reports):
        held(postgres, writer)
        with away(postgres_server, postgres_url):
            begun = time.monotonic()
            until(lambda: writer.stale)
            assert time.monotonic() - begun < 2.0
        until(lambda: not writer.stale)


def test_what_could_not_be_written_in_time_is_left_to_the_journal(
    postgres: Ledger, postgres_server: str, postgres_url: str, tmp_path: Path
) -> None:
    with writing(postgres, tmp_path) as (writer, journal, _reports):
        job, claimed = held(postgres, writer)
        batch = jobs.paid(claimed)
        attempt_id = os.urandom(16)
        with away(postgres_server, postgres_url):
            journal.reply(Reply(attempt_id, batch.answers, batch.results, batch.usage))
            writer.submit(batch, attempts=[attempt_id])
            assert not writer.close(0.5)
            journal.close()
    for left in adopt(tmp_path / "journal"):
        jobs.commit(postgres, left, worker="w2")
    assert postgres.counts(job.id).succeeded == 3
    assert list((tmp_path / "journal").iterdir()) == []
