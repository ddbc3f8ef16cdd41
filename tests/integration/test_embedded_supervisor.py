from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import redis
from pydantic import SecretStr

from corpusmill import _entry
from corpusmill.embedded import lock
from corpusmill.embedded.client import Session, down, join
from corpusmill.embedded.place import place_of
from corpusmill.errors import UsageError
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import JobView, NewItem, NewJob
from corpusmill.settings import Provider, Settings
from corpusmill.spec import JobSpec
from tests.fixtures.shell import PATIENCE_S

CANARY = "sk-CANARY-4711"


def until(claim: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not claim():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


@contextmanager
def a_home() -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="home-") as folder:
        made = Settings(
            home=Path(folder) / "home", linger_s=30, viewer_s=2, grace_s=1, lease_s=3,
            providers={"there": Provider(base_url="http://127.0.0.1:9/v1", api_key=SecretStr(CANARY))},
        )  # fmt: skip
        yield made
        down(made)
        until(lambda: not processes(made))


@pytest.fixture
def settings() -> Iterator[Settings]:
    """A HOME of the test's own."""
    with a_home() as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Iterator[Settings]:
    """A HOME whose supervisor outlives the tests that leave it as it is: a start costs seconds."""
    with a_home() as made:
        yield made


def processes(settings: Settings) -> list[psutil.Process]:
    """Every process of this HOME, however it is called."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("CORPUSMILL_HOME") == str(settings.home)
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def listening(settings: Settings) -> list[str]:
    found = []
    for process in processes(settings):
        with suppress(psutil.NoSuchProcess):
            found += [f"{process} {one}" for one in process.net_connections("inet") if one.status == "LISTEN"]
    return found


def valkey_pid(session: Session) -> int:
    with redis.Redis.from_url(session.settings.redis_url or "") as client:
        return int(client.info()["process_id"])


def socket_folder(settings: Settings) -> Path:
    note = lock.read(place_of(settings).lock)
    assert note
    return Path(note.folder)


def job(settings: Settings, name: str, *, detached: bool = False) -> JobView:
    """A job with one item, queued; no worker holds its endpoint, so it stays so."""
    spec = JobSpec(kind="completion", path="/chat/completions", model="m", endpoint="http://nowhere/v1")
    new = NewJob(
        key=name.encode().ljust(32), spec=spec, provider="p", key_fingerprint="f", shard_size=1, detached=detached
    )
    with Ledger.open(place_of(settings).database_url) as ledger:
        view, _ = ledger.submit(new)
        ledger.load(view.id, [NewItem(id="a", source="a", key=b"k".ljust(32), tokens=1, text="a")], after=0)
        return ledger.commit_job(view.id)


def state_of(settings: Settings, view: JobView) -> tuple[str, str | None]:
    with Ledger.open(place_of(settings).database_url) as ledger:
        now = ledger.job(view.id)
        return now.state, now.reason


def test_the_first_client_starts_it_and_the_second_joins_the_same(shared: Settings) -> None:
    with join(shared) as first, join(shared) as second:
        assert first.pid == second.pid
        assert first.settings.database_url == f"sqlite:///{shared.home}/ledger.db"
        assert not first.settings.embedded


def test_clients_that_come_at_the_same_moment_start_one(settings: Settings) -> None:
    with ThreadPoolExecutor(4) as pool:
        sessions = list(pool.map(lambda _: Session(settings, []), range(4)))
    assert len({session.pid for session in sessions}) == 1
    for session in sessions:
        session.close()


def test_its_sockets_are_its_owners_alone_and_nothing_listens_on_a_port(shared: Settings) -> None:
    with join(shared):
        folder = socket_folder(shared)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
        assert listening(shared) == []


def test_killed_it_leaves_no_process_and_no_socket_behind_and_can_be_started_again(settings: Settings) -> None:
    with join(settings) as session:
        until(lambda: all(child["pid"] for child in session.state()["children"]))
        folder = socket_folder(settings)
        os.kill(session.pid, signal.SIGKILL)
        until(lambda: not processes(settings))
        assert not folder.exists()
    with join(settings) as session:
        assert valkey_pid(session)


def test_a_client_whose_supervisor_was_killed_joins_the_next_and_its_job_goes_on(settings: Settings) -> None:
    with join(settings) as session:
        view = job(settings, "kept")
        session.attach(view.id)
        first = session.pid
        os.kill(first, signal.SIGKILL)
        until(lambda: session.keep() and session.pid != first)
        until(lambda: state_of(settings, view)[0] in ("queued", "running"))
        time.sleep(settings.viewer_s * 2)
        assert state_of(settings, view)[0] != "paused"


def test_a_killed_valkey_comes_back_at_the_same_address_with_its_queue(shared: Settings) -> None:
    with join(shared) as session, redis.Redis.from_url(session.settings.redis_url or "") as client:
        client.rpush("queue", "one")
        until(lambda: client.info("persistence")["aof_pending_bio_fsync"] == 0)
        os.kill(valkey_pid(session), signal.SIGKILL)

        def answers() -> bool:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

        until(answers)
        assert client.lrange("queue", 0, -1) == [b"one"]
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_a_job_is_paused_when_its_last_viewer_leaves_and_a_detached_one_is_not(shared: Settings) -> None:
    with join(shared) as session, join(shared) as other:
        seen, detached = job(shared, "seen"), job(shared, "detached", detached=True)
        for view in (seen, detached):
            session.attach(view.id)
            session.detach(view.id)
        until(lambda: state_of(shared, seen) == ("paused", "user"))
        assert state_of(shared, detached)[0] == "queued"
        assert other.keep()


def test_a_job_whose_viewer_was_killed_is_paused_after_the_grace_time(shared: Settings) -> None:
    with join(shared) as session:
        view = job(shared, "killed")
        # Looked at while the other viewer starts, which may take longer than the grace time.
        session.attach(view.id)
        viewer = subprocess.Popen(
            [sys.executable, "-c", VIEWER, str(shared.home), str(view.id)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
        )
        assert viewer.stdout
        assert viewer.stdout.readline() == b"attached\n"
        session.detach(view.id)
        time.sleep(shared.viewer_s * 2)
        assert state_of(shared, view)[0] == "queued"
        viewer.kill()
        viewer.wait()
        viewer.stdout.close()
        until(lambda: state_of(shared, view) == ("paused", "user"))
        assert session.keep()


VIEWER = """
import sys, time
from pathlib import Path
from corpusmill.embedded.client import Session
from corpusmill.settings import Settings
session = Session(Settings(home=Path(sys.argv[1])), [])
session.attach(int(sys.argv[2]))
print("attached", flush=True)
time.sleep(60)
"""


def test_it_ends_a_while_after_the_last_client_and_leaves_nothing_behind(settings: Settings) -> None:
    brief = settings.model_copy(update={"linger_s": 0.2})
    with join(brief):
        folder = socket_folder(settings)
    until(lambda: not processes(settings))
    assert not folder.exists()
    assert not lock.is_held(place_of(settings).lock)


def test_it_stays_for_an_unfinished_detached_job(settings: Settings) -> None:
    brief = settings.model_copy(update={"linger_s": 0.2})
    with join(brief) as session:
        view = job(settings, "detached", detached=True)
    time.sleep(1.5)
    assert psutil.pid_exists(session.pid)
    with Ledger.open(place_of(settings).database_url) as ledger:
        ledger.cancel(view.id)
    until(lambda: not processes(settings))


def test_it_stays_after_up_until_down_which_pauses_what_was_never_detached(settings: Settings) -> None:
    brief = settings.model_copy(update={"linger_s": 0.0})
    with join(brief) as session:
        session.up(workers=None)
    time.sleep(1.5)
    assert psutil.pid_exists(session.pid)
    with join(brief) as session:
        seen, detached = job(settings, "seen"), job(settings, "detached", detached=True)
        session.attach(seen.id)
        assert down(brief)
        assert not session.keep()
    until(lambda: not processes(settings))
    assert state_of(settings, seen) == ("paused", "user")
    assert state_of(settings, detached)[0] == "queued"
    assert not down(brief)


def test_it_ends_when_home_vanishes(settings: Settings) -> None:
    with join(settings):
        folder = socket_folder(settings)
        shutil.rmtree(settings.home)
        until(lambda: not processes(settings))
    assert not folder.exists()
    assert not settings.home.exists()


def test_it_ends_when_its_sockets_vanish_so_that_the_next_client_finds_another(settings: Settings) -> None:
    with join(settings) as session:
        first = session.pid
        (settings.home / "supervisor.log").unlink()
        shutil.rmtree(socket_folder(settings))
        until(lambda: not lock.is_held(place_of(settings).lock))
    with join(settings) as session:
        assert session.pid != first


def test_up_in_the_foreground_ends_by_a_signal_and_takes_everything_along(settings: Settings) -> None:
    process = subprocess.Popen(
        [*_entry.child_command("corpusmill"), "up"],
        env={**_entry.bare_env(), "CORPUSMILL_HOME": str(settings.home), "CORPUSMILL_GRACE_S": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout
        assert process.stdout.readline().startswith("up: supervisor")
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    until(lambda: not processes(settings))


def test_it_holds_none_of_its_clients_descriptors(settings: Settings) -> None:
    client = subprocess.run(
        [sys.executable, "-c", STARTER, str(settings.home)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        timeout=PATIENCE_S,
        check=True,
    )
    pid = int(client.stdout)
    assert psutil.Process(pid).ppid() != os.getpid()
    assert os.getsid(pid) != os.getsid(0)
    down(settings)


STARTER = """
import sys
from pathlib import Path
from corpusmill.embedded.client import join
from corpusmill.settings import Settings
with join(Settings(home=Path(sys.argv[1]))) as session:
    print(session.pid, flush=True)
"""


def test_a_key_is_on_no_disk_in_no_environment_and_in_no_command_line(shared: Settings) -> None:
    os.environ["OPENAI_API_KEY"] = CANARY
    try:
        with join(shared, provider_names=["there"]) as session:
            until(lambda: all(child["pid"] for child in session.state()["children"]))
            told = [f"{process.environ()} {process.cmdline()}" for process in processes(shared)]
            assert CANARY not in str(told)
    finally:
        del os.environ["OPENAI_API_KEY"]
    files = [path for path in shared.home.rglob("*") if path.is_file()]
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


def test_a_client_of_another_version_is_told_to_stop_it_first(
    shared: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with join(shared):
        monkeypatch.setattr("corpusmill.embedded.client.__version__", "9.9.9")
        with pytest.raises(UsageError, match="stop it first: corpusmill down"):
            Session(shared, [])


def test_settings_that_the_running_machinery_does_not_heed_are_told(shared: Settings) -> None:
    with join(shared), join(shared.model_copy(update={"window": 5})) as other:
        assert other.notes == [
            "CORPUSMILL_WINDOW=5 has no effect: the machinery that runs has 1000; `corpusmill down` first"
        ]
