"""`verify` finds whatever does not add up, on either database, and nothing where all does."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from corpusmill.ledger import Ledger, audit
from corpusmill.ledger.records import Batch, JobView
from corpusmill.mill.verifying import verify
from tests.fixtures import jobs


@pytest.fixture
def job(ledger: Ledger) -> JobView:
    """Seven items in three shards: two shards done with a failure among them, one half done by a living worker."""
    job = jobs.submit(ledger, "abcdefg", budget_usd=Decimal(1))
    first, second = jobs.claim(ledger, job, 0), jobs.claim(ledger, job, 1)
    unknown = jobs.bill(first.ref, "lost", usd=Decimal("0.5"), outcome="unknown")
    jobs.commit(ledger, jobs.paid(first, closing=[first.ref]))
    jobs.commit(ledger, Batch(usage=[unknown]))
    jobs.commit(ledger, jobs.paid(second, second.items[:2], closing=[], renew=True))
    jobs.commit(
        ledger,
        Batch(fences={second.ref: second.fence}, results=jobs.failed(second, second.items[2:]), closing=[second.ref]),
    )
    jobs.claim(ledger, job, 2)
    return ledger.job(job.id)


def test_a_job_that_runs_adds_up_and_tells_its_attempts_of_unknown_outcome_with_their_cost(
    ledger: Ledger, job: JobView
) -> None:
    audit = ledger.audit(job.id)
    assert audit.adds_up, [str(each) for each in audit.mismatches]
    assert (audit.items, audit.succeeded, audit.failed) == (7, 5, 1)
    assert (audit.paid_attempts, audit.unknown_attempts) == (5, 1)
    assert (audit.usd, audit.unknown_usd) == (5 * jobs.PRICE, Decimal("0.5"))


def test_rows_are_counted_by_the_page_and_none_is_left_out_or_counted_twice(
    ledger: Ledger, job: JobView, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ledger.audit(job.id)
    for page in (1, 5, whole.paid_attempts + whole.unknown_attempts):
        monkeypatch.setattr(audit, "PAGE", page)
        assert ledger.audit(job.id) == whole


TAMPERINGS = {
    "an item is lost": ("DELETE FROM items WHERE job_id = :job AND item_no = 6", "items"),
    "a result is lost": ("DELETE FROM results WHERE job_id = :job AND item_no = 1", "succeeded"),
    "a failure is lost": ("DELETE FROM results WHERE job_id = :job AND item_no = 5", "failed"),
    "a failure has no class": ("UPDATE results SET error_class = '' WHERE error_class IS NOT NULL", "without a class"),
    "an answer is lost": ("DELETE FROM answers WHERE output IS NOT NULL", "successes without an answer"),
    "a text is lost": ("DELETE FROM chunks WHERE chunk_no = 4", "items without a text"),
    "a bill is lost": ("DELETE FROM usage WHERE job_id = :job AND outcome = 'unknown'", "unknown attempts"),
    "a bill was changed": ("UPDATE usage SET usd = usd + 1 WHERE outcome = 'paid' AND shard_no = 1", "usd"),
    "tokens were changed": ("UPDATE usage SET prompt_tokens = 0 WHERE shard_no = 0", "prompt tokens"),
    "a bill names no shard": ("UPDATE usage SET shard_no = 9 WHERE shard_no = 1", "shard that does not exist"),
    "a shard is closed too soon": ("UPDATE shards SET done = :yes WHERE shard_no = 2", "done before its items are"),
    "a shard is taken for open": ("UPDATE shards SET done = :no WHERE shard_no = 0", "open shards"),
    "the job forgets money": ("UPDATE jobs SET set_aside = 0 WHERE id = :job", "USD set aside"),
    "the job forgets tokens": ("UPDATE jobs SET set_aside_tokens = 0 WHERE id = :job", "tokens set aside"),
    "the job is called finished": ("UPDATE jobs SET state = 'finished' WHERE id = :job", "results of a finished job"),
    "a key stays in flight": ("UPDATE in_flight SET shard_no = 0 WHERE job_id = :job", "keys in flight"),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_it_is_found_that(tampering: str, ledger: Ledger, job: JobView) -> None:
    statement, what = TAMPERINGS[tampering]
    ledger._db.write(_tamper, statement, job.id)
    audit = ledger.audit(job.id)
    assert not audit.adds_up
    assert any(what in each.what for each in audit.mismatches), [str(each) for each in audit.mismatches]
    assert 1 <= len(ledger.audit(job.id, most=1).mismatches) <= audit.mismatch_count


def _tamper(conn: Connection, statement: str, job_id: int) -> None:
    values: dict[str, Any] = {"job": job_id, "yes": True, "no": False}
    conn.execute(text(statement), {name: value for name, value in values.items() if f":{name}" in statement})


def test_results_of_items_that_do_not_exist_are_found(ledger: Ledger, job: JobView) -> None:
    ledger._db.write(_tamper, "UPDATE results SET item_no = 90 WHERE job_id = :job AND item_no = 1", job.id)
    whats = {each.what for each in ledger.audit(job.id).mismatches}
    assert "rows of a shard that does not exist" in whats


def test_the_error_names_the_first_mismatches_and_what_to_do(ledger: Ledger, job: JobView, tmp_path: Path) -> None:
    ledger._db.write(_tamper, "DELETE FROM results WHERE job_id = :job AND item_no = 1", job.id)
    error = verify(ledger, job.id, tmp_path / "journal").error()
    assert error is not None
    what, where, following = error.lines()
    assert what == f"the ledger of {job.public_id} does not add up: 1 mismatch"
    assert where == "shard 0: succeeded: the ledger says 3, its rows 2"
    assert f"corpusmill verify {job.public_id} --json" in following
    assert error.exit_code == 1


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Path]:
    """The folder of a journal that this process holds."""
    folder = tmp_path / "journal" / "123-abc"
    folder.mkdir(parents=True)
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield folder
    os.close(descriptor)


def test_journals_of_living_processes_are_no_matter_and_those_of_dead_ones_have_to_be_adopted_first(
    ledger: Ledger, job: JobView, journal: Path
) -> None:
    assert verify(ledger, job.id, journal.parent).ok
    (journal.parent / "99-dead").mkdir()
    found = verify(ledger, job.id, journal.parent)
    assert (found.ok, found.journals_waiting) == (False, 1)
    error = found.error()
    assert error is not None
    assert "adopts them" in error.next_step
    (journal.parent / "99-dead").rename(journal.parent / "99-dead.damaged")
    found = verify(ledger, job.id, journal.parent)
    assert (found.ok, found.journals_damaged) == (True, 1)
