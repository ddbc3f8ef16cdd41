"""Puts the shards of running jobs on the queues, and finds out which wake-ups got lost.

`feed` runs every second and when a job is committed; `reconcile` every few seconds. Any number of processes may call
either at once: a shard is marked in SQL before it is published, and a wake-up too many is dropped by its claim.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from celery import Celery
from kombu.exceptions import KombuError

from corpusmill.app import KINDS, PRIORITIES, QueueKind, broker_unavailable, publish, queue_name
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import Priority, ShardRef
from corpusmill.ledger.workers import LIVE_S

log = logging.getLogger(__name__)

# Wake-ups kept ready for each slot of the fleet: enough that no slot waits for the next tick.
AHEAD = 2
# A wake-up that a worker has just taken from its queue is not claimed yet.
IN_HAND_S = 3.0

Chosen = dict[QueueKind, dict[Priority, Sequence[ShardRef]]]


def feed(ledger: Ledger, app: Celery) -> int:
    """Publish as many shards as the fleet will soon have slots for; returns how many.

    Urgent ones first: what waits at a lower priority takes no room from them.

    Raises:
        Unavailable: the database or the broker cannot be reached; shards marked in vain are found by `reconcile`.
    """
    slots = sum(worker.slots for worker in ledger.workers(LIVE_S))
    if not slots:
        return 0
    # What a dead worker left goes first and into whatever room there is: it has waited for a lease already.
    left: Chosen = {kind: {"high": ledger.left_behind(kind, most=slots)} for kind in KINDS}
    sent = publish(app, left)
    chosen: Chosen = {kind: _choose(ledger, kind, slots * AHEAD) for kind in KINDS}
    return sent + publish(app, chosen)


def _choose(ledger: Ledger, kind: QueueKind, room: int) -> dict[Priority, Sequence[ShardRef]]:
    chosen: dict[Priority, Sequence[ShardRef]] = {}
    for priority in PRIORITIES:
        room -= ledger.unclaimed(kind, priority)
        refs = ledger.sendable(kind, priority, room=room) if room > 0 else []
        room -= len(refs)
        if refs:
            chosen[priority] = refs
    return chosen


def reconcile(ledger: Ledger, app: Celery) -> int:
    """Send again what is marked sent, is held by nobody and lies in no queue; returns how many were fed.

    Also count budgets anew that workers of the version before have drawn from without an account.

    A worker killed between taking a wake-up and claiming its shard loses it, and so does a Redis that restarts
    without its file. Which one is lost cannot be told, so all that are overdue go out once more.

    Raises:
        Unavailable: as `feed`.
    """
    lengths = queue_lengths(app)
    for kind in KINDS:
        # Not queue by queue: what was left behind lies in another than its job's.
        missing = sum(ledger.unclaimed(kind, each) - lengths[queue_name(kind, each)] for each in PRIORITIES)
        if missing > 0:
            lost = ledger.unmark_sent(IN_HAND_S, queue_kind=kind)
            log.log(
                logging.WARNING if lost else logging.DEBUG,
                "wake-ups missing kind=%s missing=%d sent_again=%d", kind, missing, lost,
            )  # fmt: skip
    ledger.sweep()
    ledger.set_budgets_right()
    return feed(ledger, app)


def queue_lengths(app: Celery) -> Mapping[str, int]:
    """How many messages wait in each queue, `control` included.

    Raises:
        Unavailable: the broker cannot be reached.
    """
    try:
        # kombu's own client: it knows the prefix of the keys. A queue without messages has no key, and length 0.
        with app.connection_or_acquire() as connection, connection.default_channel.conn_or_acquire() as client:
            return {queue.name: int(client.llen(queue.name)) for queue in app.conf.task_queues}
    except (KombuError, OSError, *app.connection_for_write().connection_errors) as error:
        raise broker_unavailable(app) from error
