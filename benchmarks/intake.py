"""What reading costs: cutting and counting on one core, and a large JSONL with its memory watched."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from pathlib import Path

import orjson
import psutil

from benchmarks.machine import MB
from benchmarks.report import Bar, Section, Table
from corpusmill.intake import Chunking, Reading, pieces, scan, validate
from corpusmill.intake.chunker import spans
from corpusmill.tokens import encoding

MEMORY_AIM_MB = 300.0
RECORD_CHARACTERS = 3_000
WATCHED_EVERY = 2_000


@dataclass(frozen=True, slots=True)
class LargeRead:
    """One large file, step by step: seconds of each, and memory of all processes at each quarter of the pieces."""

    file_bytes: int
    scan_s: float
    validate_s: float
    pieces_s: float
    count: int
    tokens: int
    memory: Sequence[int]


def measure(megabytes: int) -> Section:
    """Cut this Python's own library on one core, and read a JSONL of `megabytes` made of it."""
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in _library()]
    large = _large(texts, megabytes * 1_000_000)
    return Section(
        "Intake",
        "Python's own library as text, chunks of 800 tokens with 80 of overlap, o200k. Every chunk is counted "
        "exactly. The large file is read as a job reads it: digest, validation, then pieces in order, cut and "
        "counted in two processes. Memory is that of all three processes.",
        [_cutting(texts), _table(large)],
        [Bar("memory while a large JSONL is read", MEMORY_AIM_MB, max(large.memory) / MB, " MB")],
    )


def _library() -> list[Path]:
    return sorted(Path(os.__file__).parent.glob("*.py")) + sorted(Path(os.__file__).parent.glob("asyncio/*.py"))


def _cutting(texts: Sequence[str]) -> Table:
    counts = encoding()
    total = sum(map(counts.count, texts))
    started = time.process_time()
    found = sum(1 for text in texts for _ in spans(text, tokens=800, overlap=80, encoding=counts))
    cpu_s = time.process_time() - started
    size = sum(map(len, texts))
    row = [f"{size / MB:.1f}", f"{found:,}", f"{total / cpu_s / 1e6:.2f}", f"{size / cpu_s / MB:.1f}"]
    return Table("Cutting, one core", ("MB", "chunks", "million tokens a CPU second", "MB a CPU second"), [row])


def _large(texts: Sequence[str], size: int) -> LargeRead:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "large.jsonl"
        with file.open("wb") as lines:
            lines.writelines(_lines(texts, size))
        # In a process of its own: the memory of this one has other reasons.
        done = subprocess.run([sys.executable, "-m", "benchmarks.intake", str(file)], capture_output=True, check=True)
        return LargeRead(**orjson.loads(done.stdout))


def _lines(texts: Sequence[str], size: int) -> Iterator[bytes]:
    cuts = [text[at : at + RECORD_CHARACTERS] for text in texts for at in range(0, len(text), RECORD_CHARACTERS)]
    records = (cut for cut in cycle(cuts) if cut.strip())
    for number, text in enumerate(islice(records, size // RECORD_CHARACTERS)):
        yield orjson.dumps({"id": f"r{number}", "text": text, "n": number}) + b"\n"


def _read(file: Path) -> LargeRead:
    marks = [time.perf_counter()]
    found = scan([file], Reading())
    marks.append(time.perf_counter())
    findings = validate(found, Reading())
    marks.append(time.perf_counter())
    count = tokens = 0
    memory = []
    for piece in pieces(found, Reading(), Chunking(), encoding(), findings):
        count, tokens = count + 1, tokens + piece.tokens
        if count % WATCHED_EVERY == 0:
            memory.append(_memory())
    marks.append(time.perf_counter())
    scan_s, validate_s, pieces_s = (later - earlier for earlier, later in pairwise(marks))
    return LargeRead(file.stat().st_size, scan_s, validate_s, pieces_s, count, tokens, memory or [_memory()])


def _memory() -> int:
    me = psutil.Process()
    return sum(process.memory_info().rss for process in (me, *me.children(recursive=True)))


def _table(read: LargeRead) -> Table:
    quarters = [read.memory[(len(read.memory) - 1) * part // 4] for part in (1, 2, 3, 4)]
    head = ("MB", "digest s", "validate s", "pieces s", "pieces", "million tokens/s", "MB of memory at ¼, ½, ¾, 1")
    row = [
        f"{read.file_bytes / MB:,.0f}",
        f"{read.scan_s:.1f}",
        f"{read.validate_s:.1f}",
        f"{read.pieces_s:.1f}",
        f"{read.count:,}",
        f"{read.tokens / read.pieces_s / 1e6:.2f}",
        ", ".join(f"{bytes_ / MB:.0f}" for bytes_ in quarters),
    ]
    return Table("A large JSONL", head, [row])


if __name__ == "__main__":
    sys.stdout.buffer.write(orjson.dumps(_read(Path(sys.argv[1]))))
