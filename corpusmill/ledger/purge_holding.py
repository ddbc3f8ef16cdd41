"""How the purge of a document holds its collection: as a sync does, by a version that nobody else may begin beside.

What is purged is noted there, so that a purge that was cut short is gone on with by the same one, and by no other.
"""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import ColumnElement, Connection, select, update

from corpusmill.errors import CorpusmillError, UsageError
from corpusmill.ledger import collections, purge_collections, versions
from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.collection_records import SILENT_S, CollectionView, VersionView
from corpusmill.ledger.database import Database
from corpusmill.ledger.models import Collection, CollectionVersion, EmbeddingSet, Job

P = ParamSpec("P")
T = TypeVar("T")
# A third of the silence after which a process counts as gone.
HEARD_EVERY_S = SILENT_S / 3


@dataclass(slots=True)
class Held:
    """The version that a purge holds. While it reads and deletes, others hear of it."""

    database: Database
    version: VersionView
    owner: str
    heard_s: float

    def write(self, work: Callable[Concatenate[Connection, VersionView, P], T], /, *args: P.args, **kw: P.kwargs) -> T:
        """Run `work` in one transaction, unless another process took the version over."""

        def holding(conn: Connection) -> T:
            versions.hold(conn, self.version, self.owner)
            return work(conn, self.version, *args, **kw)

        self.heard_s = time.monotonic()
        return self.database.write(holding)

    def beat(self) -> None:
        """Be heard of, if that is due; called every few thousand rows."""
        if time.monotonic() - self.heard_s >= HEARD_EVERY_S:
            self.write(lambda conn, version: None)


@contextmanager
def hold(database: Database, collection: CollectionView, source: str) -> Iterator[Held]:
    """A version of one's own; when anything fails, the same purge may go on with it at once."""
    owner = secrets.token_hex(8)
    version = database.write(_take, collection, source, owner)
    try:
        yield Held(database, version, owner, time.monotonic())
    except BaseException:
        with suppress(CorpusmillError):
            database.write(_let_go, version, owner)
        raise


def _take(conn: Connection, collection: CollectionView, source: str, owner: str) -> VersionView:
    """A version of one's own, as a sync has it; that of a purge of the same document that was cut short is taken over.

    What it purges is noted there until it is done.
    """
    conn.execute(select(Collection.id).where(Collection.id == collection.id).with_for_update()).one()
    here = collections.by_id(conn, collection.id)
    if here.under_way is None or here.under_way.sources != collections.PURGE:
        return _begin(conn, here, collection.name, source, owner)
    half = here.under_way
    purge_collections.refuse_under_way(conn, collection.id, collection.name)
    if (other := half.counts.get("document", source)) != source:
        raise UsageError(
            f"the purge of {other} from {collection.name} was cut short; it goes first",
            next_step=shlex.join(["corpusmill", "purge", "--collection", collection.name, "--document", other]),
        )
    conn.execute(update(CollectionVersion).where(*is_(half)).values(owner=owner, seen_at=read_clock(conn).lease_s))
    return versions.view(conn, collection.id, half.version_no)


def _begin(conn: Connection, here: CollectionView, name: str, source: str, owner: str) -> VersionView:
    purge_collections.refuse_under_way(conn, here.id, name)
    _refuse_half_loaded(conn, here)
    if here.under_way is not None:
        versions.take_back(conn, here.under_way)
    begun = versions.begin(conn, here.id, here.next_version, owner, collections.PURGE)
    assert begun is not None  # noqa: S101 - the row is locked, and nothing is under way
    conn.execute(update(CollectionVersion).where(*is_(begun)).values(counts={"document": source}))
    return begun


def _let_go(conn: Connection, version: VersionView, owner: str) -> None:
    mine = (*is_(version), CollectionVersion.owner == owner, CollectionVersion.state == "reading")
    conn.execute(update(CollectionVersion).where(*mine).values(seen_at=None))


def _refuse_half_loaded(conn: Connection, collection: CollectionView) -> None:
    """A job that goes on loading counts on the numbers of its items."""
    half = select(EmbeddingSet.name).join(Job, Job.id == EmbeddingSet.job_id)
    building = (EmbeddingSet.collection_id == collection.id, EmbeddingSet.state == "building")
    found = conn.execute(half.where(*building, Job.committed_at.is_(None))).first()
    if found is not None:
        raise UsageError(
            f"the set {found.name} of {collection.name} was only half begun",
            next_step="run the same reembed to its end, then purge",
        )


def is_(version: VersionView) -> tuple[ColumnElement[bool], ...]:
    """Condition on a row that it is this version's."""
    return (
        CollectionVersion.collection_id == version.collection_id,
        CollectionVersion.version_no == version.version_no,
    )
