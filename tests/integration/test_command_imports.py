"""What commands and processes load: a command is typed often, and most of its time is what it imports.

The commands run in one process, the lightest first: what one of them loads, those before it have not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corpusmill.ledger import Ledger
from tests.fixtures import jobs
from tests.fixtures.shell import PATIENCE_S

# What talks to endpoints, to the queue, or to people at length; numbers; and what makes a schema.
HEAVY = {
    "aiohttp", "alembic", "celery", "flower", "genai_prices", "httpx2", "kombu", "numpy", "openai", "pyarrow", "redis",
    "rich", "sqlalchemy.orm", "tiktoken", "tornado", "valkey",
}  # fmt: skip
LEDGER = {"pydantic", "sqlalchemy"}
# The other database's dialect, and what reads sources.
UNUSED = {"sqlalchemy.dialects.postgresql", "psycopg", "corpusmill.intake", "corpusmill.limits"}

RUN = """
import contextlib, io, json, sys
from corpusmill.cli.main import outcome
watched, lines = json.loads(sys.argv[1])
for line in lines:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        code = outcome(line)
    print(json.dumps([code, said.getvalue(), sorted(set(watched) & set(sys.modules))]))
"""

START = """
import json, sys
import corpusmill._entry as entry
from importlib import import_module
entry.isolate()
watched, modules = json.loads(sys.argv[1])
for module in modules:
    import_module(module)
    print(json.dumps(sorted(set(watched) & set(sys.modules))))
"""


def python(program: str, watched: set[str], told: Sequence[object], home: Path) -> list[Any]:
    """What a program prints, a JSON value a line."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CORPUSMILL", "OPENAI"))}
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps([sorted(watched), told])],
        env={**environment, "CORPUSMILL_HOME": str(home), "OPENAI_API_KEY": "sk-none"},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_command_loads_what_it_uses_and_nothing_else(tmp_path: Path) -> None:
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        jobs.work_off(ledger, jobs.submit(ledger, "abc"))
    (tmp_path / "a.md").write_text("Some words.")
    lines = """
        --version
        --help
        complete --help
        jobs
        show last
        failures last
        verify last
        usage
        export last --out out.jsonl
        schedule list
        collection list
        limits set openai --rpm 5
        config
        doctor --only home,database,disk,versions,scheduler,workers,lanes
        down
        limits
        plan embed a.md --model text-embedding-3-small
    """.strip().splitlines()

    told = python(RUN, HEAVY | LEDGER | UNUSED, [line.split() for line in lines], tmp_path)

    assert [(code, said) for code, said, _ in told if code] == []
    loaded = {line.strip(): set(found) for line, (_, _, found) in zip(lines, told, strict=True)}
    assert loaded["complete --help"] <= {"pydantic"}
    assert loaded["down"] == LEDGER
    assert loaded["limits"] == {*LEDGER, "corpusmill.limits", "redis", "valkey"}
    assert loaded[lines[-1].strip()] - loaded["limits"] <= {"corpusmill.intake", "tiktoken", "genai_prices", "httpx2"}


def test_supervisor_and_scheduler_load_no_client_of_endpoints(tmp_path: Path) -> None:
    processes = ["corpusmill.embedded.supervisor", "scheduler.process"]
    supervisor, scheduler = python(START, HEAVY | LEDGER, processes, tmp_path)
    assert set(supervisor) == {*LEDGER, "valkey"}
    assert set(scheduler) - set(supervisor) == {"celery", "kombu", "redis"}
