"""Putting what many calls have to say into one group commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain

from corpusmill.ledger.amounts import Amount
from corpusmill.ledger.records import Batch, ShardRef

_ROW_BYTES = 250  # what a result or usage row takes in memory beside its answer, roughly


def merged(batches: Iterable[Batch], *, held: Mapping[ShardRef, int], renew: bool) -> Batch:
    """All of `batches` as one, in their order; later words on a shard's reserve and release replace earlier ones.

    `held` are shards whose fences go in as well, so that their leases can be renewed and their jobs' states seen.
    """
    batches = list(batches)
    unpaid: Counter[ShardRef] = Counter()
    fences: dict[ShardRef, int] = {}
    reserved: dict[ShardRef, Amount] = {}
    releasing: dict[ShardRef, float] = {}
    for batch in batches:
        unpaid.update(batch.unpaid)
        fences |= batch.fences
        reserved |= batch.reserved
        releasing |= batch.releasing
    return Batch(
        fences=fences | dict(held),
        answers=list(chain.from_iterable(batch.answers for batch in batches)),
        results=list(chain.from_iterable(batch.results for batch in batches)),
        usage=list(chain.from_iterable(batch.usage for batch in batches)),
        unpaid=unpaid,
        reserved=reserved,
        closing=list(dict.fromkeys(chain.from_iterable(batch.closing for batch in batches))),
        releasing=releasing,
        renew=renew,
    )


def size_of(batch: Batch) -> int:
    """Roughly the bytes of memory that a batch takes."""
    return sum(len(answer.body) for answer in batch.answers) + _ROW_BYTES * (len(batch.results) + len(batch.usage) + 1)
