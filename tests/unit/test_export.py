"""Exports: formats, order, streaming, and files that appear only when whole."""

from __future__ import annotations

import io
import json
import os
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from corpusmill.errors import DiskFull, UsageError
from corpusmill.export import Job, targets, write
from corpusmill.export.files import digest, replacing
from corpusmill.export.vectors import header, write_array
from corpusmill.ledger.records import ResultRow

COMPLETIONS = Job("j_aaaaaa", "completion")
EMBEDDINGS = Job("j_aaaaaa", "embedding")
REQUESTS = Job("j_aaaaaa", "request")


def no_note(path: Path, of: str) -> None:
    """For exports whose digest nobody keeps."""


def chat(text: str) -> bytes:
    reply = {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
    return json.dumps(reply, indent=1).encode()


def row(item_no: int, body: bytes | None, **changes: Any) -> ResultRow:
    facts: dict[str, Any] = {
        "item_no": item_no,
        "id": f"doc{item_no}",
        "source": "a/b.md",
        "chunk": item_no,
        "start": item_no * 10,
        "end": item_no * 10 + 9,
        "line": None,
        "metadata": {"no": item_no},
        "state": "failed" if body is None else "succeeded",
        "cached": False,
        "body": body,
        "model": "gpt-6-luna",
        "finish_reason": "stop",
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "error_class": None,
        "error": None,
        "attempts": 1,
        "request_id": "req_1",
    }
    return ResultRow(**{**facts, **changes})


def vectors(count: int, size: int) -> Iterator[ResultRow]:
    for number in range(count):
        yield row(number, np.full(size, number, "<f4").tobytes())


def test_completion_lines_hold_exactly_the_promised_fields(tmp_path: Path) -> None:
    out = tmp_path / "x.jsonl"
    write(COMPLETIONS, out, succeeded=[row(0, chat("hello")), row(1, chat("ü ✓"), metadata=None)], ready=no_note)
    first, second = map(json.loads, out.read_text("utf-8").splitlines())
    assert list(first) == [
        "id", "source", "chunk", "start", "end", "output", "finish_reason", "model",
        "prompt_tokens", "completion_tokens", "cached", "metadata",
    ]  # fmt: skip
    assert (first["output"], first["metadata"], second["output"], second["metadata"]) == (
        "hello",
        {"no": 0},
        "ü ✓",
        None,
    )


def test_an_array_and_its_index_stay_in_step(tmp_path: Path) -> None:
    out = tmp_path / "x.npy"
    written = write(EMBEDDINGS, out, succeeded=vectors(5, 3), ready=no_note)
    array = np.load(out)
    index = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert written.paths == (out, tmp_path / "x.jsonl")
    assert array.dtype == np.float32 and array.shape == (5, 3)
    assert [entry["row"] for entry in index] == [0, 1, 2, 3, 4]
    assert list(index[0]) == [
        "row", "id", "source", "chunk", "start", "end", "model", "prompt_tokens", "cached", "metadata",
    ]  # fmt: skip
    assert all((array[entry["row"]] == float(entry["id"].removeprefix("doc"))).all() for entry in index)


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (1, 1), (10**9, 3072), (10**15, 10**6)])
def test_numpy_reads_the_header_of_any_shape(rows: int, columns: int) -> None:
    stream = io.BytesIO(header(rows, columns))
    assert np.lib.format.read_magic(stream) == (1, 0)
    assert np.lib.format.read_array_header_1_0(stream) == ((rows, columns), False, np.dtype("<f4"))
    assert stream.tell() % 64 == 0


def test_an_empty_array_still_has_its_width(tmp_path: Path) -> None:
    write(Job("j_a", "embedding", 256), tmp_path / "x.npy", succeeded=[], ready=no_note)
    assert np.load(tmp_path / "x.npy").shape == (0, 256)


def test_a_large_array_is_written_without_being_held(tmp_path: Path) -> None:
    body = bytes(4 * 1536)
    tracemalloc.start()
    with (tmp_path / "x.npy").open("wb") as file, (tmp_path / "x.jsonl").open("wb") as index:
        write_array(file, index, (row(number, body) for number in range(4000)), dimensions=None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "x.npy").stat().st_size == 128 + 4000 * 4 * 1536
    assert peak < 2_000_000


def test_embedding_lines_carry_the_vector(tmp_path: Path) -> None:
    out = tmp_path / "x.jsonl"
    write(EMBEDDINGS, out, succeeded=vectors(2, 4), ready=no_note)
    assert [json.loads(line)["embedding"] for line in out.read_text().splitlines()] == [[0.0] * 4, [1.0] * 4]


def test_parquet_holds_vectors_of_fixed_size_and_metadata_as_json(tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    write(EMBEDDINGS, out, succeeded=vectors(5000, 4), ready=no_note)
    table = parquet.read_table(out)
    assert table.num_rows == 5000
    assert table.column("embedding")[4999].as_py() == [4999.0] * 4
    assert json.loads(table.column("metadata")[3].as_py()) == {"no": 3}


def test_parquet_of_completions_has_the_columns_of_their_lines(tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    write(COMPLETIONS, out, succeeded=[row(0, chat("a")), row(1, chat("b"), metadata=None)], ready=no_note)
    assert parquet.read_table(out).column("output").to_pylist() == ["a", "b"]


def test_batch_lines_return_the_endpoints_body_whole_and_on_one_line(tmp_path: Path) -> None:
    out = tmp_path / "x.jsonl"
    body = b'{\r\n "n": 12345678901234567890, "choices": [{"message": {"tool_calls": []}}] }\n'
    failed = [row(1, None, error_class="context_length", error="too long (400)")]
    written = write(REQUESTS, out, succeeded=[row(0, body)], failed=failed, ready=no_note)
    (line,) = out.read_bytes().splitlines()
    assert b"12345678901234567890" in line
    assert json.loads(line)["response"] == {"status_code": 200, "request_id": "req_1", "body": json.loads(body)}
    assert written.paths[1] == tmp_path / "x.errors.jsonl"
    (error,) = map(json.loads, written.paths[1].read_text().splitlines())
    assert error["custom_id"] == "doc1"
    assert error["response"] is None
    assert error["error"] == {"code": "context_length", "message": "too long (400)"}


HOSTILE = (
    "=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "<script>alert(1)</script>", "a\u2028b\nc\x1b[2J\x00",
)  # fmt: skip


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet", "v.jsonl", "v.npy", "v.parquet"])
def test_hostile_text_is_data_in_every_format_and_the_same_when_it_is_read(tmp_path: Path, name: str) -> None:
    job = COMPLETIONS if name[0] == "x" else EMBEDDINGS
    bodies = [chat(text) if name[0] == "x" else np.zeros(2, "<f4").tobytes() for text in HOSTILE]
    rows = [
        row(number, body, id=text, source=text, metadata={text: text})
        for number, (body, text) in enumerate(zip(bodies, HOSTILE, strict=True))
    ]
    write(job, tmp_path / name, succeeded=rows, ready=no_note)
    found = rows_of((tmp_path / name).with_suffix(".parquet" if name.endswith(".parquet") else ".jsonl"))
    for column in ("id", "source", *(["output"] if name[0] == "x" else [])):
        assert [each[column] for each in found] == list(HOSTILE)
    assert [each["metadata"] for each in found] == [{text: text} for text in HOSTILE]


def rows_of(path: Path) -> list[dict[str, Any]]:
    """What a program reads; a line ends at a line feed, and nowhere else."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_bytes().decode().removesuffix("\n").split("\n")]
    rows = parquet.read_table(path).to_pylist()
    return [{**each, "metadata": json.loads(each["metadata"])} for each in rows]


@pytest.mark.parametrize(
    ("job", "name"), [(COMPLETIONS, "x.npy"), (EMBEDDINGS, "x.csv"), (REQUESTS, "x.parquet"), (COMPLETIONS, "x")]
)
def test_a_format_that_a_job_has_not_is_refused_with_one_that_it_has(job: Job, name: str) -> None:
    with pytest.raises(UsageError, match="must end in") as refused:
        targets(job.kind, Path(name))
    assert "for example --out x." in refused.value.next_step


def test_nothing_appears_under_the_name_before_the_file_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "x.jsonl"
    out.write_text("old")

    def rows() -> Iterator[ResultRow]:
        yield row(0, chat("a"))
        assert out.read_text() == "old"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(COMPLETIONS, out, succeeded=rows(), ready=no_note)
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_the_digest_is_told_before_the_file_takes_its_place(tmp_path: Path) -> None:
    out = tmp_path / "x.bin"
    told: list[str] = []
    with replacing(out, lambda path, of: told.append(of if not path.exists() else "too late")) as file:
        file.write(b"abc")
    assert told == [digest(out)]


def test_a_folder_that_does_not_exist_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory"), replacing(tmp_path / "no" / "x", no_note):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_told_with_its_exit_code_and_leaves_the_old_file(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("as it was")
    (tmp_path / f".out.jsonl.{os.getpid()}.part").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match="safe in the ledger") as caught, replacing(out, no_note) as file:
        file.write(b"new")
    assert caught.value.exit_code == 74
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    assert out.read_text() == "as it was"


def test_parquet_without_pyarrow_is_refused_where_a_wrong_ending_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match="needs pyarrow") as refused:
        targets("completion", Path("x.parquet"))
    assert "pip install pyarrow, or pip install 'corpusmill[parquet]'" in refused.value.next_step
    assert targets("completion", Path("x.jsonl")) == (Path("x.jsonl"),)
