"""Submitting, loading and finding jobs."""

from __future__ import annotations

from decimal import Decimal

import pytest

from corpusmill.errors import JobNotFound, UsageError
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import NewItem
from tests.fixtures import jobs


def test_the_same_job_submitted_twice_is_one_job(ledger: Ledger) -> None:
    new = jobs.new_job(labels={"team": "search"}, budget_usd=Decimal("2.50"), name="docs")
    first, made = ledger.submit(new)
    again, made_again = ledger.submit(new)
    assert (made, made_again) == (True, False)
    assert first == again == ledger.job_by_key(new.key)
    assert (first.state, first.labels, first.budget_usd, first.spec) == (
        "loading",
        {"team": "search"},
        Decimal("2.50"),
        new.spec,
    )


def test_an_unknown_job_key_has_no_job(ledger: Ledger) -> None:
    assert ledger.job_by_key(jobs.job_key()) is None


def test_a_job_is_found_by_id_prefix_name_number_and_last(ledger: Ledger) -> None:
    older = jobs.submit(ledger, "a", name="docs")
    newer = jobs.submit(ledger, "b", name="docs")
    prefix = next(newer.public_id[:n] for n in range(3, 9) if not older.public_id.startswith(newer.public_id[:n]))
    for ref in (newer.public_id, prefix, prefix.removeprefix("j_"), "docs", newer.id, "last", newer.public_id.upper()):
        assert ledger.job(ref).id == newer.id
    assert ledger.job(older.public_id).id == older.id
    assert [job.id for job in ledger.jobs(10)] == [newer.id, older.id]


def test_a_job_that_is_not_there_is_refused_with_those_near_it(ledger: Ledger) -> None:
    with pytest.raises(JobNotFound, match="no jobs yet"):
        ledger.job("last")
    jobs.submit(ledger, "a", name="handbook")
    with pytest.raises(JobNotFound, match="near it: handbook"):
        ledger.job("handbok")
    with pytest.raises(JobNotFound):
        ledger.job("%")


def test_a_prefix_of_two_jobs_is_refused_with_both(ledger: Ledger) -> None:
    ids = [jobs.submit(ledger, "a").public_id for _ in range(2)]
    with pytest.raises(JobNotFound) as caught:
        ledger.job("j_")
    assert all(each in caught.value.what for each in ids)


def test_items_come_back_in_source_order_with_their_documents(ledger: Ledger) -> None:
    job, _ = ledger.submit(jobs.new_job(shard_size=2))
    pieces = [
        NewItem("guide.md", "guide.md", jobs.key("0"), 4, chunk=0, start=0, end=9, text="one two"),
        NewItem("guide.md", "guide.md", jobs.key("1"), 5, chunk=1, start=5, end=14, text="two three"),
        NewItem(
            "r7", "notes.jsonl", jobs.key("2"), 6, text="four", line=7, metadata={"page": 3, "tags": ["x\0y", "é"]}
        ),
    ]
    assert ledger.load(job.id, pieces[:1], after=0) == 1
    assert ledger.load(job.id, pieces[1:], after=1) == 3
    ledger.commit_job(job.id)
    rows = list(ledger.results(job.id, states=("open",)))
    assert [(row.item_no, row.id, row.source, row.chunk, row.start, row.end, row.line) for row in rows] == [
        (0, "guide.md", "guide.md", 0, 0, 9, None),
        (1, "guide.md", "guide.md", 1, 5, 14, None),
        (2, "r7", "notes.jsonl", 0, 0, 0, 7),
    ]
    assert rows[2].metadata == {"page": 3, "tags": ["x\0y", "é"]}
    assert ledger.input_tokens(job.id) == 15


def test_an_interrupted_load_goes_on_where_it_was(ledger: Ledger) -> None:
    new, given = jobs.new_job(), jobs.items("abcdefg")
    job, _ = ledger.submit(new)
    ledger.load(job.id, given[:4], after=0)
    again, made = ledger.submit(new)
    assert not made
    assert ledger.loaded(again.id) == 4
    assert ledger.load(again.id, given[4:], after=4) == 7
    assert ledger.commit_job(again.id).state == "queued"
    assert [row.id for row in ledger.results(again.id, states=("open",))] == [item.id for item in given]


def test_two_commands_that_load_one_job_write_each_item_once(ledger: Ledger) -> None:
    given = jobs.items("abcdef")
    job, _ = ledger.submit(jobs.new_job())
    assert ledger.load(job.id, given[:4], after=0) == 4
    assert ledger.load(job.id, given[:2], after=0) == 4, "the slower one learns where the job stands"
    assert ledger.load(job.id, given[4:], after=4) == 6
    assert ledger.commit_job(job.id).state == "queued"
    assert ledger.load(job.id, given[4:], after=6) == 6, "nothing is loaded once the job is committed"
    assert ledger.commit_job(job.id).state == "queued"
    assert ledger.counts(job.id).items == 6


def test_nothing_is_fed_or_claimed_before_the_whole_source_is_loaded(ledger: Ledger) -> None:
    job, _ = ledger.submit(jobs.new_job())
    ledger.load(job.id, jobs.items("abc"), after=0)
    alive(ledger)
    assert ledger.sendable("completion", "normal", room=10) == []
    assert jobs.try_claim(ledger, job, 0) is None
    ledger.commit_job(job.id)
    assert len(ledger.sendable("completion", "normal", room=10)) == 1


def test_items_that_failed_at_intake_are_results_before_any_call(ledger: Ledger) -> None:
    given = jobs.items("abcd")
    given[1] = NewItem(
        "id-1", "corpus.jsonl", None, 0, text="", line=2, problem=("empty_text", "corpus.jsonl:2 is empty")
    )
    job = jobs.submit_items(ledger, given, shard_size=2)
    counts = ledger.counts(job.id)
    assert (counts.items, counts.failed, counts.open, counts.failed_by_class) == (4, 1, 3, {"empty_text": 1})
    (failure,) = ledger.failures(job.id)
    assert (failure.line, failure.error_class, failure.error, failure.attempts) == (
        2,
        "empty_text",
        "corpus.jsonl:2 is empty",
        0,
    )
    assert [item.item_no for item in jobs.claim(ledger, job, 0).items] == [0]


def test_a_job_whose_every_item_failed_at_intake_is_finished_at_once(ledger: Ledger) -> None:
    bad = [NewItem(f"id-{n}", "a.jsonl", None, 0, problem=("empty_text", "empty")) for n in range(4)]
    job = jobs.submit_items(ledger, bad)
    assert job.state == "finished"
    assert job.finished_at is not None
    assert ledger.counts(job.id).failed == 4


def test_a_job_that_was_cancelled_while_loading_refuses_more_and_goes_on_when_resumed(ledger: Ledger) -> None:
    job, _ = ledger.submit(jobs.new_job())
    given = jobs.items("ab")
    ledger.load(job.id, given[:1], after=0)
    ledger.cancel(job.id)
    with pytest.raises(UsageError, match="cancelled while it was loading"):
        ledger.load(job.id, given[1:], after=1)
    assert ledger.resume(job.id).state == "loading"
    assert ledger.load(job.id, given[1:], after=1) == 2


def test_a_budget_that_no_ledger_can_hold_is_refused(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "a")
    for budget in ("9000001", "-1", "NaN"):
        with pytest.raises(UsageError, match="cannot be kept"):
            ledger.set_budget(job.id, Decimal(budget))


def test_names_outputs_and_bindings_are_remembered(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "a")
    ledger.set_out(job.id, "/data/out.npy")
    ledger.set_errors_out(job.id, "/data/errors.jsonl")
    ledger.set_detached(job.id, detached=True)
    ledger.set_name(job.id, "nightly")
    ledger.set_priority(job.id, "high")
    ledger.bind_key(job.id, "beef")
    ledger.remember_output(job.id, "/data/out.npy", "d1")
    ledger.remember_output(job.id, "/data/out.npy", "d2")
    ledger.remember_output(job.id, "/data/out.jsonl", "d3")
    seen = ledger.job(job.id)
    assert (seen.out, seen.errors_out, seen.detached, seen.name, seen.priority, seen.key_fingerprint) == (
        "/data/out.npy",
        "/data/errors.jsonl",
        True,
        "nightly",
        "high",
        "beef",
    )
    assert ledger.output_digest(job.id, "/data/out.npy") == "d2"
    assert ledger.output_digest(job.id, "/data/out.jsonl") == "d3"
    assert ledger.output_digest(job.id, "/data/other") is None


def test_a_rotated_key_binds_every_unfinished_job_of_its_lane(ledger: Ledger) -> None:
    open_job, other_key = jobs.submit(ledger, "a"), jobs.submit(ledger, "b", key_fingerprint="beef")
    done = jobs.submit(ledger, "c")
    jobs.work_off(ledger, done)
    assert ledger.bind_lane(jobs.ENDPOINT, jobs.FINGERPRINT, "cafe") == [open_job.id]
    assert ledger.job(open_job.id).key_fingerprint == "cafe"
    assert ledger.job(other_key.id).key_fingerprint == "beef"


def test_the_salt_of_fingerprints_stays_the_same(database_url: str) -> None:
    with Ledger.open(database_url) as ledger, Ledger.open(database_url) as other:
        assert len(ledger.salt()) == 16
        assert ledger.salt() == other.salt()


def alive(ledger: Ledger) -> None:
    ledger.worker_beat("w1", host="h", pid=1, boot_id="b", slots=4, holds={jobs.LANE}, lease_s=60)
