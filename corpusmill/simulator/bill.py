"""What was paid for, and the counters: the oracle that tests hold the client's books against.

A call is paid when its answer has been made, also when the answer then gets lost or the client has gone. The paid
file is written before the reply leaves, one JSON line a call.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from corpusmill.errors import UsageError


class Bill:
    """Counters of one simulator and its paid file. `close` when done."""

    def __init__(self, paid: Path | None) -> None:
        self.requests = 0
        self.paid_requests = 0
        self.paid_inputs = 0
        self.answered_429 = 0
        self.in_flight = 0
        self.peak_in_flight = 0
        self.duplicates_paid = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.refused = 0
        self._paid_for: set[bytes] = set()
        self._file = None if paid is None else _opened(paid)

    def arrived(self) -> int:
        """Count a request in; returns its number, from 1."""
        self.requests += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        return self.requests

    def left(self) -> None:
        """Count a request out: its reply leaves, or its connection is gone."""
        self.in_flight -= 1

    def refuse(self, status: int) -> None:
        """Count a request that was refused."""
        self.refused += 1
        self.answered_429 += status == 429

    def pay(self, *, digests: Sequence[bytes], prompt_tokens: int, completion_tokens: int, **facts: Any) -> None:
        """Enter one paid call. `digests`: 8 bytes for each input, the same when the same thing is bought again."""
        self.paid_requests += 1
        self.paid_inputs += len(digests)
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        before = len(self._paid_for)
        self._paid_for.update(digests)
        self.duplicates_paid += len(digests) - (len(self._paid_for) - before)
        if self._file is not None:
            line = {
                "at": time.time(),
                **facts,
                "inputs": len(digests),
                "digests": [one.hex() for one in digests],
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
            }
            # One write a line: whoever reads along never sees half of one, and a kill loses none.
            os.write(self._file, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def stats(self) -> dict[str, int]:
        """The counters, as `GET /simulator/stats` shows them."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def close(self) -> None:
        """Close the paid file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _opened(paid: Path) -> int:
    try:
        return os.open(paid, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise UsageError(
            f"cannot write to {paid}: {error.strerror}", where=str(paid), next_step="choose another --paid"
        ) from error
