"""The plain data that goes into the ledger and comes out of it.

Frozen and without behaviour: workers, producers and views pass these around; only `corpusmill.ledger`
knows the tables behind them. Times are epoch seconds (UTC) unless a name says otherwise; money is Decimal USD.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from corpusmill.ledger.amounts import Amount, Budget
from corpusmill.spec import JobSpec

Priority = Literal["high", "normal", "low"]
JobState = Literal["loading", "queued", "running", "paused", "finished", "cancelled", "stopped", "purging", "purged"]
PauseReason = Literal["user", "first", "budget", "billing", "key", "endpoint", "disk"]
Flex = Literal["wait", "spill"]
ItemState = Literal["succeeded", "failed", "open"]
UsageOutcome = Literal["paid", "unknown"]
# Whether an amount could be set aside: yes; not while others hold theirs; not under this budget; not our shard now.
Reservation = Literal["ok", "wait", "over", "lost"]


@dataclass(frozen=True, slots=True, order=True)
class ShardRef:
    """One shard of one job: what a queue message names."""

    job_id: int
    shard_no: int


# --- submitting -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job as a producer asks for it. `key` decides whether it is new: see `Ledger.submit`.

    `max_share`: the part of the limit, over 0 to 1, that it uses at most. `budget_tokens`: what it uses at most of them
    over its life, prompt and completion.
    `collection_id`: the named collection that its items are chunks of; None: a nameless one of its own.
    """

    key: bytes
    spec: JobSpec
    provider: str
    key_fingerprint: str
    shard_size: int
    cache: bool = True
    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: Priority = "normal"
    budget_usd: Decimal | None = None
    first: int | None = None
    out: str | None = None
    errors_out: str | None = None
    detached: bool = False
    price_card: Mapping[str, Any] | None = None
    flex: Flex | None = None
    max_share: float | None = None
    budget_tokens: int | None = None
    collection_id: int | None = None


@dataclass(frozen=True, slots=True)
class NewItem:
    """One item in source order; items with the same `source` and `id` in a row are chunks of one document.

    `text` is the chunk (None for a request, whose raw body is `body`). `tokens` are the input tokens counted
    at intake. `problem` makes it an item that has failed before any call, as `(class, message)`.
    """

    id: str
    source: str
    key: bytes | None
    tokens: int
    chunk: int = 0
    start: int = 0
    end: int = 0
    text: str | None = None
    body: bytes | None = None
    line: int | None = None
    metadata: Mapping[str, Any] | None = None
    problem: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a job is loaded: it holds `items`, the last of them chunk `chunk` of the record at this place."""

    items: int
    source: str
    line: int | None
    chunk: int


# --- working ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobRun:
    """What a worker knows of a job."""

    id: int
    public_id: str
    spec: JobSpec
    provider: str
    key_fingerprint: str
    priority: Priority
    budget_usd: Decimal | None
    price_card: Mapping[str, Any] | None
    flex: Flex | None = None
    max_share: float | None = None
    budget_tokens: int | None = None

    @property
    def budget(self) -> Budget:
        """What the job may use over its life."""
        return Budget(self.budget_usd, self.budget_tokens)


@dataclass(frozen=True, slots=True)
class WorkItem:
    """An item that still needs its answer. Exactly one of `text` and `body` is given."""

    item_no: int
    key: bytes
    tokens: int
    source: str
    text: str | None = None
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class ClaimedShard:
    """A shard that is ours until the lease is over.

    `items` are those to send; `awaited` those whose content key another shard has in flight. Items that had
    an answer already were settled by the claim itself. `trial`: its workers died, so send nothing else meanwhile.
    """

    ref: ShardRef
    fence: int
    job: JobRun
    items: Sequence[WorkItem]
    awaited: Sequence[WorkItem]
    trial: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What was paid for, kept under its content key.

    `body` is the endpoint's raw JSON body for a completion or a request, little-endian float32 for an embedding.
    """

    key: bytes
    body: bytes
    model: str
    tier: str | None
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class ItemResult:
    """How an item ended. With `key` it succeeded by that answer; without, `error_class` says why it failed.

    `cached`: no call was paid for this item (a duplicate of one that was). `error` is redacted: never a text or a key.
    """

    ref: ShardRef
    item_no: int
    key: bytes | None
    cached: bool = False
    error_class: str | None = None
    error: str | None = None
    attempts: int = 1
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What one attempt cost one job. A pack over several jobs is one attempt and a row a job.

    `attempt_id` (16 bytes) and the job make it unique: writing it twice changes nothing.
    `usd` None: the model is unpriced. With outcome `unknown` tokens and `usd` are estimates. `wasted`: the number of
    the item that a paid reply brought nothing for, of a pack that of the first.
    """

    attempt_id: bytes
    ref: ShardRef
    provider: str
    model: str
    tier: str | None
    items: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    usd: Decimal | None
    outcome: UsageOutcome
    request_id: str | None = None
    latency_ms: int | None = None
    cache_write_tokens: int = 0
    wasted: int | None = None

    @property
    def amount(self) -> Amount:
        """What it takes of a budget; an unpriced one takes tokens alone."""
        return Amount(self.usd or Decimal(0), self.prompt_tokens + self.completion_tokens)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a group commit writes in one transaction.

    `fences`: the fence under which this worker holds each shard it mentions. `unpaid`: calls that cost nothing, by
    shard; any other call is counted by its usage row. `known`: attempts whose outcome is not unknown any more, by
    shard; their rows are taken back before `usage` is written. `reserved`: what is set aside now for sends in progress,
    by shard (absolute). `closing`: shards whose items all have a result as far as the worker knows. `releasing`:
    shards given back unfinished, with the seconds until they may be claimed again. `renew`: extend the lease of every
    shard in `fences` by `lease_s`.
    """

    fences: Mapping[ShardRef, int] = field(default_factory=dict)
    answers: Sequence[Answer] = ()
    results: Sequence[ItemResult] = ()
    usage: Sequence[Usage] = ()
    unpaid: Mapping[ShardRef, int] = field(default_factory=dict)
    known: Mapping[ShardRef, Collection[bytes]] = field(default_factory=dict)
    reserved: Mapping[ShardRef, Amount] = field(default_factory=dict)
    closing: Sequence[ShardRef] = ()
    releasing: Mapping[ShardRef, float] = field(default_factory=dict)
    renew: bool = False


@dataclass(frozen=True, slots=True)
class CommitReport:
    """What a commit found: shards whose fence is no longer ours, and the state of each job it touched."""

    lost: frozenset[ShardRef]
    closed: frozenset[ShardRef]
    job_states: Mapping[int, JobState]


@dataclass(frozen=True, slots=True)
class AwaitReport:
    """Where awaited keys stand: items settled by now, items to send ourselves, and how many still wait."""

    settled: int
    items: Sequence[WorkItem]
    waiting: Sequence[WorkItem]


@dataclass(frozen=True, slots=True)
class Ended:
    """How an item ended: with the answer under its key, or, with `error_class`, without one.

    `wasted` are the paid replies that brought nothing for it.
    """

    cached: bool
    error_class: str | None
    error: str | None
    wasted: Sequence[Wasted] = ()


@dataclass(frozen=True, slots=True)
class Wasted:
    """The tokens of a paid reply that brought nothing."""

    tier: str | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer as it is kept; see `Answer`."""

    body: bytes
    tier: str | None
    truncated: bool
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int


# --- seeing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as it is listed. `note` explains a pause or stop in one redacted line."""

    id: int
    public_id: str
    key: bytes
    name: str | None
    kind: str
    model: str
    provider: str
    endpoint: str
    key_fingerprint: str
    state: JobState
    reason: PauseReason | None
    note: str | None
    priority: Priority
    labels: Mapping[str, str]
    budget_usd: Decimal | None
    first: int | None
    out: str | None
    errors_out: str | None
    detached: bool
    spec: JobSpec
    price_card: Mapping[str, Any] | None
    created_at: float
    committed_at: float | None
    finished_at: float | None
    flex: Flex | None = None
    max_share: float | None = None
    budget_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class QueueView:
    """Shards of a queue that were sent and that nobody has claimed; the oldest has waited `oldest_s`."""

    kind: Literal["completion", "embedding"]
    priority: Priority
    waiting: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class Overview:
    """The fleet at one moment: jobs by state and, if paused, by reason; lanes (endpoint and key) parked, by reason."""

    jobs: Mapping[str, int]
    paused: Mapping[str, int]
    lanes_parked: Mapping[str, int]
    queues: Sequence[QueueView]
    workers: int
    slots: int


@dataclass(frozen=True, slots=True)
class Counts:
    """A job's numbers over its life; `items == succeeded + failed + open`. `usd` None: the model is unpriced.

    `parked_until`: nothing of it is sent before (epoch seconds), since the endpoint allows nothing.
    """

    items: int
    succeeded: int
    cached: int
    truncated: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    usd: Decimal | None
    unknown_usd: Decimal | None
    unknown_attempts: int
    requests: int
    failed_by_class: Mapping[str, int]
    parked_until: float | None = None

    @property
    def open(self) -> int:
        """Items without a result yet."""
        return self.items - self.succeeded - self.failed


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One item with its result, as exports need it. `body` is raw, as in `Answer`; None when it failed or is open."""

    item_no: int
    id: str
    source: str
    chunk: int
    start: int
    end: int
    line: int | None
    metadata: Mapping[str, Any] | None
    state: ItemState
    cached: bool
    body: bytes | None
    model: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    error_class: str | None
    error: str | None
    attempts: int
    request_id: str | None


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """Usage summed over one group: a job, a model, a day or a label's value."""

    group: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    usd: Decimal | None
    unknown_usd: Decimal | None
    unpriced_requests: int


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A counter that says something else than the rows, or rows that nothing explains."""

    where: str
    what: str
    said: int | Decimal
    found: int | Decimal

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: the ledger says {self.said}, its rows {self.found}"


@dataclass(frozen=True, slots=True)
class Audit:
    """A job recounted from its rows, and whatever does not add up: the first few, and how many in all.

    `unknown_usd` is what attempts may have cost whose outcome nobody knows; `unpriced` attempts are in neither sum.
    """

    state: JobState
    items: int
    succeeded: int
    failed: int
    paid_attempts: int
    unknown_attempts: int
    usd: Decimal
    unknown_usd: Decimal
    unpriced: int
    mismatch_count: int
    mismatches: Sequence[Mismatch]

    @property
    def adds_up(self) -> bool:
        """Whether every number is what the rows say."""
        return self.mismatch_count == 0


@dataclass(frozen=True, slots=True)
class LimitRule:
    """What a person says a provider allows for a model ('': all of them); None: not said. `version` grows."""

    provider: str
    model: str = ""
    rpm: int | None = None
    tpm: int | None = None
    rpd: int | None = None
    tpd: int | None = None
    burst_s: float | None = None
    version: int = 0

    def said(self) -> dict[str, int | float]:
        """What it says, by the names of `Limits`."""
        named = {name: getattr(self, name) for name in ("rpm", "tpm", "rpd", "tpd", "burst_s")}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A live worker: `holds` are the (endpoint, key fingerprint) pairs it can serve."""

    id: str
    host: str
    pid: int
    slots: int
    holds: frozenset[tuple[str, str]]
    seen_s_ago: float
