"""A key and a sentence that must not be seen: not in the queue, logs, arguments, Flower, output or errors.

The sentence stands in a document and in the prompt, and the endpoint quotes both, with the key, when it refuses. It
may lie in the ledger and the journal, the key nowhere.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from corpusmill.embedded import lock
from corpusmill.embedded.place import Place, Sockets
from tests.acceptance.canaries import Eavesdropper, echo, unfolded
from tests.acceptance.compose import POSTGRES_PASSWORD, REDIS_PASSWORD, Fleet, fleet_in
from tests.acceptance.machinery import fresh_home, processes
from tests.fixtures.shell import CANARY_KEY, Done, Shell, until
from tests.fixtures.simulator import Simulator, StartSimulator

# Each test has a supervisor or a fleet: one at a time.
pytestmark = [pytest.mark.xdist_group("secrets"), pytest.mark.timeout(180)]

SENTENCE = "the miller hides his gold beneath the seventh sack"
MODELS = ("--model", "gpt-6-luna")
DOCUMENTS = 60


def write_corpus(shell: Shell) -> None:
    """Documents with the sentence, one of them refused with a quotation, and a prompt with it."""
    for number in range(DOCUMENTS):
        shell.write(f"docs/d{number:02}.md", f"Document {number}. {SENTENCE.capitalize()}: {SENTENCE}.")
    shell.write("docs/poison.md", f"POISON. {SENTENCE}")
    shell.write("prompt.txt", f"Say whether {SENTENCE}: {{text}}")
    body = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": f"POISON {SENTENCE}"}]}
    lines = [
        {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions", "body": {**body, "seed": number}}
        for number in range(3)
    ]
    shell.write("requests.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


# What runs a job, each ending with a refused item, and what shows something of one.
WORK: Sequence[Sequence[str]] = (
    ("complete", "docs", "--prompt", "@prompt.txt", *MODELS, "--out", "x.jsonl"),
    ("embed", "docs", "--model", "text-embedding-3-small", "--out", "v.npy"),
    ("run", "requests.jsonl", "--out", "r.jsonl"),
)
LOOKS: Sequence[Sequence[str]] = (
    ("failures", "last"), ("show", "last", "--json"), ("config",), ("doctor",), ("jobs",), ("usage",),
    ("watch", "last", "--json"), ("export", "last", "--out", "again.jsonl"), ("show", "no-such-job"),
)  # fmt: skip


def assert_unseen(where: str, told: str | bytes, *secrets: str) -> None:
    """None of the secrets stands in what was told, plain or in base64."""
    told = unfolded(told.encode() if isinstance(told, str) else told).lower()
    for secret in secrets:
        at = told.find(secret.lower().encode())
        assert at < 0, f"{where} shows {secret!r}: …{told[max(0, at - 200) : at + 200]!r}…"


def arguments_of(home: Path) -> str:
    """The command lines of every process of a HOME."""
    lines = []
    for process in processes(home):
        with suppress(psutil.Error):
            lines += process.cmdline()
    return "\n".join(lines)


def said(done: Done) -> str:
    """What a terminal showed."""
    return f"{done.out}\n{done.err}"


def quoting(simulator: StartSimulator) -> Simulator:
    """An endpoint that answers slowly, and refuses what says POISON with a quotation of it."""
    return simulator(latency_ms="700", fault=["content_policy@text:POISON"])


# --- Flower -----------------------------------------------------------------------------------------------------


class Flower:
    """A running Flower, read page by page."""

    def __init__(self, url: str, credentials: str) -> None:
        self._url = url
        self._headers = {"authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}

    def get(self, path: str) -> str:
        """One page."""
        with urllib.request.urlopen(
            urllib.request.Request(self._url + path, headers=self._headers), timeout=60
        ) as page:
            text: str = page.read().decode()
        return text

    def everything(self) -> str:
        """Every page and answer there is, those of each task and worker too."""
        tasks, workers = json.loads(self.get("/api/tasks")), json.loads(self.get("/api/workers?refresh=1"))
        shards = [uuid for uuid, task in tasks.items() if "run_shard" in (task["name"] or "")]
        paths = ["/", "/workers", "/tasks", "/broker", "/metrics", "/api/task/types", "/api/queues/length"]
        paths += [f"/worker/{name}" for name in workers]
        paths += [f"{page}/{uuid}" for uuid in shards[:20] for page in ("/task", "/api/task/info")]
        return "\n".join([json.dumps(tasks), json.dumps(workers), *map(self.get, paths)])

    def shards(self) -> int:
        """How many shards it has seen."""
        return sum("run_shard" in (task["name"] or "") for task in json.loads(self.get("/api/tasks")).values())


def flower_at(said: str, credentials: str | None = None) -> Flower:
    """Flower by what it says when it is up; the password is its own unless one was set."""
    found = re.search(r"(http://127\.0\.0\.1:\d+)(?:\nlog in as (\S+) with password (\S+))?", said)
    assert found, said
    return Flower(found[1], credentials or f"{found[2]}:{found[3]}")


# --- one machine ------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A HOME of the test's own, with the corpus in the folder."""
    with fresh_home(tmp_path, lease_s=5, grace_s=3) as shell:
        write_corpus(shell)
        yield shell


@contextmanager
def up_and_overheard(shell: Shell) -> Iterator[tuple[Eavesdropper, Flower]]:
    """The machinery up, every word to its queue heard, and Flower watching."""
    shell.ok("up", "--detach")
    note = lock.read(Place(shell.home).lock)
    assert note
    with Eavesdropper(str(Sockets(Path(note.folder)).valkey)) as ear:
        flower = shell.start("flower", "--port", "0")
        assert flower.stdout
        yield ear, flower_at(flower.stdout.readline() + flower.stdout.readline())
        flower.terminate()
        assert_unseen("Flower's log", said(shell.finish(flower)), CANARY_KEY, SENTENCE)


def test_on_one_machine_neither_key_nor_text_is_seen_outside_of_ledger_and_journal(
    shell: Shell, simulator: StartSimulator
) -> None:
    endpoint = shell.connect(quoting(simulator))
    shown = []
    with up_and_overheard(shell) as (ear, flower):
        until(lambda: json.loads(flower.get("/api/workers?refresh=1")))
        running = [shell.start(*command) for command in WORK]
        until(lambda: endpoint.stats()["in_flight"] >= 3 and flower.shards() >= 3)
        arguments, pages = arguments_of(shell.home), flower.everything()
        heard = ear.heard()
        shown += [shell.finish(process) for process in running]
        shown += [shell.run(*command) for command in LOOKS]
        pages += flower.everything()
        heard += ear.heard()
    shown.append(shell.run("down"))

    assert [done.code for done in shown[:3]] == [3, 3, 3], "\n".join(map(str, shown[:3]))
    assert b"shard_no" in heard, "the ear is deaf"
    assert "shard 0" in pages
    assert_unseen("the queue", heard, CANARY_KEY, SENTENCE)
    assert_unseen("a process's arguments", arguments, CANARY_KEY, SENTENCE)
    assert_unseen("Flower", pages, CANARY_KEY, SENTENCE)
    for done in shown:
        assert_unseen("a command", said(done), CANARY_KEY, SENTENCE)
    assert_only_ledger_and_journal_know(shell)


def assert_only_ledger_and_journal_know(shell: Shell) -> None:
    """Of all files of HOME and of the folder for temporary files, the queue's file and the logs included."""
    places = [shell.home, Path(shell.environment["TMPDIR"])]
    contents = {path: path.read_bytes() for place in places for path in place.rglob("*") if path.is_file()}
    assert any("appendonly" in path.name for path in contents)
    knowing = {path for path, content in contents.items() if SENTENCE.encode() in unfolded(content)}
    assert shell.home / "ledger.db" in knowing
    for path, content in contents.items():
        assert_unseen("a file's name", str(path), CANARY_KEY, SENTENCE)
        assert_unseen(str(path), content, CANARY_KEY)
        if not path.name.startswith("ledger.db") and path.parent.name != "journal":
            assert_unseen(str(path), content, SENTENCE)


def test_what_an_endpoint_quotes_in_a_refusal_reaches_neither_terminal_nor_disk(shell: Shell) -> None:
    shell.environment |= {"CORPUSMILL_RETRY__ATTEMPTS": "2", "CORPUSMILL_RETRY__MIN_S": "0.05"}
    shown = []
    for status, code in ((400, 2), (401, 77), (500, 3)):
        with echo(status) as base_url:
            shell.environment |= {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": CANARY_KEY}
            shown += [shell.run("complete", "docs", "--prompt", "@prompt.txt", *MODELS)]
        assert shown[-1].code == code, f"HTTP {status}: {shown[-1]}"
        shown += [shell.run("failures", "last", "--json")]
    shown.append(shell.run("down"))
    for done in shown:
        assert_unseen("a command", said(done), CANARY_KEY, SENTENCE)
    assert_only_ledger_and_journal_know(shell)


# --- a fleet ----------------------------------------------------------------------------------------------------


def test_in_a_fleet_neither_key_nor_text_nor_password_is_seen_outside_of_the_database(
    tmp_path: Path, empty_postgres_url: str, simulator: StartSimulator
) -> None:
    endpoint = quoting(simulator)
    dotenv = {"OPENAI_API_KEY": CANARY_KEY, "OPENAI_BASE_URL": endpoint.base_url, "CORPUSMILL_LIMITS__RPM": "0"}
    with fleet_in(tmp_path, empty_postgres_url, dotenv) as fleet:
        write_corpus(fleet.producer)
        with Eavesdropper(("127.0.0.1", fleet.redis.port), REDIS_PASSWORD) as ear:
            ours = [fleet.start(name) for name in ("worker", "worker", "scheduler")]
            page = fleet.start("flower", "flower", "--port", "0")
            until(lambda: "http://" in page.said())
            flower = flower_at(page.said(), fleet.dotenv["FLOWER_BASIC_AUTH"])
            until(lambda: len(json.loads(flower.get("/api/workers?refresh=1"))) >= 3)
            running = [fleet.producer.start(*command) for command in WORK]
            until(lambda: endpoint.stats()["in_flight"] >= 3 and flower.shards() >= 3)
            arguments, pages, heard = arguments_of(fleet.home), flower.everything(), ear.heard()
            shown = [fleet.producer.finish(process) for process in running]
            shown += [fleet.producer.run(*command) for command in LOOKS[:4]]
            pages += flower.everything()
            heard += ear.heard()
            assert [each.end() for each in (*ours, page)] == [0] * 4
        assert [done.code for done in shown[:3]] == [3, 3, 3], "\n".join(map(str, shown[:3]))
        assert b"shard_no" in heard, "the ear is deaf"
        assert "shard 0" in pages
        secrets = (CANARY_KEY, SENTENCE, POSTGRES_PASSWORD)
        assert_unseen("the queue", heard, *secrets)
        assert_unseen("Flower", pages, *secrets, REDIS_PASSWORD)
        assert_unseen("a process's arguments", arguments, *secrets, REDIS_PASSWORD)
        for done in shown:
            assert_unseen("a command", said(done), *secrets, REDIS_PASSWORD)
        for each in fleet.started:
            assert_unseen(each.log.name, each.said(), *secrets, REDIS_PASSWORD)
        for path in (*fleet.home.rglob("*"), *fleet.redis.folder.rglob("*")):
            if path.is_file():
                assert_unseen(str(path), path.read_bytes(), CANARY_KEY, SENTENCE, POSTGRES_PASSWORD)
        assert_the_database_knows_the_sentence_and_not_the_key(fleet)


def assert_the_database_knows_the_sentence_and_not_the_key(fleet: Fleet) -> None:
    """Every column of every row, as text."""
    with psycopg.connect(fleet.database_url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        rows = {name: connection.execute(f'SELECT t::text FROM "{name}" t').fetchall() for (name,) in tables}
    told = {name: "\n".join(row for (row,) in found) for name, found in rows.items()}
    assert SENTENCE in told["chunks"]
    for name, text in told.items():
        assert_unseen(f"the table {name}", text, CANARY_KEY, REDIS_PASSWORD)
    assert_unseen("the table results", told["results"], SENTENCE)
