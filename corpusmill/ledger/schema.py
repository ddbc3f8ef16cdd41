"""Is the schema there, and how it gets there: Alembic's migrations, found beside the library."""

from __future__ import annotations

import secrets
from decimal import Decimal
from pathlib import Path

from sqlalchemy import Connection, delete, inspect, or_, select, text, update

from corpusmill.errors import CorpusmillError, UsageError
from corpusmill.ledger import budgets, trouble
from corpusmill.ledger.bulk import upsert
from corpusmill.ledger.clock import boot_id
from corpusmill.ledger.database import Database, parse
from corpusmill.ledger.models import InFlight, Job, Meta, Shard, Worker
from corpusmill.ledger.schedule_tables import ScheduleRun

# The newest migration that this library was written for; `Ledger.open` need not load Alembic's scripts to compare.
HEAD = "0009"
_MIGRATING = 0x636F72707573  # "corpus": the advisory lock that lets one process migrate at a time


def version(revision: str) -> int:
    """The version of a schema: the number in front. A release has one; its further migrations add a letter (0005b)."""
    return int(revision[:4])


def migrations_dir() -> Path:
    """The folder of Alembic scripts: inside the wheel, or at the top of a checkout.

    Raises:
        CorpusmillError: the installation is incomplete.
    """
    library = Path(__file__).resolve().parents[1]
    for folder in (library / "_fleet" / "migrations", library.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise CorpusmillError("corpusmill's migrations are missing", where=str(library), next_step="install it again")


def migrate(url: str) -> tuple[str | None, str]:
    """Bring the schema to `HEAD`; return the revision before (None: empty) and after.

    Processes that come at the same time wait for each other.

    Raises:
        UsageError: the schema is newer than this library.
        Unavailable: the database cannot be reached.
    """
    database = Database(parse(url))
    try:
        if database.is_sqlite:
            Path(database.url.database or "").parent.mkdir(parents=True, exist_ok=True)
        return database.write(_migrate, database), HEAD
    finally:
        database.close()


def is_empty(url: str) -> bool:
    """Whether a PostgreSQL database has no tables of ours yet; an SQLite ledger gets them whenever it is opened.

    Raises:
        Unavailable: it cannot be reached.
    """
    database = Database(parse(url))
    try:
        return not database.is_sqlite and database.read(revision) is None
    finally:
        database.close()


def _migrate(conn: Connection, database: Database) -> str | None:
    if not database.is_sqlite:
        conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATING})
    before = revision(conn)
    if before is not None and before > HEAD:
        raise _too_new(before, database)
    if before != HEAD:
        from alembic import command  # a tenth of a second, which only this needs
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(migrations_dir()).replace("%", "%%"))
        config.attributes["connection"] = conn
        command.upgrade(config, "head")
    return before


def prepare(database: Database, *, create: bool) -> None:
    """See that the schema is one that we can use; an SQLite ledger is made or brought up to date when `create`.

    One that is a version newer will do: its migrations only added to what we know.

    Raises:
        UsageError: the schema is missing, older or newer; the error says what to type.
    """
    path = Path(database.url.database or "")
    if database.is_sqlite and not (create or path.is_file()):
        raise UsageError(
            "there is no ledger yet", where=str(path), next_step="run a job first, for example: corpusmill demo"
        )
    if database.is_sqlite:
        path.parent.mkdir(parents=True, exist_ok=True)
    found = database.read(revision)
    if found is not None and _is_outgrown(found):
        raise _too_new(found, database)
    if found is None or found < HEAD:
        if not (database.is_sqlite and create):
            raise _unmigrated(found, database)
        database.write(_migrate, database)
    if database.is_sqlite and database.read(_boot_of_leases) != boot_id():
        database.write(_forget_leases)


def _unmigrated(found: str | None, database: Database) -> UsageError:
    state = "has no tables of corpusmill yet" if found is None else f"is at revision {found}, this version needs {HEAD}"
    return UsageError(f"the database {state}", where=trouble.place(database.url), next_step="corpusmill migrate")


def revision(conn: Connection) -> str | None:
    """The schema's revision; None where there is none."""
    if not inspect(conn).has_table("alembic_version"):
        return None
    return conn.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def outgrown(conn: Connection) -> str | None:
    """The schema's revision, if this library must not use it any more."""
    found = conn.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found if found is not None and _is_outgrown(found) else None


def _is_outgrown(found: str) -> bool:
    """Whether the schema is more than one version newer: only then may it lack what this library relies on."""
    return version(found) > version(HEAD) + 1


def _too_new(found: str, database: Database) -> UsageError:
    return UsageError(
        f"the ledger was written by a newer corpusmill (revision {found}, this one knows {HEAD})",
        where=trouble.place(database.url),
        next_step="pip install --upgrade corpusmill",
    )


def _boot_of_leases(conn: Connection) -> str:
    value = conn.execute(select(Meta.value).where(Meta.name == "boot_id")).scalar_one_or_none()
    return (value or b"").decode()


def _forget_leases(conn: Connection) -> None:
    """After a restart of the machine: its clock began anew, and whoever held a lease is gone."""
    marked = or_(*(column.is_not(None) for column in (Shard.owner, Shard.sent_at, Shard.not_before)))
    nobodys = {"owner": None, "lease_until": None, "sent_at": None, "not_before": None}
    idle = {**nobodys, "reserved": Decimal(0), "reserved_tokens": 0}
    conn.execute(update(Shard).where(marked).values(**idle))
    for job_id in conn.execute(select(Job.id).where(budgets.has_one())).scalars().all():
        budgets.recount(conn, job_id)
    conn.execute(delete(InFlight))
    conn.execute(delete(Worker))
    conn.execute(update(ScheduleRun).values(owner=None))
    statement = upsert(conn, Meta).values(name="boot_id", value=boot_id().encode())
    conn.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"value": statement.excluded.value}))


def salt(conn: Connection) -> bytes:
    """The salt of key fingerprints: 16 random bytes, made once a ledger. Needs a write transaction."""
    kept = conn.execute(select(Meta.value).where(Meta.name == "salt")).scalar_one_or_none()
    if kept is not None:
        return kept
    statement = upsert(conn, Meta).values(name="salt", value=secrets.token_bytes(16))
    conn.execute(statement.on_conflict_do_nothing())
    return conn.execute(select(Meta.value).where(Meta.name == "salt")).scalar_one()


def first_use(conn: Connection, scope: str) -> bool:
    """Whether nobody has asked this for the limiter's scope before: true once, for one caller."""
    statement = upsert(conn, Meta).values(name=f"drawn:{scope}", value=b"1")
    return conn.execute(statement.on_conflict_do_nothing().returning(Meta.name)).first() is not None
