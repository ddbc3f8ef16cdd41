"""Standing jobs on both databases: they grow by a shard, and end as often as they are through."""

from __future__ import annotations

import secrets
from dataclasses import replace

from corpusmill.ledger import Ledger
from corpusmill.ledger.records import Answer, Batch, ItemResult, JobView, NewItem, NewJob, ShardRef
from corpusmill.spec import COMPLETIONS_PATH, JobSpec

LANE = ("http://x/v1", "f" * 16)
SPEC = JobSpec("request", COMPLETIONS_PATH, "m", LANE[0])
JOB = NewJob(key=b"", spec=SPEC, provider="p", key_fingerprint=LANE[1], shard_size=10, priority="high")


def standing(ledger: Ledger) -> JobView:
    view, _ = ledger.submit(replace(JOB, key=secrets.token_bytes(32)))
    return ledger.commit_job(view.id)


def items(*names: str) -> list[NewItem]:
    return [NewItem(name, "s", name.encode().ljust(32), 1, body=b"{}") for name in names]


def answer(key: bytes, *, truncated: bool = False) -> Answer:
    return Answer(key, b'{"choices":[]}', "m", None, "stop", 1, 2, truncated=truncated)


def work(ledger: Ledger, ref: ShardRef) -> None:
    claimed = ledger.claim(ref, worker_id="w", lease_s=30, holds=[LANE])
    assert claimed is not None
    results = [ItemResult(ref, item.item_no, item.key) for item in claimed.items]
    answers = [answer(item.key) for item in claimed.items]
    fences = {ref: claimed.fence}
    report = ledger.commit(
        Batch(fences=fences, results=results, answers=answers, closing=[ref]), worker_id="w", lease_s=30
    )
    assert report.closed == {ref}


def test_an_empty_job_is_finished_and_queued_by_its_first_shard(ledger: Ledger) -> None:
    job = standing(ledger)
    assert job.state == "finished"
    assert ledger.append(job.id, items("a", "b")) == (ShardRef(job.id, 0), 0)
    assert ledger.job(job.id).state == "queued"


def test_shards_are_worked_on_one_by_one_and_the_job_finishes_after_each(ledger: Ledger) -> None:
    job = standing(ledger)
    for number, name in enumerate("abc"):
        placed = ledger.append(job.id, items(name))
        assert placed == (ShardRef(job.id, number), number * 10)
        work(ledger, placed[0])
        assert ledger.job(job.id).state == "finished"
    counts = ledger.counts(job.id)
    assert (counts.items, counts.succeeded, counts.open) == (3, 3, 0)
    assert [row.item_no for row in ledger.results(job.id)] == [0, 10, 20]


def test_only_items_that_ended_are_told_of(ledger: Ledger) -> None:
    job = standing(ledger)
    first = ledger.append(job.id, items("a"))
    ledger.append(job.id, items("z"))
    assert first is not None
    assert ledger.ended(job.id, [0, 10]) == {}
    work(ledger, first[0])
    assert {number: how.error_class for number, how in ledger.ended(job.id, [0, 10]).items()} == {0: None}


def test_answers_come_back_as_they_were_kept(ledger: Ledger) -> None:
    key, cut = b"k".ljust(32), b"c".ljust(32)
    ledger.commit(Batch(answers=[answer(key), answer(cut, truncated=True)]), worker_id="w", lease_s=30)
    found = ledger.answers([key, cut, b"n".ljust(32)])
    assert {k: (kept.body, kept.truncated) for k, kept in found.items()} == {
        key: (b'{"choices":[]}', False),
        cut: (b'{"choices":[]}', True),
    }
    assert (found[key].prompt_tokens, found[key].completion_tokens) == (1, 2)


def test_a_stopped_or_paused_job_takes_nothing_more(ledger: Ledger) -> None:
    job = standing(ledger)
    ledger.append(job.id, items("a"))
    ledger.stop(job.id, "no such model")
    assert ledger.append(job.id, items("b")) is None
