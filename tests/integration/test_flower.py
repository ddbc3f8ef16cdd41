from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis

from corpusmill import _entry
from corpusmill.app import CONTROL, SHARD_QUEUES
from corpusmill.cli.flower import is_loopback
from corpusmill.embedded.client import down, join
from corpusmill.settings import Settings
from tests.fixtures.shell import PATIENCE_S, until

CREDENTIALS = "op:CANARY-password"


@contextmanager
def flower(folder: Path, *flags: str, **environment: str) -> Iterator[tuple[str, list[str]]]:
    """Flower's base URL, and the lines it printed before."""
    process = subprocess.Popen(
        [*_entry.child_command("corpusmill"), "flower", "--port", "0", *flags],
        env={**_entry.bare_env(), **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout
            lines = [process.stdout.readline()]
            found = re.search(r"http://127\.0\.0\.1:\d+", lines[0])
            assert found, lines
            if "CORPUSMILL_FLOWER__BASIC_AUTH" not in environment and "--json" not in flags:
                lines.append(process.stdout.readline())
            yield found.group(), lines
        finally:
            process.terminate()


def get(url: str, credentials: str | None = CREDENTIALS, *, method: str = "GET") -> tuple[int, str]:
    headers = {}
    if credentials:
        headers["Authorization"] = f"Basic {base64.b64encode(credentials.encode()).decode()}"
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers, method=method), timeout=PATIENCE_S
        ) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def lengths(page: str) -> dict[str, int]:
    cells = [cell.strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", page, re.DOTALL)]
    return {cells[i]: int(cells[i + 1]) for i in range(0, len(cells), 6)}


@pytest.fixture
def environment(valkey_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "CORPUSMILL_HOME": str(tmp_path),
        "CORPUSMILL_BROKER_URL": valkey_url,
        "CORPUSMILL_DATABASE_URL": f"sqlite:///{tmp_path}/ledger.db",
        "CORPUSMILL_FLOWER__BASIC_AUTH": CREDENTIALS,
    }


def test_no_page_but_the_health_check_is_shown_without_the_password_and_nothing_can_be_changed(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "flowerconfig.py").write_text("basic_auth = ['nobody:nothing']\nread_only = False\n")
    with flower(tmp_path, FLOWER_BASIC_AUTH="other:one", **environment) as (url, _):
        pages = ("/", "/workers", "/tasks", "/broker", "/metrics", "/api/workers", "/api/tasks", "/api/queues/length")
        assert {page: get(url + page, None)[0] for page in pages} == dict.fromkeys(pages, 401)
        assert {page: get(url + page, "other:one")[0] for page in pages} == dict.fromkeys(pages, 401)
        assert {page: get(url + page)[0] for page in pages} == dict.fromkeys(pages, 200)
        assert get(url + "/healthcheck", None) == (200, "OK")
        changes = ("/api/worker/shutdown/w", "/api/task/revoke/t", "/api/task/send-task/completion.run_shard")
        assert {page: get(url + page, method="POST")[0] for page in changes} == dict.fromkeys(changes, 403)


def test_the_broker_page_shows_every_queues_length_with_no_worker_alive(
    environment: dict[str, str], tmp_path: Path, valkey_url: str
) -> None:
    with redis.Redis.from_url(valkey_url) as client:
        client.rpush("corpusmill:completion.normal", "a", "b")
        client.rpush("corpusmill:embedding.low", "c")
    with flower(tmp_path, **environment) as (url, _):
        shown = lengths(get(url + "/broker")[1])
    assert shown == {**dict.fromkeys([*SHARD_QUEUES, CONTROL], 0), "completion.normal": 2, "embedding.low": 1}


def _worker_of(supervisor: int) -> psutil.Process | None:
    children = psutil.Process(supervisor).children(recursive=True)
    return next((child for child in children if "workers" in child.cmdline()), None)


def test_the_broker_page_shows_every_queues_length_on_the_embedded_socket() -> None:
    with tempfile.TemporaryDirectory(prefix="home-") as folder:
        settings = Settings(home=Path(folder) / "home", grace_s=1)
        try:
            with (
                join(settings) as session,
                redis.Redis.from_url(session.settings.redis_url or "") as client,
                flower(Path(folder), CORPUSMILL_HOME=str(settings.home)) as (url, lines),
            ):
                # A worker would take the messages away, and one that sleeps is still handed what it had asked for.
                worker = until(lambda: _worker_of(session.pid))
                worker.suspend()
                for asking in client.client_list():
                    if asking["cmd"] == "brpop":
                        client.client_kill_filter(_id=asking["id"])
                client.rpush("corpusmill:completion.high", *range(7))
                name, password = lines[1].split()[3], lines[1].split()[-1]
                shown = lengths(get(url + "/broker", f"{name}:{password}")[1])
                worker.resume()
        finally:
            down(settings)
    assert shown["completion.high"] == 7
    assert shown.keys() == {*SHARD_QUEUES, CONTROL}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"CORPUSMILL_FLOWER__ADDRESS": "0.0.0.0"}, "with no password set"),
        ({"CORPUSMILL_FLOWER__BASIC_AUTH": "justaname"}, "is not NAME:PASSWORD"),
        ({"CORPUSMILL_BROKER_URL": "redis://:CANARY@127.0.0.1:1/0"}, "the message broker cannot be reached"),
    ],
)
def test_what_keeps_it_from_starting_is_told_with_the_way_out(
    environment: dict[str, str], tmp_path: Path, change: dict[str, str], told: str
) -> None:
    if "CORPUSMILL_FLOWER__ADDRESS" in change:
        del environment["CORPUSMILL_FLOWER__BASIC_AUTH"]
    done = subprocess.run(
        [*_entry.child_command("corpusmill"), "flower", "--port", "0"],
        env={**_entry.bare_env(os.environ), **environment, **change},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode in (2, 69)
    assert told in done.stderr
    assert "CANARY" not in done.stderr
    assert "Traceback" not in done.stderr


def test_with_json_the_password_that_was_made_up_is_told_as_well(environment: dict[str, str], tmp_path: Path) -> None:
    del environment["CORPUSMILL_FLOWER__BASIC_AUTH"]
    with flower(tmp_path, "--json", **environment) as (url, lines):
        told = json.loads(lines[0])
        assert told["url"] == url
        assert get(url + "/broker", told["basic_auth"])[0] == 200


def test_loopback_is_known_by_name_and_number() -> None:
    is_one: Callable[[str], bool] = is_loopback
    assert [
        address for address in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "10.0.0.1", "host") if is_one(address)
    ] == [
        "localhost",
        "127.0.0.1",
        "::1",
    ]
