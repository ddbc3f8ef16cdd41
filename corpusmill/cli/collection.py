"""Collections: what there is, what each sync changed, and which set of vectors readers see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from corpusmill.cli.collecting import CollectionName
from corpusmill.cli.output import out
from corpusmill.cli.purge import DryRun, Yes, carry_out

if TYPE_CHECKING:
    from corpusmill.ledger.collection_records import CollectionView, SetView, VersionView

Keep = Annotated[str, typer.Option("--keep", metavar="SPAN", help="How long the former set is kept, to go back to.")]


def list_() -> None:
    """List the collections."""
    from corpusmill.cli.following import opened
    from corpusmill.cli.times import minute

    with opened() as mill:
        found = mill.place.ledger.collections.every()
    rows = [
        (each.name, str(each.version), each.active.name, str(len(each.sets)), _state(each), minute(each.created_at))
        for each in found
    ]
    if rows:
        out.table(("COLLECTION", "VERSION", "ACTIVE SET", "SETS", "STATE", "CREATED"), rows, right=(1, 3))
    else:
        out.line("no collections yet; make one with `corpusmill sync NAME SOURCE --model M`")
    out.result({"collections": [_facts(each) for each in found]})


def show(collection: CollectionName) -> None:
    """Show one collection: its version, its sets, and its last sync."""
    from corpusmill.cli.following import opened

    with opened() as mill:
        known = mill.place.ledger.collections
        found = known.find(collection)
        cover = known.cover(found.id, found.active.id, found.active.version or 0)
        last = known.history(found.id, 1)
    out.line(f"{found.name} is {_state(found)}, version {found.version}")
    out.line(f"  readers   {found.name}@{found.active.name} at version {found.active.version or 0}")
    out.line(f"  chunks    {cover.chunks:,}: {cover.vectors:,} with a vector, {cover.failed:,} failed")
    for version in last:
        out.line(f"  last sync version {version.version_no} {version.state}: {_counts(version)}")
    for each in found.sets:
        if each.id != found.active.id:
            out.line(f"  set       {each.name} {each.state}, version {each.version or 0}")
    out.result(
        {**_facts(found), "chunks": cover.chunks, "vectors": cover.vectors, "failed": cover.failed}
        | {"last": [_version(each) for each in last]}
    )


def sets(collection: CollectionName) -> None:
    """List a collection's sets of vectors; readers see the active one."""
    from corpusmill.cli.following import opened
    from corpusmill.cli.times import minute

    with opened() as mill:
        known = mill.place.ledger.collections
        found = known.find(collection)
        covers = [known.cover(found.id, each.id, found.version) for each in found.sets]
    rows = [
        (
            each.name,
            each.state,
            str(each.version or 0),
            f"{cover.vectors:,}/{cover.chunks:,}",
            each.spec.model,
            str(each.spec.dimensions or ""),
            minute(each.keep_until) if each.keep_until else "",
        )
        for each, cover in zip(found.sets, covers, strict=True)
    ]
    out.table(("SET", "STATE", "VERSION", "VECTORS", "MODEL", "DIMENSIONS", "KEPT UNTIL"), rows, right=(2, 3, 5))
    listed = [
        {**_set(each), "chunks": cover.chunks, "vectors": cover.vectors, "failed": cover.failed}
        for each, cover in zip(found.sets, covers, strict=True)
    ]
    out.result({"collection": found.name, "sets": listed})


def history(
    collection: CollectionName,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="So many, the newest first.")] = 20,
) -> None:
    """List a collection's versions, one a sync, with what each changed and cost."""
    from corpusmill.cli.following import opened
    from corpusmill.cli.times import minute

    with opened() as mill:
        known = mill.place.ledger.collections
        found = known.find(collection)
        listed = known.history(found.id, limit)
    names = ("added", "changed", "moved", "unchanged", "deleted", "reused", "embedded", "failed")
    rows = [
        (str(each.version_no), each.state, *(f"{each.counts.get(name, 0):,}" for name in names), _usd(each),
         minute(each.started_at))
        for each in listed
    ]  # fmt: skip
    head = ("VERSION", "STATE", *(name.upper() for name in names), "USD", "STARTED")
    out.table(head, rows, right=(0, *range(2, 11)))
    out.result({"collection": found.name, "versions": [_version(each) for each in listed]})


def activate(
    ref: Annotated[str, typer.Argument(metavar="COLLECTION@SET", help="The set that readers are to see.")],
    keep: Keep = "7d",
) -> None:
    """Let readers see another set from now on; refused while it lacks vectors that the active one has."""
    from corpusmill.cli.durations import seconds
    from corpusmill.cli.following import opened
    from corpusmill.collections import switching
    from corpusmill.collections.names import parted
    from corpusmill.errors import UsageError

    name, set_name = parted(ref)
    if set_name is None:
        raise UsageError(f"{ref} names no set", next_step=f"corpusmill collection activate {name}@SET")
    with opened() as mill:
        ledger = mill.place.ledger
        active = switching.activate(ledger, ledger.collections.find(name), set_name, seconds(keep, flag="--keep"))
    out.summary(f"readers of {name} see {active.name} from now on; back: corpusmill collection rollback {name}")
    out.result({"collection": name, "active": active.name, "version": active.version})


def rollback(collection: CollectionName, keep: Keep = "7d") -> None:
    """Let readers see the set again that was active before."""
    from corpusmill.cli.durations import seconds
    from corpusmill.cli.following import opened
    from corpusmill.collections import switching

    with opened() as mill:
        ledger = mill.place.ledger
        found = ledger.collections.find(collection)
        active = switching.roll_back(ledger, found, seconds(keep, flag="--keep"))
    out.summary(f"readers of {collection} see {active.name} again, at version {active.version}")
    if active.version != found.version:
        out.note(f"the collection is at version {found.version}; the next sync brings this set there")
    out.result({"collection": collection, "active": active.name, "version": active.version})


def drop(collection: CollectionName, dry_run: DryRun = False, yes: Yes = False) -> int:
    """Remove a collection for good: its sets, versions, documents and vectors; what it has cost stays in `usage`.

    Answers go with it unless something else refers to them. Refused while a sync or a job of it is under way, and while
    a schedule names it. Killed in the middle, the same command goes on. Tables that it was loaded into stay.
    """
    from corpusmill.mill.purging import PurgeAsk

    _refuse_scheduled(collection)
    return carry_out(PurgeAsk(collection=collection, keep_usage=True), dry_run=dry_run, yes=yes)


def _refuse_scheduled(collection: str) -> None:
    """A schedule would make the collection again at its next due time and pay for it again, or fail from then on."""
    from corpusmill.cli.following import opened
    from corpusmill.cli.scheduled import names_collection
    from corpusmill.errors import UsageError

    with opened() as mill:
        listed = mill.place.ledger.schedules.listed()
    naming = [schedule.name for schedule in listed if names_collection(schedule.argv, collection)]
    if naming:
        raise UsageError(
            f"{collection} is still named by the schedule {', '.join(naming)}",
            next_step=f"corpusmill schedule remove {naming[0]}",
        )


def _state(found: CollectionView) -> str:
    if found.under_way is not None:
        return f"syncing (version {found.under_way.version_no})"
    return "complete" if found.version else "empty"


def _facts(found: CollectionView) -> dict[str, Any]:
    return {
        "collection": found.name,
        "id": found.id,
        "version": found.version,
        "active": found.active.name,
        "active_version": found.active.version,
        "sets": [_set(each) for each in found.sets],
        "under_way": None if found.under_way is None else _version(found.under_way),
    }


def _set(each: SetView) -> dict[str, Any]:
    return {
        "set": each.name,
        "state": each.state,
        "version": each.version,
        "model": each.spec.model,
        "dimensions": each.spec.dimensions,
        "endpoint": each.spec.endpoint,
        "keep_until": each.keep_until,
    }


def _version(each: VersionView) -> dict[str, Any]:
    from corpusmill.collections.report import COUNTS, usd_of

    usd = usd_of(each.counts)
    return {
        "version": each.version_no,
        "state": each.state,
        **{name: each.counts.get(name, 0) for name in COUNTS},
        "usd": None if usd is None else float(usd),
        "started_at": each.started_at,
        "finished_at": each.finished_at,
    }


def _counts(each: VersionView) -> str:
    from corpusmill.collections.report import COUNTS

    return ", ".join(f"{each.counts.get(name, 0):,} {name}" for name in COUNTS) + f"; {_usd(each)} USD"


def _usd(each: VersionView) -> str:
    from corpusmill.collections.report import usd_of
    from corpusmill.mill.sums import usd

    return "" if "usd" not in each.counts else usd(usd_of(each.counts))
