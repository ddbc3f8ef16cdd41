"""The ledger as callers see it: one object, many short transactions. What each does is written where it is done."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING

from corpusmill.ledger import (
    audit,
    budgets,
    claims,
    clock,
    commits,
    control,
    counts,
    encoding,
    feeding,
    inflight,
    jobs,
    limit_rules,
    loading,
    overview,
    results,
    schema,
    standing,
    usage,
    workers,
)
from corpusmill.ledger.amounts import Amount
from corpusmill.ledger.collection_ledger import CollectionLedger
from corpusmill.ledger.database import Database, parse
from corpusmill.ledger.records import (
    Audit,
    AwaitReport,
    Batch,
    ClaimedShard,
    CommitReport,
    Counts,
    Ended,
    Flex,
    ItemState,
    JobView,
    KeptAnswer,
    LimitRule,
    Mark,
    NewItem,
    NewJob,
    Overview,
    PauseReason,
    Priority,
    Reservation,
    ResultRow,
    ShardRef,
    UsageTotal,
    WorkerView,
)
from corpusmill.ledger.scheduling import Schedules

if TYPE_CHECKING:
    from corpusmill.ledger.purging import PurgeLedger


class Ledger:
    """Jobs, their shards, what was paid and what came of it. Safe to share between threads, not between processes.

    Any method may raise `Unavailable` (the database cannot be reached, or is busy for over 30 s) or `DiskFull`;
    nothing is half done then, and the call can be made again.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    @classmethod
    def open(cls, url: str, *, create: bool = True) -> Ledger:
        """Open the ledger at `url` (`sqlite:///…` or `postgresql://…`).

        An SQLite ledger is made, or brought up to date, when `create`. PostgreSQL is migrated by `corpusmill migrate`.

        Raises:
            UsageError: the URL cannot be used, or the schema is missing, older or newer: the error says what to type.
        """
        database = Database(parse(url))
        try:
            schema.prepare(database, create=create)
        except BaseException:
            database.close()
            raise
        return cls(database)

    def close(self) -> None:
        """Give all connections back."""
        self._db.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def now_s(self) -> float:
        """The clock on which leases are compared, in seconds; its zero means nothing."""
        return self._db.read(clock.read_clock).lease_s

    def salt(self) -> bytes:
        """The salt of key fingerprints, made once for this ledger."""
        return self._salt

    @cached_property
    def _salt(self) -> bytes:
        return self._db.write(schema.salt)

    @cached_property
    def schedules(self) -> Schedules:
        """The schedules, and the runs that came of them."""
        return Schedules(self._db)

    @cached_property
    def collections(self) -> CollectionLedger:
        """The named collections."""
        return CollectionLedger(self._db)

    @cached_property
    def purging(self) -> PurgeLedger:
        """What takes rows out of the ledger."""
        from corpusmill.ledger.purging import PurgeLedger  # brings NumPy, which no other command of people's needs

        return PurgeLedger(self._db)

    def first_use(self, scope: str) -> bool:
        """Whether nobody has ever drawn from this scope of the limiter; whoever asks is taken to draw from it now."""
        return self._db.write(schema.first_use, scope)

    # --- submitting ---------------------------------------------------------------------------------------------

    def submit(self, new: NewJob) -> tuple[JobView, bool]:
        """The job of `new.key`, and whether it was made now; a known job is returned as it stands."""
        return self._db.write(jobs.submit, new)

    def loaded(self, job_id: int) -> int:
        """How many items the job holds by now."""
        return self._db.read(counts.items, job_id)

    def mark(self, job_id: int) -> Mark | None:
        """How far the job is loaded, so that its sources need not be read from their start; None: nothing is."""
        return self._db.read(loading.mark, job_id)

    def load(self, job_id: int, items: Sequence[NewItem], *, after: int) -> int:
        """Append up to 5,000 items, in one transaction, if the job is loading and holds exactly `after` by now.

        Returns how many it holds now: `after + len(items)`, or what another process that loads the same job has
        reached; go on from there.

        Raises:
            UsageError: the job was cancelled while it was loading.
        """
        return self._db.write(loading.load, job_id, items, after=after)

    def commit_job(self, job_id: int) -> JobView:
        """The source is loaded whole; a job that is not loading any more is returned as it stands."""
        self._db.write(loading.commit, job_id)
        return self.job(job_id)

    def append(self, job_id: int, items: Sequence[NewItem]) -> tuple[ShardRef, int] | None:
        """Add a shard to a standing job, which was committed before: the shard, and the number of its first item.

        None: the job was paused, stopped or cancelled.
        """
        return self._db.write(standing.append, job_id, items)

    def ended(self, job_id: int, numbers: Collection[int]) -> Mapping[int, Ended]:
        """How those of a job's items ended that have."""
        return self._db.read(standing.ended, job_id, numbers)

    def answers(self, keys: Collection[bytes]) -> Mapping[bytes, KeptAnswer]:
        """The answers that there are under these content keys."""
        return self._db.read(standing.answers, keys)

    # --- finding and seeing -------------------------------------------------------------------------------------

    def job(self, ref: str | int) -> JobView:
        """The job of an id, an unambiguous prefix of one, a name (its newest), a number, or `last`.

        Raises:
            JobNotFound: none or several; the error names those that are near.
        """
        return self._db.read(jobs.find, ref)

    def job_by_key(self, key: bytes) -> JobView | None:
        """The job of a job key, if there is one."""
        return self._db.read(jobs.by_key, key)

    def jobs(self, limit: int = 50) -> list[JobView]:
        """The newest jobs, newest first."""
        return self._db.read(jobs.newest, limit)

    def unfinished(self) -> list[JobView]:
        """Jobs that are queued or running, oldest first."""
        return self._db.read(jobs.unfinished)

    def parked(self) -> list[JobView]:
        """Jobs that are paused for what an endpoint said of its account, its key or itself, oldest first."""
        return self._db.read(jobs.parked)

    def counts(self, job_id: int) -> Counts:
        """The job's numbers at one moment: sums over its shards, cheap enough to ask for every second."""
        return self._db.read(counts.counts, job_id)

    def first_and_last(self, job_id: int) -> tuple[float | None, float | None]:
        """When the job was committed and when its newest result came, in epoch seconds."""
        return self._db.read(counts.span, job_id)

    def latencies(self, job_id: int) -> tuple[float, float] | None:
        """Median and 95th percentile of the latency of the job's paid calls, in milliseconds; None without any."""
        return self._db.read(counts.latencies, job_id)

    def mean_output_tokens(self, job_id: int) -> float | None:
        """Completion tokens a paid answer of the job; None before the first."""
        return self._db.read(counts.mean_output, job_id)

    def max_output_tokens(self, job_id: int) -> int | None:
        """The most completion tokens that one call of the job took; None before the first."""
        return self._db.read(counts.max_output, job_id)

    def input_tokens(self, job_id: int) -> int:
        """All input tokens of the job's items, as counted at intake."""
        return self._db.read(counts.input_tokens, job_id)

    def results(
        self, job_id: int, *, states: Sequence[ItemState] = ("succeeded",), after: int = -1
    ) -> Iterator[ResultRow]:
        """Stream the items behind number `after` that are in one of `states`, in item order, bodies as they came."""
        return results.results(self._db, job_id, states, after)

    def failures(self, job_id: int) -> Iterator[ResultRow]:
        """Stream the failed items, in item order."""
        return self.results(job_id, states=("failed",))

    def usage_by(self, what: str, since: float | None = None) -> list[UsageTotal]:
        """Usage summed by `job`, `model`, `day` (UTC) or `label:K`, from `since` (epoch seconds) on."""
        return self._db.read(usage.totals, what, since)

    def reprice(self, card_for: usage.CardFor) -> int:
        """Price what was unpriced with `card_for(model, provider)`; return how many usage rows got their cost."""
        return usage.reprice(self._db, card_for)

    def audit(self, job_id: int, *, most: int = 20) -> Audit:
        """Recount the job from its rows at one moment; up to `most` mismatches are described, all are counted."""
        return self._db.read(audit.audit, job_id, most)

    # --- steering -----------------------------------------------------------------------------------------------

    def pause(self, job_id: int, reason: PauseReason, note: str | None = None) -> JobView:
        """Let nothing more be sent; what is in flight finishes. A job that does not run is left as it is."""
        self._db.write(control.pause, job_id, reason, note)
        return self.job(job_id)

    def pause_lane(self, endpoint: str, key_fingerprint: str, reason: PauseReason, note: str | None) -> list[int]:
        """Pause every running job of an endpoint and key; return their ids."""
        return self._db.write(control.pause_lane, endpoint, key_fingerprint, reason, note)

    def resume(
        self, job_id: int, *, first: int | EllipsisType | None = ..., budget: Decimal | EllipsisType | None = ...
    ) -> JobView:
        """Go on with the open items, under a new border or budget if given; `...` leaves one as it is.

        A job that was paused where its `first` items end goes on to its end, unless given another border.
        """
        self._db.write(control.resume, job_id, first=first, budget=budget)
        return self.job(job_id)

    def revive(self, jobs: Collection[int]) -> int:
        """Let those of these jobs go on that stand because their endpoint could not be reached; return how many."""
        return self._db.write(control.revive, jobs)

    def cancel(self, job_id: int) -> JobView:
        """Send nothing more; `resume` goes on with the open items."""
        self._db.write(control.end, job_id, "cancelled", None)
        return self.job(job_id)

    def stop(self, job_id: int, note: str) -> JobView:
        """Every item fails alike: send nothing more, and say why in one redacted line."""
        self._db.write(control.end, job_id, "stopped", note)
        return self.job(job_id)

    def reopen_failed(self, job_id: int, classes: Collection[str] | None = None) -> int:
        """Forget failures (of these classes), so that their items are tried again; return how many.

        Items that failed before any call stay failed. A finished job is queued again, a paused one waits for `resume`.
        """
        return self._db.write(control.reopen_failed, job_id, classes)

    def bind_key(self, job_id: int, key_fingerprint: str) -> None:
        """Bind a job to another key."""
        self._db.write(control.bind_key, job_id, key_fingerprint)

    def bind_lane(self, endpoint: str, old: str, new: str) -> list[int]:
        """Bind every unfinished job of an endpoint from one key to another; return their ids."""
        return self._db.write(control.bind_lane, endpoint, old, new)

    def set_first(self, job_id: int, first: int | None) -> None:
        """Give the job another border; one that has finished is left as it is."""
        self._db.write(control.set_first, job_id, first)

    def set_budget(self, job_id: int, budget: Decimal | None) -> None:
        """Give the job another budget, None for none."""
        self._db.write(control.set_budget, job_id, budget)

    def set_out(self, job_id: int, out: str | None) -> None:
        """Remember where the job's output goes."""
        self._db.write(control.set_plain, job_id, out=out)

    def remember_output(self, job_id: int, path: str, digest: str) -> None:
        """Remember the digest of what the job wrote to `path`; a job may write to several."""
        self._db.write(control.remember_output, job_id, path, digest)

    def output_digest(self, job_id: int, path: str) -> str | None:
        """The digest of what the job last wrote to `path`; None when it never did."""
        return self._db.read(control.output_digest, job_id, path)

    def set_errors_out(self, job_id: int, errors_out: str | None) -> None:
        """Remember where failed request lines go."""
        self._db.write(control.set_plain, job_id, errors_out=errors_out)

    def set_detached(self, job_id: int, detached: bool) -> None:
        """Remember whether the job goes on without a viewer."""
        self._db.write(control.set_plain, job_id, detached=detached)

    def set_name(self, job_id: int, name: str | None) -> None:
        """Give the job another name."""
        self._db.write(control.set_plain, job_id, name=name)

    def set_budget_tokens(self, job_id: int, tokens: int | None) -> None:
        """Let the job use so many tokens over its life, prompt and completion; None: any number."""
        self._db.write(control.set_budget_tokens, job_id, tokens)

    def set_max_share(self, job_id: int, max_share: float | None) -> None:
        """Give the job another part of the limit at most; shards that run go on as they began."""
        self._db.write(control.set_plain, job_id, max_share=max_share)

    def set_flex(self, job_id: int, flex: Flex) -> None:
        """Give the job another answer to flex having no capacity; shards that run go on as they began."""
        self._db.write(control.set_plain, job_id, flex=flex)

    def set_priority(self, job_id: int, priority: Priority) -> None:
        """Give the job another priority; shards on a queue already stay there."""
        self._db.write(control.set_plain, job_id, priority=priority)

    def limit_rules(self) -> list[LimitRule]:
        """The limits that people have set while workers run, by provider and model."""
        return self._db.read(limit_rules.in_force)

    def limits_version(self) -> int:
        """Changes whenever a rule is set or unset; cheap enough to ask every second."""
        return self._db.read(limit_rules.version)

    def set_limit_rule(self, rule: LimitRule) -> LimitRule:
        """Let a rule hold; what it leaves open stays as an earlier one of the same provider and model says."""
        return self._db.write(limit_rules.set_, rule)

    def unset_limit_rule(self, provider: str, model: str) -> bool:
        """Let no rule hold for exactly this provider and model; whether there was one."""
        return self._db.write(limit_rules.unset, provider, model)

    # --- working ------------------------------------------------------------------------------------------------

    def claim(
        self, ref: ShardRef, *, worker_id: str, lease_s: float, holds: Collection[tuple[str, str]]
    ) -> ClaimedShard | None:
        """Take a shard for `lease_s` seconds; None when it is not free, done, or of a job that is not for us.

        Items that have an answer are settled on the way; a shard with nothing left is closed and comes back empty.
        """
        return self._db.write(claims.claim, ref, worker_id=worker_id, lease_s=lease_s, holds=holds)

    def awaited(self, ref: ShardRef, fence: int) -> AwaitReport:
        """Where a shard's awaited keys stand; those whose payer failed or died come back as `items` to send."""
        return self._db.write(claims.awaited, ref, fence)

    def commit(self, batch: Batch, *, worker_id: str, lease_s: float) -> CommitReport:
        """Write a batch in one transaction. Written twice it counts once, but for `unpaid`."""
        answers = encoding.rows(batch.answers)
        return self._db.write(commits.commit, batch, answers, worker_id=worker_id, lease_s=lease_s)

    def reserve(self, ref: ShardRef, fence: int, amount: Amount) -> Reservation:
        """Set an amount aside under the job's budgets, for calls of a shard that we hold.

        It moves to spent as usage is committed, and comes back when the shard is closed or released.
        """
        return self._db.write(budgets.reserve, ref, fence, amount)

    def spent(self, job_id: int) -> Amount:
        """What of its budgets the job has used so far, with what calls of unknown outcome may have."""
        return self._db.read(budgets.spent, job_id)

    # --- feeding ------------------------------------------------------------------------------------------------

    def sendable(self, queue_kind: str, priority: Priority, *, room: int) -> list[ShardRef]:
        """Mark up to `room` shards as sent and return them in the order to publish them, fairly over jobs."""
        if room <= 0 or not self._db.read(feeding.servable, queue_kind, priority):
            return []  # idle ticks take no write lock
        return self._db.write(feeding.sendable, queue_kind, priority, room=room)

    def left_behind(self, queue_kind: str, *, most: int) -> list[ShardRef]:
        """Mark up to `most` shards as sent anew whose worker let its lease lapse, and return them."""
        if not self._db.read(feeding.any_left_behind, queue_kind):
            return []  # idle ticks take no write lock
        return self._db.write(feeding.left_behind, queue_kind, most)

    def outstanding(self, queue_kind: str, priority: Priority) -> int:
        """How many shards of running jobs are sent and not done."""
        return self._db.read(feeding.outstanding, queue_kind, priority)

    def unclaimed(self, queue_kind: str, priority: Priority) -> int:
        """How many shards of running jobs are sent and taken by no worker yet."""
        return self._db.read(feeding.outstanding, queue_kind, priority, unclaimed=True)

    def held(self, job_id: int) -> int:
        """How many shards of a job some worker still holds: what is in flight after a pause is in these."""
        return self._db.read(feeding.held, job_id)

    def unmark_sent(
        self, older_than_s: float, *, queue_kind: str | None = None, priority: Priority | None = None
    ) -> int:
        """Take wake-ups for lost that nobody claimed for so long; return how many shards can be sent again."""
        return self._db.write(feeding.unmark_sent, older_than_s, queue_kind=queue_kind, priority=priority)

    def sweep(self) -> int:
        """Remove in-flight keys that dead holders left behind; return how many."""
        return self._db.write(inflight.sweep)

    def set_budgets_right(self) -> int:
        """Count anew what jobs have used of their tokens where their account says something else; how many."""
        jobs_astray = self._db.read(budgets.astray)
        for job_id in jobs_astray:
            self._db.write(budgets.set_right, job_id)
        return len(jobs_astray)

    def worker_beat(
        self,
        worker_id: str,
        *,
        host: str,
        pid: int,
        boot_id: str,
        slots: int,
        holds: Collection[tuple[str, str]],
        lease_s: float,
    ) -> None:
        """Say that a worker lives for the next `lease_s` seconds, with so many slots, and what it can serve."""
        row = {"id": worker_id, "host": host, "pid": pid, "boot_id": boot_id, "slots": slots, "lease_s": lease_s}
        self._db.write(workers.beat, row, holds)

    def worker_gone(self, worker_id: str) -> None:
        """Forget a worker that ended in order."""
        self._db.write(workers.gone, worker_id)

    def workers(self, max_age_s: float) -> list[WorkerView]:
        """Workers that were heard of in the last `max_age_s` seconds."""
        return self._db.read(workers.seen, max_age_s)

    def outgrown(self) -> str | None:
        """The schema's revision if it is more than one version newer than this library, which must then not go on."""
        return self._db.read(schema.outgrown)

    def overview(self, live_s: float) -> Overview:
        """How the fleet stands; workers are those heard of in the last `live_s` seconds."""
        return self._db.read(overview.overview, live_s)

    def serving(self, endpoint: str, key_fingerprint: str) -> bool:
        """Whether some live worker can serve that endpoint with that key."""
        return (endpoint, key_fingerprint) in self._db.read(workers.held_by_living)
