"""Which secrets this process holds, so that whatever it shows can be looked through for them.

Keys and passwords are told here where they are read: by `Provider` and `Settings`. What shows something to a person or
a file asks `redacted`, which also knows the shapes of other people's keys.
"""

from __future__ import annotations

import binascii
import json
import re
import threading
from urllib.parse import quote, unquote, urlsplit

# A shorter one (`none`, `ollama`) is no secret, and would be found inside innocent words; nor is a mere word or number,
# which would be taken out of names and figures.
SHORTEST = 8

# Passwords in URLs, keys as providers shape them, and headers that carry either.
_SHAPES = (
    (re.compile(r"(://[^/\s:@]*:)[^/\s@]+@"), r"\1***@"),
    (re.compile(r"\b(sk|rk|pk)-[\w-]{6,}"), r"\1-***"),
    (re.compile(r"(?i)\b(bearer|api-key:?) +[\w.~+/=-]{6,}"), r"\1 ***"),
)
_SHOWN = "***"

_learning = threading.Lock()
_known: set[str] = set()
_pattern: re.Pattern[str] | None = None


def learn(*secrets: str | None) -> None:
    """Keep these out of what `redacted` is given from now on; from any thread."""
    global _pattern
    new = {secret for secret in secrets if secret and _is_one(secret)} - _known
    if not new:
        return
    with _learning:
        _known.update(new)
        written = {form for secret in _known for form in (*forms(secret), json.dumps(secret)[1:-1])}
        _pattern = re.compile("|".join(re.escape(form) for form in sorted(written, key=len, reverse=True)))


def _is_one(secret: str) -> bool:
    return len(secret) >= SHORTEST and not (secret.isalpha() or secret.isdecimal())


def learn_from_url(url: str | None) -> None:
    """Learn the password of a URL, if it has one."""
    password = urlsplit(url).password if url else None
    if password:
        learn(password, unquote(password))


def redacted(text: str) -> str:
    """The text without the secrets of this process, and without what looks like a key or a password."""
    if _pattern is not None:
        text = _pattern.sub(_SHOWN, text)
    for shape, shown in _SHAPES:
        text = shape.sub(shown, text)
    return text


def forms(secret: str) -> set[str]:
    """How a secret may be written: as it is, percent-encoded, and in base64 of either alphabet."""
    encoded = binascii.b2a_base64(secret.encode(), newline=False).decode().rstrip("=")
    return {secret, quote(secret, safe=""), encoded, encoded.translate(str.maketrans("+/", "-_"))}
