"""Named collections as rows: making, finding, and their sets as a reader sees them.

A reader asks for the active set and for the version at which it is complete, in one snapshot, and keeps to both.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, select, update

from corpusmill.errors import UsageError
from corpusmill.ledger.bulk import table_of, upsert
from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.collection_records import CollectionView, SetView, VersionView
from corpusmill.ledger.models import Collection, CollectionVersion, EmbeddingSet, Job, Meta
from corpusmill.spec import JobSpec

UNDER_WAY = ("reading", "building")
# What the version of a document's purge is made from: no digest of sources is that short.
PURGE = b"purge"


def make(
    conn: Connection, name: str, shape: Mapping[str, Any], set_name: str, provider: str, spec: JobSpec
) -> CollectionView:
    """The collection of that name, made empty with one active set if there is none."""
    at = read_clock(conn).wall_s
    numbers = {"version": 0, "next_version": 1, "next_file": 0, "next_document": 0, "next_chunk": 0}
    row = {"name": name, "created_at": at, "shape": dict(shape), **numbers}
    made = conn.execute(
        upsert(conn, Collection).values(row).on_conflict_do_nothing().returning(table_of(Collection).c.id)
    ).scalar_one_or_none()
    if made is not None:
        active = new_set(conn, made, set_name, provider, spec, state="active", at=at)
        conn.execute(update(Collection).where(Collection.id == made).values(active_set=active))
    return find(conn, name)


def new_set(
    conn: Connection, collection_id: int, name: str, provider: str, spec: JobSpec, *, state: str, at: float
) -> int:
    """Add a set to a collection; its number."""
    row = {
        "collection_id": collection_id,
        "name": name,
        "provider": provider,
        "spec": {"v": 1, **spec.as_json()},
        "state": state,
        "created_at": at,
        "activated_at": at if state == "active" else None,
    }
    statement = upsert(conn, EmbeddingSet).values(row).returning(table_of(EmbeddingSet).c.id)
    return int(conn.execute(statement).scalar_one())


def begin_anew(
    conn: Connection, collection_id: int, shape: Mapping[str, Any], set_name: str, provider: str, spec: JobSpec
) -> None:
    """Give a collection that never had a complete version another shape and model."""
    found = select(Collection.active_set, Collection.version).where(Collection.id == collection_id).with_for_update()
    active, version = conn.execute(found).one()
    if version:
        return
    changed = {"name": set_name, "provider": provider, "spec": {"v": 1, **spec.as_json()}}
    conn.execute(update(EmbeddingSet).where(EmbeddingSet.id == active).values(**changed))
    conn.execute(update(Collection).where(Collection.id == collection_id).values(shape=dict(shape)))


def find(conn: Connection, name: str) -> CollectionView:
    """The collection of that name.

    Raises:
        UsageError: there is none; the error names those that are near.
    """
    found = named(conn, name)
    if found is not None:
        return found
    names = [row.name for row in conn.execute(select(Collection.name).where(Collection.name.is_not(None)))]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"; near it: {', '.join(near)}" if near else ""
    raise UsageError(f"there is no collection {name!r}{hint}", next_step="corpusmill collection list")


def named(conn: Connection, name: str) -> CollectionView | None:
    """The collection of that name, if there is one."""
    row = conn.execute(select(table_of(Collection)).where(Collection.name == name)).one_or_none()
    return None if row is None else _view(conn, row)


def by_id(conn: Connection, collection_id: int) -> CollectionView:
    """The collection of that number."""
    return _view(conn, conn.execute(select(table_of(Collection)).where(Collection.id == collection_id)).one())


def every(conn: Connection) -> list[CollectionView]:
    """All named collections, by name."""
    rows = conn.execute(select(table_of(Collection)).where(Collection.name.is_not(None)).order_by(Collection.name))
    return [_view(conn, row) for row in rows.all()]


def _view(conn: Connection, row: Row[Any]) -> CollectionView:
    found = select(table_of(EmbeddingSet)).where(EmbeddingSet.collection_id == row.id, EmbeddingSet.state != "dropped")
    sets = [set_view(each) for each in conn.execute(found.order_by(EmbeddingSet.id))]
    active = next(each for each in sets if each.id == row.active_set)
    under_way = conn.execute(
        select(table_of(CollectionVersion)).where(
            CollectionVersion.collection_id == row.id, CollectionVersion.state.in_(UNDER_WAY)
        )
    ).one_or_none()
    return CollectionView(
        id=row.id,
        name=row.name,
        shape=row.shape,
        version=row.version,
        next_version=row.next_version,
        created_at=row.created_at,
        active=active,
        sets=sets,
        under_way=None if under_way is None else version_view(conn, under_way),
    )


def set_view(row: Row[Any]) -> SetView:
    """A row of the sets' table as others see it."""
    values = {name: getattr(row, name) for name in SetView.__dataclass_fields__ if name != "spec"}
    return SetView(spec=JobSpec.from_json({k: v for k, v in row.spec.items() if k != "v"}), **values)


def version_view(conn: Connection, row: Row[Any]) -> VersionView:
    """A row of the versions' table as others see it."""
    found = {"seen_s_ago", "job_state"}
    values = {name: getattr(row, name) for name in VersionView.__dataclass_fields__ if name not in found}
    ago = None if row.seen_at is None else max(0.0, read_clock(conn).lease_s - row.seen_at)
    state = select(Job.state).where(Job.id == row.job_id)
    job: Any = conn.execute(state).scalar_one_or_none() if row.job_id else None
    return VersionView(seen_s_ago=ago, job_state=job, **values)


def history(conn: Connection, collection_id: int, limit: int) -> list[VersionView]:
    """The newest versions, newest first."""
    found = select(table_of(CollectionVersion)).where(CollectionVersion.collection_id == collection_id)
    rows = conn.execute(found.order_by(CollectionVersion.version_no.desc()).limit(limit)).all()
    return [version_view(conn, row) for row in rows]


def purges(conn: Connection, collection_id: int) -> tuple[int, int]:
    """The last version that a document's purge began, 0 for none, and the last whose document is hidden from readers.

    While one hides its document, readers may find a part of it.
    """
    columns = (CollectionVersion.version_no, CollectionVersion.state, CollectionVersion.counts)
    made = (CollectionVersion.collection_id == collection_id, CollectionVersion.sources == PURGE)
    last = conn.execute(select(*columns).where(*made).order_by(CollectionVersion.version_no.desc()).limit(1)).first()
    if last is None:
        return 0, 0
    hidden = last.state not in UNDER_WAY or "hidden" in last.counts
    return last.version_no, last.version_no if hidden else last.version_no - 1


def refuse_purging(conn: Connection, collection_id: int, version: int) -> None:
    """Refuse to fill a set for `version` where a document's purge is under way, or has come since.

    It holds the collection's row: none begins before the end of the transaction.

    Raises:
        UsageError: chunks of the version may be gone.
    """
    row = select(Collection.name).where(Collection.id == collection_id).with_for_update(read=True)
    name = conn.execute(row).scalar_one()
    since = (
        CollectionVersion.collection_id == collection_id,
        CollectionVersion.sources == PURGE,
        CollectionVersion.version_no > version,
        CollectionVersion.state != "failed",
    )
    if conn.execute(select(CollectionVersion.version_no).where(*since).limit(1)).first() is not None:
        raise UsageError(
            f"a document of {name} is being purged, or was just now",
            next_step="run the same command again; if a purge was cut short, that one first",
        )


def remember_output(conn: Connection, collection_id: int, path: str, digest: str) -> None:
    """Remember the digest of what was written of a collection to `path`."""
    statement = upsert(conn, Meta).values(name=_output(collection_id, path), value=digest.encode())
    conn.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"value": statement.excluded.value}))


def output_digest(conn: Connection, collection_id: int, path: str) -> str | None:
    """The digest of what was last written of a collection to `path`; None when nothing was."""
    found = select(Meta.value).where(Meta.name == _output(collection_id, path))
    value = conn.execute(found).scalar_one_or_none()
    return None if value is None else value.decode()


def _output(collection_id: int, path: str) -> str:
    return f"out:{collection_id}:{hashlib.sha256(path.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
