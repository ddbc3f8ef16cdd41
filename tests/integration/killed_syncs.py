"""Syncs that are killed with -9 after each of their writes in turn; run as a program, since it forks.

python -P -m tests.integration.killed_syncs DATABASE BROKER FOLDER same|changing: one JSON line a kill, the last one of
a sync that came to its end. Between kill and recovery the sources stay as they are, or change once more.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from corpusmill.collections.ask import SyncAsk
from corpusmill.collections.syncing import Syncing
from corpusmill.ledger.database import Database
from corpusmill.ledger.records import Answer, Batch, ItemResult, ShardRef
from corpusmill.mill.ask import Shape
from corpusmill.mill.listening import Silent
from corpusmill.mill.place import Place
from corpusmill.provider import Provider
from corpusmill.settings import Settings

SHAPE = Shape(chunk_tokens=24, chunk_overlap=0)
SENTENCES = ("The mill turns grain into flour.", "The river pushes its wheel.", "Nobody counts the sacks.")


def main(database: str, broker: str, folder: Path, *, changing: bool) -> None:
    """Kill after the first write, after the second, and so on, until a sync comes to its end before."""
    settings = Settings(
        home=folder / "home",
        broker_url=broker,
        database_url=database,
        providers={"sim": Provider(base_url="http://127.0.0.1:9/v1", api_key=SecretStr("sk-test"))},
    )
    for writes in itertools.count(1):
        name = f"round{writes}"
        found = round_of(settings, folder / name, name, writes, changing=changing)
        print(json.dumps({"name": name, **found}), flush=True)
        if not found["killed"]:
            break


def round_of(settings: Settings, folder: Path, name: str, writes: int, *, changing: bool) -> dict[str, Any]:
    """One collection: complete, then killed on the way to its second version, then brought to its end."""
    write_tree(folder, name)
    with Place(settings) as place:
        paid = synced(place, name, folder)
    change_tree(folder, name)
    ended, more = killed(settings, name, folder, writes)
    paid += more
    with Place(settings) as place:
        under_way = place.ledger.collections.find(name).under_way
        if under_way and under_way.is_embedding:
            # A job that was sent goes on without its command.
            paid += answer(place, under_way.job_id or 0)
        if changing:
            (folder / "late.md").write_text(f"What came late to {name}.\n\n{name} again.")
        paid += synced(place, name, folder)
        fresh = synced(place, f"{name}-fresh", folder)
        rows = list(rows_of(place, name))
        return {
            "killed": not ended, "state": under_way.state if under_way else "none", "paid": paid, "fresh": len(fresh),
            "rows": len(rows), "same": rows == list(rows_of(place, f"{name}-fresh")),
        }  # fmt: skip


def write_tree(folder: Path, name: str) -> None:
    """Four pages."""
    folder.mkdir()
    for number in range(4):
        pieces = [f"{name}, page {number}: {sentence}" for sentence in SENTENCES]
        (folder / f"page{number}.md").write_text("\n\n".join(pieces))


def change_tree(folder: Path, name: str) -> None:
    """Edit one, move one, delete one, add one."""
    edited = folder / "page0.md"
    edited.write_text(f"A new first line of {name}.\n\n{edited.read_text()}")
    (folder / "page1.md").rename(folder / "moved.md")
    (folder / "page2.md").unlink()
    (folder / "added.md").write_text(f"What {name} has more.")


def synced(place: Place, name: str, folder: Path, pay: Callable[[Place, int], list[str]] | None = None) -> list[str]:
    """Sync to the end; the texts that were paid for, by `answer` unless another is told."""
    syncing = Syncing(place, SyncAsk(name=name, sources=[folder], model="m", dimensions=2, shape=SHAPE), Silent())
    syncing.start()
    paid = [] if syncing.job is None else (pay or answer)(place, syncing.job.view.id)
    report = syncing.finish()
    assert report.state == "complete", report
    return paid


def answer(place: Place, job_id: int) -> list[str]:
    """Do what a worker does for a job of one shard; the texts."""
    ledger, job = place.ledger, place.ledger.job(job_id)
    shard = ledger.claim(ShardRef(job_id, 0), worker_id="w", lease_s=60.0, holds={(job.endpoint, job.key_fingerprint)})
    if shard is None:
        return []
    answers = [Answer(item.key, vector(item.text or ""), "m", None, None, 3, 0) for item in shard.items]
    results = [ItemResult(shard.ref, item.item_no, item.key) for item in (*shard.items, *shard.awaited)]
    ledger.commit(Batch({shard.ref: shard.fence}, answers, results, closing=[shard.ref]), worker_id="w", lease_s=60.0)
    return [item.text or "" for item in shard.items]


def vector(text: str) -> bytes:
    """Two numbers that tell texts apart."""
    return struct.pack("<2f", len(text), sum(text.encode()))


def killed(settings: Settings, name: str, folder: Path, writes: int) -> tuple[bool, list[str]]:
    """Sync in a child that is killed after so many writes: whether it came to its end, and what was paid for."""
    receipt = folder.with_suffix(".paid")
    child = os.fork()
    if not child:
        death = Death(writes)

        def pay(place: Place, job_id: int) -> list[str]:
            # The worker's writes are not the sync's.
            death.waits = True
            receipt.write_text(json.dumps(answer(place, job_id)))
            death.waits = False
            return []

        with Place(settings) as place:
            synced(place, name, folder, pay)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    paid: list[str] = json.loads(receipt.read_text()) if receipt.exists() else []
    ended = os.WIFEXITED(status)
    assert not ended or os.WEXITSTATUS(status) == 0
    return ended, paid


class Death:
    """Has this process killed right behind its so-manyth committed transaction, not counting those while it `waits`."""

    def __init__(self, writes: int) -> None:
        self._left, self.waits, self._once = writes, False, Database._once
        death = self

        def dying(database: Database, *args: Any, **kwargs: Any) -> Any:
            return death._dying(database, *args, **kwargs)

        Database._once = dying  # type: ignore[method-assign,assignment]

    def _dying(self, database: Database, *args: Any, **kwargs: Any) -> Any:
        done = self._once(database, *args, **kwargs)
        self._left -= not self.waits
        if not self._left and not self.waits:
            os.kill(os.getpid(), signal.SIGKILL)
        return done


def rows_of(place: Place, name: str) -> Iterator[tuple[Any, ...]]:
    """What a reader sees."""
    collections = place.ledger.collections
    found = collections.find(name)
    assert collections.cover(found.id, found.active.id, found.version).lacking == 0
    for row in collections.rows(found.active, found.active.version or 0):
        yield row.source, row.id, row.chunk, row.start, row.end, (row.body or b"").hex()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), changing=sys.argv[4] == "changing")
    shutil.rmtree(sys.argv[3], ignore_errors=True)
