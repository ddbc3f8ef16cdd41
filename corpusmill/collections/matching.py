"""Which documents of the sources the collection has already: matched on disk, so that their number shows in no memory.

By id and content first, then by content alone (they moved), then by id alone (they changed). What is small stays in
memory: SQLite writes a nameless database to a temporary file only when it outgrows its cache.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from importlib import resources
from itertools import islice

from corpusmill.ledger.collection_records import KnownDocument

_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Found:
    """A document of the sources."""

    source: str
    id: str
    place: bytes
    digest: bytes
    line: int | None


class Matching:
    """The documents of all files that are not as they were, of the collection and of the sources."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("")
        self._db.executescript(_script("tables"))

    def add_old(self, documents: Iterable[KnownDocument]) -> None:
        """Add documents of the collection, whose ids differ."""
        self._add("INSERT INTO old VALUES (?, ?, ?, ?, ?, ?, ?)", map(astuple, documents))

    def add_new(self, documents: Iterable[Found]) -> None:
        """Add documents of the sources, in order."""
        self._add("INSERT INTO new (source, id, place, digest, line) VALUES (?, ?, ?, ?, ?)", map(astuple, documents))

    def _add(self, statement: str, rows: Iterator[tuple[object, ...]]) -> None:
        while some := list(islice(rows, _AT_ONCE)):
            self._db.executemany(statement, some)

    def match(self, *, recut: bool) -> Counter[str]:
        """Match all that was added; how many are added, changed, moved, unchanged and deleted.

        `recut`: content that is there already does not help.
        """
        self._db.executescript(_script("indexes"))
        if not recut:
            self._db.executescript(_script("by_content"))
        self._db.executescript(_script("by_id"))
        counts: Counter[str] = Counter()
        for name, number in self._db.execute("SELECT kind, count(*) FROM new GROUP BY kind"):
            counts[{"same": "unchanged"}.get(name, name)] = number
        (renamed,) = self._db.execute(_script("renamed")).fetchone()
        counts["unchanged"] -= renamed
        counts["moved"] += renamed
        (counts["deleted"],) = self._db.execute(_script("deleted")).fetchone()
        return counts

    def cut(self) -> Iterator[Found]:
        """New and changed documents, in the order of the sources."""
        for row in self._db.execute(_script("cut")):
            yield Found(*row)

    def placed(self) -> Iterator[tuple[KnownDocument, Found]]:
        """Documents whose content is there already, under another name or at another place."""
        for row in self._db.execute(_script("placed")):
            yield KnownDocument(*row[:7]), Found(*row[7:])

    def ended(self) -> Iterator[int]:
        """The numbers of the collection's documents that are not any more what and where they were."""
        for (number,) in self._db.execute(_script("ended")):
            yield number


def _script(name: str) -> str:
    return resources.files("corpusmill.collections").joinpath("sql", f"{name}.sql").read_text("utf-8")
