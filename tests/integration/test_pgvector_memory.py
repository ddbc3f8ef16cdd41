"""Loads of any size are streamed: a large set takes no more memory than a small one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, text

from corpusmill.ledger import Ledger
from tests.integration.test_ledger_collections import add, begun, completed

# What a page of vectors and the driver's buffers may take; all vectors together take several times as much.
ALLOWED_MB = 25
FEW, MANY = 20_000, 60_000
_LOAD = r"""
import re, sys
from pathlib import Path
from corpusmill.collections.loading import load
from corpusmill.mill.place import Place
from corpusmill.pgvector import target
from corpusmill.settings import Settings
home, ledger_url, url = sys.argv[1:]
with Place(Settings(home=Path(home), database_url=ledger_url, broker_url="redis://127.0.0.1:1/0")) as place:
    found = load(place, "docs", target(url))
# Not `ru_maxrss`: that of a new process begins with its parent's.
most_kb = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]
print(found.added, int(most_kb) // 1024)
"""
_NUMBERS = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :last) "
_MORE = (
    "INSERT INTO documents (collection_id, document_no, source, id, metadata, place, digest, first_chunk, chunks, "
    f"from_version) {_NUMBERS} SELECT collection_id, n, 'd' || n || '.md', 'd' || n, metadata, "
    "CAST(printf('%010d', n) AS BLOB), digest, n, 1, from_version FROM documents, numbers",
    "INSERT INTO chunks (collection_id, chunk_no, document_no, chunk, start_offset, end_offset, text, tokens) "
    f"{_NUMBERS} SELECT collection_id, n, n, 0, 0, end_offset, text, tokens FROM chunks, numbers",
    f"INSERT INTO set_vectors (set_id, chunk_no, key) {_NUMBERS} SELECT set_id, n, randomblob(32) "
    "FROM set_vectors, numbers",
)
_COLUMNS = (
    "vector, output, model, tier, finish_reason, truncated, "
    "prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, at"
)
_ANSWERS = (
    f"INSERT INTO answers (key, body, {_COLUMNS}) SELECT v.key, zeroblob(:bytes), {_COLUMNS} "
    "FROM answers, set_vectors v WHERE v.chunk_no > 0"
)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_load_of_many_vectors_takes_no_more_memory_than_one_of_few(tmp_path: Path, empty_postgres_url: str) -> None:
    few_mb, many_mb = (peak_mb(tmp_path / str(count), count, empty_postgres_url) for count in (FEW, MANY))
    assert many_mb - few_mb < ALLOWED_MB


def peak_mb(folder: Path, count: int, url: str, dimensions: int = 256) -> int:
    """The most memory of a process that loads so many vectors."""
    folder.mkdir()
    ledger_url = f"sqlite:///{folder}/ledger.db"
    with Ledger.open(ledger_url) as ledger:
        fill(ledger, count, dimensions)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS docs")
    command = [sys.executable, "-c", _LOAD, str(folder), ledger_url, url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    added, most_mb = map(int, done.stdout.split())
    assert added == count
    return most_mb


def fill(ledger: Ledger, count: int, dimensions: int) -> None:
    """The collection `docs`, so many documents of one chunk, each with a vector of its own."""
    version = begun(ledger)
    add(ledger, version, "a.md", ["some words " * 80])
    completed(ledger, version)

    def more(conn: Connection) -> None:
        for statement in _MORE:
            conn.execute(text(statement), {"last": count - 1})
        conn.execute(text(_ANSWERS), {"bytes": dimensions * 4})
        conn.execute(text("UPDATE answers SET body = zeroblob(:bytes)"), {"bytes": dimensions * 4})
        conn.execute(text("UPDATE embedding_sets SET spec = json_set(spec, '$.dimensions', :d)"), {"d": dimensions})

    ledger._db.write(more)
