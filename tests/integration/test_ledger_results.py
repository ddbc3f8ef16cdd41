"""Reading results, the bill and the views."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row, text

from corpusmill.errors import UsageError
from corpusmill.ledger import Ledger, results
from corpusmill.ledger.amounts import Amount
from corpusmill.ledger.records import Batch, ItemState
from corpusmill.prices import PriceCard, Rates
from tests.fixtures import jobs

DOCS = Path(__file__).parents[2] / "docs" / "sql.md"


def query(ledger: Ledger, statement: str) -> Sequence[Row[Any]]:
    return ledger._db.read(lambda conn: conn.execute(text(statement)).all())


def half_done(ledger: Ledger) -> int:
    """A job of seven items: 0, 1 and 3 succeeded, 2 and 5 failed, 4 and 6 open."""
    job = jobs.submit(ledger, "abcdefg", shard_size=7)
    claimed = jobs.claim(ledger, job, 0)
    done = jobs.paid(claimed, [claimed.items[n] for n in (0, 1, 3)])
    failures = jobs.failed(claimed, [claimed.items[n] for n in (2, 5)])
    jobs.commit(ledger, Batch(done.fences, done.answers, [*done.results, *failures], done.usage))
    return job.id


@pytest.mark.parametrize("page", [1, 2, 3, 1_000])
def test_results_stream_in_item_order_whatever_the_page(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(results, "PAGE", page)
    job_id = half_done(ledger)
    wanted: dict[tuple[ItemState, ...], list[int]] = {
        ("succeeded",): [0, 1, 3],
        ("failed",): [2, 5],
        ("open",): [4, 6],
        ("succeeded", "failed"): [0, 1, 2, 3, 5],
        ("succeeded", "failed", "open"): [0, 1, 2, 3, 4, 5, 6],
    }
    for states, numbers in wanted.items():
        rows = list(ledger.results(job_id, states=states))
        assert [row.item_no for row in rows] == numbers
        assert {row.state for row in rows} == set(states)
    assert [row.item_no for row in ledger.results(job_id, states=("succeeded", "open"), after=1)] == [3, 4, 6]


def test_a_result_row_says_what_was_paid_and_what_came_of_it(ledger: Ledger) -> None:
    first = next(ledger.results(half_done(ledger)))
    assert (first.id, first.line, first.model, first.finish_reason) == ("id-0", 1, "model-a-0613", "stop")
    assert (first.prompt_tokens, first.completion_tokens, first.cached, first.attempts) == (11, 5, False, 1)


def test_a_job_without_results_streams_nothing(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc")
    assert list(ledger.results(job.id)) == []
    assert list(ledger.failures(job.id)) == []


def test_output_lengths_and_latencies_are_those_of_paid_calls(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abcd", shard_size=4)
    nothing = (ledger.mean_output_tokens(job.id), ledger.max_output_tokens(job.id), ledger.latencies(job.id))
    assert nothing == (None, None, None)
    claimed = jobs.claim(ledger, job, 0)
    sizes = [2, 4, 6, 100]
    usage = [jobs.bill(claimed.ref, str(n), completion_tokens=n, latency_ms=10 * n) for n in sizes]
    usage.append(jobs.bill(claimed.ref, "lost", outcome="unknown", completion_tokens=4_096, latency_ms=None))
    jobs.commit(ledger, jobs.paid(claimed, usage=usage))
    assert (ledger.mean_output_tokens(job.id), ledger.max_output_tokens(job.id)) == (28.0, 100)
    assert ledger.latencies(job.id) == (40.0, 1000.0)


# --- the bill ---------------------------------------------------------------------------------------------------


def test_the_bill_adds_up_however_it_is_grouped(ledger: Ledger) -> None:
    for keys, labels in (("ab", {"team": "search"}), ("cde", {"team": "ads", "run": "2"}), ("f", {})):
        jobs.work_off(ledger, jobs.submit(ledger, keys, labels=labels))
    total = 6 * jobs.PRICE
    for what, groups in (("job", 3), ("model", 1), ("day", 1), ("label:team", 3), ("label:run", 2)):
        found = ledger.usage_by(what)
        assert len(found) == groups, what
        assert sum((each.usd or Decimal(0) for each in found), Decimal(0)) == total
        assert sum(each.requests for each in found) == 6
        assert sum(each.reasoning_tokens for each in found) == 6
    assert {each.group: each.requests for each in ledger.usage_by("label:team")} == {"": 1, "ads": 3, "search": 2}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", ledger.usage_by("day")[0].group)


def test_the_bill_starts_where_it_is_asked_to(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "a")
    jobs.work_off(ledger, job)
    committed_at = ledger.job(job.id).committed_at or 0
    assert len(ledger.usage_by("model", since=committed_at)) == 1
    assert ledger.usage_by("model", since=committed_at + 3_600) == []


def test_an_unknown_grouping_is_refused(ledger: Ledger) -> None:
    with pytest.raises(UsageError, match="grouped by 'month'"):
        ledger.usage_by("month")


def test_what_an_unknown_outcome_may_have_cost_stands_apart(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "a")
    claimed = jobs.claim(ledger, job, 0)
    lost = jobs.bill(claimed.ref, "lost", usd=Decimal("0.5"), outcome="unknown")
    jobs.commit(ledger, jobs.paid(claimed, usage=[jobs.bill(claimed.ref, "known"), lost]))
    (row,) = ledger.usage_by("job")
    assert (row.group, row.requests, row.prompt_tokens) == (job.public_id, 1, 11)
    assert (row.usd, row.unknown_usd, row.unpriced_requests) == (jobs.PRICE, Decimal("0.5"), 0)


def test_what_was_unpriced_is_priced_later_to_the_last_digit(ledger: Ledger) -> None:
    job = jobs.submit(ledger, "abc", price_card=None, budget_usd=Decimal(5))
    claimed = jobs.claim(ledger, job, 0)
    usage = [jobs.bill(claimed.ref, str(n), usd=None, prompt_tokens=10 + n, cached_tokens=0) for n in range(3)]
    usage.append(jobs.bill(claimed.ref, "lost", usd=None, outcome="unknown", prompt_tokens=100, cached_tokens=0))
    jobs.commit(ledger, jobs.paid(claimed, usage=usage))
    assert ledger.usage_by("model")[0].unpriced_requests == 3
    assert ledger.usage_by("model")[0].usd is None
    rates = Rates(input=((0, Decimal("0.15")),), output=((0, Decimal("0.60")),))
    card = PriceCard("model-a", "a list", "2026-11-23", {"default": rates})
    assert ledger.reprice(lambda model, provider: None) == 0
    assert (
        ledger.reprice(lambda model, provider: card if (model, provider) == ("model-a-0613", "example") else None) == 4
    )
    assert ledger.reprice(lambda model, provider: card) == 0
    known = Decimal("0.00000015") * 33 + Decimal("0.0000006") * 15
    counts = ledger.counts(job.id)
    assert (counts.usd, counts.unknown_usd) == (known, Decimal("0.00000015") * 100 + Decimal("0.0000006") * 5)
    assert ledger.usage_by("model")[0].usd == known
    assert ledger.job(job.id).price_card == card.as_json()
    assert ledger.reserve(claimed.ref, claimed.fence, Amount(Decimal(5))) == "over", "the budget knows what was spent"


# --- the views --------------------------------------------------------------------------------------------------


def test_the_views_show_every_item_and_every_call(ledger: Ledger) -> None:
    job_id = half_done(ledger)
    public_id = ledger.job(job_id).public_id
    rows = query(
        ledger, "SELECT job, item, id, source, state, output, error_class FROM corpusmill_results ORDER BY item"
    )
    assert [(row.item, row.state, row.output, row.error_class) for row in rows[:3]] == [
        (0, "succeeded", "yes", None),
        (1, "succeeded", "yes", None),
        (2, "failed", None, "content_policy"),
    ]
    assert {(row.job, row.source) for row in rows} == {(public_id, "corpus.jsonl")}
    assert [row.state for row in rows].count("open") == 2
    (bill,) = query(
        ledger, "SELECT count(*) AS n, sum(usd) AS usd, min(at) AS at FROM corpusmill_usage WHERE outcome = 'paid'"
    )
    assert bill.n == 3
    assert float(bill.usd) == pytest.approx(float(3 * jobs.PRICE), abs=1e-12)
    assert str(bill.at).startswith("20")


def test_the_sql_in_the_docs_runs(ledger: Ledger) -> None:
    half_done(ledger)
    statements = re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(statements) >= 4
    for statement in statements:
        query(ledger, statement.replace("j_7fk2qa", ledger.job("last").public_id))


@pytest.mark.parametrize("view", ["corpusmill_results", "corpusmill_usage"])
def test_the_docs_name_every_column_of_a_view(ledger: Ledger, view: str) -> None:
    half_done(ledger)
    described = DOCS.read_text().split(f"**`{view}`**")[1].split("\n\n")[0]
    (row,) = query(ledger, f"SELECT * FROM {view} LIMIT 1")
    assert set(row._fields) <= set(re.findall(r"\w+", described))
