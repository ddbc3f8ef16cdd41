"""The journal's bytes: what goes in comes out, and what is torn or damaged costs only itself."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmill.ledger.records import Answer, ItemResult, ShardRef, Usage
from workers.journal.entries import Done, Entry, Reply, Sent, Void, decoded, encoded
from workers.journal.frames import MAGIC, Gap, frame, payloads

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ids = st.binary(min_size=16, max_size=16)
keys = st.binary(min_size=32, max_size=32)
refs = st.builds(ShardRef, st.integers(0, 2**40), st.integers(0, 2**20))
counts = st.integers(0, 10**9)
money = st.none() | st.decimals(0, 1000, places=12)
usage = st.builds(
    Usage,
    attempt_id=ids, ref=refs, provider=text, model=text, tier=st.none() | text, items=counts, prompt_tokens=counts,
    cached_tokens=counts, completion_tokens=counts, reasoning_tokens=counts, usd=money,
    outcome=st.sampled_from(["paid", "unknown"]), request_id=st.none() | text, latency_ms=st.none() | counts,
    cache_write_tokens=counts,
)  # fmt: skip
answers = st.builds(
    Answer,
    key=keys, body=st.binary(max_size=200), model=text, tier=st.none() | text, finish_reason=st.none() | text,
    prompt_tokens=counts, completion_tokens=counts, cached_tokens=counts, reasoning_tokens=counts,
    truncated=st.booleans(),
)  # fmt: skip
results = st.builds(
    ItemResult,
    ref=refs, item_no=counts, key=st.none() | keys, cached=st.booleans(), error_class=st.none() | text,
    error=st.none() | text, attempts=counts, request_id=st.none() | text,
)  # fmt: skip


def some(of: st.SearchStrategy[object]) -> st.SearchStrategy[list[object]]:
    return st.lists(of, max_size=3)


entries: st.SearchStrategy[Entry] = st.one_of(
    st.builds(Sent, ids, some(usage)),
    st.builds(Reply, ids, some(answers), some(results), some(usage)),
    st.builds(Void, ids),
    st.builds(Done, st.lists(ids, max_size=5)),
)


@given(entries)
def test_every_record_comes_back_as_it_was(entry: Entry) -> None:
    assert decoded(memoryview(encoded(entry))) == entry


def test_money_comes_back_to_the_last_digit() -> None:
    row = Usage(b"a" * 16, ShardRef(1, 2), "p", "m", None, 1, 2, 0, 3, 0, Decimal("0.000000000001"), "paid")
    assert decoded(memoryview(encoded(Sent(b"a" * 16, [row])))) == Sent(b"a" * 16, [row])


def test_a_record_of_another_version_with_more_and_fewer_columns_is_read() -> None:
    row = Usage(b"a" * 16, ShardRef(1, 2), "p", "m", None, 1, 2, 0, 3, 0, None, "paid", cache_write_tokens=0)
    newer = encoded(Sent(b"a" * 16, [row])).replace(b'"cache_write_tokens"', b'"tokens_of_tomorrow"')
    assert decoded(memoryview(newer)) == Sent(b"a" * 16, [row])


def test_a_record_of_an_unknown_kind_is_refused() -> None:
    unknown = encoded(Void(b"a" * 16)).replace(b'"void"', b'"news"')
    with pytest.raises(ValueError, match="news"):
        decoded(memoryview(unknown))


blobs = st.lists(st.binary(max_size=60) | st.just(MAGIC * 3), min_size=1, max_size=6)


@given(blobs)
def test_frames_come_back_in_order(written: list[bytes]) -> None:
    assert [bytes(found) for found in read(b"".join(map(frame, written)))[0]] == written


@given(blobs, st.data())
def test_a_file_cut_anywhere_loses_only_the_record_that_was_cut(written: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(map(frame, written))
    cut = data.draw(st.integers(0, len(whole)))
    ends = [len(b"".join(map(frame, written[:n]))) for n in range(len(written) + 1)]
    survivors = sum(end <= cut for end in ends) - 1
    found, gaps = read(whole[:cut])
    assert [bytes(one) for one in found] == written[:survivors]
    assert gaps == ([] if cut in ends else [Gap(ends[survivors], cut)])


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=6), st.data())
def test_one_damaged_byte_costs_at_most_the_record_it_lies_in(written: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(b"".join(map(frame, written)))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    ends = [len(b"".join(map(frame, written[: n + 1]))) for n in range(len(written))]
    hit = next(n for n, end in enumerate(ends) if at < end)
    found, gaps = read(bytes(whole))
    assert [bytes(one) for one in found] == written[:hit] + written[hit + 1 :]
    assert len(gaps) == 1


@given(st.binary(max_size=300))
def test_no_bytes_at_all_upset_the_reader(data: bytes) -> None:
    read(data)


def read(data: bytes) -> tuple[list[memoryview], list[Gap]]:
    found = list(payloads(data))
    return [one for one in found if not isinstance(one, Gap)], [one for one in found if isinstance(one, Gap)]
