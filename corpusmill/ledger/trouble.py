"""What the databases' errors mean: try again, come back later, make room, or our own fault.

Their messages can quote rows, so nothing of them is passed on but the primary message of a lost connection.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from corpusmill.errors import CorpusmillError, DiskFull, Unavailable, UsageError

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_GIVEN_UP: Final = ("40001", "40P01")
_NO_ROOM: Final = ("53100",)
_AWAY: Final = ("08", "57P", "53", "25006", "28", "3D000")
_NO_CONNECTION: Final = ("OperationalError", "ConnectionTimeout")
# SQLite's primary result codes
_SQLITE_BUSY, _SQLITE_LOCKED, _SQLITE_READONLY, _SQLITE_IOERR, _SQLITE_FULL, _SQLITE_CANTOPEN = 5, 6, 8, 10, 13, 14
_SQLITE_CORRUPT, _SQLITE_NOT_A_DATABASE = 11, 26

_REACH_POSTGRES = "start it or correct CORPUSMILL_DATABASE_URL, then run the same command again"
_REACH_SQLITE = "see that the file can be written and that nothing else locks it, then run the same command again"


def may_be_tried_again(error: DBAPIError) -> bool:
    """Whether the database undid the transaction in favour of another one and asks to run it again."""
    return _sqlstate(error) in _GIVEN_UP


def told(error: DBAPIError, url: URL) -> CorpusmillError:
    """The error as a person reads it."""
    if _is_full(error):
        return DiskFull(
            "the ledger's disk is full; nothing that was saved is lost",
            where=place(url),
            next_step="make room there, then run the same command again",
        )
    if _is_away(error):
        return Unavailable(
            f"the ledger's database cannot be used: {_first_line(error, url)}",
            where=place(url),
            next_step=_REACH_SQLITE if url.get_backend_name() == "sqlite" else _REACH_POSTGRES,
        )
    if _sqlite_code(error) in (_SQLITE_CORRUPT, _SQLITE_NOT_A_DATABASE):
        return UsageError(
            f"the ledger's file is damaged, or no ledger: {_first_line(error, url)}",
            where=place(url),
            next_step="put a copy of the ledger back, or move the file away to begin anew",
        )
    return CorpusmillError(
        f"the ledger's database refused a statement: {_shape(error)}",
        where=place(url),
        next_step="this is a fault of corpusmill: please report it with the lines above",
    )


def place(url: URL) -> str:
    """Where the database is, without user or password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    host = url.host or url.query.get("host") or "localhost"
    return f"postgresql://{host}:{url.port or 5432}/{url.database}"


def _is_full(error: DBAPIError) -> bool:
    return _sqlstate(error) in _NO_ROOM or _sqlite_code(error) == _SQLITE_FULL


def _is_away(error: DBAPIError) -> bool:
    if error.connection_invalidated or (_sqlstate(error) or "").startswith(_AWAY):
        return True
    if _sqlite_code(error) in (_SQLITE_BUSY, _SQLITE_LOCKED, _SQLITE_READONLY, _SQLITE_IOERR, _SQLITE_CANTOPEN):
        return True
    # psycopg gives a connection that is refused, or that nobody answers in time, no SQLSTATE.
    return _sqlstate(error) is None and _sqlite_code(error) is None and type(error.orig).__name__ in _NO_CONNECTION


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


def _sqlite_code(error: DBAPIError) -> int | None:
    code = getattr(error.orig, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _first_line(error: DBAPIError, url: URL) -> str:
    line = (str(error.orig).splitlines() or [""])[0]
    return line.replace(url.password, "***") if url.password else line


def _shape(error: DBAPIError) -> str:
    """What kind of refusal, by codes and names of ours, never by values."""
    name = type(error.orig).__name__
    constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
    return " ".join(part for part in (name, _sqlstate(error), constraint) if part)
