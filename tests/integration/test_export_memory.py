"""Exports of any size are streamed: a file of many results takes no more memory than one of few."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from corpusmill.ledger import Ledger, migrate
from corpusmill.ledger.encoding import rows
from corpusmill.ledger.records import Answer, NewItem, NewJob
from corpusmill.spec import JobSpec, Kind

# What a page of results and the writer's own buffers may take; all results together take several times as much.
ALLOWED_MB = 25
FEW, MANY = 20_000, 60_000
_EXPORT = """
import resource, sys
from pathlib import Path
from corpusmill import export
from corpusmill.ledger import Ledger
url, kind, out = sys.argv[1:]
with Ledger.open(url) as ledger:
    (job,) = ledger.jobs()
    found = ledger.results(job.id, states=("succeeded",))
    written = export.write(export.Job(job.public_id, kind), Path(out), succeeded=found, ready=lambda path, digest: None)
print(written.succeeded, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
_NUMBERS = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :last) "
_MORE = (
    f"INSERT INTO documents (collection_id, document_no, source, id, line, metadata) {_NUMBERS}"
    "SELECT collection_id, n, source, 'd' || n, n, metadata FROM documents, numbers",
    f"INSERT INTO chunks (collection_id, chunk_no, document_no, chunk, start_offset, end_offset, text) {_NUMBERS}"
    "SELECT collection_id, n, n, chunk, start_offset, end_offset, text FROM chunks, numbers",
    f"INSERT INTO items (job_id, item_no, chunk_no, key, tokens) {_NUMBERS}"
    "SELECT job_id, n, n, randomblob(32), tokens FROM items, numbers",
)
_COLUMNS = (
    "vector, body, output, model, tier, finish_reason, truncated, "
    "prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens"
)
_ANSWERS = f"INSERT INTO answers (key, {_COLUMNS}, at) SELECT key, :{_COLUMNS.replace(', ', ', :')}, 0 FROM items"
_RESULTS = "INSERT INTO results (job_id, item_no, cached, attempts, at) SELECT job_id, item_no, false, 1, 0 FROM items"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "out"),
    [
        ("completion", "out.jsonl"),
        ("completion", "out.parquet"),
        ("embedding", "out.npy"),
        ("embedding", "out.jsonl"),
        ("embedding", "out.parquet"),
    ],
)
def test_an_export_of_many_results_takes_no_more_memory_than_one_of_few(tmp_path: Path, kind: Kind, out: str) -> None:
    few_mb, many_mb = (peak_mb(tmp_path / str(count), kind, out, count) for count in (FEW, MANY))
    assert many_mb - few_mb < ALLOWED_MB


def peak_mb(folder: Path, kind: Kind, out: str, count: int) -> int:
    """The most memory of a process that exports so many results."""
    folder.mkdir()
    url = f"sqlite:///{folder}/ledger.db"
    migrate(url)
    with Ledger.open(url) as ledger:
        fill(ledger, kind, count)
    command = [sys.executable, "-c", _EXPORT, url, kind, str(folder / out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    succeeded, most_mb = map(int, done.stdout.split())
    assert succeeded == count
    return most_mb


def fill(ledger: Ledger, kind: Kind, count: int) -> None:
    """A job of so many items, each with an answer of its own of about a kilobyte."""
    spec = JobSpec(kind, "/x", "m", "http://127.0.0.1:9/v1")
    job, _ = ledger.submit(NewJob(b"k" * 32, spec, "p", "f", shard_size=100))
    ledger.load(job.id, [NewItem("d0", "a.jsonl", b"0" * 32, 1, end=4, text="text", line=1)], after=0)
    words = "".join(f"word {number} " for number in range(100))
    reply = f'{{"choices": [{{"message": {{"content": "{words}"}}}}]}}'
    body = bytes(range(256)) * 4 if kind == "embedding" else reply.encode()
    (answer,) = rows([Answer(b"", body, "m", None, None, 1, 1)])

    def more(conn: object) -> None:
        for statement in _MORE:
            conn.execute(text(statement), {"last": count - 1})  # type: ignore[attr-defined]
        conn.execute(text(_ANSWERS), answer)  # type: ignore[attr-defined]
        conn.execute(text(_RESULTS))  # type: ignore[attr-defined]

    ledger._db.write(more)
