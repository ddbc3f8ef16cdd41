"""Keeping an endpoint's credentials out of what is shown, whatever the endpoint echoes.

A gateway may put the key it was given into an error's code, parameter or request id. Those are kept with the items,
so they are looked at here first: as it is, in another case, percent-encoded, in base64, and in recognisable parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from corpusmill.secrecy import SHORTEST, forms

# So many characters in a row of a longer one give it away.
PART = 12

_SHOWN = b"[key]"
_SECRET_HEADER = re.compile(r"authorization|key|token|secret|password", re.IGNORECASE)


class Redaction:
    """Knows the credentials of one endpoint, and takes out what shows one."""

    def __init__(self, secrets: Iterable[str]) -> None:
        given = [secret.removeprefix("Bearer ").strip() for secret in secrets]
        self._whole = {secret.lower() for secret in given if secret}
        # A shorter credential is no secret, and would be found inside innocent words: only all of it counts.
        written = {form.lower() for secret in given if len(secret) >= SHORTEST for form in forms(secret)}
        self._parts = {part for form in written for part in _parts(form)}
        self._pattern = _pattern(written)

    def name(self, value: str | None) -> str | None:
        """A code, parameter or id, or nothing in its place when a credential is in it."""
        if value is None:
            return None
        low = value.lower()
        return None if low in self._whole or any(part in low for part in self._parts) else value

    def body(self, content: bytes) -> bytes:
        """What an endpoint wrote, with every whole credential in it replaced."""
        return content if self._pattern is None else self._pattern.sub(_SHOWN, content)


def redaction_of(headers: Mapping[str, str]) -> Redaction:
    """The redaction of what a request's headers carry as credentials."""
    return _of(tuple(value for name, value in headers.items() if _SECRET_HEADER.search(name)))


@lru_cache(maxsize=64)
def _of(secrets: tuple[str, ...]) -> Redaction:
    return Redaction(secrets)


def _parts(form: str) -> Iterable[str]:
    return [form] if len(form) <= PART else (form[at : at + PART] for at in range(len(form) - PART + 1))


def _pattern(written: set[str]) -> re.Pattern[bytes] | None:
    longest_first = sorted(written, key=len, reverse=True)
    joined = b"|".join(re.escape(form.encode()) for form in longest_first)
    return re.compile(joined, re.IGNORECASE) if written else None
