"""A canary key and a canary sentence, looked for wherever they must not be: queue, logs, Flower, error output, disk.

Valkey's append-only file is its memory over time: whatever was ever put into it stands there in clear.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.fixtures.shell import CANARY_KEY, Done, Shell, until
from tests.fixtures.simulator import Simulator, StartSimulator

SENTENCE = "the canary sang at four in the morning"
PROMPT = f"Answer knowing that {SENTENCE}: {{text}}"
RIGHT_KEY = "sk-canary-right-77aa01"


@dataclass
class Flower:
    """A running `corpusmill flower`, seen by somebody who has the password."""

    url: str
    credentials: str

    def get(self, path: str) -> str:
        """A page; error pages count as well."""
        token = base64.b64encode(self.credentials.encode()).decode()
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Basic {token}"})
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return str(reply.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode()

    def tasks(self) -> dict[str, dict[str, object]]:
        """The tasks it has seen, by id."""
        found: dict[str, dict[str, object]] = json.loads(self.get("/api/tasks?limit=1000"))
        return found

    def everything(self) -> str:
        """All that it shows, page by page."""
        workers = json.loads(self.get("/api/workers?refresh=true"))
        pages = ["/", "/tasks", "/broker", "/metrics", "/api/queues/length", "/api/task/types", "/workers?json=1"]
        pages += [f"/worker/{quote(name)}" for name in workers]
        pages += [f"/{kind}/{task}" for task in self.tasks() for kind in ("task", "api/task/info", "api/task/result")]
        return json.dumps(workers) + json.dumps(self.tasks()) + "".join(self.get(page) for page in pages)


@pytest.fixture
def flower(shell: Shell) -> Iterator[Flower]:
    process = shell.start("flower", "--port", "0")
    assert process.stdout
    url = process.stdout.readline().split()[-1]
    words = process.stdout.readline().split()
    yield Flower(url, f"{words[3]}:{words[-1]}")
    process.terminate()
    shell.finish(process)


def write_documents(shell: Shell) -> None:
    for number in range(12):
        poison = "POISON" if number % 4 == 3 else "harmless"
        shell.write(f"docs/{number}.md", f"Document {number}, {poison}: {SENTENCE}.\n")


def complete(shell: Shell, *more: str) -> Done:
    return shell.run("complete", "docs", "--prompt", PROMPT, "--model", "gpt-6-luna", "--out", "out.jsonl", *more)


def files(home: Path, but: Callable[[Path], bool]) -> Iterator[Path]:
    return (path for path in home.rglob("*") if path.is_file() and not but(path.relative_to(home)))


def is_ledger_or_journal(path: Path) -> bool:
    return path.name.startswith("ledger.db") or path.parts[0] == "journal"


def faulty(simulator: StartSimulator) -> Simulator:
    # The error body of a refused request echoes its prompt, as real ones do.
    return simulator(key=[RIGHT_KEY], fault=["content_policy@text:POISON", "server_error@1-3", "bad_gateway@5"])


@pytest.mark.timeout(150)
def test_neither_key_nor_text_is_seen_in_queue_logs_flower_and_errors(
    shell: Shell, simulator: StartSimulator, flower: Flower
) -> None:
    endpoint = shell.connect(faulty(simulator))
    write_documents(shell)
    refused = complete(shell)
    assert refused.code == 77, str(refused)
    shell.connect(endpoint, RIGHT_KEY)
    done = complete(shell)
    assert done.code == 3, str(done)
    failures = shell.run("failures", "last")

    shown = until(lambda: len(flower.tasks()) >= 2 and flower.everything())
    states = {str(task["state"]) for task in flower.tasks().values()}
    assert "SUCCESS" in states
    assert re.search(r"j_[a-z0-9]{6} shard 0", shown)
    assert "completion.normal" in shown
    said = "".join([refused.out, refused.err, done.out, done.err, failures.out, failures.err])
    for secret in (CANARY_KEY, RIGHT_KEY, SENTENCE, "POISON"):
        assert secret not in shown
        assert secret not in said

    queue = b"".join(path.read_bytes() for path in shell.home.rglob("*.aof"))
    assert b"run_shard" in queue
    for secret in (CANARY_KEY, RIGHT_KEY):
        holders = [path for path in files(shell.home, lambda path: False) if secret.encode() in path.read_bytes()]
        assert holders == []
    holders = [path for path in files(shell.home, is_ledger_or_journal) if SENTENCE.encode() in path.read_bytes()]
    assert holders == []
