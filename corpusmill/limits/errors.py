"""What a waiter is told instead of a grant."""

from __future__ import annotations

from corpusmill.errors import UsageError
from corpusmill.limits.bucket import Why


class LimiterParked(Exception):
    """Nothing will be granted for `wait_s` seconds, more than a minute: give the work back instead of waiting."""

    def __init__(self, wait_s: float, why: Why) -> None:
        self.wait_s, self.why = wait_s, why
        super().__init__(f"nothing is granted for {wait_s:.0f} s ({why.name.lower().replace('_', '-')})")


class RequestTooLarge(UsageError):
    """One request needs more tokens than the limit grants in a minute, so it would wait for ever."""

    def __init__(self, *, tokens: int, tpm: int, model: str) -> None:
        self.tokens, self.tpm, self.model = tokens, tpm, model
        super().__init__(
            f"one request needs {tokens:,} tokens, but {model} is limited to {tpm:,} a minute: it would wait for ever",
            next_step="use smaller chunks or a smaller output cap, or raise CORPUSMILL_LIMITS__TPM",
        )
