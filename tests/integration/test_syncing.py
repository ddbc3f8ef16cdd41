"""A sync that is killed, doubled or read while its files change: it goes on, and pays for nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from corpusmill.collections import switching
from corpusmill.collections.ask import SyncAsk
from corpusmill.collections.owners import is_gone, new_owner
from corpusmill.collections.reembedding import ReembedAsk, Reembedding
from corpusmill.collections.syncing import Syncing
from corpusmill.errors import UsageError
from corpusmill.ledger.collection_records import VersionView
from corpusmill.ledger.records import Batch, ShardRef
from corpusmill.mill.ask import Terms
from corpusmill.mill.listening import Silent
from corpusmill.mill.place import Place
from corpusmill.provider import Provider
from corpusmill.settings import Settings
from tests.fixtures.jobs import bill
from tests.integration.killed_syncs import SHAPE, answer, synced

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path, valkey_url: str, sqlite_url: str) -> Settings:
    """A fleet without workers: what has to be embedded waits until the test answers it."""
    provider = Provider(base_url="http://127.0.0.1:9/v1", api_key=SecretStr("sk-test"))
    return Settings(home=tmp_path, broker_url=valkey_url, database_url=sqlite_url, providers={"sim": provider})


@pytest.fixture
def place(settings: Settings) -> Iterator[Place]:
    with Place(settings) as opened:
        yield opened


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("The mill turns grain into flour.")
    (folder / "b.md").write_text("The river pushes its wheel.")
    return folder


def ask(docs: Path) -> SyncAsk:
    return SyncAsk(name="docs", sources=[docs], model="m", dimensions=2, shape=SHAPE)


def sources_seen(place: Place) -> list[str]:
    found = place.ledger.collections.find("docs")
    return [row.source for row in place.ledger.collections.rows(found.active, found.active.version or 0)]


@pytest.mark.parametrize("sources", ["same", pytest.param("changing", marks=pytest.mark.slow)])
def test_a_sync_killed_after_any_of_its_writes_goes_on_and_nothing_is_paid_twice_or_left_out(
    sqlite_url: str, valkey_url: str, tmp_path: Path, sources: str
) -> None:
    (folder := tmp_path / "rounds").mkdir()
    command = [
        sys.executable,
        "-P",
        "-m",
        "tests.integration.killed_syncs",
        sqlite_url,
        valkey_url,
        str(folder),
        sources,
    ]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rounds = [json.loads(line) for line in done.stdout.splitlines()]

    assert {each["state"] for each in rounds} >= {"none", "reading", "building"}
    assert [each["killed"] for each in rounds] == [True] * (len(rounds) - 1) + [False]
    for each in rounds:
        assert each["same"], each
        assert each["rows"] > 0, each
        assert len(each["paid"]) == len(set(each["paid"])), each
        assert each["fresh"] == 0, "a fresh collection of the same finds every answer"


def test_of_two_syncs_at_once_the_second_joins_the_first_or_is_refused(place: Place, docs: Path) -> None:
    first = Syncing(place, ask(docs), Silent())
    first.start()
    assert first.job is not None
    with pytest.raises(UsageError, match="a sync of docs is under way"):
        Syncing(place, replace(ask(docs), refuse_second=True), Silent()).start()

    second = Syncing(place, ask(docs), Silent())
    second.start()
    assert second.job is not None
    assert second.job.id == first.job.id
    answer(place, first.job.view.id)

    assert [each.finish().state for each in (first, second)] == ["complete", "complete"]
    assert sources_seen(place) == ["a.md", "b.md"]


def test_a_sync_that_is_being_written_is_waited_for_or_refused_and_one_whose_process_ended_is_taken_back(
    place: Place, docs: Path
) -> None:
    found = ask(docs)
    Syncing(place, found, Silent()).rehearse()
    synced(place, "docs", docs)
    collections = place.ledger.collections
    here = collections.find("docs")

    def begun(owner: str) -> VersionView:
        version = collections.begin(here.id, collections.view(here.id).next_version, owner, b"other sources")
        assert version is not None
        return version

    mine = begun(new_owner())
    with pytest.raises(UsageError, match="a sync of docs is under way"):
        Syncing(place, replace(found, refuse_second=True), Silent()).start()
    collections.take_back(mine)
    child = subprocess.run(
        [sys.executable, "-c", "from corpusmill.collections.owners import new_owner; print(new_owner())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    left = begun(child.stdout.strip())
    assert is_gone(left.owner)

    Syncing(place, replace(found, refuse_second=True), Silent()).start()

    assert collections.version(here.id, left.version_no).state == "failed"


class Busy(Silent):
    """Somebody who edits a file each time that the sources have been looked at."""

    def __init__(self, edit: Callable[[], object], times: int) -> None:
        self._edit, self._times, self.notes = edit, times, list[str]()

    def note(self, text: str) -> None:
        self.notes.append(text)
        if "left out" in text and self._times:
            self._times -= 1
            self._edit()


@pytest.mark.parametrize(("times", "told"), [(1, False), (2, True)])
def test_a_file_that_changes_while_it_is_read_is_read_again_and_then_left_as_it_was(
    place: Place, docs: Path, times: int, told: bool
) -> None:
    synced(place, "docs", docs)
    page = docs / "a.md"
    page.write_text("Edited before.")
    # What a look leaves out is noted after the look, and before documents are cut.
    (docs / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    busy = Busy(lambda: page.write_text(page.read_text() + " And on it goes."), times)

    syncing = Syncing(place, ask(docs), busy)
    syncing.start()
    if syncing.job is not None:
        answer(place, syncing.job.view.id)
    report = syncing.finish()

    assert report.state == "complete"
    assert any("changes while it is read; it is left as it was" in note for note in busy.notes) is told
    assert report.counts["changed"] == (0 if told else 1)
    assert sources_seen(place) == ["a.md", "b.md"]


def test_a_set_that_lacks_vectors_is_not_activated_and_the_refusal_counts_them_and_says_how_to_go_on(
    place: Place, docs: Path
) -> None:
    synced(place, "docs", docs)
    work = Reembedding(place, ReembedAsk(name="docs", model="other", dimensions=3, keep_s=None), Silent())
    work.start()
    found = place.ledger.collections.find("docs")

    with pytest.raises(UsageError, match="0 of 2 chunks have a vector, 0 failed") as refused:
        switching.activate(place.ledger, found, "other-3", 60.0)
    assert refused.value.next_step == "corpusmill reembed docs --model other --dimensions 3 --provider sim"

    assert work.job is not None
    answer(place, work.job.view.id)
    assert work.finish().state == "ready"
    (docs / "c.md").write_text("Nobody counts the sacks.")
    synced(place, "docs", docs)
    with pytest.raises(UsageError, match="2 of 3 chunks have a vector"):
        switching.activate(place.ledger, place.ledger.collections.find("docs"), "other-3", 60.0)
    assert work.behind
    work.start()
    assert work.job is not None
    assert answer(place, work.job.view.id) == ["Nobody counts the sacks."]
    assert work.finish().state == "ready"
    switching.activate(place.ledger, place.ledger.collections.find("docs"), "other-3", 60.0)
    assert len(sources_seen(place)) == 3


def test_a_sync_during_whose_look_readers_went_back_to_another_set_brings_that_one_all_that_it_lacks(
    place: Place, docs: Path
) -> None:
    synced(place, "docs", docs)
    work = Reembedding(place, ReembedAsk(name="docs", model="other", dimensions=3, keep_s=60.0), Silent())
    work.start()
    assert work.job is not None
    answer(place, work.job.view.id)
    assert work.finish().state == "active"
    (docs / "c.md").write_text("Nobody counts the sacks.")
    to_end(place, Syncing(place, replace(ask(docs), model=None, dimensions=None), Silent()))
    (docs / "d.md").write_text("It rained all week.")
    (docs / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    collections = place.ledger.collections
    back = Busy(lambda: switching.roll_back(place.ledger, collections.find("docs"), 60.0), 1)

    to_end(place, Syncing(place, replace(ask(docs), model=None, dimensions=None), back))

    assert collections.find("docs").active.name == "m-2"
    assert sources_seen(place) == ["a.md", "b.md", "c.md", "d.md"]


def test_a_budget_of_a_reembed_is_over_all_that_it_embeds_before_the_switch(place: Place, docs: Path) -> None:
    synced(place, "docs", docs)
    terms = Terms(budget_tokens=100)
    work = Reembedding(place, ReembedAsk(name="docs", model="other", dimensions=3, keep_s=60.0, terms=terms), Silent())
    work.start()
    assert work.job is not None
    answer(place, work.job.view.id)
    paid = bill(ShardRef(work.job.view.id, 0), "paid", usd=None)
    place.ledger.commit(Batch({}, usage=[paid]), worker_id="w", lease_s=60.0)
    (docs / "c.md").write_text("Nobody counts the sacks.")
    to_end(place, Syncing(place, ask(docs), Silent()))
    work.finish()
    assert work.behind

    work.start()

    assert work.job.view.budget_tokens == 100 - 16


def to_end(place: Place, syncing: Syncing) -> None:
    syncing.start()
    assert syncing.job is not None
    answer(place, syncing.job.view.id)
    assert syncing.finish().state == "complete"


def test_a_sync_that_another_one_took_back_is_told_so(place: Place, docs: Path) -> None:
    syncing = Syncing(place, ask(docs), Silent())
    syncing.start()
    under_way = place.ledger.collections.find("docs").under_way
    assert under_way is not None
    place.ledger.collections.take_back(under_way)

    with pytest.raises(UsageError, match="another sync of docs, over other sources, took this one back"):
        syncing.finish()


def test_a_sync_goes_before_the_switch_and_one_that_stood_still_meanwhile_is_taken_back(
    place: Place, docs: Path
) -> None:
    synced(place, "docs", docs)
    work = Reembedding(place, ReembedAsk(name="docs", model="other", dimensions=3, keep_s=60.0), Silent())
    work.start()
    (docs / "c.md").write_text("Nobody counts the sacks.")
    syncing = Syncing(place, ask(docs), Silent())
    syncing.start()
    assert work.job is not None
    assert syncing.job is not None
    answer(place, work.job.view.id)
    assert work.finish().state == "ready", "a sync is under way; it goes first"
    assert work.held_up
    # Stopped by hand, it holds nobody up; then it goes on after all.
    place.ledger.pause(syncing.job.view.id, "user")
    assert work.finish().state == "active"
    place.ledger.resume(syncing.job.view.id)
    answer(place, syncing.job.view.id)
    with pytest.raises(UsageError, match="another set of docs became active during this sync"):
        syncing.finish()
    assert len(sources_seen(place)) == 2
    again = Syncing(place, replace(ask(docs), model="other", dimensions=3), Silent())
    again.start()
    assert again.job is not None
    answer(place, again.job.view.id)
    assert again.finish().state == "complete"
    assert len(sources_seen(place)) == 3
