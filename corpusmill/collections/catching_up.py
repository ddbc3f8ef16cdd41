"""Sets that a sync has overtaken while they were built, with nobody who waits: brought up, then switched to.

The scheduler does it. The job that built the set says at what price and how urgently, and what is left of its budget is
the budget; if it was of a schedule, so is the new one. The key is the provider's present one, where it is known here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields
from decimal import Decimal

from corpusmill.collections.filling import Filling, job_key
from corpusmill.ledger import Ledger
from corpusmill.ledger.amounts import Amount
from corpusmill.ledger.collection_records import Aim, SetView
from corpusmill.ledger.records import JobView, NewJob
from corpusmill.ledger.stretches import Mark
from corpusmill.mill.submit import SHARD_ITEMS

# The scheduler has other things to do; the next tick goes on.
_AT_ONCE_S = 2.0
# How far each set was filled for a version by now. It need not outlive the process: another one looks from the start.
Marks = dict[tuple[int, int], Mark]


# The fingerprint of the key that a job of a provider is bound to now; None: it is not known here.
Present = Callable[[JobView], str | None]


def catch_up(ledger: Ledger, marks: Marks, present: Present = lambda _: None, *, at_once_s: float = _AT_ONCE_S) -> int:
    """Send what overtaken sets lack on its way, for some seconds at most; how many are.

    `marks`: where earlier calls stopped; this one goes on there, and notes where it stops. `present`: by which key.
    """
    until_s, overtaken = time.monotonic() + at_once_s, ledger.collections.overtaken()
    for gone in marks.keys() - {(set_.id, version) for set_, version in overtaken}:
        del marks[gone]
    return sum(_sent(ledger, set_, version, marks, present, until_s) for set_, version in overtaken)


def _sent(ledger: Ledger, set_: SetView, version_no: int, marks: Marks, present: Present, until_s: float) -> bool:
    if set_.job_id is None or set_.version is None:
        return False
    before = ledger.job(set_.job_id)
    aim = Aim(set_.collection_id, set_.id, version_no)
    encoding = ledger.collections.view(set_.collection_id).shape["encoding"]
    key = present(before) or before.key_fingerprint
    filling = Filling(ledger, set_, aim, encoding, _another(before, ledger.spent(before.id), aim, key))
    begun = before.id if set_.state == "building" else None
    mark = marks.get((set_.id, version_no)) or Mark(ledger.collections.first_after(set_.collection_id, set_.version))
    job_id, stopped = filling.fill(begun, mark, until_s=until_s)
    if job_id is not None and job_id != before.id:
        ledger.schedules.goes_on(before.id, job_id)
    if stopped is not None:
        marks[set_.id, version_no] = stopped
        return False
    marks.pop((set_.id, version_no), None)
    if job_id is None:
        ledger.collections.bring(set_, version_no)
    else:
        ledger.commit_job(job_id)
    return True


def _another(before: JobView, spent: Amount, aim: Aim, key_fingerprint: str) -> NewJob:
    """A job like the one before, for what has come since."""
    alike = {field.name: getattr(before, field.name) for field in fields(NewJob) if hasattr(before, field.name)}
    usd, tokens = before.budget_usd, before.budget_tokens
    left = {
        "budget_usd": None if usd is None else max(Decimal(0), usd - spent.usd),
        "budget_tokens": None if tokens is None else max(0, tokens - spent.tokens),
    }
    more = {"key": job_key(aim), "shard_size": SHARD_ITEMS["embedding"], "collection_id": aim.collection_id}
    return NewJob(**{**alike, **left, **more, "key_fingerprint": key_fingerprint})
