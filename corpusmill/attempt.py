"""The id of an attempt: one paid call, whose rows in the ledger lie under it."""

from __future__ import annotations

import os
import time

_MS = 1_000_000


def new_attempt_id() -> bytes:
    """16 bytes that sort by when they were made: six of milliseconds since 1970, ten at random.

    So the rows of one commit lie side by side. Wholly random ids would touch a page of the table each, and the larger
    the table, the fewer of its pages are in the cache.
    """
    return (time.time_ns() // _MS).to_bytes(6, "big") + os.urandom(10)
