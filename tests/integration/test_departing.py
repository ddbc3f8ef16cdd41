"""Calls that were admitted and then found that their shard is not theirs any more: they are not sent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from corpusmill.ledger import Ledger
from corpusmill.ledger.records import ClaimedShard, CommitReport
from corpusmill.settings import Retry
from tests.fixtures import jobs
from tests.fixtures.fleet import wait_until
from workers.dispatch import Dispatch
from workers.held import HeldShard, NotNow, Unit
from workers.jobs import RunningJob
from workers.journal import Journal, adopt
from workers.metrics import Metrics
from workers.writer import Writer, awake_s


@contextmanager
def departing(ledger: Ledger, folder: Path, reports: list[CommitReport]) -> Iterator[tuple[Dispatch, Writer]]:
    """A dispatch and a writer of `w1` that is not started, and whose reports reach nobody on the loop."""
    journal = Journal.open(folder / "journal")
    writer = Writer(ledger, journal, worker_id="w1", lease_s=jobs.LEASE_S, on_report=reports.append)
    dispatch = Dispatch(window=10, retry=Retry(), journal=journal, writer=writer, metrics=Metrics())
    try:
        yield dispatch, writer
    finally:
        if writer._thread.ident:
            writer.close(5)
        journal.close()


def claimed(ledger: Ledger, keys: str = "abc") -> ClaimedShard:
    return jobs.claim(ledger, jobs.submit(ledger, keys, price_card=None), 0)


def units_of(claim: ClaimedShard) -> list[Unit]:
    return HeldShard(claim, RunningJob.of(claim.job), None).admit(claim.items)


async def depart(dispatch: Dispatch, units: list[Unit]) -> None:
    attempt_id = os.urandom(16)
    await dispatch.departs(attempt_id, [jobs.bill(units[0].shard.ref, attempt_id.hex())], units)


async def test_a_call_does_not_leave_while_its_lease_may_be_over(ledger: Ledger, tmp_path: Path) -> None:
    with departing(ledger, tmp_path, []) as (dispatch, writer):
        claim = claimed(ledger)
        units = units_of(claim)
        writer.hold(claim.ref, claim.fence, since_s=awake_s() - jobs.LEASE_S)
        with pytest.raises(NotNow):
            await depart(dispatch, units)
        assert units[0].shard.halted is None
        assert dispatch.metrics.in_flight == 0
        writer.start()
        wait_until(lambda: not writer.stale)
        await depart(dispatch, units)
        assert dispatch.metrics.in_flight == 1


async def test_a_call_does_not_leave_once_the_writer_knows_that_its_shard_is_lost_though_nobody_else_does(
    ledger: Ledger, tmp_path: Path
) -> None:
    reports: list[CommitReport] = []
    with departing(ledger, tmp_path, reports) as (dispatch, writer):
        lost, kept = claimed(ledger, "abc"), claimed(ledger, "def")
        units = [*units_of(lost), *units_of(kept)]
        writer.hold(lost.ref, lost.fence - 1)
        writer.hold(kept.ref, kept.fence)
        writer.start()
        wait_until(lambda: any(report.lost for report in reports))
        with pytest.raises(NotNow):
            await depart(dispatch, units)
        halted = units[0].shard.halted
        assert halted is not None
        assert halted.reason == "lost"
        await depart(dispatch, units_of(kept))
    assert [len(batch.usage) for batch in adopt(tmp_path / "journal")] == [1], "that of the call that left"


async def test_a_call_does_not_leave_once_its_shard_was_halted(ledger: Ledger, tmp_path: Path) -> None:
    with departing(ledger, tmp_path, []) as (dispatch, writer):
        claim = claimed(ledger)
        units = units_of(claim)
        writer.hold(claim.ref, claim.fence)
        units[0].shard.halt("paused")
        with pytest.raises(NotNow):
            await depart(dispatch, units)


def test_a_claim_that_took_longer_than_the_lease_is_not_taken_for_a_fresh_one(ledger: Ledger, tmp_path: Path) -> None:
    with departing(ledger, tmp_path, []) as (_, writer):
        fresh, slept = claimed(ledger, "abc"), claimed(ledger, "def")
        writer.hold(fresh.ref, fresh.fence)
        assert not writer.stale
        writer.hold(slept.ref, slept.fence, since_s=awake_s() - jobs.LEASE_S)
        assert writer.stale
