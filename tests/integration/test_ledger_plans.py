"""What a job's size must not show in: no statement of the work on it reads a table from end to end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, event

from corpusmill.ledger import Ledger
from tests.fixtures import jobs

GROWING = "shards|items|chunks|documents|results|answers|usage"


@pytest.fixture
def scans() -> Iterator[list[str]]:
    """The statements that read one of the growing tables, or an index over it, from end to end."""
    found: list[str] = []

    def explain(
        conn: Connection, _cursor: object, statement: str, parameters: Any, _context: object, many: bool
    ) -> None:
        if not statement.startswith(("SELECT", "UPDATE", "DELETE", "INSERT")):
            return
        cursor = conn.connection.cursor()
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters[0] if many else parameters)
        plan = [str(row[-1]) for row in cursor.fetchall()]
        if any(re.match(rf"SCAN ({GROWING})\b", line) for line in plan):
            found.append(f"{' '.join(statement.split())}: {plan}")

    event.listen(Engine, "before_cursor_execute", explain)
    yield found
    event.remove(Engine, "before_cursor_execute", explain)


def test_no_step_of_the_work_on_a_job_reads_a_whole_table(sqlite_url: str, scans: list[str]) -> None:
    with Ledger.open(sqlite_url) as ledger:
        job = jobs.submit(ledger, "abcdefghijkl")
        ledger.worker_beat("w", host="h", pid=7, boot_id="b", slots=4, holds={jobs.LANE}, lease_s=60)
        scans.clear()
        first, second = ledger.sendable("completion", "normal", room=2)
        ledger.outstanding("completion", "normal")
        ledger.unclaimed("completion", "normal")
        ledger.unmark_sent(60)
        claimed = [jobs.claim(ledger, job, ref.shard_no) for ref in (first, second)]
        ledger.held(job.id)
        ledger.awaited(first, claimed[0].fence)
        for _ in range(2):  # the second time all rows are there already
            for shard in claimed:
                jobs.commit(ledger, jobs.paid(shard, closing=[shard.ref], renew=True))
        ledger.counts(job.id)
        ledger.jobs()
        list(ledger.results(job.id))
        list(ledger.failures(job.id))
        assert scans == []


_MANY = 20_000
_OF_OTHER_JOBS = f"""
    WITH numbers AS (SELECT n FROM generate_series(1, {_MANY}) AS numbers(n)),
    texts AS (INSERT INTO chunks SELECT 99, n, n, 0, 0, 200, repeat('x', 200) FROM numbers)
    INSERT INTO answers SELECT sha256(('other ' || n)::bytea), false, decode(repeat('00', 600), 'hex'),
    null, 'm', null, null, false, 1, 0, 1, 0, 0 FROM numbers
"""


def test_on_postgresql_no_plan_is_kept_from_when_there_were_few_rows(postgres_url: str) -> None:
    with Ledger.open(postgres_url) as ledger, psycopg.connect(postgres_url, autocommit=True) as aside:
        job = jobs.submit(ledger, map(str, range(120)), shard_size=5)
        ledger.worker_beat("w1", host="h", pid=7, boot_id="b", slots=4, holds={jobs.LANE}, lease_s=60)
        for number in range(24):
            if number == 1:
                aside.execute("ANALYZE")
            if number == 12:
                aside.execute(_OF_OTHER_JOBS)
            (ref,) = ledger.sendable("completion", "normal", room=1)
            claimed = jobs.claim(ledger, job, ref.shard_no)
            ledger.awaited(ref, claimed.fence)
            jobs.commit(ledger, jobs.paid(claimed, closing=[ref]))
    with psycopg.connect(postgres_url) as after:  # closing a session has it tell what it read
        found = after.execute("SELECT relname, seq_tup_read FROM pg_stat_user_tables").fetchall()
    # Of shards there are few, and a table of a page or two is read whole by right.
    read = {name: count for name, count in found if name in GROWING.split("|") and name != "shards"}
    assert max(read.values()) < _MANY, read
