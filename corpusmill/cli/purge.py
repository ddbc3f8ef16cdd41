"""`purge`: take jobs, collections, documents and answers out of the ledger, for good, and prove it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from corpusmill.cli.output import out

if TYPE_CHECKING:
    from corpusmill.mill.purging import Purge, PurgeAsk

OlderThan = Annotated[
    str | None, typer.Option("--older-than", metavar="SPAN", help="What ended, or was answered, longer ago: 90d, 12h.")
]
MaxBytes = Annotated[
    str | None, typer.Option("--max-bytes", metavar="SIZE", help="Of answers: the oldest beyond so much, such as 10GB.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def purge(
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="A job that has ended: its id, or name.")] = None,
    jobs: Annotated[bool, typer.Option("--jobs", help="All jobs that ended longer ago than --older-than.")] = False,
    collection: Annotated[
        str | None, typer.Option(metavar="NAME", help="A collection, with its versions, sets and jobs.")
    ] = None,
    document: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Only this document of the collection, or the record of this id."),
    ] = None,
    answers: Annotated[
        bool, typer.Option("--answers", help="Answers that nothing refers to, by --older-than or --max-bytes.")
    ] = False,
    older_than: OlderThan = None,
    max_bytes: MaxBytes = None,
    keep_usage: Annotated[
        bool, typer.Option("--keep-usage", help="Keep the bill: `usage` counts it as before, `verify` recounts it.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Take jobs, a collection, a document or answers out of the ledger, for good.

    With a job go its texts, results and bill, with a collection all its versions and vectors; a document goes from
    every version. Answers go with them unless something else refers to them. Only what has ended can be purged. Each
    step is a short transaction; killed in the middle, the same command goes on. It ends by proving that nothing is
    left.
    """
    from corpusmill.cli.durations import seconds
    from corpusmill.cli.sizes import parsed
    from corpusmill.mill.purging import PurgeAsk

    return carry_out(
        PurgeAsk(
            job=job,
            jobs=jobs,
            answers=answers,
            collection=collection,
            document=document,
            older_than_s=None if older_than is None else seconds(older_than, flag="--older-than"),
            max_bytes=None if max_bytes is None else parsed(max_bytes, flag="--max-bytes"),
            keep_usage=keep_usage,
        ),
        dry_run=dry_run,
        yes=yes,
    )


def carry_out(ask: PurgeAsk, *, dry_run: bool, yes: bool) -> int:
    """Show what would go, ask, and let it go; gives the exit code."""
    from corpusmill.cli.confirming import confirmed
    from corpusmill.cli.following import opened
    from corpusmill.mill.purging import Purging

    with opened() as mill:
        purging = Purging(mill.place, ask)
        # Counting reads all that refers to an answer: only for somebody who looks at it.
        rehearsed = purging.rehearse() if dry_run or not yes else None
        if rehearsed is not None:
            _tell(rehearsed)
        if dry_run and rehearsed is not None:
            out.result(rehearsed.as_dict())
            return 0
        if not confirmed("Purge it for good?", yes=yes):
            out.note("nothing was purged")
            return 0
        done = purging.carry_out()
    _tell(done)
    out.result({**done.as_dict(), "told": f"purged: {_words(done)}"})
    return 0


def _tell(found: Purge) -> None:
    if not found.rows:
        out.summary("there is nothing to purge" if found.dry_run else "✓ nothing is left of it")
        return
    out.summary(f"{'would go' if found.dry_run else '✓ purged, nothing is left'}: {_words(found)}")
    if found.also_called:
        out.summary(f"  earlier names of it that go too: {', '.join(found.also_called)}")
    _tell_what_stays(found)
    if found.jobs_left:
        out.summary(f"  jobs that read a document of that name, too: {', '.join(found.jobs_left)}")
    if found.journal_segments:
        out.note(f"{found.journal_segments} piece(s) of journals from before are still there; they go within minutes")
    for path in found.journals_damaged:
        out.note(f"a damaged journal may hold texts; remove it when you have looked at it: {path}")


def _tell_what_stays(found: Purge) -> None:
    again = ["corpusmill", "purge", "--collection", found.collection or ""]
    if found.namesake_stays:
        out.summary(f"  it was half purged; the new {found.collection} stays; to purge that, too: {shlex.join(again)}")
    for name in found.names_left:
        typed = shlex.join([*again, "--document", name])
        out.summary(f"  other content called {name} stays; to purge that, too: {typed}")
    if found.stays_in:
        out.summary(f"  the same content stays in: {', '.join(found.stays_in)}")
    if found.answers_kept:
        out.summary(f"  {found.answers_kept:,} answers stay: something else refers to them, with the same text")


_NAMES = {
    "embedding_sets": "sets",
    "collection_files": "files",
    "collection_versions": "versions",
    "usage": "usage rows",
}


def _words(found: Purge) -> str:
    """`1 job, 250 answers`."""
    named = ((_NAMES.get(name, name), number) for name, number in found.rows.items())
    return ", ".join(f"{number:,} {name[:-1] if number == 1 else name}" for name, number in named) or "nothing"
