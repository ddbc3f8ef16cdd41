"""The schema: models and migrations are one, and what is not there is said."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text, update

from corpusmill.errors import UsageError
from corpusmill.ledger import Ledger, migrate, migrations_dir, schema
from corpusmill.ledger.amounts import Amount
from corpusmill.ledger.database import Database, parse
from corpusmill.ledger.models import Meta
from corpusmill.ledger.records import Batch
from corpusmill.ledger.whole_schema import METADATA
from tests.fixtures import jobs


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest) -> str:
    name = "sqlite_url" if request.param == "sqlite" else "empty_postgres_url"
    url: str = request.getfixturevalue(name)
    return url


def test_models_match_migrations(empty_url: str) -> None:
    migrate(empty_url)
    database = Database(parse(empty_url))
    try:
        assert database.read(lambda conn: compare_metadata(MigrationContext.configure(conn), METADATA)) == []
    finally:
        database.close()


def test_models_and_migrations_make_the_same_tables_and_indexes_to_the_letter(empty_url: str, tmp_path: Path) -> None:
    """Alembic's comparison does not see the conditions of partial indexes, nor WITHOUT ROWID."""
    migrate(empty_url)
    database = Database(parse(empty_url))
    try:
        migrated = database.read(_shape)
        database.write(_drop_all)
        database.write(lambda conn: METADATA.create_all(conn))
        assert database.read(_shape) == migrated
    finally:
        database.close()


def _shape(conn: Connection) -> list[str]:
    if conn.dialect.name == "sqlite":
        asked = "SELECT sql FROM sqlite_master WHERE type <> 'view' AND name <> 'alembic_version' AND sql IS NOT NULL"
        return sorted(
            " ".join(sql.split()).replace("( ", "(").replace(" )", ")") for (sql,) in conn.execute(text(asked))
        )
    asked = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
    columns = """
        SELECT table_name || ' ' || column_name || ' ' || data_type || ' ' || is_nullable
          FROM information_schema.columns
         WHERE table_schema = 'public' AND table_name <> 'alembic_version' AND table_name NOT LIKE 'corpusmill_%'"""
    return sorted(row[0] for statement in (asked, columns) for row in conn.execute(text(statement)))


def _drop_all(conn: Connection) -> None:
    for view in ("corpusmill_usage", "corpusmill_results"):
        conn.execute(text(f"DROP VIEW {view}"))
    METADATA.drop_all(conn)


def test_the_newest_migration_is_the_one_that_the_library_needs() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations_dir()))
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]


def test_migrating_says_from_where_to_where_and_again_changes_nothing(empty_url: str) -> None:
    assert migrate(empty_url) == (None, schema.HEAD)
    assert migrate(empty_url) == (schema.HEAD, schema.HEAD)


def test_what_was_used_before_tokens_were_set_aside_is_in_the_accounts_after(empty_url: str) -> None:
    migrate(empty_url)
    with Ledger.open(empty_url) as ledger:
        job = jobs.submit(ledger, "abcdef", budget_tokens=100)
        jobs.submit(ledger, "xyz")
        for number in range(2):
            shard = jobs.claim(ledger, job, number)
            bills = [jobs.bill(shard.ref, f"{number}"), jobs.bill(shard.ref, f"lost {number}", outcome="unknown")]
            jobs.commit(ledger, Batch({shard.ref: shard.fence}, usage=bills))
        spent = ledger.spent(job.id)
    database = Database(parse(empty_url))
    database.write(_back_to, "0008")
    database.close()

    migrate(empty_url)

    with Ledger.open(empty_url) as ledger:
        assert ledger.spent(job.id) == spent
        assert spent.tokens == 4 * 16
        assert ledger.set_budgets_right() == 0
        assert ledger.audit(job.id).adds_up


def _back_to(conn: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations_dir()))
    config.attributes["connection"] = conn
    command.downgrade(config, revision)


def test_processes_that_migrate_at_once_do_it_once(empty_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: migrate(empty_url), range(4)))
    assert sorted(before or "" for before, _ in found) == ["", *[schema.HEAD] * 3]


def test_an_embedded_ledger_is_made_on_first_use(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'deep' / 'home' / 'ledger.db'}"
    with pytest.raises(UsageError, match="no ledger yet"):
        Ledger.open(url, create=False)
    with Ledger.open(url) as ledger:
        assert ledger.jobs() == []
    with Ledger.open(url, create=False) as ledger:
        assert ledger.jobs() == []


def test_many_that_open_a_new_ledger_at_once_all_get_it(sqlite_url: str) -> None:
    def use(_: int) -> int:
        with Ledger.open(sqlite_url) as ledger:
            return jobs.submit(ledger, "a").id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(use, range(8)))) == 8


def test_a_fleets_database_without_tables_names_the_command_that_makes_them(empty_postgres_url: str) -> None:
    with pytest.raises(UsageError, match="no tables of corpusmill") as caught:
        Ledger.open(empty_postgres_url)
    assert caught.value.next_step == "corpusmill migrate"


def test_a_ledger_of_a_newer_version_is_left_alone(database_url: str) -> None:
    Ledger.open(database_url).close()
    database = Database(parse(database_url))
    database.write(lambda conn: conn.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    database.close()
    with pytest.raises(UsageError, match="newer corpusmill"):
        Ledger.open(database_url)
    with pytest.raises(UsageError, match="newer corpusmill"):
        migrate(database_url)


@pytest.mark.parametrize("url", ["", "mysql://h/x", "sqlite://", "sqlite:///:memory:", "nonsense"])
def test_a_url_of_another_database_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(UsageError, match="neither PostgreSQL's nor that of an SQLite file"):
        Ledger.open(url)


def test_leases_of_an_earlier_boot_are_forgotten(sqlite_url: str) -> None:
    with Ledger.open(sqlite_url) as ledger:
        job = jobs.submit(ledger, "abc", budget_usd=jobs.PRICE)
        claimed = jobs.claim(ledger, job, 0)
        assert ledger.reserve(claimed.ref, claimed.fence, Amount(jobs.PRICE)) == "ok"
        ledger._db.write(lambda conn: conn.execute(update(Meta).where(Meta.name == "boot_id").values(value=b"before")))
        assert jobs.try_claim(ledger, job, 0, worker="w2") is None
    with Ledger.open(sqlite_url) as ledger:
        again = jobs.claim(ledger, job, 0, worker="w2")
        assert len(again.items) == 3
        assert ledger.reserve(again.ref, again.fence, Amount(jobs.PRICE)) == "ok"
    with Ledger.open(sqlite_url) as ledger:
        assert jobs.try_claim(ledger, job, 0, worker="w3") is None, "within one boot leases stay"


def test_a_scope_of_the_limiter_is_used_for_the_first_time_once(ledger: Ledger) -> None:
    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(lambda _: ledger.first_use("scope"), range(8))) == 1
    assert ledger.first_use("another scope")
