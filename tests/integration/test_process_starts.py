"""What a worker and a scheduler say at their start, to whoever started them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

from corpusmill._entry import child_command
from tests.fixtures.fleet import wait_until
from tests.fixtures.shell import PATIENCE_S
from tests.fixtures.valkey import free_port


def environment(home: Path, broker_url: str) -> dict[str, str]:
    """A fleet's, without any provider."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CORPUSMILL", "OPENAI"))}
    settings = {
        "CORPUSMILL_HOME": str(home),
        "CORPUSMILL_BROKER_URL": broker_url,
        "CORPUSMILL_DATABASE_URL": f"sqlite:///{home}/ledger.db",
    }
    return {**kept, **settings}


def ended(name: str, home: Path, broker_url: str) -> tuple[int, list[str]]:
    """Exit code and lines of a process that cannot start."""
    done = subprocess.run(
        child_command(name),
        env=environment(home, broker_url),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE_S,
    )
    assert not done.stdout
    return done.returncode, done.stderr.decode().splitlines()


def test_a_worker_without_its_broker_says_so_and_ends(tmp_path: Path) -> None:
    url = f"redis://:CANARY@127.0.0.1:{free_port()}/0"
    code, lines = ended("workers", tmp_path, url)
    assert code == 69
    assert lines == [
        "✗ the message broker: it does not answer: ConnectionError",
        "  " + url.replace("CANARY", "***"),
        "  start it, or correct CORPUSMILL_BROKER_URL",
    ]


def test_a_scheduler_with_a_wrong_password_says_that_it_is_refused(tmp_path: Path, valkey_url: str) -> None:
    code, lines = ended("scheduler", tmp_path, valkey_url.replace("://", "://nobody:CANARY@"))
    assert code == 69
    assert len(lines) == 3
    assert "password is refused" in lines[0]
    assert "CANARY" not in str(lines)


def test_a_worker_without_a_provider_warns_of_it_and_adopts_journals_to_the_end(
    tmp_path: Path, valkey_url: str
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        worker = subprocess.Popen(
            child_command("workers"), env=environment(tmp_path, valkey_url), stdin=subprocess.DEVNULL, stderr=file
        )
    try:
        wait_until(lambda: "OPENAI_API_KEY" in log.read_text() or worker.poll() is not None)
        orphan = tmp_path / "journal" / "1-killed"
        orphan.mkdir()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_S) == 0
    finally:
        worker.kill()
    assert not orphan.exists()
    told = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"none"} == {line["serves"] for line in told if line["event"] == "ready"}
    warned = [line for line in told if line["event"].startswith("this worker serves no provider")]
    assert [(line["level"], line["logger"]) for line in warned] == [("warning", "workers.ready")]
    # Nothing of Celery's own, such as its warning of the user root.
    assert all(line["logger"].startswith("workers.") for line in told)
