"""What a process owes its bucket or has coming back, gathered until the next round trip."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from corpusmill.limits.bucket import Settlement
from corpusmill.limits.headers import Told
from corpusmill.limits.scope import Grant

UNTOLD = -1
TOGETHER_S = 0.25  # replies to requests that were granted so close to each other speak of one moment
REMEMBERED = 512  # replies: more than come between two settlements


class _Shortage(NamedTuple):
    """What a reply says is missing in all at the endpoint, of requests and of tokens, and when it was granted.

    `missing_*` are below `lowered_*` where nothing is missing that was not taken off by then; None: it does not say.
    """

    at: float
    missing_requests: int | None
    missing_tokens: int | None
    lowered_requests: int
    lowered_tokens: int


class Tab:
    """Adds up what is put back and what the endpoint's headers say; `take` turns it into one settlement."""

    def __init__(self) -> None:
        self._told = self._told_before = (UNTOLD, UNTOLD)
        self._clear()

    def _clear(self) -> None:
        self._requests = self._tokens = 0
        self._shortages: deque[_Shortage] = deque(maxlen=REMEMBERED)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to settle."""
        return self._what() is None

    def put_back(self, requests: int, tokens: int) -> None:
        """Note what was granted and not used; negative: what was used beyond the grant."""
        self._requests += requests
        self._tokens += tokens

    def hear(self, told: Told, grant: Grant, *, paid: bool) -> None:
        """Note what the headers of a reply say.

        A paid reply that tells no limit says that there is none; a refusal may come from a gateway on the way.
        What is left is held against the bucket's level when the request was granted: a reply that took a minute
        speaks of the level of a minute ago, and what was granted since is known.
        """
        silence = 0 if paid else UNTOLD
        self._told = (
            _newer(self._told[0], told.rpm or silence),
            _newer(self._told[1], told.tpm or silence),
        )
        if not grant.alone:
            self._shortages.append(
                _Shortage(
                    grant.at,
                    _missing(told.requests_left, grant.level_requests, grant.lowered_requests),
                    _missing(told.tokens_left, grant.level_tokens, grant.lowered_tokens),
                    grant.lowered_requests,
                    grant.lowered_tokens,
                )
            )

    def forget(self) -> None:
        """The bucket is a new one: what was noted of the old one is void, what was told of limits is told again."""
        self._clear()
        self._told_before = (UNTOLD, UNTOLD)

    def take(self) -> Settlement | None:
        """Everything noted since the last time, or None when there is nothing new."""
        what = self._what()
        if what is not None:
            self._clear()
            self._told_before = self._told
        return what

    def _what(self) -> Settlement | None:
        told = self._told if self._told != self._told_before else (UNTOLD, UNTOLD)
        newest = max((each.at for each in self._shortages), default=0.0)
        latest = [each for each in self._shortages if each.at >= newest - TOGETHER_S]
        lowered_requests = _asked((each.missing_requests, each.lowered_requests) for each in latest)
        lowered_tokens = _asked((each.missing_tokens, each.lowered_tokens) for each in latest)
        what = Settlement(self._requests, self._tokens, lowered_requests, lowered_tokens, *map(_known, told))
        return None if what == Settlement() else what


def _newer(known: int, told: int) -> int:
    """A limit that is told counts; "none" only where none was told before."""
    return told if told > 0 or known == UNTOLD else known


def _missing(left: int | None, level: int, lowered: int) -> int | None:
    return None if left is None else lowered + level - left


def _asked(shortages: Iterable[tuple[int | None, int]]) -> int | None:
    """What is to be taken off in all, or None when that has happened.

    The mean: requests overtake each other on their way, and one that arrives late finds less left than was there for
    it, by what one that arrives early finds too much. The largest alone would take off what is not missing, for good.
    """
    told = [(missing, lowered) for missing, lowered in shortages if missing is not None]
    if not told:
        return None
    mean = sum(missing for missing, _ in told) // len(told)
    return mean if mean > min(lowered for _, lowered in told) else None


def _known(limit: int) -> int | None:
    return None if limit == UNTOLD else limit
