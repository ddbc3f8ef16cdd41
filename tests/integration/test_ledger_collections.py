"""Collections in the ledger: versions nobody sees before they are complete, and sets that never mix."""

from __future__ import annotations

import hashlib
import struct
from decimal import Decimal
from typing import Any

import pytest

from corpusmill.collections.catching_up import Marks, catch_up
from corpusmill.collections.filling import job_key
from corpusmill.collections.switching import roll_back
from corpusmill.errors import UsageError
from corpusmill.ledger import Ledger, sets, stretches
from corpusmill.ledger.collection_records import Aim, CollectionView, NewVector, SetView, VersionView, Writing
from corpusmill.ledger.records import Answer, Batch, ItemResult, JobView, NewJob, ShardRef
from corpusmill.ledger.schedule_records import NewSchedule
from corpusmill.spec import EMBEDDINGS_PATH, JobSpec
from tests.fixtures import jobs

SHAPE = {"encoding": "o200k_base"}
KEEP_S = 3_600.0


def spec(model: str = "model-a") -> JobSpec:
    return JobSpec("embedding", EMBEDDINGS_PATH, model, jobs.ENDPOINT, dimensions=2)


def made(ledger: Ledger) -> CollectionView:
    return ledger.collections.make("docs", SHAPE, "model-a-2", "example", spec())


def begun(ledger: Ledger, owner: str = "me") -> VersionView:
    collection = made(ledger)
    version = ledger.collections.begin(collection.id, collection.next_version, owner, b"sources")
    assert version is not None
    return version


def add(ledger: Ledger, version: VersionView, name: str, texts: list[str], *, ended: list[int] | None = None) -> None:
    """One document of these chunks, behind those that the version has."""
    number, first = version.first_document, version.first_chunk
    place = bytes(4) + name.encode()
    rows = Writing(
        files=[(number, name, f"/{name}", place, "text", jobs.key(name), 1, 1, 1, 1)],
        documents=[
            (number, name, name, None, {"of": name}, place + bytes(9), jobs.key(name), first, len(texts))
        ],
        chunks=[
            (first + at, number, at, 0, len(text), text, 3, None) for at, text in enumerate(texts)
        ],
        ended_documents=ended or [],
    )  # fmt: skip
    ledger.collections.write(version, "me", rows)


def vector_of(model: str, text: str) -> bytes:
    """Two numbers that tell model and text from others."""
    return struct.pack("<2f", *hashlib.sha256(f"{model} {text}".encode()).digest()[:2])


def filled(ledger: Ledger, set_: SetView, version_no: int) -> list[str]:
    """Let the set know all of a version, and answer what had no answer; the texts that were asked for."""
    job = taken(ledger, set_, version_no)
    if job is None:
        if set_.state == "active":
            ledger.collections.filled(set_.collection_id, version_no)
        return []
    return answered(ledger, ledger.commit_job(job.id))


def taken(ledger: Ledger, set_: SetView, version_no: int) -> JobView | None:
    """Let the set know all of a version; the job over what has no answer, not committed."""
    chunks = [chunk for some, _ in ledger.collections.lacking(set_, version_no) for chunk in some]
    rows = [NewVector(chunk.chunk_no, set_.spec.content_key(chunk.text, ""), 3) for chunk in chunks]
    new = NewJob(
        key=jobs.job_key(), spec=set_.spec, provider="example", key_fingerprint=jobs.FINGERPRINT, shard_size=2_000,
        collection_id=set_.collection_id, detached=True, budget_usd=Decimal(1), labels={"team": "docs"},
    )  # fmt: skip
    aim = Aim(set_.collection_id, set_.id, version_no, "me" if set_.state == "active" else None)
    return ledger.collections.fill(aim, rows, new)[1]


def answered(ledger: Ledger, job: JobView) -> list[str]:
    """Answer all of a small job; the texts that were asked for."""
    shard = jobs.claim(ledger, job, 0)
    answers = [
        Answer(item.key, vector_of(job.model, item.text or ""), job.model, None, None, 3, 0) for item in shard.items
    ]
    results = [ItemResult(shard.ref, item.item_no, item.key) for item in shard.items]
    jobs.commit(ledger, Batch({shard.ref: shard.fence}, answers, results, closing=[shard.ref]))
    assert ledger.audit(job.id).adds_up
    return [item.text or "" for item in shard.items]


def completed(ledger: Ledger, version: VersionView) -> list[str]:
    """Read whole, embed, complete; the texts that were asked for."""
    ledger.collections.read_whole(version, "me", {"added": 1, "shape": SHAPE})
    asked = filled(ledger, ledger.collections.set(version.set_id), version.version_no)
    assert ledger.collections.complete(version.collection_id, version.version_no)
    return asked


def seen(ledger: Ledger) -> list[tuple[str, int, str | None]]:
    """What a reader sees: source, chunk and model of each row."""
    found = ledger.collections.find("docs")
    rows = ledger.collections.rows(found.active, found.active.version or 0)
    return [(row.source, row.chunk, row.model) for row in rows]


def test_nothing_of_a_version_is_seen_before_it_is_complete(ledger: Ledger) -> None:
    version = begun(ledger)
    add(ledger, version, "a.md", ["one", "two"])
    ledger.collections.read_whole(version, "me", {"shape": SHAPE})
    assert seen(ledger) == []
    assert filled(ledger, ledger.collections.set(version.set_id), 1) == ["one", "two"]
    assert seen(ledger) == []

    assert ledger.collections.settle() == 1

    assert seen(ledger) == [("a.md", 0, "model-a"), ("a.md", 1, "model-a")]
    counts = ledger.collections.history(version.collection_id)[0].counts
    assert (counts["embedded"], counts["reused"], counts["failed"]) == (2, 0, 0)


def test_a_later_version_asks_only_for_texts_without_an_answer_and_keeps_the_order_of_the_sources(
    ledger: Ledger,
) -> None:
    first = begun(ledger)
    add(ledger, first, "b.md", ["one", "two"])
    completed(ledger, first)
    second = begun(ledger)
    add(ledger, second, "a.md", ["two", "three"])

    assert completed(ledger, second) == ["three"]

    assert [row[:2] for row in seen(ledger)] == [("a.md", 0), ("a.md", 1), ("b.md", 0), ("b.md", 1)]
    assert ledger.collections.history(second.collection_id)[0].counts["reused"] == 1


def test_an_ended_document_is_gone_for_new_readers_and_stays_for_those_that_began_before(ledger: Ledger) -> None:
    first = begun(ledger)
    add(ledger, first, "a.md", ["one"])
    completed(ledger, first)
    before = ledger.collections.find("docs")
    second = begun(ledger)
    add(ledger, second, "b.md", ["two"], ended=[0])
    completed(ledger, second)

    assert [row[0] for row in seen(ledger)] == ["b.md"]
    assert [row.source for row in ledger.collections.rows(before.active, 1)] == ["a.md"]


@pytest.mark.parametrize("embedded", [False, True])
def test_a_version_taken_back_was_never_there_but_its_answers_are(ledger: Ledger, embedded: bool) -> None:
    first = begun(ledger)
    add(ledger, first, "a.md", ["one"])
    completed(ledger, first)
    second = begun(ledger)
    add(ledger, second, "b.md", ["two"], ended=[0])
    if embedded:
        ledger.collections.read_whole(second, "me", {"shape": SHAPE})
        filled(ledger, ledger.collections.set(second.set_id), 2)

    ledger.collections.take_back(ledger.collections.version(second.collection_id, 2))

    assert [row[0] for row in seen(ledger)] == ["a.md"]
    assert [file.source for file in ledger.collections.files(second.collection_id)] == ["a.md"]
    third = begun(ledger)
    add(ledger, third, "c.md", ["two"])
    assert completed(ledger, third) == ([] if embedded else ["two"])
    assert [row[0] for row in seen(ledger)] == ["a.md", "c.md"]


def test_of_two_that_begin_a_version_one_does_and_whoever_lost_it_writes_nothing_more(ledger: Ledger) -> None:
    version = begun(ledger)
    collection = ledger.collections.find("docs")
    assert ledger.collections.begin(collection.id, 1, "other", b"") is None
    assert ledger.collections.begin(collection.id, collection.next_version, "other", b"") is None
    ledger.collections.take_back(version)
    another_set = collection.active.id + 1
    assert ledger.collections.begin(collection.id, collection.next_version, "other", b"", another_set) is None

    with pytest.raises(UsageError, match="took version 1 over"):
        ledger.collections.write(version, "me", Writing())


def test_a_set_is_built_beside_the_active_one_and_the_switch_is_one_moment(ledger: Ledger) -> None:
    version = begun(ledger)
    add(ledger, version, "a.md", ["one", "two"])
    completed(ledger, version)
    set_ = ledger.collections.begin_set(version.collection_id, "model-b-2", "example", spec("model-b"), KEEP_S)
    cover = ledger.collections.cover(version.collection_id, set_.id, 1)
    assert (cover.chunks, cover.vectors, cover.lacking) == (2, 0, 2)
    assert not ledger.collections.activate(set_, KEEP_S)

    assert filled(ledger, set_, 1) == ["one", "two"]
    assert {row[2] for row in seen(ledger)} == {"model-a"}
    ledger.collections.settle()
    assert {row[2] for row in seen(ledger)} == {"model-b"}

    found = ledger.collections.find("docs")
    assert {each.name: each.state for each in found.sets} == {"model-a-2": "kept", "model-b-2": "active"}
    old = next(each for each in found.sets if each.state == "kept")
    assert ledger.collections.activate(old, KEEP_S, behind=True)
    assert {row[2] for row in seen(ledger)} == {"model-a"}


def test_a_set_that_fell_behind_is_not_activated(ledger: Ledger) -> None:
    first = begun(ledger)
    add(ledger, first, "a.md", ["one"])
    completed(ledger, first)
    set_ = ledger.collections.begin_set(first.collection_id, "model-b-2", "example", spec("model-b"), KEEP_S)
    filled(ledger, set_, 1)
    second = begun(ledger)
    add(ledger, second, "b.md", ["two"])
    completed(ledger, second)

    ledger.collections.settle()

    assert {row[:2] for row in seen(ledger)} == {("a.md", 0), ("b.md", 0)}
    again = ledger.collections.begin_set(first.collection_id, "model-b-2", "example", spec("model-b"), KEEP_S)
    assert (again.id, again.target, again.job_id) == (set_.id, 2, None)
    assert filled(ledger, again, 2) == ["two"]
    ledger.collections.settle()
    assert {row[2] for row in seen(ledger)} == {"model-b"}


def overtaken(ledger: Ledger) -> SetView:
    """A set that was built for version 1, whose job ended after version 2 was complete; both versions have a page."""
    first = begun(ledger)
    add(ledger, first, "a.md", ["one"])
    completed(ledger, first)
    set_ = ledger.collections.begin_set(first.collection_id, "model-b-2", "example", spec("model-b"), KEEP_S)
    filled(ledger, set_, 1)
    second = begun(ledger)
    add(ledger, second, "b.md", ["two", "three"])
    completed(ledger, second)
    ledger.collections.settle()
    return ledger.collections.set(set_.id)


def test_a_set_that_a_sync_overtook_is_brought_up_by_a_job_like_its_first_and_then_switched_to(ledger: Ledger) -> None:
    set_ = overtaken(ledger)
    assert (set_.state, set_.version) == ("ready", 1)
    first = ledger.job(set_.job_id or 0)

    assert catch_up(ledger, {}) == 1
    assert catch_up(ledger, {}) == 0, "it is on its way"
    job = ledger.job(ledger.collections.set(set_.id).job_id or 0)
    alike = ("name", "labels", "priority", "key_fingerprint", "detached", "budget_usd", "provider")
    assert [getattr(job, name) for name in alike] == [getattr(first, name) for name in alike]
    assert answered(ledger, job) == ["two", "three"]
    assert {row[2] for row in seen(ledger)} == {"model-a"}
    ledger.collections.settle()

    assert seen(ledger) == [("a.md", 0, "model-b"), ("b.md", 0, "model-b"), ("b.md", 1, "model-b")]


def test_a_set_is_brought_up_within_its_budget_by_the_key_of_today_and_as_its_schedule_s(ledger: Ledger) -> None:
    set_ = overtaken(ledger)
    first = ledger.job(set_.job_id or 0)
    shard = ShardRef(first.id, 0)
    lost = jobs.bill(shard, "lost", usd=Decimal("0.25"), outcome="unknown")
    jobs.commit(ledger, Batch({}, usage=[lost]))
    new = NewSchedule("weekly", ["reembed", "docs"], "/work", "0 3 * * 0", "UTC", daily_usd=Decimal(1))
    schedule = ledger.schedules.add(new, asking=False, now_s=0.0)
    ledger.schedules.run_now(schedule.id, now_s=10.0)
    (run,) = ledger.schedules.take("scheduler")
    ledger.schedules.started(run, first.id)
    ledger.schedules.ended(run, "finished")

    assert catch_up(ledger, {}, lambda job: f"new key of {job.provider}") == 1

    job = ledger.job(ledger.collections.set(set_.id).job_id or 0)
    assert (job.budget_usd, job.key_fingerprint) == (Decimal("0.75"), "new key of example")
    assert [(each.schedule_id, each.job_id) for each in ledger.schedules.running()] == [(schedule.id, job.id)]


def test_a_set_whose_command_is_waited_for_is_left_to_it(ledger: Ledger) -> None:
    set_ = overtaken(ledger)
    ledger.set_detached(set_.job_id or 0, False)

    assert catch_up(ledger, {}) == 0
    assert ledger.collections.set(set_.id).state == "ready"


def test_a_process_that_dies_while_it_brings_a_set_up_leaves_nothing_out(ledger: Ledger) -> None:
    set_ = overtaken(ledger)
    aim = Aim(set_.collection_id, set_.id, 2)
    ((chunks, _),) = ledger.collections.lacking(set_, 2)
    rows = [NewVector(chunk.chunk_no, set_.spec.content_key(chunk.text, ""), 3) for chunk in chunks[:1]]
    new = NewJob(
        key=job_key(aim), spec=set_.spec, provider="example", key_fingerprint=jobs.FINGERPRINT, shard_size=2_000,
        collection_id=set_.collection_id, detached=True,
    )  # fmt: skip
    ledger.collections.fill(aim, rows, new)

    assert catch_up(ledger, {}) == 1

    assert answered(ledger, ledger.job(ledger.collections.set(set_.id).job_id or 0)) == ["two", "three"]
    ledger.collections.settle()
    assert {row[2] for row in seen(ledger)} == {"model-b"}


def test_a_set_whose_new_texts_all_have_answers_is_brought_up_without_a_job(ledger: Ledger) -> None:
    set_ = overtaken(ledger)
    other = ledger.collections.make("other", SHAPE, "model-b-2", "example", spec("model-b"))
    version = ledger.collections.begin(other.id, 1, "me", b"")
    assert version is not None
    add(ledger, version, "c.md", ["two", "three"])
    completed(ledger, version)

    assert catch_up(ledger, {}) == 1
    ledger.collections.settle()

    assert len(seen(ledger)) == 3
    assert {row[2] for row in seen(ledger)} == {"model-b"}
    assert ledger.collections.set(set_.id).job_id == set_.job_id


def test_a_set_is_brought_up_bit_by_bit_where_one_tick_has_no_time_for_all(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stretches, "MOST", 1)
    set_, marks = overtaken(ledger), Marks()
    ticks = 1
    while not catch_up(ledger, marks, at_once_s=-1.0):
        ticks += 1
        assert ticks < 10

    assert ticks == 3, "a chunk each, and then it is known that there is no other"
    assert not marks
    assert answered(ledger, ledger.job(ledger.collections.set(set_.id).job_id or 0)) == ["two", "three"]
    ledger.collections.settle()
    assert {row[2] for row in seen(ledger)} == {"model-b"}


def test_a_mark_within_a_document_leaves_out_nothing_behind_it(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stretches, "MOST", 2)
    version = begun(ledger)
    add(ledger, version, "a.md", ["one", "two", "three"])
    ledger.collections.read_whole(version, "me", {"shape": SHAPE})
    set_ = ledger.collections.set(version.set_id)

    (first, mark), (rest, end) = ledger.collections.lacking(set_, 1)

    assert [chunk.text for chunk in (*first, *rest)] == ["one", "two", "three"]
    assert [chunk.text for some, _ in ledger.collections.lacking(set_, 1, mark) for chunk in some] == ["three"]
    assert list(ledger.collections.lacking(set_, 1, end)) == []


def test_a_set_that_is_still_being_filled_is_not_complete_whoever_asks(ledger: Ledger) -> None:
    first = begun(ledger)
    add(ledger, first, "a.md", ["one"])
    completed(ledger, first)
    set_ = ledger.collections.begin_set(first.collection_id, "model-b-2", "example", spec("model-b"), KEEP_S)

    assert not ledger.collections.complete_set(set_.id)
    assert ledger.collections.set_filled(set_.id, 2) is None
    assert not ledger.collections.complete_set(set_.id), "it was filled for another version than it is aimed at"

    job = taken(ledger, set_, 1)
    assert job is not None
    assert ledger.collections.set_filled(set_.id, 1) == job.id, "another process took its chunks"
    assert not ledger.collections.complete_set(set_.id)
    assert {row[2] for row in seen(ledger)} == {"model-a"}


def test_whoever_finds_nothing_to_embed_is_told_of_the_job_that_another_made_of_it(ledger: Ledger) -> None:
    version = begun(ledger)
    add(ledger, version, "a.md", ["one"])
    ledger.collections.read_whole(version, "me", {"shape": SHAPE})
    job = taken(ledger, ledger.collections.set(version.set_id), 1)
    assert job is not None

    assert ledger.collections.filled(version.collection_id, 1) == job.id
    assert "filled" not in ledger.collections.version(version.collection_id, 1).counts


def test_a_set_s_open_job_is_its_job_whatever_syncs_complete_meanwhile(ledger: Ledger) -> None:
    first = begun(ledger)
    add(ledger, first, "a.md", ["one", "two"])
    completed(ledger, first)
    set_ = ledger.collections.begin_set(first.collection_id, "model-b-2", "example", spec("model-b"), KEEP_S)
    job = taken(ledger, set_, 1)
    assert job is not None
    second = begun(ledger)
    add(ledger, second, "b.md", ["three"])
    completed(ledger, second)

    again = ledger.collections.begin_set(first.collection_id, "model-b-2", "example", spec("model-b"), KEEP_S)

    assert (again.target, again.job_id) == (1, job.id)
    assert answered(ledger, ledger.commit_job(job.id)) == ["one", "two"]
    ledger.collections.settle()
    assert {row[2] for row in seen(ledger)} == {"model-a"}


def test_no_set_is_activated_while_a_sync_is_about_to_make_another_version(ledger: Ledger) -> None:
    first = begun(ledger)
    add(ledger, first, "a.md", ["one"])
    completed(ledger, first)
    set_ = ledger.collections.begin_set(first.collection_id, "model-b-2", "example", spec("model-b"), KEEP_S)
    filled(ledger, set_, 1)
    second = begun(ledger)
    add(ledger, second, "b.md", ["two"])

    ledger.collections.settle()
    assert {row[2] for row in seen(ledger)} == {"model-a"}
    assert not ledger.collections.activate(ledger.collections.set(set_.id), KEEP_S)
    ledger.collections.take_back(second)
    ledger.collections.settle()

    assert seen(ledger) == [("a.md", 0, "model-b")]


def test_a_version_that_nobody_filled_is_not_complete(ledger: Ledger) -> None:
    version = begun(ledger)
    add(ledger, version, "a.md", ["one"])
    ledger.collections.read_whole(version, "me", {"shape": SHAPE})

    assert not ledger.collections.complete(version.collection_id, 1)
    ledger.collections.settle()

    assert ledger.collections.version(version.collection_id, 1).state == "building"
    assert ledger.collections.version(version.collection_id, 1).is_written


def test_whoever_fills_a_version_that_was_taken_back_is_told_and_takes_nothing(ledger: Ledger) -> None:
    version = begun(ledger)
    add(ledger, version, "a.md", ["one"])
    ledger.collections.read_whole(version, "me", {"shape": SHAPE})
    set_ = ledger.collections.set(version.set_id)
    ((chunks, _),) = ledger.collections.lacking(set_, 1)
    ledger.collections.take_back(version)

    rows = [NewVector(chunk.chunk_no, set_.spec.content_key(chunk.text, ""), 3) for chunk in chunks]
    new = NewJob(
        key=jobs.job_key(), spec=set_.spec, provider="example", key_fingerprint=jobs.FINGERPRINT, shard_size=2_000,
        collection_id=set_.collection_id,
    )  # fmt: skip
    with pytest.raises(UsageError, match="took version 1 back"):
        ledger.collections.fill(Aim(set_.collection_id, set_.id, 1, "me"), rows, new)
    assert ledger.jobs(10) == []


def test_a_set_kept_long_enough_is_dropped_and_its_name_is_free(ledger: Ledger) -> None:
    version = begun(ledger)
    add(ledger, version, "a.md", ["one"])
    completed(ledger, version)
    set_ = ledger.collections.begin_set(version.collection_id, "model-b-2", "example", spec("model-b"), -1.0)
    filled(ledger, set_, 1)
    ledger.collections.settle()
    while ledger.collections.settle():
        pass
    ledger.collections.settle()

    assert [each.name for each in ledger.collections.find("docs").sets] == ["model-b-2"]
    again = ledger.collections.begin_set(version.collection_id, "model-a-2", "example", spec(), None)
    assert again.name == "model-a-2"


@pytest.mark.parametrize("ticks", [0, 1, 2])
def test_no_part_of_a_set_that_was_kept_long_enough_is_seen_again(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, ticks: int
) -> None:
    monkeypatch.setattr(sets, "_DROPPED_AT_ONCE", 1)
    version = begun(ledger)
    add(ledger, version, "a.md", ["one", "two"])
    completed(ledger, version)
    old = ledger.collections.find("docs").active
    new = ledger.collections.begin_set(version.collection_id, "model-b-2", "example", spec("model-b"), None)
    filled(ledger, new, 1)
    assert ledger.collections.complete_set(new.id)
    assert ledger.collections.activate(ledger.collections.set(new.id), -1.0)
    before = ledger.collections.find("docs")

    for _ in range(ticks):
        assert ledger.collections.drop_expired() == 1

    assert not ledger.collections.activate(old, KEEP_S, behind=True)
    with pytest.raises(UsageError, match="is gone"):
        roll_back(ledger, before, KEEP_S)
    again = ledger.collections.begin_set(version.collection_id, "model-a-2", "example", spec(), None)
    assert (again.id != old.id, again.name, again.version, again.job_id) == (True, "model-a-2", None, None)
    assert ledger.collections.cover(version.collection_id, again.id, 1).vectors == 0
    while ledger.collections.drop_expired():
        pass
    assert ledger.collections.cover(version.collection_id, old.id, 1).vectors == 0
    assert {row[2] for row in seen(ledger)} == {"model-b"}


def test_a_collection_that_is_not_there_is_answered_with_those_that_are_near(ledger: Ledger) -> None:
    made(ledger)
    with pytest.raises(UsageError, match="near it: docs"):
        ledger.collections.find("dosc")
    told: dict[str, Any] = {each.name: each.version for each in ledger.collections.every()}
    assert told == {"docs": 0}
