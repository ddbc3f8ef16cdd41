"""An item that kills or hangs its worker is found and failed, and everything else finishes: real processes that die."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
from pytest import MonkeyPatch

from corpusmill.ledger.records import JobView
from tests.fixtures.fleet import Fleet, StartFleet
from tests.fixtures.simulator import StartSimulator

pytestmark = [pytest.mark.xdist_group("poison"), pytest.mark.timeout(400)]

MARKER = "nightshade"
SEGFAULT = "ctypes.string_at(0)"
# Such a loop gives way to other threads: the leases would be renewed for ever.
HANG = "[None for _ in iter(int, 1)]"
# Python runs it at the start of every process that finds it: a body with the marker does the deed.
SITE = """
import ctypes, orjson
real = orjson.dumps
def dumps(*args, **kwargs):
    made = real(*args, **kwargs)
    if b"{marker}" in made:
        {deed}
    return made
orjson.dumps = dumps
"""


@contextmanager
def supervised(fleet: Fleet) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A worker that is started again whenever it dies, as a supervisor does; the list is of those that have died."""
    dead: list[subprocess.Popen[bytes]] = []
    over = Event()

    def keep() -> None:
        process = fleet.start("workers")
        while not over.wait(0.05):
            if process.poll() is not None:
                dead.append(process)
                process = fleet.start("workers")

    thread = Thread(target=keep)
    thread.start()
    try:
        yield dead
    finally:
        over.set()
        thread.join()


@pytest.fixture
def poisoned(tmp_path: Path, monkeypatch: MonkeyPatch) -> Iterator[None]:
    """Whatever is started in the test has a body with the marker kill it."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    yield


def submit(fleet: Fleet) -> JobView:
    """Thirty items in three shards, one of them poison, in the middle."""
    texts = [f"chunk number {number}" + (f" of {MARKER}" if number == 14 else "") for number in range(30)]
    return fleet.complete(texts, shard_size=10)


def assert_isolated(fleet: Fleet, job: JobView, deaths: int) -> None:
    counts = fleet.counts(job)
    assert (counts.succeeded, counts.failed, counts.failed_by_class) == (29, 1, {"poison": 1})
    (failed,) = fleet.ledger.failures(job.id)
    assert (failed.item_no, failed.attempts) == (14, 4)
    assert failed.error is not None
    assert "died or crashed 4 times" in failed.error
    # Two that may be chance; then with its shard, with a part of it, and twice alone.
    assert deaths == 6


@pytest.mark.slow
@pytest.mark.usefixtures("poisoned")
@pytest.mark.fault(24)
def test_an_item_that_kills_its_worker_is_failed_after_six_deaths_and_the_others_finish(
    start_fleet: StartFleet, simulator: StartSimulator, postgres_url: str, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE.format(marker=MARKER, deed=SEGFAULT))
    fleet = start_fleet(simulator(), postgres_url, lease_s=2.0)
    fleet.scheduler()
    with supervised(fleet) as dead:
        job = submit(fleet)
        fleet.wait(job, within_s=360)
        assert_isolated(fleet, job, len(dead))
    assert {process.returncode for process in dead} == {-11}
    stats = fleet.simulator.stats()
    assert stats["paid_requests"] == 29 + stats["duplicates_paid"]


@pytest.mark.slow
@pytest.mark.usefixtures("poisoned")
def test_an_item_that_hangs_its_worker_counts_as_one_that_kills_it(
    start_fleet: StartFleet, simulator: StartSimulator, postgres_url: str, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE.format(marker=MARKER, deed=HANG))
    fleet = start_fleet(simulator(), postgres_url, lease_s=2.0)
    fleet.scheduler()
    with supervised(fleet) as dead:
        job = submit(fleet)
        fleet.wait(job, within_s=360)
        assert_isolated(fleet, job, len(dead))
    assert {process.returncode for process in dead} == {70}
    assert "the loop has not turned" in fleet.log()


@pytest.mark.usefixtures("poisoned")
@pytest.mark.slow
def test_an_item_at_which_our_own_code_fails_is_not_tried_for_ever(
    start_fleet: StartFleet, simulator: StartSimulator, postgres_url: str, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE.format(marker=MARKER, deed="raise ZeroDivisionError"))
    fleet = start_fleet(simulator(), postgres_url)
    fleet.scheduler()
    worker = fleet.worker()
    job = submit(fleet)
    fleet.wait(job, within_s=360)
    assert_isolated(fleet, job, 6)
    assert worker.poll() is None
