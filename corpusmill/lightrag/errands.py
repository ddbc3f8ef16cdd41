"""Single requests through the fleet: gathered into shards of standing jobs, and their answers brought back from SQL.

Two threads: one writes what was gathered and feeds it, the other hears of commits and looks for answers. Whoever asked
may have gone by then: the answer is in the ledger all the same, and the next one who asks finds it there.
"""

from __future__ import annotations

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

from celery import Celery

from corpusmill.errors import CorpusmillError
from corpusmill.feed import feed
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import Ended, KeptAnswer, NewItem, ShardRef, Wasted
from corpusmill.lightrag.attendance import Attendance
from corpusmill.lightrag.ears import Ears
from corpusmill.lightrag.standing import HALTED, SHARD_SIZE, CardFor, JobHalted, Standing, StandingJobs
from corpusmill.spec import private_key, second_key

log = logging.getLogger(__name__)

GATHER_S = 0.005
LOOK_S = 1.0
COMPLAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an errand: an answer, whether it was there already, or why there is none.

    `wasted` are paid replies that brought nothing.
    """

    answer: KeptAnswer | None
    hit: bool = False
    error_class: str = ""
    error: str = ""
    wasted: Sequence[Wasted] = ()


def is_whole(answer: KeptAnswer) -> bool:
    """Whether an answer that is kept may be served again."""
    return not answer.truncated


@dataclass(frozen=True, slots=True, eq=False)
class Errand:
    """One item on its way; `known_as` is what another caller who wants the same knows it by.

    `fresh`: an answer that is there already will not do; else one that it `takes` will. `within_s`: how long it waits
    while no worker is there.
    """

    standing: Standing
    item: NewItem
    known_as: bytes
    within_s: float
    fresh: bool = False
    takes: Callable[[KeptAnswer], bool] = is_whole
    asked_at: float = field(default_factory=time.monotonic)
    done: Future[Outcome] = field(default_factory=Future)

    @property
    def key(self) -> bytes:
        """Its content key."""
        return self.item.key or b""

    def places(self) -> Sequence[bytes]:
        """The keys that its answer may be kept under."""
        return () if self.fresh else (self.key, second_key(self.key))

    def under(self, key: bytes) -> Errand:
        """The same, its answer to be kept under another key."""
        return replace(self, item=replace(self.item, key=key))


class Errands:
    """Runs errands over one ledger and broker until it is closed. Safe to use from any thread and loop."""

    def __init__(self, ledger: Ledger, app: Celery, ears: Ears, *, card_for: CardFor) -> None:
        self._ledger, self._app, self._ears = ledger, app, ears
        self._standing_jobs, self._attendance = StandingJobs(ledger, card_for), Attendance(ledger)
        self._asked: queue.SimpleQueue[Errand | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._under_way: dict[bytes, Errand] = {}
        self._awaited: dict[int, dict[int, Errand]] = defaultdict(dict)
        self._complained: dict[str, float] = {}
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
        """Take no more errands; those under way are left to the fleet, and who waits for them is told so."""
        self._closing.set()
        self._asked.put(None)
        for thread in self._threads:
            thread.join()
        with self._lock:
            left = [*self._under_way.values(), *(each for items in self._awaited.values() for each in items.values())]
        for errand in left:
            self._end(errand, _CLOSED)

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
        known = self._ledger.answers({key for errand in errands for key in errand.places()})
        open_ = []
        for errand in errands:
            found = sought(errand, known)
            if isinstance(found, KeptAnswer):
                self._end(errand, Outcome(found, hit=True))
            else:
                open_.append(found)
        size = SHARD_SIZE[standing.spec.queue_kind]
        for start in range(0, len(open_), size):
            self._append(standing, open_[start : start + size])

    def _append(self, standing: Standing, errands: Sequence[Errand]) -> None:
        try:
            ref, first = self._standing_jobs.place(standing, [errand.item for errand in errands])
        except JobHalted as halt:
            for errand in errands:
                self._end(errand, _halted(halt))
            return
        with self._lock:
            self._awaited[ref.job_id].update(zip(count(first), errands, strict=False))

    def place(self, errand: Errand) -> tuple[ShardRef, int]:
        """Put one item into a shard of its own, for a caller that sends it itself.

        Raises:
            JobHalted: its job is paused.
        """
        return self._standing_jobs.place(errand.standing, [errand.item])

    def wait_for(self, errand: Errand, ref: ShardRef, number: int) -> Future[Outcome]:
        """What becomes of an item that is placed already."""
        with self._lock:
            self._awaited[ref.job_id][number] = errand
        return errand.done

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
                self._guarded(partial(self._look_at, job_id))
            if overdue:
                self._guarded(self._look_for_workers)
                looked = time.monotonic()

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
        if not self._awaited[job_id]:
            return
        job = self._ledger.job(job_id)
        if job.state not in HALTED:
            return
        self._fetch(job_id)
        with self._lock:
            left = list(self._awaited.pop(job_id, {}).values())
        for errand in left:
            self._end(errand, _halted(JobHalted(job)))

    def _look_for_workers(self) -> None:
        """Nobody waits for ever for a fleet that is not there."""
        with self._lock:
            waiting = [(items, number, each) for items in self._awaited.values() for number, each in items.items()]
        alone = {each for each in {errand.standing for *_, errand in waiting} if self._attendance.nobody_for(each)}
        for items, number, errand in waiting:
            if errand.standing in alone and time.monotonic() - errand.asked_at > errand.within_s:
                self._end(errand, Outcome(None, error_class="timeout", error=_nobody(errand)))
                with self._lock:
                    items.pop(number, None)

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
            self._complain(error.what)
            for errand in errands:
                self._end(errand, Outcome(None, error_class="connection", error=str(error)))
        except Exception as error:
            log.exception("an errand failed")
            for errand in errands:
                self._end(errand, Outcome(None, error_class="unknown", error=type(error).__name__))

    def _complain(self, what: str) -> None:
        """Say it once a minute: while the broker or the database is away, every batch and look meets it."""
        now = time.monotonic()
        if now - self._complained.get(what, -COMPLAIN_S) >= COMPLAIN_S:
            self._complained[what] = now
            log.warning("the fleet cannot be reached: %s", what)


def sought(errand: Errand, known: Mapping[bytes, KeptAnswer]) -> KeptAnswer | Errand:
    """The answer that will do for an errand; else the errand, under a key whose place is free.

    An answer that will not do would settle the item all the same, so its place is no place for this one.
    """
    for key in errand.places():
        answer = known.get(key)
        if answer is None:
            return errand.under(key)
        if errand.takes(answer):
            return answer
    return errand.under(private_key(errand.key, job_key=secrets.token_hex(16), item_no=0))


def _halted(halt: JobHalted) -> Outcome:
    return Outcome(None, error_class=halt.reason, error=str(halt))


def _nobody(errand: Errand) -> str:
    endpoint = errand.standing.spec.endpoint
    return f"no live worker has served {endpoint} with this key for {errand.within_s:g} s; start `corpusmill worker`"


_CLOSED = Outcome(None, error_class="closed", error="the fleet was let go of; the answer will be in its ledger")


def _outcome(how: Ended, answer: KeptAnswer | None) -> Outcome:
    if how.error_class is None:
        return Outcome(answer, hit=how.cached, wasted=how.wasted)
    return Outcome(None, error_class=how.error_class, error=how.error or how.error_class, wasted=how.wasted)
