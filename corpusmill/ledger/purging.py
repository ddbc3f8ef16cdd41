"""Purging as callers see it: by job, by age, by collection, by document, and the answers that nothing refers to.

Each is many short transactions, none over 20,000 rows. Killed in the middle, the same call goes on; what is
half purged is shown by nobody as intact. Each ends by proving that nothing is left of what was asked to go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from corpusmill.ledger import purge_answers, purge_collections, purge_documents, purge_jobs
from corpusmill.ledger.database import Database
from corpusmill.ledger.purge_answers import CacheView
from corpusmill.ledger.purge_documents import Purged


class PurgeLedger:
    """What takes rows out of the ledger. Tallies name tables, but `vectors`: what sets of vectors know of chunks.

    With `dry_run` nothing is changed, and the tallies are what would go.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def jobs(self, job_ids: Sequence[int], *, keep_usage: bool = False, dry_run: bool = False) -> Mapping[str, int]:
        """Purge jobs that have ended, with the answers that nothing else refers to; how many rows went.

        `keep_usage`: their bills stay, and their rows as `purged`.

        Raises:
            UsageError: one has not ended, has calls in flight, or a collection waits for it; nothing is purged then.
            CorpusmillError: rows came while it was purged; the same call takes them away.
        """
        if dry_run:
            return purge_jobs.count(self._db, job_ids, keep_usage=keep_usage)
        return purge_jobs.purge(self._db, job_ids, keep_usage=keep_usage)

    def ended_before(self, at: float, *, purged: bool = True) -> list[int]:
        """The jobs that ended before `at` (epoch seconds) and may be purged; `purged`: those, too, that kept a bill."""
        return self._db.read(purge_jobs.ended_before, at, purged=purged)

    def collection(self, name: str, *, keep_usage: bool = False, dry_run: bool = False) -> Mapping[str, int]:
        """Purge a collection with all its versions, sets and jobs; how many rows went.

        From the first transaction on nobody finds it, and its name is free. While one of that name is half purged,
        only that goes, and not what was given the name since. `keep_usage`: the bills of its jobs stay.

        Raises:
            UsageError: there is none of that name, or a sync or a job of it has not ended: the error says what to type.
            CorpusmillError: rows came while it was purged; the same call takes them away.
        """
        if dry_run:
            return purge_collections.count(self._db, name, keep_usage=keep_usage)
        return purge_collections.purge(self._db, name, keep_usage=keep_usage)

    def has_namesake(self, name: str) -> bool:
        """Whether a purge of that collection was cut short, and another one has its name by now: that one stays."""
        return self._db.read(purge_collections.has_namesake, name)

    def document(self, name: str, source: str, *, dry_run: bool = False) -> Purged:
        """Purge the document of that source, or the record of that id, from every version of a collection.

        Readers see a new version. What was paid for it stays on the bills.

        Raises:
            UsageError: there is none, or a sync or a job of the collection has not ended.
            CorpusmillError: rows came while it was purged; the same call takes them away.
        """
        if dry_run:
            return purge_documents.count(self._db, name, source)
        return purge_documents.purge(self._db, name, source)

    def answers(self, before: float, *, dry_run: bool = False) -> int:
        """Purge the answers made before `before` (epoch seconds) that nothing refers to; how many."""
        if dry_run:
            return purge_answers.count(self._db, before)[0]
        return purge_answers.purge(self._db, before)

    def cache(self) -> CacheView:
        """How much the answers are, and how much of it something refers to."""
        return purge_answers.view(self._db)

    def cut_for(self, most_bytes: int) -> float | None:
        """The time (epoch seconds) to purge answers before, so that they are at most so many bytes; None: they are."""
        return purge_answers.cut_for(self._db, most_bytes)
