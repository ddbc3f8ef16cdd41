"""Which answers nothing refers to any more.

Items, of whatever job, and sets of vectors refer to answers by their keys. No index leads from a key to them: it would
cost every load more than all purges together. So the keys that may go are gathered, eight bytes each; then everything
that refers is read once, a page at a time, and strikes out what it names. Two keys that begin alike keep each other:
an answer may stay too long, and never goes too soon.

What was written after that reading is looked at again in each transaction that deletes. On PostgreSQL it holds a lock
under which nobody adds a reference, of whatever version of this library; SQLite has one writer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, and_, delete, func, select, text

from corpusmill.ledger import pages
from corpusmill.ledger.base import Col
from corpusmill.ledger.bulk import among
from corpusmill.ledger.collections import UNDER_WAY
from corpusmill.ledger.database import Database
from corpusmill.ledger.models import Answer, CollectionVersion, EmbeddingSet, Item, Job, SetVector
from corpusmill.ledger.models import Collection as CollectionRow
from corpusmill.ledger.stretches import Stretch

_PREFIX = 8
# Each check reads what is being filled, so that checks are few; each holds writers up, so that none is long.
CHECKED_AT_ONCE = 20_000
Keys = Sequence[bytes]
# Told that reading goes on.
Beat = Callable[[], None]


class Candidates:
    """Keys of answers that may go, as sorted numbers, and which of them something was found to refer to."""

    def __init__(self, found: Iterable[Keys]) -> None:
        numbers = [_numbers(keys) for keys in found if keys]
        self._numbers = np.unique(np.concatenate(numbers)) if numbers else np.zeros(0, np.uint64)
        self._referred = np.zeros(len(self._numbers), bool)

    def __len__(self) -> int:
        return len(self._numbers)

    def strike(self, keys: Keys) -> None:
        """Something refers to these."""
        if len(self) and keys:
            asked = _numbers(keys)
            at = np.minimum(np.searchsorted(self._numbers, asked), len(self) - 1)
            self._referred[at[self._numbers[at] == asked]] = True

    def unreferred(self, keys: Keys) -> list[bytes]:
        """Those of these keys that are candidates and that nothing refers to, each once."""
        if not (len(self) and keys):
            return []
        keys = list(dict.fromkeys(keys))
        asked = _numbers(keys)
        at = np.minimum(np.searchsorted(self._numbers, asked), len(self) - 1)
        free = (self._numbers[at] == asked) & ~self._referred[at]
        return [key for key, is_free in zip(keys, free, strict=True) if is_free]


def _numbers(keys: Keys) -> NDArray[np.uint64]:
    joined = b"".join(key[:_PREFIX].ljust(_PREFIX, b"\0") for key in keys)
    return np.frombuffer(joined, ">u8").astype(np.uint64)


@dataclass(frozen=True, slots=True)
class Going:
    """Rows that are about to go, and so refer to nothing: those of these jobs and sets, all or of some chunks only."""

    jobs: frozenset[int] = frozenset()
    sets: frozenset[int] = frozenset()
    chunks: tuple[Stretch, ...] | None = None

    def keys(self, rows: Sequence[tuple[int, bytes | None]], *, goes: bool) -> list[bytes]:
        """The keys of (chunk, key) rows of one that goes, as far as they go; or, if not `goes`, as they stay."""
        if self.chunks is None:
            return [key for _, key in rows if key is not None] if goes else []
        inside = self.inside([row[0] for row in rows])
        return [key for (_, key), within in zip(rows, inside, strict=True) if key is not None and within == goes]

    def inside(self, chunks: Sequence[int]) -> NDArray[np.bool_]:
        """Which of these chunks are among those that go."""
        if not self.chunks:
            return np.zeros(len(chunks), bool)
        numbers = np.array(chunks, np.int64)
        first, last = np.array(sorted(self.chunks), np.int64).T
        at = np.searchsorted(first, numbers, side="right") - 1
        inside: NDArray[np.bool_] = (at >= 0) & (numbers <= last[np.maximum(at, 0)])
        return inside


@dataclass(frozen=True, slots=True)
class Seen:
    """How far what refers had come when it was read: the items and last item number of each job, each set's state."""

    jobs: Mapping[int, tuple[int, int]]
    sets: Mapping[int, tuple[Any, ...]]

    @classmethod
    def now(cls, conn: Connection) -> Self:
        """As it is in this snapshot."""
        last = select(func.max(Item.item_no)).where(Item.job_id == Job.id).scalar_subquery()
        jobs = conn.execute(select(Job.id, Job.items, last))
        return cls({row[0]: (row[1], -1 if row[2] is None else row[2]) for row in jobs}, _sets(conn))


def _sets(conn: Connection) -> dict[int, tuple[Any, ...]]:
    """Each set with all that changes when it may be filled."""
    under_way = and_(
        CollectionVersion.collection_id == EmbeddingSet.collection_id, CollectionVersion.state.in_(UNDER_WAY)
    )
    found = (
        select(
            EmbeddingSet.id,
            EmbeddingSet.state,
            EmbeddingSet.version,
            EmbeddingSet.target,
            EmbeddingSet.job_id,
            CollectionRow.next_version,
            CollectionRow.version,
            CollectionVersion.version_no,
        )
        .join(CollectionRow, CollectionRow.id == EmbeddingSet.collection_id)
        .outerjoin(CollectionVersion, under_way)
    )
    return {row[0]: tuple(row[1:]) for row in conn.execute(found)}


def keys_of(database: Database, going: Going, beat: Beat = lambda: None) -> Iterator[list[bytes]]:
    """The keys that the rows name which are about to go, a page at a time; some more than once."""
    for _, page in _references(database, going.jobs, going.sets, going):
        beat()
        yield going.keys(page, goes=True)


def strike_referred(database: Database, candidates: Candidates, going: Going, beat: Beat = lambda: None) -> Seen:
    """Strike out what anything refers to that stays; returns how far that had come when the reading began."""
    seen = database.read(Seen.now)
    if len(candidates):
        whole = going.chunks is None
        jobs, sets = (seen.jobs.keys() - going.jobs, seen.sets.keys() - going.sets) if whole else (seen.jobs, seen.sets)
        for goes, page in _references(database, jobs, sets, going):
            candidates.strike(_staying(page, going, goes=goes))
            beat()
    return seen


_ITEMS = (Item.job_id, Item.item_no, Item.chunk_no, Item.key)
_VECTORS = (SetVector.set_id, SetVector.chunk_no, SetVector.chunk_no, SetVector.key)


def _references(
    database: Database, jobs: Collection[int], sets: Collection[int], going: Going
) -> Iterator[tuple[bool, Sequence[tuple[int, bytes | None]]]]:
    """Pages of (chunk, key) of these jobs and sets, and whether each is of one that goes."""
    for owners, that_go, columns in ((jobs, going.jobs, _ITEMS), (sets, going.sets, _VECTORS)):
        for owned_by in sorted(owners):
            for page in pages.read(database, columns[0], owned_by, *columns[1:]):
                yield owned_by in that_go, [(row[1], row[2]) for row in page]


def batches(pages_of: Iterable[Keys]) -> Iterator[list[bytes]]:
    """These keys, as many at a time as one check takes."""
    some: list[bytes] = []
    for page in pages_of:
        some.extend(page)
        while len(some) >= CHECKED_AT_ONCE:
            yield some[:CHECKED_AT_ONCE]
            del some[:CHECKED_AT_ONCE]
    if some:
        yield some


def delete_unreferred(conn: Connection, keys: Keys, seen: Seen, going: Going, *, before: float | None = None) -> int:
    """Delete the answers under these keys, made before `before`, unless something has come to refer to them.

    At most `CHECKED_AT_ONCE` keys: others wait meanwhile.
    """
    if conn.dialect.name == "postgresql":
        # In the order in which a set is filled. Reading goes on; whoever adds references waits for these few rows.
        conn.execute(text("LOCK TABLE set_vectors, items IN SHARE MODE"))
    gone, late = 0, _late(conn, keys, seen, going)
    for some in among(conn, Answer.key, set(keys) - late):
        age = () if before is None else (Answer.at < before,)
        gone += conn.execute(delete(Answer).where(some, *age)).rowcount
    return gone


def _late(conn: Connection, keys: Keys, seen: Seen, going: Going) -> set[bytes]:
    """Those of these keys that something refers to which was written since `seen`."""
    found: set[bytes] = set()
    for job_id, items in conn.execute(select(Job.id, Job.items)).all():
        known_items, last = seen.jobs.get(job_id, (0, -1))
        if items != known_items:
            new = select(Item.chunk_no, Item.key).where(Item.job_id == job_id, Item.item_no > last)
            found.update(_staying(_naming(conn, new, Item.key, keys), going, goes=job_id in going.jobs))
    for set_id, facts in _sets(conn).items():
        state, version_under_way = facts[0], facts[-1]
        # A ready one that a sync has overtaken is filled as it is: where all is answered, nothing of it changes.
        if facts != seen.sets.get(set_id) or state in ("building", "ready") or version_under_way is not None:
            there = select(SetVector.chunk_no, SetVector.key).where(SetVector.set_id == set_id)
            found.update(_staying(_naming(conn, there, SetVector.key, keys), going, goes=set_id in going.sets))
    return found


def _naming(conn: Connection, rows: Select[Any, Any], column: Col[Any], keys: Keys) -> list[tuple[Any, ...]]:
    """Those of these rows that name one of these keys. No index leads to them: all are read, once."""
    some = among(conn, column, set(keys), most=CHECKED_AT_ONCE)
    return [tuple(row) for one_of in some for row in conn.execute(rows.where(one_of))]


def _staying(rows: Sequence[tuple[Any, ...]], going: Going, *, goes: bool) -> list[bytes]:
    return going.keys(rows, goes=False) if goes else [key for _, key in rows if key is not None]
