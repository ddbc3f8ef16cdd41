"""Loading a job: in batches, from where it stopped, and by two processes at once; found again by its key."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from corpusmill import Settings, intake
from corpusmill.errors import SourceError, UsageError
from corpusmill.ledger import Ledger
from corpusmill.ledger.models import Chunk, Document, Item
from corpusmill.ledger.records import NewItem, NewJob
from corpusmill.mill import loading
from corpusmill.mill.ask import Ask, Shape, Terms
from corpusmill.mill.listening import Silent
from corpusmill.mill.loading import BATCH_BYTES, BATCH_ROWS, batches, load
from corpusmill.mill.place import Place
from corpusmill.mill.plan import plan
from corpusmill.mill.submit import submit
from corpusmill.provider import Provider
from corpusmill.spec import JobSpec

SPEC = JobSpec("embedding", "/embeddings", "m", "http://127.0.0.1:9/v1")


def items(count: int) -> Iterator[NewItem]:
    for number in range(count):
        yield NewItem(id=f"d{number}", source="a", key=number.to_bytes(32, "big"), tokens=1, text=f"text {number}")


def new_job(ledger: Ledger) -> int:
    new = NewJob(key=b"k" * 32, spec=SPEC, provider="openai", key_fingerprint="f", shard_size=2_000)
    return ledger.submit(new)[0].id


def texts_in(ledger: Ledger, job_id: int) -> list[str]:
    return [row.id for row in ledger.results(job_id, states=("open",))]


def silent(loaded: int) -> None:
    """Nobody listens."""


def test_batches_are_bounded_in_rows_and_in_bytes() -> None:
    assert [len(batch) for batch in batches(items(BATCH_ROWS + 3))] == [BATCH_ROWS, 3]
    large = NewItem(id="x", source="a", key=b"", tokens=1, text="x" * (BATCH_BYTES // 2))
    assert [len(batch) for batch in batches([large] * 5)] == [2, 2, 1]


def test_an_interrupted_load_goes_on_where_it_stopped(ledger: Ledger) -> None:
    job = new_job(ledger)

    def broken() -> Iterator[NewItem]:
        yield from items(BATCH_ROWS + 10)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(ledger, job, broken(), silent)
    assert ledger.loaded(job) == BATCH_ROWS
    told: list[int] = []
    assert load(ledger, job, items(BATCH_ROWS + 20), told.append) == BATCH_ROWS + 20
    assert told == [BATCH_ROWS + 20]
    ledger.commit_job(job)
    assert texts_in(ledger, job) == [item.id for item in items(BATCH_ROWS + 20)]


def test_two_loaders_of_one_job_write_each_item_once(ledger: Ledger) -> None:
    job = new_job(ledger)
    threads = [threading.Thread(target=load, args=(ledger, job, items(12_000), silent)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger.commit_job(job)
    assert texts_in(ledger, job) == [item.id for item in items(12_000)]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    providers = {"openai": Provider(base_url="http://127.0.0.1:9/v1"), "other": Provider(base_url="http://[::1]:9/v1")}
    with Place(Settings(home=tmp_path / "home", providers=providers)) as place:
        yield place


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("One. " * 300)
    return folder


def ask(docs: Path, **changes: object) -> Ask:
    facts: dict[str, object] = {"kind": "embedding", "sources": [docs], "model": "m"}
    return Ask(**{**facts, **changes})  # type: ignore[arg-type]


def test_the_same_ask_is_the_same_job_and_another_shape_another(place: Place, docs: Path) -> None:
    first = submit(place, ask(docs), Silent())
    assert (first.created, first.job.state) == (True, "queued")
    again = submit(place, ask(docs, terms=Terms(name="n", priority="high", budget_usd=None)), Silent())
    assert (again.created, again.job.id, again.job.name) == (False, first.job.id, "n")
    for other in (
        ask(docs, model="m2"),
        ask(docs, shape=Shape(chunk_tokens=100)),
        ask(docs, terms=Terms(cache=False)),
        ask(docs, terms=Terms(provider="other")),
    ):
        assert submit(place, other, Silent()).job.id != first.job.id
    (docs / "a.md").write_text("Two. " * 300)
    assert submit(place, ask(docs), Silent()).job.id != first.job.id


def test_a_job_that_was_cancelled_while_it_was_loading_is_loaded_by_the_next_command(place: Place, docs: Path) -> None:
    first = submit(place, ask(docs), Silent())
    ledger = place.ledger
    half = NewJob(
        key=b"h" * 32, spec=SPEC, provider="openai", key_fingerprint=first.job.key_fingerprint, shard_size=2_000
    )
    job, _ = ledger.submit(half)
    ledger.cancel(job.id)
    with pytest.raises(UsageError, match="cancelled"):
        load(ledger, job.id, items(3), silent)
    ledger.resume(job.id)
    assert load(ledger, job.id, items(3), silent) == 3


def test_sources_without_text_make_no_job(place: Place, docs: Path) -> None:
    (docs / "a.md").write_text(" \n ")
    with pytest.raises(SourceError, match="no text"):
        submit(place, ask(docs), Silent())
    assert place.ledger.jobs() == []


def test_a_slip_in_the_prompt_is_told_in_one_line_by_the_plan_and_by_the_job(place: Place, docs: Path) -> None:
    told: list[str] = []

    class Listener(Silent):
        def note(self, text: str) -> None:
            told.append(text)

    slip = ask(docs, kind="completion", prompt="Say: {txt}")
    plan(place, slip, ("m",), Listener())
    submit(place, slip, Listener())
    assert told == ["the prompt: `{txt}` is not filled in; did you mean `{text}`?"] * 2


def test_a_job_is_bound_to_the_key_of_the_newest_command(place: Place, docs: Path) -> None:
    before = submit(place, ask(docs), Silent()).job
    rotated = place.settings.with_providers(
        {"openai": Provider.model_validate({"base_url": "http://127.0.0.1:9/v1", "api_key": "new"})}
    )
    with Place(rotated) as other:
        after = submit(other, ask(docs), Silent()).job
    assert after.id == before.id
    assert after.key_fingerprint != before.key_fingerprint


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a.md").write_text("".join(f"Sentence {number}. " for number in range(300)))
    (folder / "b.jsonl").write_text(
        "".join(f'{{"id": "r{n}", "text": "{f"Word {n}. " * (60 * (n % 3))}"}}\n' for n in range(9)) + "no record\n"
    )
    (folder / "c.md").write_text("The end. " * 100)
    return folder


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    body = '{"model": "m", "messages": [{"role": "user", "content": "%d"}]}'
    lines = [
        f'{{"custom_id": "r{n}", "method": "POST", "url": "/v1/chat/completions", "body": {body % n}}}'
        for n in range(40)
    ]
    file = tmp_path / "requests.jsonl"
    file.write_text("\n".join([*lines[:11], "", "no request", lines[3], *lines[11:]]))
    return file


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("kind", ["embedding", "request"])
@pytest.mark.parametrize("stopped_after", [7, 14, 35])
def test_a_job_whose_load_was_interrupted_anywhere_is_that_of_an_undisturbed_load(
    place: Place,
    mixed: Path,
    requests: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    cache: bool,
    stopped_after: int,
) -> None:
    monkeypatch.setattr(loading, "BATCH_ROWS", 7)
    shape = Shape(chunk_tokens=50, skip_invalid=True)
    sources = [mixed] if kind == "embedding" else [requests]
    model = "m" if kind == "embedding" else None
    this = ask(mixed, kind=kind, sources=sources, model=model, shape=shape, terms=Terms(cache=cache))
    undisturbed = submit(place, this, Silent()).job

    class Interrupted(Silent):
        def loading(self, loaded: int) -> None:
            if loaded >= stopped_after:
                raise KeyboardInterrupt

    with Place(Settings(home=place.settings.home / "other", providers=place.settings.providers)) as other:
        with pytest.raises(KeyboardInterrupt):
            submit(other, this, Interrupted())
        (half,) = other.ledger.jobs()
        assert (half.state, other.ledger.loaded(half.id)) == ("loading", stopped_after)
        whole = submit(other, this, Silent()).job
        assert (whole.id, whole.state) == (half.id, "queued")
        rows = rows_of(other.ledger, whole.id)
        assert len(rows) > 35
        assert rows == rows_of(place.ledger, undisturbed.id)


def rows_of(ledger: Ledger, job_id: int) -> list[tuple[object, ...]]:
    """Every item as it stands in the tables."""
    items = (
        select(Item.item_no, Item.key, Item.tokens, Chunk.chunk, Chunk.text, Chunk.body, Document.source, Document.line)
        .join(Chunk, Chunk.chunk_no == Item.chunk_no)
        .join(Document, Document.document_no == Chunk.document_no)
        .where(Item.job_id == job_id)
        .order_by(Item.item_no)
    )
    return [tuple(row) for row in ledger._db.read(lambda conn: conn.execute(items).all())]


def test_blocks_of_a_request_file_that_are_loaded_are_not_even_parsed_again(requests: Path) -> None:
    scan = intake.scan_requests(requests)
    findings = intake.validate_requests(scan, skip_invalid=True)
    later = intake.requests(scan, True, findings, after_line=20)
    assert [each.line for each in later] == [
        each.line for each in intake.requests(scan, True, findings) if each.line > 20
    ]
