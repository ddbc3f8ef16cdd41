"""What the errors of the user's database mean.

They can quote rows, so only the words of those that tell of rights and connections are passed on.
"""

from __future__ import annotations

from typing import Final

import psycopg

from corpusmill.errors import CorpusmillError, DiskFull, Unavailable, UsageError

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_NO_ROOM: Final = "53100"
_AWAY: Final = ("08", "57P", "53", "25006", "28", "3D000")
_RIGHTS: Final = "42501"
_TOO_MUCH: Final = "54"
# Serialization, deadlock, a lock not had in time, and a statement that somebody ended.
_IN_THE_WAY: Final = ("40001", "40P01", "55P03", "57014")
_UNTOUCHED = "the table is as it was before"


def told(error: psycopg.Error, place: str, password: str | None) -> CorpusmillError:
    """The error as a person reads it, without password and values."""
    state = error.sqlstate or ""
    line = _first_line(error, password)
    if state == _NO_ROOM:
        return DiskFull(
            f"the disk of the database is full; {_UNTOUCHED}",
            where=place,
            next_step="make room there, then run the same command again",
        )
    if state.startswith(_AWAY) or (not state and isinstance(error, psycopg.OperationalError)):
        return Unavailable(
            f"the database to load into cannot be used: {line}",
            where=place,
            next_step=f"see that it runs and lets this user in, then run the same command again; {_UNTOUCHED}",
        )
    if state in _IN_THE_WAY:
        return CorpusmillError(
            f"the database ended the load for something else: {line}; {_UNTOUCHED}",
            where=place,
            next_step="run the same command again",
        )
    if state == _RIGHTS:
        return UsageError(
            f"the database does not let this user do it: {line}",
            where=place,
            next_step="have the right granted, or load where there is one: --table SCHEMA.NAME",
        )
    if state.startswith(_TOO_MUCH):
        return UsageError(f"the database takes no such row: {line}", where=place, next_step=_UNTOUCHED)
    constraint = error.diag.constraint_name
    shape = " ".join(part for part in (type(error).__name__, state, constraint) if part)
    return CorpusmillError(
        f"the database refused a statement: {shape}",
        where=place,
        next_step=f"{_UNTOUCHED}; was it altered by hand? Load into another one: --table NAME",
    )


def _first_line(error: psycopg.Error, password: str | None) -> str:
    line = (error.diag.message_primary or (str(error).splitlines() or [""])[0]).strip()
    return line.replace(password, "***") if password else line
