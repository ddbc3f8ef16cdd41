"""Purging: what was asked to go is gone, what something still needs stays, and no kill leaves it in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, event, func, select, update

from corpusmill.collections.catching_up import catch_up
from corpusmill.collections.exporting import Chosen, choose
from corpusmill.collections.switching import refuse_incomplete
from corpusmill.errors import CorpusmillError, UsageError
from corpusmill.ledger import Ledger, pages, purge_holding, references
from corpusmill.ledger.base import Base
from corpusmill.ledger.bulk import table_of
from corpusmill.ledger.collection_records import SILENT_S, SetView, VersionView, Writing
from corpusmill.ledger.models import Answer, Collection, CollectionVersion, Item, Job, Result, SetVector
from corpusmill.ledger.records import Batch, JobView
from corpusmill.ledger.references import Candidates, Going
from corpusmill.mill.verifying import verify
from tests.fixtures import jobs
from tests.integration.test_ledger_collections import (
    SHAPE,
    add,
    begun,
    completed,
    filled,
    overtaken,
    seen,
    spec,
    taken,
)

# On SQLite the newest rows stay, emptied, so that their numbers are not given away again; `meta` holds no rows of work.
HOLLOW = {"jobs", "collections", "embedding_sets"}


def rows(ledger: Ledger) -> dict[str, int]:
    """How many rows each table has, but for those that may stay emptied."""
    return ledger._db.read(_rows)


def _rows(conn: Connection) -> dict[str, int]:
    tables = [table for table in Base.metadata.sorted_tables if table.name not in (*HOLLOW, "meta")]
    counted = {table.name: conn.execute(select(func.count()).select_from(table)).scalar_one() for table in tables}
    return {name: number for name, number in counted.items() if number}


def finished(ledger: Ledger, keys: str, **changes: Any) -> JobView:
    job = jobs.submit(ledger, keys, **changes)
    jobs.work_off(ledger, job)
    return ledger.job(job.id)


def answers(ledger: Ledger) -> set[bytes]:
    return ledger._db.read(lambda conn: set(conn.execute(select(Answer.key)).scalars()))


def keys(names: str) -> set[bytes]:
    return {jobs.key(name) for name in names}


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_a_purged_job_leaves_nothing_and_the_command_that_made_it_makes_a_new_one(ledger: Ledger) -> None:
    key = jobs.job_key()
    job = finished(ledger, "abcde", key=key)
    ledger.remember_output(job.id, "/tmp/out.jsonl", "digest")
    asked = ledger.purging.jobs([job.id], dry_run=True)
    assert ledger.job(job.id).state == "finished"

    told = ledger.purging.jobs([job.id])

    assert rows(ledger) == {}
    assert asked == told == {"jobs": 1, "documents": 5, "chunks": 5, "items": 5, "results": 5, "answers": 5, "usage": 5,
                             "shards": 2}  # fmt: skip
    assert ledger.job_by_key(key) is None
    assert ledger.submit(jobs.new_job(key=key))[1]


def test_an_answer_that_another_job_needs_stays_whether_that_has_ended_or_not(ledger: Ledger) -> None:
    old, kept = finished(ledger, "abcd"), finished(ledger, "b")
    running = jobs.submit(ledger, "c")

    assert ledger.purging.jobs([old.id])["answers"] == 2

    assert answers(ledger) == keys("bc")
    assert ledger.audit(kept.id).adds_up
    assert jobs.work_off(ledger, running) == 0
    assert ledger.audit(running.id).adds_up


def test_a_kept_bill_counts_as_before_and_is_verified_and_goes_with_a_later_purge(ledger: Ledger) -> None:
    job = finished(ledger, "abcd", labels={"for": "me"})
    before = {by: ledger.usage_by(by) for by in ("job", "model", "day", "label:for")}

    told = ledger.purging.jobs([job.id], keep_usage=True)

    assert "usage" not in told
    assert {by: ledger.usage_by(by) for by in before} == before
    assert ledger.job(job.id).state == "purged"
    audit = ledger.audit(job.id)
    assert audit.adds_up
    assert (audit.items, audit.paid_attempts, audit.usd) == (0, 4, 4 * jobs.PRICE)
    assert set(rows(ledger)) == {"shards", "usage"}
    assert ledger.counts(job.id).succeeded == 4
    with pytest.raises(UsageError, match="was purged"):
        ledger.resume(job.id)
    assert ledger.cancel(job.id).state == "purged"

    ledger.purging.jobs([job.id])
    assert rows(ledger) == {}


@pytest.mark.parametrize("table", [Result, Item])
def test_a_row_that_comes_after_the_purge_is_found_and_taken_by_the_next(
    ledger: Ledger, table: Any, tmp_path: Path
) -> None:
    job = finished(ledger, "abcd")
    row = ledger._db.read(lambda conn: dict(conn.execute(select(table_of(table)).limit(1)).mappings().one()))
    ledger.purging.jobs([job.id], keep_usage=True)
    assert verify(ledger, job.id, tmp_path).ok

    ledger._db.write(Connection.execute, table_of(table).insert().values(row))

    found = verify(ledger, job.id, tmp_path)
    error = found.error()
    assert not found.ok
    assert error is not None and f"corpusmill purge {job.public_id}" in error.next_step
    ledger.purging.jobs([job.id], keep_usage=True)
    assert verify(ledger, job.id, tmp_path).ok


def test_a_job_that_has_not_ended_or_has_calls_in_flight_is_refused_with_the_way_out(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abcd")
    with pytest.raises(UsageError, match="only a job that has ended") as refused:
        ledger.purging.jobs([finished(ledger, "x").id, job.id])
    assert refused.value.next_step.startswith(f"corpusmill cancel {job.public_id}")
    claimed = jobs.claim(ledger, job, 0)
    ledger.cancel(job.id)
    with pytest.raises(UsageError, match="calls in flight"):
        ledger.purging.jobs([job.id])
    assert ledger.job("last").state == "finished"
    jobs.commit(ledger, jobs.paid(claimed, closing=[claimed.ref]))

    ledger.purging.jobs([job.id])
    assert answers(ledger) == keys("x")


def test_jobs_are_chosen_by_the_age_of_their_end_and_unfinished_ones_never(ledger: Ledger) -> None:
    old, new, cancelled = finished(ledger, "a"), finished(ledger, "b"), jobs.submit(ledger, "c")
    jobs.submit(ledger, "d")
    ledger.cancel(cancelled.id)
    _age(ledger, old, 100.0)
    now = time.time()
    assert ledger.purging.ended_before(now - 90) == [old.id]
    assert ledger.purging.ended_before(now + 60) == [old.id, new.id, cancelled.id]
    ledger.purging.jobs([old.id], keep_usage=True)
    assert ledger.purging.ended_before(now - 90) == [old.id]
    assert ledger.purging.ended_before(now - 90, purged=False) == []


def _age(ledger: Ledger, job: JobView, seconds: float) -> None:
    ended = update(Job).where(Job.id == job.id).values(finished_at=Job.finished_at - seconds)
    ledger._db.write(Connection.execute, ended)


def test_what_a_job_wrote_is_not_remembered_once_it_is_half_purged_so_that_no_file_is_replaced(
    ledger: Ledger,
) -> None:
    job, bystander = finished(ledger, "abcd"), finished(ledger, "x")
    with pytest.raises(Killed), killed_at(ledger, 1):
        ledger.purging.jobs([job.id])
    with pytest.raises(UsageError, match="is half purged"):
        ledger.remember_output(job.id, "/tmp/out.jsonl", "digest")
    ledger.purging.jobs([job.id])
    with pytest.raises(UsageError, match="was purged"):
        ledger.remember_output(job.id, "/tmp/out.jsonl", "digest")
    ledger.remember_output(bystander.id, "/tmp/out.jsonl", "digest")


def test_a_job_that_another_purge_has_taken_away_meanwhile_is_done(ledger: Ledger) -> None:
    job, newest = finished(ledger, "ab"), finished(ledger, "c")
    ledger.purging.jobs([job.id])
    for keep_usage in (False, True):
        assert ledger.purging.jobs([job.id], keep_usage=keep_usage) == {"jobs": 1}
    assert ledger.audit(newest.id).adds_up


def test_the_job_of_a_set_that_readers_do_not_see_yet_is_kept_for_what_comes_after_it(ledger: Ledger) -> None:
    job_id = overtaken(ledger).job_id or 0
    with pytest.raises(UsageError, match="readers do not see yet"):
        ledger.purging.jobs([job_id])
    assert job_id not in ledger.purging.ended_before(time.time() + 60)


class Killed(Exception):
    """The process is gone."""


@contextmanager
def killed_at(ledger: Ledger, number: int) -> Iterator[None]:
    """Let the transaction of this number be the last thing of a process: it is not committed."""
    left = [number]

    def die(conn: Connection) -> None:
        if conn.get_execution_options().get("writes"):
            left[0] -= 1
            if left[0] < 0:
                raise Killed

    event.listen(ledger._db._engine, "commit", die)
    try:
        yield
    finally:
        event.remove(ledger._db._engine, "commit", die)


def kill_at_every_step(ledger: Ledger, purge: Callable[[], object], check: Callable[[], None]) -> int:
    """Kill a purge at its first transaction, then go on to the second, and so on; `check` what each kill leaves."""
    for number in range(200):
        try:
            with killed_at(ledger, number):
                purge()
            return number
        except Killed:
            check()
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("keep_usage", [False, True])
def test_a_purge_killed_at_any_step_goes_on_and_its_job_is_never_taken_for_an_intact_one(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, keep_usage: bool
) -> None:
    monkeypatch.setattr(pages, "DELETED_AT_ONCE", 2)
    monkeypatch.setattr(references, "CHECKED_AT_ONCE", 2)
    bystander = finished(ledger, "c")
    job = finished(ledger, "abcde")
    spent = ledger.usage_by("model")

    def check() -> None:
        try:
            state = ledger.job(job.id).state
        except CorpusmillError:
            return
        audit = ledger.audit(job.id)
        intact = len(list(ledger.results(job.id))) == 5
        assert state == ("finished" if intact and audit.adds_up else "purging")

    kills = kill_at_every_step(ledger, lambda: _purge_if_there(ledger, job, keep_usage=keep_usage), check)

    assert kills > 8
    assert ledger.audit(bystander.id).adds_up
    assert answers(ledger) == keys("c")
    if keep_usage:
        assert ledger.usage_by("model") == spent
        assert ledger.audit(job.id).adds_up
        ledger.purging.jobs([job.id])
    ledger.purging.jobs([bystander.id])
    assert rows(ledger) == {}


def _purge_if_there(ledger: Ledger, job: JobView, *, keep_usage: bool) -> None:
    """As the command does: what is gone already is not asked for again."""
    try:
        found = ledger.job(job.public_id)
    except CorpusmillError:
        return
    ledger.purging.jobs([found.id], keep_usage=keep_usage)


# --- answers ----------------------------------------------------------------------------------------------------------


def test_only_old_answers_that_nothing_refers_to_go_by_age(ledger: Ledger) -> None:
    finished(ledger, "a")
    jobs.submit(ledger, "b")
    ledger.commit(Batch(answers=[jobs.reply(jobs.key(name)) for name in "bcd"]), worker_id="w", lease_s=1)
    aged = update(Answer).where(Answer.key != jobs.key("d")).values(at=Answer.at - 100)
    ledger._db.write(Connection.execute, aged)
    view = ledger.purging.cache()
    assert (view.answers, view.referred) == (4, 2)
    assert view.bytes > view.referred_bytes > 0

    before = time.time() - 50
    assert ledger.purging.answers(before, dry_run=True) == 1
    assert ledger.purging.answers(before) == 1
    assert answers(ledger) == keys("abd")


def test_a_limit_in_bytes_takes_the_oldest_unreferred_answers(ledger: Ledger) -> None:
    finished(ledger, "x")
    for number, name in enumerate("abcd"):
        ledger.commit(Batch(answers=[jobs.reply(jobs.key(name))]), worker_id="w", lease_s=1)
        old = update(Answer).where(Answer.key == jobs.key(name)).values(at=Answer.at - 10_000 + 1_000 * number)
        ledger._db.write(Connection.execute, old)
    size = ledger.purging.cache().bytes
    assert ledger.purging.cut_for(size) is None

    cut = ledger.purging.cut_for(size - size // 4)
    assert cut is not None
    ledger.purging.answers(cut)

    assert answers(ledger) == keys("cdx")
    assert ledger.purging.cut_for(0) is not None


def test_what_comes_to_refer_to_an_answer_while_it_is_purged_keeps_it(ledger: Ledger) -> None:
    ledger.commit(Batch(answers=[jobs.reply(jobs.key(name)) for name in "abc"]), worker_id="w", lease_s=1)
    version = begun(ledger)
    add(ledger, version, "a.md", ["one"])
    completed(ledger, version)
    embedded = answers(ledger) - keys("abc")
    candidates = Candidates([sorted(keys("abc"))])
    seen_before = references.strike_referred(ledger._db, candidates, Going())
    assert set(candidates.unreferred(sorted(keys("abc")))) == keys("abc")

    jobs.submit(ledger, "b")
    set_ = ledger.collections.find("docs").active
    ledger.collections.begin_set(set_.collection_id, "other", "example", spec("model-b"), None)
    other = next(each for each in ledger.collections.find("docs").sets if each.name == "other")
    new = table_of(SetVector).insert().values(set_id=other.id, chunk_no=0, key=jobs.key("c"))
    ledger._db.write(Connection.execute, new)

    ledger._db.write(references.delete_unreferred, sorted(keys("abc")), seen_before, Going())
    assert answers(ledger) == keys("bc") | embedded


def test_answers_that_a_ready_set_takes_over_unchanged_while_they_are_purged_stay(ledger: Ledger) -> None:
    set_ = overtaken(ledger)
    reused = [set_.spec.content_key(text, "") for text in ("two", "three")]
    ledger.commit(Batch(answers=[jobs.reply(key) for key in reused]), worker_id="w", lease_s=1)
    free = [jobs.key(str(number)) for number in range(references.CHECKED_AT_ONCE - len(reused))]
    candidates = Candidates([[*reused, *free]])
    seen_before = references.strike_referred(ledger._db, candidates, Going())
    assert taken(ledger, set_, 2) is None
    assert ledger.collections.set(set_.id) == set_

    with heard(ledger) as said:
        ledger._db.write(references.delete_unreferred, [*reused, *free], seen_before, Going())

    assert answers(ledger) >= set(reused)
    assert sum("FROM set_vectors" in statement for statement, _ in said) == 1, "a set is read once a check"


def test_a_set_whose_answers_are_gone_is_not_shown_by_itself(ledger: Ledger) -> None:
    set_ = overtaken(ledger)
    assert answered_all(ledger, set_)
    ledger._db.write(Connection.execute, delete(Answer).where(Answer.key == set_.spec.content_key("two", "")))
    ledger.collections.settle()

    assert {row[2] for row in seen(ledger)} == {"model-a"}
    left = ledger.collections.set(set_.id)
    assert (left.state, left.keep_s) == ("ready", None)
    with pytest.raises(UsageError, match="is not complete"):
        refuse_incomplete(ledger, ledger.collections.find("docs"), left)


def answered_all(ledger: Ledger, set_: SetView) -> bool:
    """Bring an overtaken set up; what it lacks has answers by then."""
    reused = [set_.spec.content_key(text, "") for text in ("two", "three")]
    ledger.commit(Batch(answers=[jobs.reply(key) for key in reused]), worker_id="w", lease_s=1)
    return catch_up(ledger, {}) == 1


def test_keys_come_in_batches_of_one_check_however_they_were_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "CHECKED_AT_ONCE", 3)
    read = [[b"a"], [], [b"b", b"c", b"d", b"e", b"f", b"g"], [b"h"]]
    assert [b"".join(some) for some in references.batches(read)] == [b"abc", b"def", b"gh"]


# --- collections ------------------------------------------------------------------------------------------------------


def synced(ledger: Ledger, documents: dict[str, list[str]]) -> VersionView:
    """A version of the collection with these documents beside those that it has."""
    version = begun(ledger)
    for number, (name, texts) in enumerate(documents.items()):
        at = ledger.collections.version(version.collection_id, version.version_no)
        known = ledger._db.read(_next, version.collection_id) if number else (at.first_document, at.first_chunk)
        placed = VersionView(
            **{
                **{field: getattr(at, field) for field in VersionView.__dataclass_fields__},
                "first_document": known[0],
                "first_chunk": known[1],
            }
        )
        add(ledger, placed, name, texts)
    completed(ledger, version)
    return version


def _next(conn: Connection, collection_id: int) -> tuple[int, int]:
    found = select(Collection.next_document, Collection.next_chunk).where(Collection.id == collection_id)
    row = conn.execute(found).one()
    return row[0] or 0, row[1] or 0


def job_of(ledger: Ledger) -> JobView:
    return ledger.jobs()[0]


def test_a_purged_collection_leaves_nothing_but_answers_that_others_need_and_its_name_is_free(ledger: Ledger) -> None:
    synced(ledger, {"a.md": ["one", "two"], "b.md": ["three"]})
    set_ = ledger.collections.begin_set(ledger.collections.find("docs").id, "b", "example", spec("model-b"), 60.0)
    filled(ledger, set_, 1)
    ledger.collections.settle()
    plain = finished(ledger, "x")
    other = ledger.collections.make("other", SHAPE, "model-a-2", "example", spec())
    version = ledger.collections.begin(other.id, other.next_version, "me", b"sources")
    assert version is not None
    add(ledger, version, "z.md", ["two"])
    ledger.collections.read_whole(version, "me", {"shape": SHAPE})
    assert filled(ledger, ledger.collections.set(version.set_id), 1) == []
    assert ledger.collections.complete(other.id, 1)
    asked = ledger.purging.collection("docs", dry_run=True)

    told = ledger.purging.collection("docs")

    assert asked == told
    assert (told["answers"], told["vectors"], told["chunks"], told["jobs"]) == (5, 6, 3, 2)
    assert ledger.collections.named("docs") is None
    assert [row.chunk for row in ledger.collections.rows(ledger.collections.find("other").active, 1)] == [0]
    assert ledger.audit(plain.id).adds_up
    assert synced(ledger, {"a.md": ["one"]}).version_no == 1
    for name in ("docs", "other"):
        ledger.purging.collection(name)
    ledger.purging.jobs([plain.id])
    assert rows(ledger) == {}


def test_a_collection_with_work_under_way_is_refused_and_a_kept_bill_stays(ledger: Ledger) -> None:
    version = begun(ledger)
    add(ledger, version, "a.md", ["one"])
    with pytest.raises(UsageError, match="a sync of docs is under way"):
        ledger.purging.collection("docs")
    completed(ledger, version)
    running, _ = ledger.submit(jobs.new_job(collection_id=version.collection_id))
    with pytest.raises(UsageError, match="has jobs that have not ended") as refused:
        ledger.purging.collection("docs")
    assert running.public_id in refused.value.next_step
    ledger.cancel(running.id)
    spent = ledger.usage_by("job")

    ledger.purging.collection("docs", keep_usage=True)

    assert ledger.usage_by("job") == spent
    assert {job.state for job in ledger.jobs()} == {"purged"}
    with pytest.raises(UsageError, match="no collection 'docs'"):
        ledger.purging.collection("docs")


def test_the_purge_of_a_collection_killed_at_any_step_goes_on_and_nobody_reads_what_is_left(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "DELETED_AT_ONCE", 2)
    monkeypatch.setattr(pages, "DELETED_LARGE", 2)
    monkeypatch.setattr(references, "CHECKED_AT_ONCE", 2)
    synced(ledger, {"a.md": ["one", "two", "three"]})

    def check() -> None:
        if ledger.collections.named("docs") is not None:
            assert len(seen(ledger)) == 3
            assert ledger.audit(job_of(ledger).id).adds_up

    def purge() -> None:
        try:
            ledger.purging.collection("docs")
        except UsageError:
            assert rows(ledger) == {}

    assert kill_at_every_step(ledger, purge, check) > 8
    assert rows(ledger) == {}


def test_a_purge_that_goes_on_leaves_a_collection_that_was_given_the_name_since(ledger: Ledger) -> None:
    synced(ledger, {"a.md": ["one", "two"]})
    with pytest.raises(Killed), killed_at(ledger, 2):
        ledger.purging.collection("docs")
    synced(ledger, {"b.md": ["two", "three"]})
    assert ledger.purging.has_namesake("docs")
    asked = ledger.purging.collection("docs", dry_run=True)

    told = ledger.purging.collection("docs")

    assert asked["chunks"] == told["chunks"] == 2
    assert [row[0] for row in seen(ledger)] == ["b.md", "b.md"]
    assert not ledger.purging.has_namesake("docs")
    ledger.purging.collection("docs")
    assert rows(ledger) == {}


# --- documents --------------------------------------------------------------------------------------------------------


def test_a_purged_document_is_gone_from_every_version_and_what_it_shares_stays(ledger: Ledger) -> None:
    synced(ledger, {"a.md": ["secret", "shared"]})
    job = job_of(ledger)
    synced(ledger, {"b.md": ["shared", "own"]})
    old = ledger.collections.find("docs")
    secret, shared = (spec().content_key(text, "") for text in ("secret", "shared"))
    asked = ledger.purging.document("docs", "a.md", dry_run=True).rows

    told = ledger.purging.document("docs", "a.md").rows

    assert (told["documents"], told["chunks"], told["vectors"], told["answers"]) == (1, 2, 2, 1)
    assert (asked["documents"], asked["chunks"], asked["vectors"], asked["answers"]) == (1, 2, 2, 1)
    assert secret not in answers(ledger) and shared in answers(ledger)
    assert seen(ledger) == [("b.md", 0, "model-a"), ("b.md", 1, "model-a")]
    assert {row.source for row in ledger.collections.rows(old.active, old.version)} == {"b.md"}
    found = ledger.collections.find("docs")
    assert found.version == found.active.version == old.version + 1
    assert ledger.audit(job.id).adds_up
    assert (ledger.counts(job.id).items, ledger.audit(job_of(ledger).id).adds_up) == (0, True)
    assert [file.source for file in ledger.collections.files(old.id)] == ["b.md"]
    assert begun(ledger).version_no == found.version + 1
    with pytest.raises(UsageError, match="no document a"):
        ledger.purging.document("docs", "a.md")


def test_earlier_names_of_a_purged_document_go_with_it_and_a_living_copy_keeps_the_content(ledger: Ledger) -> None:
    version = synced(ledger, {"old.md": ["secret"], "copied.md": ["both"]})
    second = begun(ledger)
    place = bytes(4)
    moved = Writing(
        documents=[
            (2, "new.md", "new.md", None, None, place + b"new.md" + bytes(9), jobs.key("old.md"), 0, 1),
            (3, "copy.md", "copy.md", None, None, place + b"copy.md" + bytes(9), jobs.key("copied.md"), 1, 1),
        ],
        ended_documents=[0],
    )
    ledger.collections.write(second, "me", moved)
    completed(ledger, second)
    assert [row[0] for row in seen(ledger)] == ["copied.md", "copy.md", "new.md"]

    gone = ledger.purging.document("docs", "new.md")
    assert gone.also_called == ["old.md"]
    assert spec().content_key("secret", "") not in answers(ledger)

    kept = ledger.purging.document("docs", "copied.md")
    assert kept.stays_in == ["copy.md"]
    assert (kept.rows["chunks"], kept.rows["answers"]) == (0, 0)
    assert [row[0] for row in seen(ledger)] == ["copy.md"]
    # Its chunk can still be asked about: it belongs to the document that has it now.
    set_ = ledger.collections.begin_set(version.collection_id, "b", "example", spec("model-b"), 60.0)
    assert filled(ledger, set_, ledger.collections.find("docs").version) == ["both"]


def test_the_purge_of_a_document_killed_at_any_step_goes_on_and_readers_see_it_whole_or_not_at_all(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "CHECKED_AT_ONCE", 1)
    synced(ledger, {"a.md": ["one", "two"], "b.md": ["three"]})
    job = job_of(ledger)

    def check() -> None:
        assert [row[0] for row in seen(ledger)] in (["a.md", "a.md", "b.md"], ["b.md"])
        silent(ledger)

    assert kill_at_every_step(ledger, lambda: _purge_document(ledger), check) > 6

    assert [row[0] for row in seen(ledger)] == ["b.md"]
    assert ledger.audit(job.id).adds_up
    assert ledger.collections.find("docs").under_way is None
    assert rows(ledger)["chunks"] == 1


def silent(ledger: Ledger) -> None:
    """Let a minute pass in which nobody who writes a version is heard of."""
    past = update(CollectionVersion).values(seen_at=CollectionVersion.seen_at - 2 * SILENT_S)
    ledger._db.write(Connection.execute, past)


def half_purged(ledger: Ledger, source: str, *, transactions: int) -> None:
    """Kill the purge of a document after so many transactions: held, hidden, noted as hidden, and so on."""
    with pytest.raises(Killed), killed_at(ledger, transactions):
        ledger.purging.document("docs", source)
    silent(ledger)


def test_a_file_of_many_records_is_purged_by_statements_of_few_parameters(ledger: Ledger) -> None:
    synced(ledger, {"a.md": ["one"]})
    version, number, place = begun(ledger), 2_000, bytes(4) + b"many"
    file = (1, "many.jsonl", "/many.jsonl", place, "jsonl", jobs.key("many"), 1, 1, 1, number)
    records = [
        (at, "many.jsonl", f"id-{at}", at, None, place + at.to_bytes(9), b"", version.first_chunk, 0)
        for at in range(version.first_document, version.first_document + number)
    ]
    ledger.collections.write(version, "me", Writing(files=[file], documents=records))
    completed(ledger, version)

    assert ledger.purging.document("docs", "id-17").rows["documents"] == 1
    assert [(file.source, file.digest) for file in ledger.collections.files(version.collection_id)][1:] == [
        ("many.jsonl", b"")
    ]
    with heard(ledger) as said:
        assert ledger.purging.document("docs", "many.jsonl").rows["documents"] == number - 1

    assert max(given for _, given in said) < number / 2, "a statement of SQLite takes 32,766, of PostgreSQL 65,535"
    assert [file.source for file in ledger.collections.files(version.collection_id)] == ["a.md"]
    assert seen(ledger) == [("a.md", 0, "model-a")]


def test_a_reader_that_began_before_a_purge_hid_its_document_whole_is_told_to_read_again(ledger: Ledger) -> None:
    synced(ledger, {"a.md": ["one"], "b.md": ["two"]})
    before = chosen(ledger)
    half_purged(ledger, "a.md", transactions=2)
    within = chosen(ledger)
    half_purged(ledger, "a.md", transactions=3)
    hidden = chosen(ledger)
    ledger.purging.document("docs", "a.md")

    for reader in (before, within):
        with pytest.raises(UsageError, match="was purged while it was read"):
            list(reader.rows(ledger))
    for reader in (hidden, chosen(ledger)):
        assert [row.source for row in reader.rows(ledger)] == ["b.md"]


def chosen(ledger: Ledger) -> Chosen:
    found = choose(ledger, "docs")
    assert found is not None
    return found


def test_no_set_is_filled_while_a_document_is_purged_nor_for_a_version_from_before(ledger: Ledger) -> None:
    set_ = overtaken(ledger)
    half_purged(ledger, "b.md", transactions=1)
    assert catch_up(ledger, {}) == 0
    with pytest.raises(UsageError, match="is being purged"):
        ledger.collections.begin_set(set_.collection_id, "c", "example", spec("model-c"), None)
    with pytest.raises(UsageError, match="is being purged"):
        taken(ledger, set_, 2)
    ledger.purging.document("docs", "b.md")
    with pytest.raises(UsageError, match="was just now"):
        taken(ledger, set_, 2)

    assert catch_up(ledger, {}) == 1
    ledger.collections.settle()
    assert seen(ledger) == [("a.md", 0, "model-b")]


def test_a_purge_that_lives_is_left_alone_and_one_cut_short_is_gone_on_with_for_its_document_only(
    ledger: Ledger,
) -> None:
    synced(ledger, {"a.md": ["one"], "b.md": ["two"]})
    with purge_holding.hold(ledger._db, ledger.collections.find("docs"), "a.md"):
        for source in ("a.md", "b.md"):
            with pytest.raises(UsageError, match="the purge of a document of docs is under way"):
                ledger.purging.document("docs", source)
    silent(ledger)
    with pytest.raises(UsageError, match="was cut short") as refused:
        ledger.purging.document("docs", "b.md")
    assert refused.value.next_step == "corpusmill purge --collection docs --document a.md"

    ledger.purging.document("docs", "a.md")
    assert "document" not in ledger.collections.history(ledger.collections.find("docs").id)[0].counts
    ledger.purging.document("docs", "b.md")
    assert rows(ledger).get("documents") is None


def test_a_purge_that_fails_may_be_typed_again_at_once(ledger: Ledger) -> None:
    synced(ledger, {"a.md": ["one"]})
    with (
        pytest.raises(CorpusmillError, match="no room"),
        purge_holding.hold(ledger._db, ledger.collections.find("docs"), "a.md"),
    ):
        raise CorpusmillError("no room")
    assert ledger.purging.document("docs", "a.md").rows["documents"] == 1


def test_a_purge_is_heard_of_between_hiding_its_document_and_deleting_its_texts(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge_holding, "HEARD_EVERY_S", 0.0)
    synced(ledger, {"a.md": ["one"]})
    with heard(ledger) as told:
        ledger.purging.document("docs", "a.md")
    said = [statement for statement, _ in told]
    (answers_go,), (texts_go,) = ([at for at, each in enumerate(said) if each.startswith(f"DELETE FROM {table} ")]
                                  for table in ("answers", "chunks"))  # fmt: skip
    for first, last in ((0, answers_go), (answers_go, texts_go)):
        assert any(each.startswith("UPDATE collection_versions") for each in said[first + 1 : last])


@contextmanager
def heard(ledger: Ledger) -> Iterator[list[tuple[str, int]]]:
    """What is said to the database, each with its number of parameters."""
    said: list[tuple[str, int]] = []

    def hear(_conn: object, _cursor: object, statement: str, given: Sized, *_more: object) -> None:
        said.append((statement, len(given)))

    event.listen(ledger._db._engine, "before_cursor_execute", hear)
    try:
        yield said
    finally:
        event.remove(ledger._db._engine, "before_cursor_execute", hear)


def test_another_name_of_a_purged_document_that_has_other_content_is_told(ledger: Ledger) -> None:
    synced(ledger, {"old.md": ["secret"]})
    second, place = begun(ledger), bytes(4)
    moved = Writing(
        documents=[
            (1, "new.md", "new.md", None, None, place + b"new.md" + bytes(9), jobs.key("old.md"), 0, 1),
            (2, "old.md", "old.md", None, None, place + b"old.md" + bytes(9), jobs.key("else"), 1, 0),
        ],
        ended_documents=[0],
    )
    ledger.collections.write(second, "me", moved)
    completed(ledger, second)

    gone = ledger.purging.document("docs", "new.md")

    assert (gone.also_called, gone.names_left) == (["old.md"], ["old.md"])
    assert ledger.purging.document("docs", "old.md").names_left == []


def _purge_document(ledger: Ledger) -> None:
    """As a person does, until it says that nothing of it is there."""
    try:
        ledger.purging.document("docs", "a.md")
    except UsageError as error:
        assert "no document a.md" in error.what
