"""The answers as a cache: how much there is, how much of it anything refers to, and its purge by age or size.

Only what nothing refers to goes: no item of a job that is kept, open or ended, and no set of vectors. What is left then
are answers of jobs and collections that were purged, and those that programs keep here without a job.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, LargeBinary, Row, cast, func, select

from corpusmill.ledger import pages, references
from corpusmill.ledger.database import Database
from corpusmill.ledger.models import Answer
from corpusmill.ledger.references import Candidates, Going

_NOBODY = Going()
# The ages by which a limit in bytes is found: to this many seconds.
_STEP_S = 60.0


@dataclass(frozen=True, slots=True)
class CacheView:
    """The answers that are kept: their number, bytes (bodies and texts), and the oldest's time (epoch seconds)."""

    answers: int
    bytes: int
    oldest_at: float | None
    referred: int
    referred_bytes: int


def view(database: Database) -> CacheView:
    """The cache as it is now; reads all that refers to an answer."""
    candidates, _ = _candidates(database, None)
    answers = size = free = free_bytes = 0
    oldest: float | None = None
    for page in _pages(database, None):
        unreferred = set(candidates.unreferred([row.key for row in page]))
        answers, size = answers + len(page), size + sum(row.bytes for row in page)
        oldest = min([row.at for row in page] + ([] if oldest is None else [oldest]))
        free, free_bytes = free + len(unreferred), free_bytes + sum(row.bytes for row in page if row.key in unreferred)
    return CacheView(answers, size, oldest, answers - free, size - free_bytes)


def purge(database: Database, before: float) -> int:
    """Delete the answers made before `before` (epoch seconds) that nothing refers to; how many."""
    candidates, seen = _candidates(database, before)
    gone = 0
    free = (candidates.unreferred([row.key for row in page]) for page in _pages(database, before))
    for some in references.batches(free):
        gone += database.write(references.delete_unreferred, some, seen, _NOBODY, before=before)
    return gone


def count(database: Database, before: float) -> tuple[int, int]:
    """How many answers, and bytes, `purge` would take away."""
    candidates, _ = _candidates(database, before)
    sizes = [row.bytes for row in _unreferred(database, candidates, before)]
    return len(sizes), sum(sizes)


def cut_for(database: Database, most_bytes: int) -> float | None:
    """The age to purge at so that the cache has at most so many bytes, oldest first (epoch seconds).

    None: it has no more than that. What is referred to stays, so that it may not be enough.
    """
    excess = database.read(_bytes) - most_bytes
    if excess <= 0:
        return None
    candidates, _ = _candidates(database, None)
    by_age: Counter[int] = Counter()
    for row in _unreferred(database, candidates, None):
        by_age[int(row.at // _STEP_S)] += row.bytes
    for step, size in sorted(by_age.items()):
        excess -= size
        if excess <= 0:
            return (step + 1) * _STEP_S
    return (max(by_age) + 1) * _STEP_S if by_age else None


def _candidates(database: Database, before: float | None) -> tuple[Candidates, references.Seen]:
    candidates = Candidates([row.key for row in page] for page in _pages(database, before))
    return candidates, references.strike_referred(database, candidates, _NOBODY)


def _unreferred(database: Database, candidates: Candidates, before: float | None) -> Iterator[Row[Any]]:
    for page in _pages(database, before):
        free = set(candidates.unreferred([row.key for row in page]))
        yield from (row for row in page if row.key in free)


def _pages(database: Database, before: float | None) -> Iterator[Sequence[Row[Any]]]:
    after = b""
    while page := database.read(_page, before, after):
        yield page
        after = page[-1].key


def _page(conn: Connection, before: float | None, after: bytes) -> Sequence[Row[Any]]:
    wanted = select(Answer.key, Answer.at, _size(conn).label("bytes")).where(Answer.key > after)
    if before is not None:
        wanted = wanted.where(Answer.at < before)
    return conn.execute(wanted.order_by(Answer.key).limit(pages.DELETED_LARGE)).all()


def _bytes(conn: Connection) -> int:
    return int(conn.execute(select(func.sum(_size(conn)))).scalar_one() or 0)


def _size(conn: Connection) -> Any:
    """The bytes of an answer. PostgreSQL knows them without unpacking it; SQLite counts a text in characters."""
    text = cast(Answer.output, LargeBinary) if conn.dialect.name == "sqlite" else Answer.output
    length = func.length if conn.dialect.name == "sqlite" else func.octet_length
    return length(Answer.body) + func.coalesce(length(text), 0)
