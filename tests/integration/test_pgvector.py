"""A table in somebody's PostgreSQL holds one set at one version, whole, whatever happens while it is loaded."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from corpusmill.cli.main import outcome
from corpusmill.collections import loading
from corpusmill.collections.exporting import choose, export
from corpusmill.errors import CorpusmillError, SettingsError, Unavailable, UsageError
from corpusmill.ledger import Ledger
from corpusmill.mill.place import Place
from corpusmill.pgvector import Loaded, load, statements, table_name, target, trouble
from corpusmill.settings import Settings
from tests.fixtures.shell import PATIENCE_S
from tests.fixtures.vector_tables import Texts, loaded
from tests.integration.test_ledger_collections import KEEP_S, add, begun, completed, filled, spec

MANY = 2_500


def counts(found: Loaded) -> tuple[int, int, int]:
    return found.added, found.changed, found.deleted


def ask(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def held(url: str) -> dict[str, str]:
    return dict(ask(url, "SELECT id, text FROM docs"))


def test_a_load_makes_the_table_and_the_same_load_again_writes_nothing(empty_postgres_url: str) -> None:
    url = empty_postgres_url
    source = Texts({"a": "one", "b": "two"}, metadata={"tag": "x\0y", "deep": ["\0", 1.5]})

    assert counts(loaded(url, source)) == (2, 0, 0)

    (row,) = ask(url, "SELECT source, chunk, start_offset, end_offset, text, metadata, embedding::text, model, "
                      "prompt_tokens, version FROM docs WHERE id = 'a'")  # fmt: skip
    vector = [int(number) for number in np.frombuffer(next(source.outline()).body, "<f4")]
    metadata = {"tag": "x\ufffdy", "deep": ["\ufffd", 1.5]}
    assert row == ("a.md", 0, 0, 3, "one", metadata, json.dumps(vector, separators=(",", ":")), "model-a", 3, 1)
    assert ask(url, "SELECT embedding <-> embedding FROM docs") == [(0.0,), (0.0,)]
    written = ask(url, "SELECT ctid, xmin FROM docs UNION ALL SELECT ctid, xmin FROM corpusmill_loads")
    source.asked.clear()

    again = loaded(url, source)

    assert (counts(again), again.rows, again.before) == ((0, 0, 0), 2, "docs@model-a-4")
    assert ask(url, "SELECT ctid, xmin FROM docs UNION ALL SELECT ctid, xmin FROM corpusmill_loads") == written
    assert source.asked == []


def test_a_later_version_writes_what_differs_and_no_other_row(empty_postgres_url: str) -> None:
    url = empty_postgres_url
    texts = {f"d{number}": f"text {number}" for number in range(MANY)}
    assert counts(loaded(url, Texts(texts))) == (MANY, 0, 0)
    untouched = ask(url, "SELECT ctid, xmin FROM docs WHERE id > 'd7' ORDER BY id")
    later = {name: text for name, text in texts.items() if name not in ("d1", "d2", "d3", "d4", "d5")}
    later |= {"d6": "edited", "d10": "edited", "e1": "new", "e2": "new", "e3": "new"}
    source = Texts(later, version=2)

    assert counts(loaded(url, source)) == (3, 2, 5)

    assert held(url) == later
    assert len(source.asked) == 5
    assert ask(url, "SELECT ctid, xmin FROM docs WHERE id > 'd7' AND id < 'e' ORDER BY id") == untouched
    assert ask(url, "SELECT version, count(*) FROM docs GROUP BY 1 ORDER BY 1") == [(1, MANY - 7), (2, 5)]
    told = "SELECT collection, set_name, model, dimensions, version, rows FROM corpusmill_loads"
    assert ask(url, told) == [("docs", "model-a-4", "model-a", 4, 2, MANY - 2)]


def test_metadata_alone_is_a_change(empty_postgres_url: str) -> None:
    loaded(empty_postgres_url, Texts({"a": "one", "b": "two"}, metadata={"tag": 1}))
    found = loaded(empty_postgres_url, Texts({"a": "one", "b": "two"}, version=2, metadata={"tag": 2}))
    assert counts(found) == (0, 2, 0)


def test_a_reader_sees_the_former_version_until_the_later_one_is_whole(empty_postgres_url: str) -> None:
    url = empty_postgres_url
    before = {f"d{number}": "before" for number in range(MANY)}
    loaded(url, Texts(before))
    seen: list[tuple[Any, ...]] = []
    looked = "SELECT (SELECT version FROM corpusmill_loads), min(text), max(text), count(*) FROM docs"
    after = {**{f"d{number}": "after" for number in range(1, MANY)}, "e": "after"}

    loaded(url, Texts(after, version=2, on_page=lambda: seen.extend(ask(url, looked))))

    assert seen == [(1, "before", "before", MANY)] * 3
    assert ask(url, looked) == [(2, "after", "after", MANY)]


def test_another_model_takes_the_place_of_the_one_before_at_one_moment(empty_postgres_url: str) -> None:
    url = empty_postgres_url
    texts = {"a": "one", "b": "two"}
    loaded(url, Texts(texts))
    models = (
        "SELECT array_agg(DISTINCT model), array_agg(DISTINCT model = (SELECT model FROM corpusmill_loads)) FROM docs"
    )
    seen: list[tuple[Any, ...]] = []

    found = loaded(url, Texts(texts, model="model-b", on_page=lambda: seen.extend(ask(url, models))))

    assert (counts(found), found.before, found.set) == ((0, 2, 0), "docs@model-a-4", "model-b-4")
    assert seen == [(["model-a"], [True])]
    assert ask(url, models) == [(["model-b"], [True])]


def test_of_two_loads_the_second_waits_and_then_asks_which_version_is_the_last(empty_postgres_url: str) -> None:
    url = empty_postgres_url
    loaded(url, Texts({"a": "one"}))
    half, told, go_on = threading.Event(), threading.Event(), threading.Event()
    newest = [Texts({"a": "two"}, version=2)]

    def on_page() -> None:
        half.set()
        assert go_on.wait(PATIENCE_S)

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(loaded, url, Texts({"a": "two"}, version=2, on_page=on_page))
        assert half.wait(PATIENCE_S)
        second = threads.submit(load, target(url), None, "docs", lambda: newest[-1], note=lambda text: told.set())
        assert told.wait(PATIENCE_S)
        newest.append(Texts({"a": "three"}, version=3))
        go_on.set()
        assert (counts(first.result()), counts(second.result())) == ((0, 1, 0), (0, 1, 0))

    assert held(url) == {"a": "three"}


_HALF = """
import sys
from tests.fixtures.vector_tables import Texts, loaded
pages = []
def on_page():
    pages.append(1)
    if len(pages) == 2:
        print("half", flush=True)
        sys.stdin.read()
loaded(sys.argv[1], Texts({f"d{n}": "after" for n in range(2500)}, version=2, on_page=on_page))
"""


def test_a_load_that_is_killed_leaves_the_former_version_whole(empty_postgres_url: str) -> None:
    url = empty_postgres_url
    before = {f"d{number}": "before" for number in range(MANY)}
    loaded(url, Texts(before))
    command = [sys.executable, "-c", _HALF, url]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.kill()

    assert held(url) == before
    assert ask(url, "SELECT version FROM corpusmill_loads") == [(1,)]
    assert counts(loaded(url, Texts({"d0": "after"}, version=2))) == (0, 1, MANY - 1)


def test_a_table_is_not_overwritten_that_is_not_this_collections(empty_postgres_url: str) -> None:
    url = empty_postgres_url
    loaded(url, Texts({"a": "one"}))

    with pytest.raises(UsageError, match="4 dimensions, and those of docs@model-a-5 have 5") as refused:
        loaded(url, Texts({"a": "one"}, dimensions=5), force=True)
    assert "--table docs_5" in refused.value.next_step
    with pytest.raises(UsageError, match="holds the collection docs, made from another ledger"):
        loaded(url, Texts({"a": "two"}, ledger="theirs"))
    with pytest.raises(UsageError, match="holds the collection docs") as refused:
        loaded(url, Texts({"a": "two"}, collection="other"))
    assert "--force" in refused.value.next_step
    assert held(url) == {"a": "one"}

    assert counts(loaded(url, Texts({"b": "two"}, collection="other"), force=True)) == (1, 0, 1)
    ask(url, "DROP TABLE docs; CREATE TABLE docs (id text)")
    with pytest.raises(UsageError, match="corpusmill did not make"):
        loaded(url, Texts({"a": "one"}), force=True)
    assert ask(url, "SELECT count(*) FROM docs") == [(0,)]


def test_what_was_dropped_while_it_was_read_is_not_loaded(empty_postgres_url: str) -> None:
    url = empty_postgres_url
    loaded(url, Texts({"a": "one"}))
    with pytest.raises(UsageError, match="dropped"):
        loaded(url, Texts({}, version=2, gone=True))
    short = Texts({"a": "one", "b": "two"}, version=2)
    short.on_page = lambda: short.texts.pop("b")  # type: ignore[attr-defined]
    with pytest.raises(CorpusmillError, match="1 of 1 vectors could not be read any more"):
        loaded(url, short)
    assert held(url) == {"a": "one"}


def test_a_set_without_a_vector_empties_its_table_and_makes_none(empty_postgres_url: str) -> None:
    with pytest.raises(UsageError, match="nobody knows how long"):
        loaded(empty_postgres_url, Texts({}, dimensions=None))
    loaded(empty_postgres_url, Texts({"a": "one"}))
    assert counts(loaded(empty_postgres_url, Texts({}, version=2, dimensions=None))) == (0, 0, 1)


def test_a_user_who_lacks_a_right_is_told_what_to_have_typed(empty_postgres_url: str) -> None:
    url = empty_postgres_url
    name = "guest_" + hashlib.sha256(url.encode()).hexdigest()[:8]
    ask(url, f"CREATE ROLE {name} LOGIN")
    guest = url.replace("postgres:@", f"{name}:sesame-42@", 1)
    assert guest != url
    try:
        with pytest.raises(UsageError) as refused:
            loaded(guest, Texts({"a": "one"}))
        assert "CREATE EXTENSION vector" in refused.value.next_step
        ask(url, "CREATE SCHEMA elsewhere; CREATE EXTENSION vector SCHEMA elsewhere")
        with pytest.raises(UsageError, match="in the schema elsewhere, which this user may not use") as refused:
            loaded(guest, Texts({"a": "one"}))
        assert f"GRANT USAGE ON SCHEMA elsewhere TO {name}" in refused.value.next_step
        ask(url, f"GRANT USAGE ON SCHEMA elsewhere TO {name}")
        with pytest.raises(UsageError, match="permission denied for schema public") as refused:
            loaded(guest, Texts({"a": "one"}))
        assert "sesame" not in str(refused.value)
        ask(url, f"CREATE SCHEMA theirs AUTHORIZATION {name}")
        found = load(target(guest), "theirs", "docs", lambda: Texts({"a": "one"}))
        assert (found.table, found.added) == ("theirs.docs", 1)
        with pytest.raises(UsageError, match="no schema nowhere"):
            load(target(guest), "nowhere", "docs", lambda: Texts({"a": "one"}))
    finally:
        ask(url, f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:sesame-42@127.0.0.1:one/x",
        "postgresql://u:sesame-42%zz@h/x",
        "mysql://u:sesame-42@h/x",
        "sesame-42",
    ],
)
def test_a_url_that_cannot_be_read_is_not_quoted(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CM_TARGET", url)
    for given in (url, "env:CM_TARGET"):
        with pytest.raises(UsageError) as refused:
            target(given)
        assert "sesame" not in str(refused.value)


def test_a_database_that_is_away_is_named_without_user_and_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CM_TARGET", "postgresql+psycopg://ada:sesame-42@127.0.0.1:1/books")
    away = target("env:CM_TARGET")
    with pytest.raises(Unavailable) as refused, away.connected():
        pass
    assert "postgresql://127.0.0.1:1/books" in str(refused.value)
    assert "sesame" not in str(refused.value) + repr(away)
    assert not away.exposed
    assert target("postgresql://ada:sesame-42@127.0.0.1:1/books").exposed
    with pytest.raises(SettingsError, match="CM_NOWHERE is not set"):
        target("env:CM_NOWHERE")


def test_a_table_is_called_like_its_collection_or_as_asked() -> None:
    assert table_name(None, "My-Docs.v1") == (None, "my_docs_v1")
    assert table_name(None, "2026") == (None, "_2026")
    assert table_name("search.docs", "x") == ("search", "docs")
    for bad in ("Docs", "a.b.c", "x;", "", "corpusmill_loads", "d" * 64):
        with pytest.raises(UsageError, match="cannot be called"):
            table_name(bad, "x")


def test_a_collection_of_either_ledger_is_loaded_as_readers_see_it(
    ledger: Ledger, empty_postgres_url: str, tmp_path: Path
) -> None:
    url, notes = empty_postgres_url, list[str]()
    with Place(Settings(home=tmp_path)) as place:
        place._ledger = ledger
        first = begun(ledger)
        add(ledger, first, "a.md", ["one", "two"])
        add_and_complete = completed(ledger, first)
        assert add_and_complete == ["one", "two"]
        assert counts(loading.load(place, "docs", target(url))) == (2, 0, 0)
        second = begun(ledger)
        add(ledger, second, "b.md", ["two", "three"], ended=[0])
        # Not complete: readers go on to see the first.
        assert counts(loading.load(place, "docs", target(url))) == (0, 0, 0)
        completed(ledger, second)
        assert counts(loading.load(place, "docs", target(url))) == (2, 0, 2)
        set_ = ledger.collections.begin_set(second.collection_id, "model-b-2", "example", spec("model-b"), KEEP_S)
        filled(ledger, set_, 2)
        ledger.collections.settle()

        switched = loading.load(place, "docs", target(url), note=notes.append)

        assert (switched.set, counts(switched)) == ("model-b-2", (0, 2, 0))
        assert "queries over it are to be embedded by model-b" in notes[0]
        expected = [
            (
                row.id,
                row.source,
                row.chunk,
                row.start,
                row.end,
                row.metadata,
                list(np.frombuffer(row.body or b"", "<f4")),
            )
            for row in ledger.collections.rows(ledger.collections.find("docs").active, 2)
        ]
        columns = "id, source, chunk, start_offset, end_offset, metadata, embedding::real[]"
        assert ask(url, f"SELECT {columns} FROM docs ORDER BY source, chunk") == expected
        assert [text for (text,) in ask(url, "SELECT text FROM docs ORDER BY chunk")] == ["two", "three"]
        assert counts(loading.load(place, "docs@model-a-2", target(url), table="former")) == (2, 0, 0)
        with pytest.raises(UsageError, match="no collection 'dosc'; near it: docs"):
            loading.load(place, "dosc", target(url))


def test_a_load_keeps_to_its_own_isolation_and_patience_whatever_the_user_s_are(empty_postgres_url: str) -> None:
    url = empty_postgres_url
    ((database,),) = ask(url, "SELECT current_database()")
    for name, value in {"default_transaction_isolation": "serializable", "lock_timeout": "77ms"}.items():
        ask(url, f"ALTER DATABASE {database} SET {name} = '{value}'")
    shown: list[tuple[Any, ...]] = []
    asked = "SELECT current_setting('transaction_isolation'), current_setting('lock_timeout')"
    with target(url).connected() as connection:
        assert connection.execute("SHOW lock_timeout").fetchone() == ("77ms",)
        with connection.transaction():
            connection.execute(statements.NO_LIMITS)
            shown += connection.execute(asked.encode()).fetchall()
    assert shown == [("read committed", "0")]


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.SerializationFailure,
        psycopg.errors.DeadlockDetected,
        psycopg.errors.LockNotAvailable,
        psycopg.errors.QueryCanceled,
    ],
)
def test_a_load_that_was_ended_for_something_else_is_to_be_run_again(error: type[psycopg.Error]) -> None:
    told = trouble.told(error("in the way"), "postgresql://host/db", None)
    assert (told.next_step, told.exit_code) == ("run the same command again", 1)
    assert "in the way; the table is as it was before" in told.what


def test_a_set_that_is_dropped_while_it_is_loaded_is_not_loaded(
    ledger: Ledger, empty_postgres_url: str, tmp_path: Path
) -> None:
    version = begun(ledger)
    add(ledger, version, "a.md", ["one"])
    completed(ledger, version)
    set_ = ledger.collections.begin_set(version.collection_id, "model-b-2", "example", spec("model-b"), -1.0)
    filled(ledger, set_, 1)
    ledger.collections.settle_set(set_)
    with Place(Settings(home=tmp_path)) as place:
        place._ledger = ledger
        (name,) = [each.name for each in ledger.collections.find("docs").sets if each.state == "kept"]
        with pytest.raises(UsageError, match="dropped while it was read"):
            loading.load(place, f"docs@{name}", target(empty_postgres_url))
        chosen = choose(ledger, f"docs@{name}")
        assert chosen is not None
        with pytest.raises(UsageError, match="dropped while it was read"):
            export(place, chosen, tmp_path / "x.npy")
        assert not (tmp_path / "x.npy").exists()


def test_export_to_a_database_says_what_changed_and_no_password(
    empty_postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = empty_postgres_url.replace("postgres:@", "postgres:sesame-42@", 1)
    for name, value in {"CORPUSMILL_HOME": str(tmp_path / "home"), "CM_TARGET": url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    with Place(Settings.load()) as place:
        version = begun(place.ledger)
        add(place.ledger, version, "a.md", ["one", "two"])
        completed(place.ledger, version)

    assert outcome(["export", "docs", "--to", "env:CM_TARGET", "--table", "texts", "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert {name: found[name] for name in ("collection", "set", "version", "table", "added", "rows")} == {
        "collection": "docs", "set": "model-a-2", "version": 1, "table": "public.texts", "added": 2, "rows": 2,
    }  # fmt: skip
    assert outcome(["export", "docs", "--to", url, "--table", "texts"]) == 0
    again = capsys.readouterr()
    assert "0 added, 0 changed, 0 deleted" in again.out
    assert "env:NAME" in again.err
    assert "sesame" not in captured.out + captured.err + again.out + again.err
    for wrong in (["--to", url, "--out", "x.npy"], ["--table", "t"], [], ["--out", "x.npy", "--table", "t"]):
        assert outcome(["export", "docs", *wrong]) == 2
    assert "sesame" not in capsys.readouterr().err
