from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from corpusmill.cli import check_scheduler
from corpusmill.cli.main import outcome
from corpusmill.embedded import lock
from corpusmill.embedded.client import down, join
from corpusmill.embedded.place import Place
from corpusmill.settings import Settings
from tests.fixtures.simulator import StartSimulator


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in [name for name in os.environ if name.startswith(("CORPUSMILL_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    with tempfile.TemporaryDirectory(prefix="home-") as folder:
        monkeypatch.setenv("CORPUSMILL_HOME", f"{folder}/home")
        monkeypatch.setenv("CORPUSMILL_GRACE_S", "1")
        monkeypatch.chdir(folder)
        yield Path(folder) / "home"
        down(Settings.load())


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch, valkey_url: str, home: Path) -> str:
    monkeypatch.setenv("CORPUSMILL_BROKER_URL", valkey_url)
    monkeypatch.setenv("CORPUSMILL_DATABASE_URL", f"sqlite:///{home}/ledger.db")
    return valkey_url


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    """Exit code and the `--json` object of a command."""
    code = outcome([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def check(capsys: pytest.CaptureFixture[str], name: str) -> tuple[int, str, str]:
    code, found = run(capsys, "doctor", "--only", name)
    return code, found["checks"][0]["state"], f"{found['checks'][0]['what']} → {found['checks'][0]['fix']}"


def test_up_keeps_the_machinery_until_down(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    code, up = run(capsys, "up", "--detach")
    assert (code, up["home"]) == (0, str(home))
    assert {child["name"] for child in up["children"]} == {"valkey", "scheduler", "workers"}
    assert psutil.pid_exists(up["pid"])
    two = run(capsys, "up", "--detach", "--workers", "2")[1]
    assert two["pid"] == up["pid"]
    assert [child["name"] for child in two["children"]].count("workers") == 2
    assert all(psutil.pid_exists(child["pid"]) for child in two["children"])
    assert run(capsys, "down") == (0, {"stopped": True})
    assert run(capsys, "down") == (0, {"stopped": False})


def test_what_the_machinery_makes_is_its_owners_alone_whatever_the_umask_is(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    before = os.umask(0)
    try:
        up = run(capsys, "up", "--detach")[1]
    finally:
        os.umask(before)
    note = lock.read(Place(home).lock)
    assert up["pid"]
    assert note
    made = [home, *home.rglob("*"), Path(note.folder), *Path(note.folder).iterdir()]
    assert {"ledger.db", "supervisor.log"} <= {path.name for path in made}
    assert sum(path.is_socket() for path in made) >= 2
    # In a folder that is the owner's alone it does not matter; all others are so themselves.
    open_to_others = {path.name for path in made if path.stat().st_mode & 0o077}
    assert open_to_others == set()


def test_more_workers_than_sqlite_can_use_are_refused(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    code, said = run(capsys, "up", "--workers", "3")
    assert code == 2
    assert "too many for SQLite" in said["error"]["what"]
    assert not home.exists()


@pytest.mark.parametrize("command", ["worker", "scheduler"])
def test_a_process_of_a_fleet_names_up_where_no_fleet_is_configured(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    code, said = run(capsys, command)
    assert code == 2
    assert "corpusmill up" in said["error"]["next_step"]


@pytest.mark.parametrize("command", ["up", "down"])
def test_the_machinery_of_one_machine_is_refused_where_a_fleet_is_configured(
    capsys: pytest.CaptureFixture[str], fleet: str, command: str
) -> None:
    assert run(capsys, command)[0] == 2


def test_migrate_makes_the_schema_and_says_when_there_is_nothing_to_do(
    capsys: pytest.CaptureFixture[str], fleet: str
) -> None:
    first = run(capsys, "migrate")[1]
    assert first["before"] is None
    assert run(capsys, "migrate")[1]["before"] == first["after"]


def test_config_shows_every_value_with_its_origin_and_no_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-CANARY")
    assert outcome(["config"]) == 0
    shown = capsys.readouterr().out
    assert "OPENAI_API_KEY (environment)" in shown
    assert "CANARY" not in shown


# --- doctor -----------------------------------------------------------------------------------------------------


def test_doctor_finds_a_fresh_machine_in_order_but_for_the_key(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    code, found = run(capsys, "doctor")
    assert code == 2
    failed = {one["name"]: one["fix"] for one in found["checks"] if one["state"] == "failed"}
    assert failed.keys() == {"endpoint"}
    assert "corpusmill demo" in failed["endpoint"]


def test_doctor_sees_the_embedded_machinery_while_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with join(Settings.load()):
        code, found = run(capsys, "doctor", "--only", "home,database,broker,limiter,clock")
    said = {one["name"]: one["what"] for one in found["checks"]}
    assert code == 0
    assert "noeviction, append-only" in said["broker"]


def test_doctor_refuses_a_broker_that_forgets(capsys: pytest.CaptureFixture[str], fleet: str) -> None:
    with redis.Redis.from_url(fleet) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            code, state, said = check(capsys, "broker")
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert (code, state) == (2, "failed")
    assert "allkeys-lru" in said
    assert "CONFIG SET maxmemory-policy noeviction" in said


def test_doctor_warns_of_a_broker_that_keeps_nothing(capsys: pytest.CaptureFixture[str], fleet: str) -> None:
    code, state, said = check(capsys, "broker")
    assert (code, state) == (0, "warning")
    assert "appendonly yes" in said


def test_doctor_names_an_absent_broker_and_database_without_their_passwords(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        monkeypatch.setenv("CORPUSMILL_BROKER_URL", f"redis://:CANARY@127.0.0.1:{port}/0")
        monkeypatch.setenv("CORPUSMILL_DATABASE_URL", f"postgresql://u:CANARY@127.0.0.1:{port}/db")
        code, found = run(capsys, "doctor", "--only", "database,broker")
    assert code == 69
    assert {one["state"] for one in found["checks"]} == {"failed"}
    assert "CANARY" not in str(found)


def test_doctor_tells_a_refused_password_of_the_broker_and_blames_the_limiter_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fleet: str
) -> None:
    monkeypatch.setenv("CORPUSMILL_BROKER_URL", fleet.replace("://", "://nobody:CANARY@"))
    code, found = run(capsys, "doctor", "--only", "broker,limiter")
    assert code == 69
    assert [one["state"] for one in found["checks"]] == ["failed", "failed"]
    assert all("password is refused" in one["what"] for one in found["checks"])
    assert "CANARY" not in str(found)


def test_doctor_names_a_database_that_was_not_migrated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fleet: str, empty_postgres_url: str
) -> None:
    monkeypatch.setenv("CORPUSMILL_DATABASE_URL", empty_postgres_url)
    code, state, said = check(capsys, "database")
    assert (code, state) == (2, "failed")
    assert "corpusmill migrate" in said
    run(capsys, "migrate")
    assert check(capsys, "database")[1] == "ok"


def test_doctor_tells_a_fleet_without_workers_what_to_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fleet: str
) -> None:
    monkeypatch.setattr(check_scheduler, "WITHIN_S", 0.1)
    run(capsys, "migrate")
    for name in ("worker", "scheduler"):
        code, state, said = check(capsys, name.replace("worker", "workers"))
        assert (code, state) == (0, "warning")
        assert f"corpusmill {name}" in said


def test_doctor_tries_endpoint_and_key_with_one_free_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, simulator: StartSimulator
) -> None:
    running = simulator(key=["sk-right"])
    monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-CANARY")
    code, state, said = check(capsys, "endpoint")
    assert (code, state) == (77, "failed")
    assert "correct OPENAI_API_KEY" in said
    assert "CANARY" not in said
    monkeypatch.setenv("OPENAI_API_KEY", "sk-right")
    code, state, said = check(capsys, "endpoint")
    assert (code, state) == (0, "ok")
    assert running.stats()["paid_requests"] == 0


def test_doctor_names_an_endpoint_that_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    code, state, said = check(capsys, "endpoint")
    assert (code, state) == (69, "failed")
    assert "http://127.0.0.1:9/v1" in said
    assert said.endswith("correct OPENAI_BASE_URL")


def test_doctor_names_a_home_that_others_can_look_into(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    home.mkdir(mode=0o755)
    code, state, said = check(capsys, "home")
    assert (code, state) == (0, "warning")
    assert f"chmod 700 {home}" in said


def test_doctor_refuses_an_unknown_check_and_lists_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, "doctor", "--only", "brokr")
    assert code == 2
    assert "broker" in said["error"]["next_step"]
