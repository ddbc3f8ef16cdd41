"""`export` and `failures`: what a job, or a collection, has to show so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corpusmill.cli.options import ErrorsFile, FailureClasses
from corpusmill.cli.output import out
from corpusmill.errors import UsageError
from corpusmill.visible import in_one_line

if TYPE_CHECKING:
    from corpusmill.collections.exporting import Chosen
    from corpusmill.mill import Failure, Mill

JobOrCollection = Annotated[
    str, typer.Argument(metavar="JOB|COLLECTION[@SET]", help="As for `show`; or a collection, or one of its sets.")
]


def export(
    job: JobOrCollection,
    file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where results go; the ending says the format.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="URL",
            help="Load a collection into this PostgreSQL with pgvector; env:NAME takes the URL from the environment.",
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option("--table", metavar="T", help="The table to load, or SCHEMA.T; unset: called like the collection."),
    ] = None,
    errors: ErrorsFile = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Replace an output file that this job did not write, or another collection's table."
        ),
    ] = False,
) -> None:
    """Write results so far to a file, in the order of the source; works while the job runs.

    Of a collection it writes the active set, or the one named by @SET, at its last complete version, rows and index as
    `embed` writes them; also while a sync is under way. With --to it brings a table to that version, in one transaction
    that adds, changes and deletes what differs.
    """
    from corpusmill.cli.following import opened
    from corpusmill.collections.exporting import choose

    if to is not None:
        _refuse_beside_to(file=file, errors=errors)
        _load_collection(job, to, table, force=force)
        return
    if file is None or table is not None:
        raise _where_to(job, table)
    with opened() as mill:
        chosen = choose(mill.place.ledger, job)
        if chosen is not None:
            _export_collection(mill, chosen, file, force=force)
            return
        found = mill.job(job)
        paths = found.export(file, errors_out=errors, force=force)
        summary = found.summary()
    out.summary(f"{summary.succeeded:,} of {summary.items:,} items written to {', '.join(map(str, paths))}")
    out.result({"job": found.id, "items": summary.succeeded, "out": [str(path) for path in paths]})


def _where_to(job: str, table: str | None) -> UsageError:
    if table is not None:
        return UsageError(f"--table {table} says which table, not of which database", next_step="add --to env:NAME")
    return UsageError(
        "nothing says where the results go",
        next_step=f"corpusmill export {job} --out FILE; a collection also --to postgresql://…",
    )


def _refuse_beside_to(**given: Path | None) -> None:
    for name, value in given.items():
        if value is not None:
            flag = "--out" if name == "file" else f"--{name}"
            raise UsageError(f"--to loads a table and {flag} writes a file", next_step="give one of them")


def _load_collection(ref: str, to: str, table: str | None, *, force: bool) -> None:
    from corpusmill.cli.following import opened
    from corpusmill.extras import need_pgvector

    need_pgvector("--to")
    from corpusmill.collections.loading import load
    from corpusmill.pgvector import target

    place = target(to)
    if place.exposed:
        out.note("others on this machine can read a password in a command line; --to env:NAME keeps it from them")
    with opened() as mill:
        loaded = load(mill.place, ref, place, table=table, force=force, note=out.note)
    told = (
        f"{loaded.table} is {loaded.collection}@{loaded.set}, version {loaded.version}, {loaded.rows:,} rows: "
        f"{loaded.added:,} added, {loaded.changed:,} changed, {loaded.deleted:,} deleted"
    )
    out.summary(told)
    out.result({**asdict(loaded), "to": place.place, "told": told})


def _export_collection(mill: Mill, chosen: Chosen, file: Path, *, force: bool) -> None:
    from corpusmill.collections.exporting import export

    written = export(mill.place, chosen, file, force=force)
    files = [str(path) for path in written.paths]
    out.summary(
        f"{written.succeeded:,} vectors of {chosen.name}, version {chosen.version}, written to {', '.join(files)}"
    )
    facts = {"collection": chosen.collection.name, "set": chosen.set.name, "version": chosen.version}
    out.result({**facts, "items": written.succeeded, "out": files})


def failures(job: JobOrCollection, class_: FailureClasses = None) -> None:
    """List a job's failed items and why they failed: place, id, class, attempts and the last error, redacted.

    Of a collection: the chunks of its active set, or of @SET, that have no vector.
    """
    from corpusmill.cli.following import opened
    from corpusmill.cli.report import by_class
    from corpusmill.collections.exporting import choose

    with opened() as mill:
        chosen = choose(mill.place.ledger, job)
        if chosen is not None:
            _failures_of_collection(mill, chosen, class_ or ())
            return
        found = mill.job(job)
        summary = found.summary()
        listed = []
        for failure in found.failures(class_ or None):
            place = f"{failure.source}:{failure.line}" if failure.line else f"{failure.source} chunk {failure.chunk}"
            # Most messages end with it already.
            untold = failure.request_id is not None and failure.request_id not in failure.error
            request = f" ({failure.request_id})" if untold else ""
            line = f"{place}  {failure.id}  {failure.error_class}: {failure.error}{request}{_tries(failure)}"
            out.line(in_one_line(line))
            if out.json:
                listed.append(asdict(failure))
    if summary.failed:
        out.summary(f"{summary.failed:,} failed: {by_class(summary.failed_by_class)}")
        only = "".join(f" --class {name}" for name in class_ or ())
        out.summary(f"try them again: corpusmill retry {found.id}{only}")
    elif summary.state != "stopped":
        out.summary("no item failed")
    if summary.state == "stopped":
        out.summary(f"the job was stopped, since every item fails alike; why: corpusmill show {found.id}")
    out.result(
        {"job": found.id, "failed": summary.failed, "by_class": dict(summary.failed_by_class), "failures": listed}
    )


def _failures_of_collection(mill: Mill, chosen: Chosen, classes: Sequence[str]) -> None:
    from corpusmill.cli.report import by_class

    listed = []
    for row in chosen.failures(mill.place.ledger):
        if classes and row.error_class not in classes:
            continue
        line = f"{row.source}:{row.line or ''} chunk {row.chunk}  {row.id}  {row.error_class}: {row.error}"
        out.line(in_one_line(line))
        facts = {"id": row.id, "source": row.source, "chunk": row.chunk, "line": row.line}
        listed.append({**facts, "error_class": row.error_class, "error": row.error})
    counted = Counter(str(each["error_class"]) for each in listed)
    if listed:
        out.summary(f"{len(listed):,} failed: {by_class(counted)}")
        out.summary("try them again: the `sync` or `reembed` that left them, with --retry-failed")
    else:
        out.summary("no chunk failed")
    facts = {"collection": chosen.collection.name, "set": chosen.set.name, "failed": len(listed)}
    out.result({**facts, "by_class": dict(counted), "failures": listed})


def _tries(failure: Failure) -> str:
    return f" (attempts: {failure.attempts})" if failure.attempts > 1 else ""
