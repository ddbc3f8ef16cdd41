"""What is there of a job that was purged: nothing, if it was purged well."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import Connection, func, select

from corpusmill.ledger.base import Base
from corpusmill.ledger.bulk import table_of
from corpusmill.ledger.models import (
    Chunk,
    Collection,
    Document,
    InFlight,
    Item,
    Job,
    Output,
    Result,
    Shard,
    Suspect,
    Usage,
)

Tally = Counter[str]
# What is of a job whatever becomes of its bill, and what a document of its own collection is.
OF_JOB: tuple[type[Base], ...] = (Result, Item, Suspect)
OF_COLLECTION: tuple[type[Base], ...] = (Chunk, Document)


def own_collection(conn: Connection, job_id: int) -> int | None:
    """The nameless collection of a job that was made from plain sources."""
    own = (Job.id == job_id, Collection.name.is_(None), Collection.shape.is_(None))
    found = select(Collection.id).join(Job, Job.collection_id == Collection.id)
    return conn.execute(found.where(*own)).scalar_one_or_none()


def rows_left(conn: Connection, job_id: int, *, bill: bool = False) -> Tally:
    """What is there of a job but its shards and, unless `bill`, its usage; by table."""
    of_bill: tuple[type[Base], ...] = (Usage, Shard) if bill else ()
    of_job: tuple[type[Base], ...] = (*OF_JOB, InFlight, Output, *of_bill)
    told = Tally({table.__tablename__: _rows(conn, table, job_id) for table in of_job})
    if (own := own_collection(conn, job_id)) is not None:
        told.update({table.__tablename__: _rows(conn, table, own) for table in OF_COLLECTION})
    return +told


def _rows(conn: Connection, table: type[Base], owned_by: int) -> int:
    columns = table_of(table).c
    owner = columns["collection_id"] if "collection_id" in columns else columns["job_id"]
    return conn.execute(select(func.count()).select_from(table).where(owner == owned_by)).scalar_one()
