"""Single requests through the fleet: gathered into shards of standing jobs, and their answers brought back from SQL.

Two threads: one writes what was gathered and feeds it, the other hears of commits and looks for answers. Whoever asked
may have gone by then: the answer is in the ledger all the same, and the next one who asks finds it there.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count

import orjson
from celery import Celery

from corpusmill.errors import CorpusmillError
from corpusmill.feed import feed
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import Ended, KeptAnswer, NewItem, NewJob, ShardRef
from corpusmill.lightrag.ears import Ears
from corpusmill.spec import JobSpec, private_key

log = logging.getLogger(__name__)

GATHER_S = 0.005
LOOK_S = 1.0
SHARD_SIZE = {"completion": 100, "embedding": 2_000}
_HALTED = frozenset({"paused", "stopped", "cancelled"})


@dataclass(frozen=True, slots=True)
class Standing:
    """What a standing job is for: requests of one kind to one endpoint under one key."""

    spec: JobSpec
    provider: str
    key_fingerprint: str

    def __hash__(self) -> int:
        # A spec holds a dictionary of options, which these jobs never have.
        return hash((self.spec.path, self.spec.model, self.spec.endpoint, self.spec.dimensions, self.key_fingerprint))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an errand: an answer, whether it was there already, or why there is none."""

    answer: KeptAnswer | None
    hit: bool = False
    error_class: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Errand:
    """One item on its way; `known_as` is the content key that it was asked for by.

    `fresh`: an answer that is there already will not do.
    """

    standing: Standing
    item: NewItem
    known_as: bytes
    fresh: bool = False
    done: Future[Outcome] = field(default_factory=Future)

    @property
    def key(self) -> bytes:
        """Its content key."""
        return self.item.key or b""


class Errands:
    """Runs errands over one ledger and broker until it is closed. Safe to use from any thread and loop."""

    def __init__(
        self, ledger: Ledger, app: Celery, ears: Ears, *, card_for: Callable[[JobSpec], Mapping[str, object] | None]
    ) -> None:
        self._ledger, self._app, self._ears, self._card_for = ledger, app, ears, card_for
        self._asked: queue.SimpleQueue[Errand | None] = queue.SimpleQueue()
        self._jobs: dict[Standing, int] = {}
        self._lock, self._placing = threading.Lock(), threading.Lock()
        self._under_way: dict[bytes, Errand] = {}
        self._awaited: dict[int, dict[int, Errand]] = defaultdict(dict)
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=run, name=f"errands-{run.__name__}", daemon=True)
            for run in (self._send_all, self._fetch_all)
        ]

    def start(self) -> None:
        """Start both threads."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Take no more errands; those under way are left to the fleet."""
        self._closing.set()
        self._asked.put(None)
        for thread in self._threads:
            thread.join()

    def run(self, errand: Errand) -> tuple[Future[Outcome], bool]:
        """Start an errand; what it brings, and whether an identical one was under way already."""
        with self._lock:
            known = None if errand.fresh else self._under_way.get(errand.known_as)
            if known is not None:
                return known.done, True
            if not errand.fresh:
                self._under_way[errand.known_as] = errand
        self._asked.put(errand)
        return errand.done, False

    # --- the sending thread -------------------------------------------------------------------------------------

    def _send_all(self) -> None:
        while (first := self._asked.get()) is not None:
            by_job: dict[Standing, list[Errand]] = defaultdict(list)
            for errand in [first, *self._gathered()]:
                by_job[errand.standing].append(errand)
            for standing, errands in by_job.items():
                self._guarded(partial(self._send, standing, errands), errands)
            self._guarded(partial(feed, self._ledger, self._app))

    def _gathered(self) -> list[Errand]:
        """What else is asked for within a few milliseconds."""
        found: list[Errand] = []
        until = time.monotonic() + GATHER_S
        while (left_s := until - time.monotonic()) > 0 and len(found) < max(SHARD_SIZE.values()):
            try:
                errand = self._asked.get(timeout=left_s)
            except queue.Empty:
                break
            if errand is None:
                self._asked.put(None)
                break
            found.append(errand)
        return found

    def _send(self, standing: Standing, errands: Sequence[Errand]) -> None:
        known = self._ledger.answers({errand.key for errand in errands if not errand.fresh})
        open_ = []
        for errand in errands:
            answer = known.get(errand.key)
            if answer is not None and not answer.truncated:
                self._end(errand, Outcome(answer, hit=True))
            else:
                # An answer that was cut would settle the item again: it gets a key of its own.
                open_.append(private(errand) if answer is not None or errand.fresh else errand)
        size = SHARD_SIZE[standing.spec.queue_kind]
        for start in range(0, len(open_), size):
            self._append(standing, open_[start : start + size])

    def _append(self, standing: Standing, errands: Sequence[Errand]) -> None:
        ref, first = self.place(standing, [errand.item for errand in errands])
        with self._lock:
            self._awaited[ref.job_id].update(zip(count(first), errands, strict=False))

    def place(self, standing: Standing, items: Sequence[NewItem]) -> tuple[ShardRef, int]:
        """Put items into a shard of the standing job, from any thread: the shard, and its first item's number."""
        while True:
            with self._placing:
                job_id = self._job(standing)
            placed = self._ledger.append(job_id, items)
            if placed is not None:
                return placed
            with self._placing:
                self._jobs.pop(standing, None)  # paused or stopped since: the next generation

    def wait_for(self, errand: Errand, ref: ShardRef, number: int) -> Future[Outcome]:
        """What becomes of an item that is placed already."""
        with self._lock:
            self._awaited[ref.job_id][number] = errand
        return errand.done

    def _job(self, standing: Standing) -> int:
        """The standing job; a new generation where the last one was paused or stopped."""
        if standing not in self._jobs:
            for generation in count():
                view, _ = self._ledger.submit(self._new(standing, generation))
                view = self._ledger.commit_job(view.id)
                if view.state not in _HALTED:
                    self._jobs[standing] = view.id
                    break
        return self._jobs[standing]

    def _new(self, standing: Standing, generation: int) -> NewJob:
        facts = [standing.spec.as_json(), standing.provider, standing.key_fingerprint, generation]
        return NewJob(
            key=hashlib.sha256(b"standing\n" + orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).digest(),
            spec=standing.spec,
            provider=standing.provider,
            key_fingerprint=standing.key_fingerprint,
            shard_size=SHARD_SIZE[standing.spec.queue_kind],
            name=f"lightrag {standing.spec.model}",
            priority="high",
            detached=True,
            price_card=self._card_for(standing.spec),
        )

    # --- the fetching thread ------------------------------------------------------------------------------------

    def _fetch_all(self) -> None:
        looked = time.monotonic()
        while not self._closing.is_set():
            told = self._ears.listen(LOOK_S)
            overdue = time.monotonic() - looked > LOOK_S
            with self._lock:
                jobs = {job_id for job_id, items in self._awaited.items() if items and (overdue or job_id in told)}
            for job_id in jobs:
                self._guarded(partial(self._fetch, job_id))
                if overdue:
                    self._guarded(partial(self._look_at, job_id))
            looked = time.monotonic() if overdue else looked

    def _fetch(self, job_id: int) -> None:
        with self._lock:
            waiting = dict(self._awaited[job_id])
        ended = self._ledger.ended(job_id, waiting.keys())
        answers = self._ledger.answers({waiting[number].key for number in ended})
        for number, how in ended.items():
            self._end(waiting[number], _outcome(how, answers.get(waiting[number].key)))
        with self._lock:
            for number in ended:
                self._awaited[job_id].pop(number, None)

    def _look_at(self, job_id: int) -> None:
        """A job that was halted brings nothing more for now: those who wait are told why."""
        job = self._ledger.job(job_id)
        if job.state not in _HALTED:
            return
        self._fetch(job_id)
        with self._lock:
            left = list(self._awaited.pop(job_id, {}).values())
        for errand in left:
            self._end(errand, Outcome(None, error_class=job.reason or job.state, error=job.note or f"job {job.state}"))

    # --- both -----------------------------------------------------------------------------------------------------

    def _end(self, errand: Errand, outcome: Outcome) -> None:
        with self._lock:
            known = self._under_way.get(errand.known_as)
            if known is not None and known.done is errand.done:
                del self._under_way[errand.known_as]
        if not errand.done.done():
            errand.done.set_result(outcome)

    def _guarded(self, what: Callable[[], object], errands: Iterable[Errand] = ()) -> None:
        """Do it; what fails is told to those who wait, and a thread never ends of it."""
        try:
            what()
        except CorpusmillError as error:
            log.warning("the fleet cannot be reached: %s", error.what)
            for errand in errands:
                self._end(errand, Outcome(None, error_class="connection", error=str(error)))
        except Exception as error:
            log.exception("an errand failed")
            for errand in errands:
                self._end(errand, Outcome(None, error_class="unknown", error=type(error).__name__))


def private(errand: Errand) -> Errand:
    """The same under a content key that nothing else has."""
    key = private_key(errand.key, job_key=secrets.token_hex(16), item_no=0)
    return replace(errand, item=replace(errand.item, key=key))


def _outcome(how: Ended, answer: KeptAnswer | None) -> Outcome:
    if how.error_class is None:
        return Outcome(answer, hit=how.cached)
    return Outcome(None, error_class=how.error_class, error=how.error or how.error_class)
