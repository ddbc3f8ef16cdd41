"""Numbers of bytes as people write them: `500MB`, `10GB`."""

from __future__ import annotations

import re

from corpusmill.errors import UsageError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def parsed(value: str, *, flag: str) -> int:
    """The bytes in `10GB`.

    Raises:
        UsageError: it is no number with B, KB, MB, GB or TB after it.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", value.strip().upper())
    if found is None:
        raise UsageError(f"{flag} {value} is no number of bytes", next_step=f"for example {flag} 10GB, or 500MB")
    return int(float(found[1]) * _UNITS[found[2]])


def words(size: int) -> str:
    """`1.2 GB`."""
    for unit, factor in reversed(_UNITS.items()):
        if size >= factor and factor > 1:
            return f"{size / factor:,.1f} {unit}B"
    return f"{size:,} B"
