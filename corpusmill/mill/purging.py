"""Purging from a producer's side: what is chosen, what it is refused for, and what the ledger cannot take away."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from corpusmill.errors import CorpusmillError, UsageError
from corpusmill.mill.place import Place
from corpusmill.mill.verifying import look_at_journals

What = Literal["jobs", "collection", "document", "answers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeAsk:
    """What to purge: a job, jobs or answers older than `older_than_s`, answers beyond `max_bytes`, or of a collection.

    `document`: only the one of that source, or the record of that id. `keep_usage`: bills stay.
    """

    job: str | None = None
    jobs: bool = False
    answers: bool = False
    collection: str | None = None
    document: str | None = None
    older_than_s: float | None = None
    max_bytes: int | None = None
    keep_usage: bool = False


@dataclass(frozen=True, slots=True)
class Purge:
    """What went, or would: rows by table (`vectors`: what sets know of chunks), and the jobs by their ids.

    `collection`: the one that was named; `namesake_stays`: what went was half purged, and a collection that was given
    its name since is not touched. `also_called`, `stays_in`: of a document, other names that went with it, and
    documents of the same content that are there now. `names_left`: those of `also_called` under which other content
    stays. `answers_kept`: those of its chunks that something else refers to. `jobs_left`: jobs outside its collection
    that read a document of this name. `journal_segments`: pieces of journals on this host from before the purge, which
    their processes drop within minutes. `journals_damaged`: kept for a person to look at; they may hold texts.
    """

    what: What
    rows: Mapping[str, int]
    jobs: Sequence[str] = ()
    collection: str | None = None
    namesake_stays: bool = False
    also_called: Sequence[str] = ()
    names_left: Sequence[str] = ()
    stays_in: Sequence[str] = ()
    answers_kept: int = 0
    jobs_left: Sequence[str] = ()
    journal_segments: int = 0
    journals_damaged: Sequence[str] = ()
    dry_run: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The object of `--json`."""
        names = [name for name in self.__dataclass_fields__ if name not in ("what", "rows")]
        return {"purged": self.what, "rows": dict(self.rows), **{name: getattr(self, name) for name in names}}


class Purging:
    """One purge: `rehearse` it, then `carry_out`. The same again goes on where a killed one stopped."""

    def __init__(self, place: Place, ask: PurgeAsk) -> None:
        self._ledger, self._ask = place.ledger, ask
        self._journals = place.settings.home / "journal"
        _refuse_unclear(ask)

    def rehearse(self) -> Purge:
        """What would go; changes nothing, and refuses what `carry_out` would.

        Raises:
            UsageError: there is no such thing, or it has not ended.
        """
        return self._done(dry_run=True)

    def carry_out(self) -> Purge:
        """Take it away, and prove that nothing of it is left in the ledger.

        Raises:
            UsageError: there is no such thing, or it has not ended.
            CorpusmillError: journals of dead processes would bring some of it back, or something came meanwhile.
        """
        self._refuse_waiting_journals()
        return self._done(dry_run=False)

    def _done(self, *, dry_run: bool) -> Purge:
        ask, purging, begun = self._ask, self._ledger.purging, time.time()
        facts: dict[str, Any] = {"collection": ask.collection}
        what: What = "answers"
        rows: Mapping[str, int]
        if ask.document is not None and ask.collection is not None:
            what, found = "document", purging.document(ask.collection, ask.document, dry_run=dry_run)
            rows = found.rows
            facts |= {"also_called": found.also_called, "stays_in": found.stays_in}
            facts |= {"names_left": found.names_left, "answers_kept": found.answers_kept, "jobs_left": found.jobs}
        elif ask.collection is not None:
            what, facts["namesake_stays"] = "collection", purging.has_namesake(ask.collection)
            rows = purging.collection(ask.collection, keep_usage=ask.keep_usage, dry_run=dry_run)
        elif ask.answers:
            rows = {"answers": self._purge_answers(dry_run=dry_run)}
        else:
            chosen = self._chosen_jobs()
            what, facts["jobs"] = "jobs", [self._ledger.job(job_id).public_id for job_id in chosen]
            rows = purging.jobs(chosen, keep_usage=ask.keep_usage, dry_run=dry_run) if chosen else {}
        return Purge(what, {name: number for name, number in rows.items() if number}, dry_run=dry_run, **facts,
                     **({} if dry_run else self._journals_left(begun)))  # fmt: skip

    def _chosen_jobs(self) -> list[int]:
        if self._ask.job is not None:
            return [self._ledger.job(self._ask.job).id]
        before = time.time() - (self._ask.older_than_s or 0.0)
        return self._ledger.purging.ended_before(before, purged=not self._ask.keep_usage)

    def _purge_answers(self, *, dry_run: bool) -> int:
        ask, purging = self._ask, self._ledger.purging
        cuts = [] if ask.older_than_s is None else [time.time() - ask.older_than_s]
        if ask.max_bytes is not None and (cut := purging.cut_for(ask.max_bytes)) is not None:
            cuts.append(cut)
        return purging.answers(max(cuts), dry_run=dry_run) if cuts else 0

    # --- journals -----------------------------------------------------------------------------------------------

    def _refuse_waiting_journals(self) -> None:
        """What a dead process had paid for would come into the ledger after the purge."""
        waiting, _ = look_at_journals(self._journals)
        if waiting:
            raise CorpusmillError(
                f"{waiting} journal(s) of processes that died hold what would come back after the purge",
                where=str(self._journals),
                next_step="start a worker or `corpusmill up`, which adopts them within seconds; then purge again",
            )

    def _journals_left(self, begun: float) -> dict[str, Any]:
        segments = [path for path in self._journals.glob("*/*.log") if path.parent.suffix != ".damaged"]
        before = sum(_is_older(path, begun) for path in segments)
        damaged = sorted(str(path) for path in self._journals.glob("*.damaged"))
        return {"journal_segments": before, "journals_damaged": damaged}


def _is_older(segment: Path, begun: float) -> bool:
    """Whether something was written to it, and before the purge began."""
    try:
        facts = segment.stat()
    except OSError:
        return False
    return facts.st_size > 0 and facts.st_mtime <= begun


def _refuse_unclear(ask: PurgeAsk) -> None:
    if ask.document is not None and ask.collection is None:
        raise UsageError(
            "--document needs its collection", next_step="corpusmill purge --collection NAME --document SOURCE"
        )
    named = [ask.job is not None, ask.jobs, ask.answers, ask.collection is not None]
    if sum(named) != 1:
        raise UsageError(
            "say one thing to purge: a job, --jobs, --collection or --answers",
            next_step="corpusmill purge JOB, or --jobs --older-than 90d, --collection NAME, --answers --older-than 9d",
        )
    if ask.document is not None and ask.keep_usage:
        raise UsageError("what was paid for a document stays on the bill anyway", next_step="leave --keep-usage out")
    by_age = ask.jobs or ask.answers
    if by_age and ask.older_than_s is None and ask.max_bytes is None:
        raise UsageError("say how old: --older-than 90d", next_step="--older-than 0s for all that have ended")
    if not by_age and ask.older_than_s is not None:
        raise UsageError("--older-than is for --jobs and --answers", next_step="leave it out, or purge by age")
    if ask.max_bytes is not None and not ask.answers:
        raise UsageError("--max-bytes is for --answers", next_step="corpusmill purge --answers --max-bytes 10GB")
