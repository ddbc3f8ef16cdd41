from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.fixtures.shell import Shell, until

FOREIGN = {
    "OPENAI_API_KEY": "sk-canary-never-used",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
    "CORPUSMILL_BROKER_URL": "redis://127.0.0.1:9/0",
    "CORPUSMILL_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
}


def processes_of(home: Path) -> list[psutil.Process]:
    running = psutil.process_iter(["environ"])
    return [process for process in running if (process.info["environ"] or {}).get("CORPUSMILL_HOME") == str(home)]


@pytest.mark.timeout(170)
def test_the_demo_runs_the_whole_job_without_key_or_fleet_and_leaves_no_process(shell: Shell, tmp_path: Path) -> None:
    shell.write("corpusmill.toml", "window = 0\n")
    kept = tmp_path / "kept"
    done = shell.run("demo", "--home", kept, env=FOREIGN, timeout_s=150)
    assert done.code == 0, str(done)
    for told in ("succeeded", "$ corpusmill usage --by model", "export OPENAI_API_KEY=", "corpusmill plan complete"):
        assert told in done.out, told
    assert (kept / "summaries.jsonl").stat().st_size
    assert (kept / "vectors.npy").stat().st_size
    until(lambda: not processes_of(kept / "home"))
    url = next(word for word in done.err.split() if word.startswith("http://"))
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", urlsplit(url).port or 0)) != 0
