"""Reading a collection back into PostgreSQL: one set at its last complete version becomes what a table holds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from corpusmill import pgvector
from corpusmill.collections.exporting import Chosen, choose
from corpusmill.errors import UsageError
from corpusmill.ledger import Ledger
from corpusmill.ledger.collection_records import OutlineRow, StoredVector
from corpusmill.mill.place import Place
from corpusmill.pgvector import Loaded, Target

_FLOAT_BYTES = 4


class _Source:
    """A chosen set, as a load reads it."""

    def __init__(self, ledger: Ledger, chosen: Chosen) -> None:
        self._ledger, self._chosen = ledger, chosen
        self.collection, self.set_name = chosen.collection.name, chosen.set.name
        self.model, self.version = chosen.set.spec.model, chosen.version
        # A name for the ledger that says nothing of its salt.
        self.ledger = hashlib.sha256(b"ledger" + ledger.salt()).hexdigest()[:16]

    @cached_property
    def dimensions(self) -> int | None:
        """The length that was asked for; else that of a vector, if there is one."""
        asked = self._chosen.set.spec.dimensions
        first = None if asked else next(self.outline(), None)
        if first is None:
            return asked
        return next((len(vector.body) // _FLOAT_BYTES for vector in self.vectors([first.chunk_no])), None)

    def outline(self) -> Iterator[OutlineRow]:
        """All chunks that have a vector."""
        return self._ledger.collections.outline(self._chosen.set, self.version)

    def vectors(self, chunk_nos: Sequence[int]) -> list[StoredVector]:
        """Texts and vectors of these chunks."""
        return self._ledger.collections.vectors(self._chosen.set, chunk_nos)

    def refuse_gone(self) -> None:
        """See that all of the set is still there."""
        self._chosen.refuse_gone(self._ledger)


def load(
    place: Place,
    ref: str,
    target: Target,
    *,
    table: str | None = None,
    force: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> Loaded:
    """Load the set that `COLLECTION` or `COLLECTION@SET` means into a table; see `corpusmill.pgvector.load`.

    Raises:
        UsageError: there is no such collection or set, or the table cannot take it.
        Unavailable: the database cannot be reached.
    """
    schema, name = pgvector.table_name(table, _source(place.ledger, ref).collection)
    loaded = pgvector.load(target, schema, name, lambda: _source(place.ledger, ref), force=force, note=note)
    now = f"{loaded.collection}@{loaded.set}"
    if loaded.before not in (None, now):
        note(f"{loaded.table} held {loaded.before}; queries over it are to be embedded by {loaded.model} from now on")
    return loaded


def _source(ledger: Ledger, ref: str) -> _Source:
    chosen = choose(ledger, ref)
    if chosen is not None:
        return _Source(ledger, chosen)
    # A job has no versions, and its chunks no text of their own to be kept current.
    try:
        job = ledger.job(ref)
    except UsageError:
        ledger.collections.find(ref)
        raise
    raise UsageError(
        f"{ref} is a job; a table is loaded from a collection, which is kept current",
        where=f"job {job.public_id}",
        next_step="make one of its sources: corpusmill sync NAME SOURCE --model M; or write the job to a file: --out",
    )
