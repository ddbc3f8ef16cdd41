"""Which set of a collection readers see, and when another one takes its place.

A set is to be activated by itself while it has a `keep_s`. It is, once it has all of the last version, with all its
vectors, nothing that the active one has was lost, and no sync is about to make another version.
"""

from __future__ import annotations

from sqlalchemy import Connection, exists, or_, select, update

from corpusmill.ledger import collections, sets
from corpusmill.ledger.bulk import table_of
from corpusmill.ledger.clock import read_clock
from corpusmill.ledger.collection_records import CollectionView, SetView, VersionView
from corpusmill.ledger.models import Collection, CollectionVersion, EmbeddingSet, Job


def unshown(conn: Connection) -> list[SetView]:
    """Sets that have all of a version, and that readers are to see once it is the last one."""
    wanted = (EmbeddingSet.state == "ready", EmbeddingSet.keep_s.is_not(None))
    return [collections.set_view(row) for row in conn.execute(select(table_of(EmbeddingSet)).where(*wanted))]


def overtaken(conn: Connection) -> list[tuple[SetView, int]]:
    """Sets to be shown that a sync has overtaken and nobody waits for, each with the version to bring it to.

    Also those that a process began to bring up, and did not come to the end. Those of a collection wait from which a
    document is being purged.
    """
    mine = (CollectionVersion.collection_id == Collection.id, CollectionVersion.sources == collections.PURGE)
    purging = exists().where(*mine, CollectionVersion.state.in_(collections.UNDER_WAY))
    last = Collection.version
    fell_behind = (EmbeddingSet.state == "ready") & (EmbeddingSet.version < last)
    left = (EmbeddingSet.state == "building") & (EmbeddingSet.version < EmbeddingSet.target) & (Job.state == "loading")
    found = (
        select(table_of(EmbeddingSet), last.label("last"))
        .join(Collection, Collection.id == EmbeddingSet.collection_id)
        .join(Job, Job.id == EmbeddingSet.job_id)
        .where(EmbeddingSet.keep_s.is_not(None), Job.detached, or_(fell_behind, left), ~purging)
    )
    return [
        (collections.set_view(row), row.last if row.state == "ready" else row.target) for row in conn.execute(found)
    ]


def bring(conn: Connection, set_id: int, version: int) -> None:
    """A set that lacks nothing of a later version has that one too."""
    ready = (EmbeddingSet.id == set_id, EmbeddingSet.state == "ready")
    conn.execute(update(EmbeddingSet).where(*ready).values(version=version, target=version))


def leave_to_a_person(conn: Connection, set_id: int) -> None:
    """A set that readers are not to see by itself: it lacks vectors, or could not embed what the active one has."""
    conn.execute(
        update(EmbeddingSet).where(EmbeddingSet.id == set_id, EmbeddingSet.state == "ready").values(keep_s=None)
    )


def in_step(conn: Connection, set_: SetView) -> bool:
    """Whether a set has the collection's last version, and no sync is about to make another."""
    here = collections.by_id(conn, set_.collection_id)
    return set_.version == here.version and going_on(here) is None


def going_on(here: CollectionView) -> VersionView | None:
    """The sync that is under way and does not stand still, if there is one.

    It fills the set that was active when it began, so it goes first: else readers would not see what it brings.
    """
    version = here.under_way
    if version is None or version.stands or (version.is_written and version.is_silent):
        return None
    return version


def activate(conn: Connection, collection_id: int, set_id: int, keep_s: float, *, behind: bool) -> bool:
    """Let readers see this set from now on, and keep the other one; False when it is not in step with that one.

    `behind`: it may have an older version, as a set that was active before. One that was kept long enough is gone.
    """
    row = conn.execute(select(table_of(Collection)).where(Collection.id == collection_id).with_for_update()).one()
    here = sets.view(conn, set_id)
    if here.version is None or here.state == "dropped" or sets.is_expired(conn, here):
        return False
    if not (behind or in_step(conn, here)):
        return False
    if row.active_set == set_id:
        return True
    now = read_clock(conn).wall_s
    kept = {"state": "kept", "keep_until": now + keep_s}
    conn.execute(update(EmbeddingSet).where(EmbeddingSet.id == row.active_set).values(**kept))
    active = {"state": "active", "keep_until": None, "activated_at": now}
    conn.execute(update(EmbeddingSet).where(EmbeddingSet.id == set_id).values(**active))
    conn.execute(update(Collection).where(Collection.id == collection_id).values(active_set=set_id))
    return True
