"""One database, reached in short transactions: reads that see one moment, writes that are tried again when they may be.

`work` is a function whose first argument is the connection. A write that was rolled back because of a deadlock runs
again from its start, so `work` changes nothing but the database.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from corpusmill.errors import UsageError
from corpusmill.ledger import trouble

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

BUSY_MS = 30_000
CONNECT_S = 10
# A statement whose packets nobody acknowledges for so long has no server any more. Without it Linux tries on for a
# quarter of an hour, and keep-alives do not count while something is unacknowledged.
UNACKNOWLEDGED_S = 10
TRIES = 8

# FULL: a commit that was told to the journal, which then forgets the reply, must survive a power cut.
_PRAGMAS = (
    f"PRAGMA busy_timeout = {BUSY_MS}",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    # KiB a connection. Four times as much saves 5 % of the CPU of commits into a ledger of 150,000 answers, but lets a
    # process grow with its job.
    "PRAGMA cache_size = -16384",
    "PRAGMA journal_size_limit = 67108864",
)

_WATCHED = f"""
SET tcp_keepalives_idle = {UNACKNOWLEDGED_S};
SET tcp_keepalives_interval = {UNACKNOWLEDGED_S // 2};
SET tcp_user_timeout = '{UNACKNOWLEDGED_S}s';
"""


class Database:
    """An engine with our transactions. Threads share it; a forked process opens its own."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._engine = _sqlite(url) if self.is_sqlite else _postgres(url)
        self._writing = self._engine.execution_options(writes=True)
        self._reading = self._engine if self.is_sqlite else _one_snapshot(self._engine)
        # SQLite has one writer. Threads of one process queue here and not in its busy handler, which sleeps.
        self._turn = threading.Lock() if self.is_sqlite else nullcontext()

    def read(self, work: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` on one snapshot of the database."""
        with self._told(), self._reading.begin() as conn:
            return work(conn, *args, **kwargs)

    def write(self, work: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in one transaction and commit it; again when the database gave it up for another one."""
        with self._told():
            for tried in range(1, TRIES):
                try:
                    return self._once(work, *args, **kwargs)
                except DBAPIError as error:
                    if not trouble.may_be_tried_again(error):
                        raise
                    log.info("transaction rolled back, tried again work=%s tried=%d", work.__name__, tried)
                    time.sleep(random.uniform(0.005, 0.02) * 2**tried)  # noqa: S311 - spreads, hides nothing
            return self._once(work, *args, **kwargs)

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    def _once(self, work: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._turn, self._writing.begin() as conn:
            return work(conn, *args, **kwargs)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Database errors as ours, without the statement's values: they hold texts."""
        try:
            yield
        except DBAPIError as error:
            raise trouble.told(error, self.url) from None


def parse(url: str) -> URL:
    """The URL with the driver we use; `postgresql://` means psycopg.

    Raises:
        UsageError: it is no URL of SQLite or PostgreSQL.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise _unknown() from None
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed
    raise _unknown()


def _unknown() -> UsageError:
    return UsageError(
        "the database URL is neither PostgreSQL's nor that of an SQLite file",
        where="CORPUSMILL_DATABASE_URL",
        next_step="write postgresql://USER:PASSWORD@HOST/NAME or sqlite:////absolute/path/ledger.db",
    )


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, hide_parameters=True)
    event.listen(engine, "do_connect", _make_private)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_private(_dialect: object, _record: object, arguments: list[str], _options: object) -> None:
    """Make a new file for its owner alone: it holds texts, and a HOME may have been made by somebody else."""
    # SQLite gives the log and the index beside it the same mode. What is wrong with the path it says itself.
    with suppress(OSError):
        Path(arguments[0]).touch(mode=0o600, exist_ok=False)


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver would begin transactions by itself, late and never IMMEDIATE; `_begin_sqlite` does.
    connection.isolation_level = None
    _use_wal(connection)
    for pragma in _PRAGMAS:
        connection.execute(pragma).close()


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log. Of several that open a new file at once, all but one are refused at once."""
    until = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(conn: Connection) -> None:
    # IMMEDIATE takes the write lock now: a read that turns into a write later fails at once, whatever the time-out.
    writes = conn.get_execution_options().get("writes", False)
    conn.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgres(url: URL) -> Engine:
    try:
        engine = create_engine(
            url,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_size=4,
            max_overflow=12,
            connect_args={
                "connect_timeout": CONNECT_S,
                "application_name": "corpusmill",
                "keepalives_idle": 15,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": UNACKNOWLEDGED_S * 1000,
            },
        )
    except (ModuleNotFoundError, NoSuchModuleError):
        raise UsageError(
            "PostgreSQL needs the psycopg driver, which is not installed",
            where=trouble.place(url),
            next_step="pip install 'corpusmill[postgres]'",
        ) from None
    event.listen(engine, "connect", _have_us_watched)
    return engine


def _have_us_watched(connection: psycopg.Connection, _record: object) -> None:
    """Have the server find out when we are gone: for hours it would hold what we had locked, and all others up."""
    connection.execute(_WATCHED)
    connection.commit()


def _one_snapshot(engine: Engine) -> Engine:
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
