"""The parts of the ledger that need no database."""

from __future__ import annotations

import sqlite3
from collections import Counter
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from corpusmill.errors import DiskFull, Unavailable
from corpusmill.ledger import clock, counts, encoding, feeding, trouble
from corpusmill.ledger.amounts import rounded
from corpusmill.ledger.records import ShardRef
from corpusmill.ledger.types import Json, Usd

JOBS = st.dictionaries(st.integers(1, 6), st.integers(0, 12), max_size=6)


@given(sent=JOBS, ready=JOBS, room=st.integers(0, 30))
def test_places_are_shared_so_that_nobody_who_could_have_more_has_two_fewer(
    sent: dict[int, int], ready: dict[int, int], room: int
) -> None:
    chosen = feeding.share(sent, {job: list(range(count)) for job, count in ready.items()}, room)
    given_to = Counter(ref.job_id for ref in chosen)
    assert len(chosen) == min(room, sum(ready.values()))
    assert all(given_to[job] <= count for job, count in ready.items())
    for job in ready:
        numbers = [ref.shard_no for ref in chosen if ref.job_id == job]
        assert numbers == list(range(len(numbers))), "in shard order"
    for poor in (job for job, count in ready.items() if given_to[job] < count):
        for rich in given_to:
            assert sent.get(rich, 0) + given_to[rich] <= sent.get(poor, 0) + given_to[poor] + 1 or not given_to[rich]


def test_jobs_take_turns_in_the_order_of_publishing() -> None:
    chosen = feeding.share({}, {1: [0, 1], 2: [5, 6]}, 4)
    assert chosen == [ShardRef(1, 0), ShardRef(2, 5), ShardRef(1, 1), ShardRef(2, 6)]


@given(st.decimals(min_value=0, max_value=9_000_000, places=12, allow_nan=False, allow_infinity=False))
def test_money_comes_back_from_the_ledger_to_the_last_pico_dollar(usd: Decimal) -> None:
    dialect = make_url("sqlite://").get_dialect()()
    stored = Usd().process_bind_param(usd, dialect)
    assert stored is not None
    assert stored < 2**63
    assert Usd().process_result_value(stored, dialect) == usd


def test_money_is_rounded_once_before_it_is_summed() -> None:
    assert rounded(Decimal("0.0000000000005")) == 0
    assert rounded(Decimal("0.0000000000015")) == Decimal("0.000000000002")


def test_json_keeps_order_and_nul() -> None:
    dialect = make_url("sqlite://").get_dialect()()
    value = {"z": 1, "a": ["\0", None, 2**53], "é": {"b": 1.5}}
    stored = Json().process_bind_param(value, dialect)
    assert stored is not None
    assert "\0" not in stored
    again = Json().process_result_value(stored, dialect)
    assert (again, list(again)) == (value, ["z", "a", "é"])


def test_percentiles_are_values_that_were_measured() -> None:
    counted = [(10.0, 50), (20.0, 45), (900.0, 5)]
    assert counts._percentile(counted, 0.5) == 10.0
    assert counts._percentile(counted, 0.95) == 20.0
    assert counts._percentile(counted, 1.0) == 900.0


def test_texts_are_made_fit_for_both_databases() -> None:
    assert encoding.clean("a\0b \ud800 é😀") == "a\ufffdb ? é😀"


def test_a_machine_without_proc_has_a_boot_id_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_BOOT_ID", Path("/nowhere"))
    found = clock.boot_id.__wrapped__()
    assert found
    assert found == clock.boot_id.__wrapped__()


def test_errors_are_told_apart_by_their_codes() -> None:
    url = make_url("postgresql+psycopg://me:pw@db.example/mill")
    full = psycopg.errors.DiskFull("could not extend file base/1: text of a customer")
    shut = psycopg.errors.AdminShutdown("terminating connection")
    assert isinstance(trouble.told(OperationalError("s", {}, full), url), DiskFull)
    assert isinstance(trouble.told(OperationalError("s", {}, shut), url), Unavailable)
    assert trouble.may_be_tried_again(OperationalError("s", {}, psycopg.errors.SerializationFailure("x")))
    assert not trouble.may_be_tried_again(OperationalError("s", {}, shut))


def test_a_locked_sqlite_file_is_unavailable_with_what_to_look_at() -> None:
    locked = sqlite3.OperationalError("database is locked")
    locked.sqlite_errorcode = sqlite3.SQLITE_BUSY
    told = trouble.told(OperationalError("s", {}, locked), make_url("sqlite:////home/me/ledger.db"))
    assert isinstance(told, Unavailable)
    assert told.where == "/home/me/ledger.db"
    assert "nothing else locks it" in told.next_step
