"""What a process owes its bucket or has coming back, gathered until the next round trip."""

from __future__ import annotations

from corpusmill.limits.bucket import Settlement
from corpusmill.limits.headers import Told
from corpusmill.limits.scope import Grant

UNTOLD = -1


class Tab:
    """Adds up what is put back and what the endpoint's headers say; `take` turns it into one settlement."""

    def __init__(self) -> None:
        self._told = self._told_before = (UNTOLD, UNTOLD)
        self._clear()

    def _clear(self) -> None:
        self._requests = self._tokens = 0
        self._lowered_requests: int | None = None
        self._lowered_tokens: int | None = None

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
        if grant.alone:
            return
        self._lowered_requests = _asked(
            self._lowered_requests, told.requests_left, grant.level_requests, grant.lowered_requests
        )
        self._lowered_tokens = _asked(self._lowered_tokens, told.tokens_left, grant.level_tokens, grant.lowered_tokens)

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
        what = Settlement(
            self._requests, self._tokens, self._lowered_requests, self._lowered_tokens, *map(_known, told)
        )
        return None if what == Settlement() else what


def _newer(known: int, told: int) -> int:
    """A limit that is told counts; "none" only where none was told before."""
    return told if told > 0 or known == UNTOLD else known


def _asked(noted: int | None, left: int | None, level: int, lowered: int) -> int | None:
    """The most that any reply asks to be taken off in all: less is left than the bucket held, or nothing to ask."""
    if left is None or left >= level:
        return noted
    return max(noted or 0, lowered + level - left)


def _known(limit: int) -> int | None:
    return None if limit == UNTOLD else limit
