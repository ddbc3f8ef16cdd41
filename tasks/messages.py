"""What a shard's message may say. Messages come from a queue that others may write to: nothing else is believed."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from celery.exceptions import Reject

from corpusmill.app import MESSAGE_VERSION
from corpusmill.ledger.records import ShardRef

log = logging.getLogger(__name__)

# No database hands out larger numbers.
LARGEST = 2**63 - 1
FIELDS = frozenset({"v", "job_id", "shard_no"})


def shard_in(message: Mapping[str, object]) -> ShardRef:
    """The shard that a message names. Messages of earlier versions stay readable.

    Raises:
        Reject: it is no such message; it is dropped, and the worker goes on.
    """
    if message.keys() != FIELDS or not all(_is_number(message[name]) for name in FIELDS):
        raise _refused("fields")
    version, job_id, shard_no = (int(str(message[name])) for name in ("v", "job_id", "shard_no"))
    if not 1 <= version <= MESSAGE_VERSION:
        raise _refused("version")
    if job_id < 1 or not 0 <= shard_no < 2**31:
        raise _refused("numbers")
    return ShardRef(job_id, shard_no)


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= LARGEST


def _refused(what: str) -> Reject:
    # What is wrong with it, not what it says: it may be anybody's.
    log.warning("message refused wrong=%s", what)
    return Reject(f"no shard message: {what}", requeue=False)
