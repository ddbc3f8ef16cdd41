"""Syncing a large collection: the first time, with nothing changed, and after one small edit.

No endpoint is asked: the answers to all texts are put into the ledger before, so that the first sync has nothing to
embed. What is left is what a sync itself costs: reading, comparing, and SQL.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from benchmarks import servers
from benchmarks.commands import NOBODY, POSTGRES, Watched, database, environment, server_s, watched
from benchmarks.machine import MB
from benchmarks.report import Bar, Section, Table, megabytes
from corpusmill import intake
from corpusmill._entry import child_command
from corpusmill.ledger.bulk import append_rows
from corpusmill.ledger.database import Database, parse
from corpusmill.ledger.models import Answer
from corpusmill.mill.ask import Shape
from corpusmill.mill.loading import chunking_of, reading_of
from corpusmill.spec import EMBEDDINGS_PATH, JobSpec
from corpusmill.tokens import encoding_for

WALL_AIM_S, MEMORY_AIM_MB = 60.0, 500.0
A_FILE = 20
MODEL, DIMENSIONS = "text-embedding-3-small", 8
# A paragraph fits into a chunk and no two do: each is one.
SHAPE = Shape(chunk_tokens=64, chunk_overlap=0)
SENTENCE = "the mill turns grain into flour while a river pushes its wheel and nobody counts sacks at dusk"
WORDS_EACH = 40
AT_ONCE = 10_000
# What changed so shortly before it was read is read again the next time.
TICK_S = 2.5
FLAGS = ("--model", MODEL, "--dimensions", DIMENSIONS, "--chunk-tokens", SHAPE.chunk_tokens, "--chunk-overlap", 0)
_COLUMNS = ("key", "vector", "body", "model", "truncated", "prompt_tokens", "cached_tokens", "completion_tokens",
            "reasoning_tokens", "at")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Form:
    """A way in which a corpus lies on disk: `write` gives its SOURCE, `edit` changes one text of it."""

    name: str
    write: Callable[[Path, int], Path]
    edit: Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Step:
    """One sync, and PostgreSQL's own CPU seconds while it ran."""

    name: str
    seen: Watched
    server_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """All syncs of one collection."""

    form: str
    chunks: int
    size: int
    steps: Mapping[str, Step]


def measure(chunks: int) -> Section:
    """The same number of chunks as many files, and as one file of records."""
    runs = [_run(form, chunks) for form in (FOLDER, RECORDS)]
    return Section(
        "Collections",
        f"`corpusmill sync NAME SOURCE --detach` on PostgreSQL, without a worker and with every answer there before: "
        f"nothing is sent. Texts of about 45 tokens, one a chunk; files of {A_FILE} chunks, or one JSONL with a record "
        "a chunk. CPU and memory are those of the command and the processes that it starts; PostgreSQL's own CPU "
        "stands beside. `unread`: files are known by their size and times; `--checksum`: all are read. `one edit`: a "
        "word more in one text.",
        [_table(runs)],
        [bar for run in runs for bar in _bars(run)],
    )


def _run(form: Form, chunks: int) -> Run:
    with tempfile.TemporaryDirectory() as place, servers.valkey(Path(place), None) as broker:
        folder = Path(place)
        source = form.write(folder, chunks)
        with database(POSTGRES, folder) as (url, server):
            count = _answer(url, source)
            time.sleep(TICK_S)
            variables = environment(folder, broker.url, url)

            def sync(name: str, *flags: str) -> Step:
                command = [*child_command("corpusmill"), "sync", "bench", str(source), *map(str, FLAGS), *flags]
                before = server_s(server)
                seen = watched([*command, "--detach", "--json", "--no-progress"], variables)
                return Step(name, seen, server_s(server) - before)

            steps = [sync("first"), sync("unread"), sync("--checksum", "--checksum")]
            form.edit(source)
            steps.append(sync("one edit"))
        found = Run(form.name, count, _size(source), {step.name: step for step in steps})
        _check(found)
        return found


def _check(run: Run) -> None:
    """That the work measured is what it is said to be."""
    first, unread, checked, edited = (step.seen.said for step in run.steps.values())
    documents = first["added"]
    seen = [
        (first["reused"], first["requests"]),
        (unread["unchanged"], unread["job"]),
        (checked["unchanged"], checked["taken_as_unchanged"]),
        (edited["changed"], edited["unchanged"]),
    ]
    wanted = [(run.chunks, 0), (documents, None), (documents, 0), (1, documents - 1)]
    if seen != wanted or not unread["taken_as_unchanged"]:
        raise RuntimeError(f"the syncs did something else: {seen}, not {wanted}")


# --- sources ----------------------------------------------------------------------------------------------------


def _texts() -> Iterator[str]:
    """Texts without end, each another one."""
    turning = itertools.cycle(SENTENCE.split())
    for number in itertools.count():
        yield f"{number} {' '.join(itertools.islice(turning, WORDS_EACH))}."


def _files(folder: Path, chunks: int) -> Path:
    texts = _texts()
    for number in range(chunks // A_FILE):
        path = folder / "docs" / f"part{number // 1_000:03}" / f"page{number:06}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n\n".join(itertools.islice(texts, A_FILE)) + "\n", encoding="utf-8")
    return folder / "docs"


def _edit_file(source: Path) -> None:
    page = next(iter(sorted(source.rglob("*.md"))))
    page.write_text(page.read_text("utf-8").replace(".", " again.", 1), encoding="utf-8")


def _records(folder: Path, chunks: int) -> Path:
    path = folder / "records.jsonl"
    with path.open("wb") as lines:
        for number, text in enumerate(itertools.islice(_texts(), chunks)):
            lines.write(orjson.dumps({"id": f"r{number}", "text": text, "n": number}) + b"\n")
    return path


def _edit_record(source: Path) -> None:
    changed = source.with_suffix(".new")
    with source.open("rb") as old, changed.open("wb") as new:
        new.write(old.readline().replace(b".", b" again."))
        new.writelines(old)
    changed.replace(source)


FOLDER = Form("files", _files, _edit_file)
RECORDS = Form("one JSONL", _records, _edit_record)


def _size(source: Path) -> int:
    files = source.rglob("*.md") if source.is_dir() else (source,)
    return sum(path.stat().st_size for path in files)


# --- answers ----------------------------------------------------------------------------------------------------


def _answer(url: str, source: Path) -> int:
    """Put an answer to every text into the ledger; how many texts there are."""
    spec = JobSpec("embedding", EMBEDDINGS_PATH, MODEL, NOBODY, dimensions=DIMENSIONS)
    reading, chunking = reading_of(SHAPE), chunking_of(SHAPE, spec)
    found = intake.scan([source], reading)
    keys = (spec.content_key(piece.text, "") for piece in intake.pieces(found, reading, chunking, encoding_for(MODEL)))
    opened = Database(parse(url))
    try:
        return sum(_keep(opened, some) for some in _batches(keys))
    finally:
        opened.close()


def _batches(keys: Iterator[bytes]) -> Iterator[Sequence[bytes]]:
    while some := list(itertools.islice(keys, AT_ONCE)):
        yield some


def _keep(opened: Database, keys: Sequence[bytes]) -> int:
    vector = bytes(4 * DIMENSIONS)
    rows = [(key, True, vector, MODEL, False, 45, 0, 0, 0, time.time()) for key in keys]
    opened.write(append_rows, Answer, _COLUMNS, rows)
    return len(rows)


# --- what came out ----------------------------------------------------------------------------------------------


def _table(runs: Sequence[Run]) -> Table:
    head = ("sources", "sync", "s", "CPU-s", "PostgreSQL, CPU-s", "most memory, MB", "files not read")
    rows = [row for run in runs for row in _rows(run)]
    return Table(f"Syncs of {runs[0].chunks:,} chunks, starts included", head, rows)


def _rows(run: Run) -> Iterator[list[str]]:
    for step in run.steps.values():
        seen = step.seen
        yield [
            f"{run.form}, {megabytes(run.size)} MB", step.name, f"{seen.wall_s:.1f}", f"{seen.cpu_s:.1f}",
            f"{step.server_s:.1f}", megabytes(seen.rss_at(1)), f"{seen.said['taken_as_unchanged']:,}",
        ]  # fmt: skip


def _bars(run: Run) -> Iterator[Bar]:
    what = f"{run.chunks:,} chunks, {run.form}"
    for name in ("unread", "--checksum"):
        seen = run.steps[name].seen
        yield Bar(f"sync with no change ({name}), {what}", WALL_AIM_S, seen.wall_s, " s")
        yield Bar(f"its memory ({name}), {what}", MEMORY_AIM_MB, seen.rss_at(1) / MB, " MB")
    edited = run.steps["one edit"].seen
    yield Bar(f"memory of a sync after one edit, {what}", MEMORY_AIM_MB, edited.rss_at(1) / MB, " MB")
