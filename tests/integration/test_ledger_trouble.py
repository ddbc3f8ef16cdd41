"""When the database is away, busy, full or changes its mind: nothing is half done, and no text is shown."""

from __future__ import annotations

import multiprocessing
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, text

from corpusmill.errors import CorpusmillError, DiskFull, Unavailable, UsageError
from corpusmill.ledger import Ledger, database
from corpusmill.ledger.database import Database, parse
from corpusmill.ledger.records import Batch
from tests.fixtures import jobs

SECRET = "s3cret-pass"


def test_a_database_that_cannot_be_reached_is_said_to_be_without_its_password() -> None:
    with pytest.raises(Unavailable) as caught:
        Ledger.open(f"postgresql://me:{SECRET}@127.0.0.1:1/mill")
    assert "postgresql://127.0.0.1:1/mill" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None, "the driver's error would be printed with its parameters"


def test_a_database_that_takes_connections_and_never_answers_is_away_and_no_fault_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "CONNECT_S", 2)
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(Unavailable, match="timeout"):
        Ledger.open(f"postgresql://me:{SECRET}@127.0.0.1:{mute.getsockname()[1]}/mill")


def test_a_wrong_password_or_database_is_unavailable(postgres_url: str) -> None:
    with pytest.raises(Unavailable, match="does not exist"):
        Ledger.open(postgres_url.replace("/cm_", "/not_there_"))


def test_a_ledger_in_a_folder_that_cannot_be_used_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(Unavailable, match="cannot be used"):
        Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")


def test_a_file_that_is_no_ledger_or_a_damaged_one_is_named_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    file.write_text("somebody's notes " * 100)
    with pytest.raises(UsageError, match="no ledger") as caught:
        Ledger.open(f"sqlite:///{file}")
    assert caught.value.where == str(file)
    assert "move the file away" in caught.value.next_step
    assert file.read_text().startswith("somebody's notes")


def test_the_files_of_a_new_ledger_are_its_owners_alone(tmp_path: Path) -> None:
    with Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        jobs.submit(ledger, "a")
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}


@pytest.mark.fault(15)
def test_a_full_disk_loses_nothing_and_the_same_batch_goes_in_when_there_is_room(sqlite_url: str) -> None:
    with Ledger.open(sqlite_url) as ledger:
        job = jobs.submit(ledger, [str(n) for n in range(200)], shard_size=200)
        claimed = jobs.claim(ledger, job, 0)
        batch = jobs.paid(claimed, answers=[jobs.reply(i.key, str(i.key) * 200) for i in claimed.items])
        _limit_pages(ledger, 1)
        with pytest.raises(DiskFull, match="disk is full"):
            jobs.commit(ledger, batch)
        assert ledger.counts(job.id).succeeded == 0
        _limit_pages(ledger, 1_000_000)
        jobs.commit(ledger, batch)
        assert ledger.counts(job.id).succeeded == 200


def _limit_pages(ledger: Ledger, pages: int) -> None:
    """Let the file have no more pages than it has, or `pages`: SQLite then says what it says on a full disk."""
    with ledger._db._engine.connect() as conn:
        conn.exec_driver_sql(f"PRAGMA max_page_count = {pages}")


def test_a_faulty_statement_is_reported_without_the_values_in_it(postgres_url: str) -> None:
    database = Database(parse(postgres_url))
    canary = "a sentence of a customer"

    def insert(conn: Connection) -> None:
        conn.execute(text("INSERT INTO chunks (collection_id, text) VALUES (1, :text)"), {"text": canary})

    with pytest.raises(CorpusmillError, match="NotNullViolation 23502") as caught:
        database.write(insert)
    assert canary not in str(caught.value)
    assert caught.value.__suppress_context__
    database.close()


@pytest.mark.fault(14)
def test_a_deadlock_is_undone_and_the_transaction_runs_again(postgres_url: str) -> None:
    with Ledger.open(postgres_url) as ledger:
        first, second = jobs.submit(ledger, "a"), jobs.submit(ledger, "b")
    database = Database(parse(postgres_url))
    both_hold = threading.Barrier(2)
    runs: list[int] = []

    def cross(conn: Connection, ids: Sequence[int]) -> None:
        conn.execute(text("SET LOCAL deadlock_timeout = '20ms'"))
        runs.append(ids[0])
        for number, job_id in enumerate(ids):
            conn.execute(text("UPDATE jobs SET items = items + 1 WHERE id = :id"), {"id": job_id})
            if number == 0 and len(runs) <= 2:
                both_hold.wait(10)

    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(database.write, cross, ids) for ids in ((first.id, second.id), (second.id, first.id))]
        for each in done:
            each.result()
    assert len(runs) == 3, "one of the two ran twice"
    assert database.read(lambda conn: set(conn.execute(text("SELECT items FROM jobs")).scalars())) == {3}
    database.close()


def test_connections_that_the_server_dropped_are_replaced(postgres_url: str) -> None:
    with Ledger.open(postgres_url) as ledger:
        job = jobs.submit(ledger, "a")
        with psycopg.connect(postgres_url, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'corpusmill'"
            )
        assert ledger.counts(job.id).items == 1


# --- many writers -----------------------------------------------------------------------------------------------

SHARDS, THREADS, PROCESSES = 24, 4, 2


def test_threads_and_processes_that_write_at_once_lose_and_double_nothing(database_url: str) -> None:
    with Ledger.open(database_url) as ledger:
        keys = [str(n % 50) for n in range(SHARDS * 5)]
        job = jobs.submit(ledger, keys, shard_size=5)
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=work, args=(database_url, n, job.id)) for n in range(PROCESSES)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(50)
        assert [process.exitcode for process in processes] == [0] * PROCESSES
        counts = ledger.counts(job.id)
        assert (counts.succeeded, counts.open) == (SHARDS * 5, 0)
        assert counts.succeeded - counts.cached == 50, "each text was paid for once"
        assert counts.usd == 50 * jobs.PRICE
        assert counts.requests == 50
        assert ledger.job(job.id).state == "finished"


def work(url: str, process: int, job_id: int) -> None:
    """One worker process: threads that claim, pay and commit until the job is finished."""
    with Ledger.open(url) as ledger, ThreadPoolExecutor(THREADS) as pool:
        each = [pool.submit(take_shards, ledger, f"w{process}-{number}", job_id) for number in range(THREADS)]
        for done in each:
            done.result()


def take_shards(ledger: Ledger, worker: str, job_id: int) -> None:
    job = ledger.job(job_id)
    while ledger.job(job_id).state != "finished":
        for number in range(SHARDS):
            claimed = jobs.try_claim(ledger, job, number, worker=worker)
            if claimed is None:
                continue
            jobs.commit(ledger, jobs.paid(claimed), worker=worker)
            report = ledger.awaited(claimed.ref, claimed.fence)
            while report.items or report.waiting:
                jobs.commit(ledger, jobs.paid(claimed, report.items), worker=worker)
                report = ledger.awaited(claimed.ref, claimed.fence)
            jobs.commit(ledger, Batch(fences={claimed.ref: claimed.fence}, closing=[claimed.ref]), worker=worker)
