"""What a worker and a scheduler say at their start, to whoever started them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from corpusmill._entry import child_command
from tests.fixtures.valkey import free_port


def ended(name: str, home: Path, broker_url: str) -> tuple[int, list[str]]:
    """Exit code and lines of a process that cannot start."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CORPUSMILL", "OPENAI"))}
    settings = {
        "CORPUSMILL_HOME": str(home),
        "CORPUSMILL_BROKER_URL": broker_url,
        "CORPUSMILL_DATABASE_URL": f"sqlite:///{home}/ledger.db",
    }
    done = subprocess.run(
        child_command(name), env={**kept, **settings}, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert not done.stdout
    return done.returncode, done.stderr.decode().splitlines()


def test_a_worker_without_its_broker_says_so_and_ends(tmp_path: Path) -> None:
    url = f"redis://:CANARY@127.0.0.1:{free_port()}/0"
    code, lines = ended("workers", tmp_path, url)
    assert code == 69
    assert lines == [
        "the message broker: it does not answer: ConnectionError",
        url.replace("CANARY", "***"),
        "start it, or correct CORPUSMILL_BROKER_URL",
    ]


def test_a_scheduler_with_a_wrong_password_says_that_it_is_refused(tmp_path: Path, valkey_url: str) -> None:
    code, lines = ended("scheduler", tmp_path, valkey_url.replace("://", "://nobody:CANARY@"))
    assert code == 69
    assert len(lines) == 3
    assert "password is refused" in lines[0]
    assert "CANARY" not in str(lines)
