"""`sync` and `reembed`: bring a collection to its sources, or to another model, follow the job, say what changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from corpusmill.cli.arguments import label_pairs, source
from corpusmill.cli.options import BudgetTokens, CorpusFlags, Dimensions, MaxShare, Model, Sources, budget_usd
from corpusmill.cli.output import out

if TYPE_CHECKING:
    from corpusmill.collections.reembedding import SetReport
    from corpusmill.collections.report import Report
    from corpusmill.mill import Job
    from corpusmill.mill.ask import Terms

Option = typer.Option
_LOOK_S = 0.5

CollectionName = Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection's name.")]


@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """How the job of a sync is run."""

    provider: Annotated[
        str | None, Option(metavar="P", help="One of the configured providers; unset: openai, or the only one.")
    ] = None
    priority: Annotated[
        Literal["high", "normal", "low"], Option(help="Which jobs are served first when several wait.")
    ] = "normal"
    budget: Annotated[
        str | None, Option(metavar="USD", help="Pause before more than this is spent; `none` takes a cap away.")
    ] = None
    label: Annotated[list[str], Option(metavar="K=V", help="A label for `usage --by label:K`; may be repeated.")] = (
        field(default_factory=list)
    )
    max_share: MaxShare = None
    budget_tokens: BudgetTokens = None
    retry_failed: Annotated[bool, Option("--retry-failed", help="Try chunks that failed for good again.")] = False
    detach: Annotated[
        bool, Option("--detach", help="Return at once; the job goes on, and what is complete is shown.")
    ] = False

    def terms(self, **more: Any) -> Terms:
        """As the mill takes them."""
        from corpusmill.mill.options import sorted_out

        given = {name: value for name, value in vars(self).items() if name not in ("label", "budget")}
        _, terms, _ = sorted_out(
            {**given, **more, "labels": label_pairs(self.label), "budget_usd": budget_usd(self.budget)}
        )
        return terms


def sync(
    collection: CollectionName,
    sources: Sources,
    corpus: CorpusFlags,
    run: RunFlags,
    model: Annotated[
        str | None, Option("--model", metavar="M", help="The model; may be left out once the collection has one.")
    ] = None,
    dimensions: Dimensions = None,
    skip_invalid: Annotated[
        bool, Option("--skip-invalid", help="Leave broken lines of line files out instead of stopping.")
    ] = False,
    checksum: Annotated[
        bool, Option("--checksum", help="Read every file, also those whose size and times are as they were.")
    ] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Say what would change and cost; write nothing.")] = False,
    recut: Annotated[
        bool, Option("--recut", help="Cut everything anew when the chunking flags differ from the last sync's.")
    ] = False,
    allow_mass_delete: Annotated[
        bool, Option("--allow-mass-delete", help="Delete even more than half of the documents.")
    ] = False,
    if_running: Annotated[
        Literal["join", "refuse"], Option(help="When a sync of the collection is under way: wait for it, or fail.")
    ] = "join",
) -> int:
    """Bring a collection of vectors to the state of its sources.

    Documents are known again by their content: what was only moved, or has a new date, costs no call, and of an edited
    one only the chunks around the edit are embedded. Readers (`export`) see the former state until all is complete.
    The same command again goes on where it stopped; once it is complete it sends nothing.
    """
    from corpusmill.cli.following import opened
    from corpusmill.collections.ask import SyncAsk
    from corpusmill.collections.syncing import Syncing
    from corpusmill.mill.options import sorted_out

    shape, _, _ = sorted_out({**corpus.as_dict(), "skip_invalid": skip_invalid})
    ask = SyncAsk(
        name=collection,
        sources=[source(name) for name in sources],
        model=model,
        dimensions=dimensions,
        shape=shape,
        terms=run.terms(),
        checksum=checksum,
        recut=recut,
        allow_mass_delete=allow_mass_delete,
        refuse_second=if_running == "refuse",
    )
    with opened() as mill:
        syncing = Syncing(mill.place, ask, mill.listener)
        if dry_run:
            return _tell(syncing.rehearse())
        syncing.start()
        return _followed(syncing.job, run.detach, lambda: _tell(syncing.finish()), lambda: syncing.finish().as_dict())


def reembed(
    collection: CollectionName,
    model: Model,
    run: RunFlags,
    dimensions: Dimensions = None,
    activate: Annotated[
        Literal["when-complete", "manual"], Option(help="Who lets readers see the new vectors, once all are there.")
    ] = "when-complete",
    keep: Annotated[str, Option(metavar="SPAN", help="How long the former set is kept, to go back to.")] = "7d",
) -> int:
    """Embed a collection anew by another model, beside the active vectors, then switch at one moment.

    The stored texts are embedded; sources are not read. `collection rollback` goes back as long as the former set is
    kept. The same command again goes on where it stopped.
    """
    from corpusmill.cli.durations import seconds
    from corpusmill.cli.following import opened
    from corpusmill.collections.reembedding import ReembedAsk, Reembedding

    keep_s = seconds(keep, flag="--keep") if activate == "when-complete" else None
    ask = ReembedAsk(name=collection, model=model, dimensions=dimensions, keep_s=keep_s, terms=run.terms())
    with opened() as mill:
        work = Reembedding(mill.place, ask, mill.listener)
        while True:
            work.start()
            code = _followed(work.job, run.detach, lambda: _tell_set(work.finish()), lambda: work.finish().as_dict())
            if code or not (work.behind or work.held_up):
                return code
            if work.held_up:
                out.note("a sync is under way; the switch comes after it")
            while work.held_up:
                time.sleep(_LOOK_S)
            out.note("a sync has completed meanwhile; what it changed is embedded before the switch")


def _followed(job: Job | None, detach: bool, finish: Callable[[], int], standing: Callable[[], dict[str, Any]]) -> int:
    """Follow the job, if there is one, then `finish`; one that does not end well is explained instead."""
    from corpusmill.cli.following import interrupted, watched
    from corpusmill.mill.outcome import explain

    if job is None:
        return finish()
    if detach:
        out.summary(
            f"{job.id} is {job.state} and needs no command to go on; the scheduler shows readers what is complete"
        )
        out.result(standing())
        return 0
    if not watched(job):
        return interrupted(job)
    summary = job.summary()
    if summary.state == "finished":
        return finish()
    error = explain(summary, endpoint=job.view.endpoint, missing_key=job.missing_key)
    if error is not None:
        out.trouble(error)
    else:
        out.note(f"{job.id} is {summary.state}; the same command goes on")
    out.result(standing())
    return summary.exit_code


def _tell(report: Report) -> int:
    from corpusmill.mill.sums import usd

    count = {name: f"{number:,}" for name, number in report.counts.items()}
    version = "would be" if report.version is None else f"version {report.version} is {report.state}"
    out.summary(f"{report.collection}@{report.set}: {version}")
    parts = [f"{count.get(name, '0')} {name}" for name in ("added", "changed", "moved", "unchanged", "deleted")]
    out.summary(f"  documents {', '.join(parts)}")
    parts = [f"{count.get(name, '0')} {name}" for name in ("embedded", "reused")]
    failed = f", {count['failed']} failed" if report.counts.get("failed") else ""
    out.summary(f"  chunks    {', '.join(parts)}{failed}; {usd(report.usd)} USD")
    if report.taken_as_unchanged:
        out.summary(
            f"  files     {report.taken_as_unchanged:,} not read, since size and times are as before (--checksum)"
        )
    if report.counts.get("failed") and report.version is not None:
        out.summary(
            f"  next      corpusmill failures {report.collection}   # then the same command with --retry-failed"
        )
    out.result(report.as_dict())
    return 0 if report.version is None else report.exit_code


def _tell_set(report: SetReport) -> int:
    cover = report.cover
    out.summary(f"{report.collection}@{report.set} is {report.state}: {cover.vectors:,} of {cover.chunks:,} chunks")
    if report.state == "active":
        out.summary(f"  readers see it from now on; back: corpusmill collection rollback {report.collection}")
    elif cover.failed:
        out.summary(f"  {cover.failed:,} chunks failed; readers go on to see {report.active}")
        out.summary(f"  next      corpusmill failures {report.collection}@{report.set}")
    elif report.state == "ready":
        out.summary(f"  next      corpusmill collection activate {report.collection}@{report.set}")
    out.result(report.as_dict())
    return 3 if cover.failed and report.state != "active" else 0
