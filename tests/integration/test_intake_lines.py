"""Line files: JSONL, CSV, TSV and Parquet, compressed or not, sound or broken."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from corpusmill.errors import SourceError, UsageError
from corpusmill.intake import Chunking, Findings, Piece, Reading, opening, pieces, pool, scan, validate
from corpusmill.tokens import encoding

SKIP = Reading(skip_invalid=True)


def found_in(path: Path, reading: Reading | None = None, chunking: Chunking | None = None) -> list[Piece]:
    reading = reading or Reading()
    found = scan([path], reading)
    return list(pieces(found, reading, chunking or Chunking(), encoding(), validate(found, reading)))


def findings(path: Path, reading: Reading | None = None) -> Findings:
    reading = reading or Reading()
    return validate(scan([path], reading), reading)


def refusal(path: Path, reading: Reading | None = None) -> SourceError:
    with pytest.raises(SourceError) as caught:
        findings(path, reading)
    return caught.value


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    return tmp_path / "r.jsonl"


def test_records_come_in_order_with_ids_lines_and_metadata(jsonl: Path) -> None:
    records = [
        {"id": "a", "text": "one", "tag": ["x"], "n": 1.5},
        {"text": "two <|endoftext|>", "url": None},
        {"id": 7, "text": "word " * 3_000, "k": "v"},
        {"id": "", "text": ""},
        {"id": None, "text": "last"},
    ]
    jsonl.write_text("".join(json.dumps(record) + "\n" for record in records))
    one, two, *long, empty, last = found_in(jsonl)
    assert (one.id, one.line, one.text, one.metadata) == ("a", 1, "one", {"tag": ["x"], "n": 1.5})
    assert (two.id, two.text, two.metadata) == ("r.jsonl:2", "two <|endoftext|>", {"url": None})
    assert len(long) > 3
    assert {(piece.id, piece.line) for piece in long} == {("7", 3)}
    assert [piece.chunk for piece in long] == list(range(len(long)))
    assert all(records[2]["text"][piece.start : piece.end] == piece.text for piece in long)  # type: ignore[index]
    assert all(piece.metadata == {"k": "v"} for piece in long)
    assert empty.problem == ("empty_text", "the record at r.jsonl:4 has no text")
    assert (empty.id, empty.tokens, empty.text) == ("r.jsonl:4", 0, "")
    assert (last.id, last.metadata) == ("r.jsonl:5", None)


@pytest.mark.parametrize("text", ["", " \n\t", "\u3000", None])
def test_a_record_without_text_is_a_failed_item_named_by_its_line(jsonl: Path, text: str | None) -> None:
    jsonl.write_text(json.dumps({"text": "x"}) + "\n" + json.dumps({"text": text}))
    _, failed = found_in(jsonl)
    assert failed.problem == ("empty_text", "the record at r.jsonl:2 has no text")


def test_fields_can_have_other_names(jsonl: Path) -> None:
    jsonl.write_text('{"key": 5, "body": "x", "id": "meta", "text": "meta too"}\n')
    (piece,) = found_in(jsonl, Reading(text_field="body", id_field="key"))
    assert (piece.id, piece.text, piece.metadata) == ("5", "x", {"id": "meta", "text": "meta too"})


BROKEN = {
    '{"text": "b"': "not JSON",
    "[1]": "not an object",
    '{"text": 5}': "holds a number, not a text",
    '{"text": ["b"]}': "holds a list, not a text",
    '{"id": {}, "text": "b"}': "holds an object, not an id",
    '{"txt": "b"}': "no field 'text'; fields there: txt",
    "": "a blank line between records",
    "   ": "a blank line between records",
    '{"text": "b", "n": NaN}': "not JSON",
    '{"text": "a\0b"}': "not JSON",
    '{"text": "b"} {"text": "c"}': "not JSON",
}


@pytest.mark.parametrize("line", BROKEN, ids=list(BROKEN.values()))
def test_a_broken_line_is_refused_with_its_number_or_left_out_and_told(jsonl: Path, line: str) -> None:
    jsonl.write_text(f'{{"text": "a"}}\r\n{line}\n{{"text": "c"}}\n')
    error = refusal(jsonl)
    assert BROKEN[line] in error.what
    assert error.where == f"{jsonl}:2"
    assert "--" in error.next_step
    assert [piece.text for piece in found_in(jsonl, SKIP)] == ["a", "c"]
    assert (
        f"r.jsonl:2 ({BROKEN[line]}" in findings(jsonl, SKIP).notes[0] or BROKEN[line] in findings(jsonl, SKIP).notes[0]
    )
    assert findings(jsonl, SKIP).skipped == 1


def test_blank_lines_at_the_end_are_nothing(jsonl: Path) -> None:
    jsonl.write_text('{"text": "a"}\n\n \n')
    assert findings(jsonl).records == 1


def test_a_separator_within_a_text_is_no_line_end(jsonl: Path) -> None:
    jsonl.write_text('\ufeff{"text": "a\u2028b\u0085c"}\r\n{"text": "d\\r\\ne"}\r\n', encoding="utf-8", newline="")
    assert [piece.text for piece in found_in(jsonl)] == ["a\u2028b\u0085c", "d\r\ne"]


@pytest.mark.fault(28)
def test_a_repeated_id_is_refused_with_both_lines_or_the_first_is_kept(jsonl: Path, tmp_path: Path) -> None:
    jsonl.write_text('{"id": "a", "text": "1"}\n{"id": 5, "text": "2"}\n{"id": "5", "text": "3"}\n')
    error = refusal(jsonl)
    assert f"{jsonl}:2 and {jsonl}:3" in error.what
    assert error.where == f"{jsonl}:3"
    assert [piece.text for piece in found_in(jsonl, SKIP)] == ["1", "2"]
    assert "the id was there before" in findings(jsonl, SKIP).notes[0]
    other = tmp_path / "s.jsonl"
    other.write_text('{"id": "a", "text": "4"}\n')
    with pytest.raises(SourceError, match="there twice"):
        validate(scan([tmp_path], Reading()), Reading())


def test_without_findings_repeated_ids_are_left_out_all_the_same(jsonl: Path) -> None:
    jsonl.write_text('{"id": "a", "text": "1"}\n{"id": "a", "text": "2"}\n')
    found = list(pieces(scan([jsonl], SKIP), SKIP, Chunking(), encoding()))
    assert [piece.text for piece in found] == ["1"]


@pytest.mark.parametrize(
    ("raw", "text", "what"),
    [
        (rb"a\u0000b", "a\ufffdb", "NUL at character 1"),
        (rb"a\ud800b", "a\ufffdb", "lone surrogate U+D800 at character 1"),
        (b"a\xffb", "a\ufffdb", "invalid UTF-8 at byte 11"),
        (rb"\ud83d\ude00", "😀", None),
    ],
)
@pytest.mark.fault(26)
def test_bad_text_in_a_record_follows_the_policy(jsonl: Path, raw: bytes, text: str, what: str | None) -> None:
    jsonl.write_bytes(b'{"text": "good"}\n{"text": "' + raw + b'"}\n')
    assert [piece.text for piece in found_in(jsonl)] == ["good", text]
    if what is None:
        assert findings(jsonl, Reading(on_bad_text="fail")).notes == ()
        return
    assert f"r.jsonl:2 ({what}" in findings(jsonl).notes[0]
    assert [piece.text for piece in found_in(jsonl, Reading(on_bad_text="skip"))] == ["good"]
    error = refusal(jsonl, Reading(on_bad_text="fail"))
    assert what in error.what
    assert error.where == f"{jsonl}:2"


def test_bad_text_in_metadata_and_ids_is_mended_too(jsonl: Path) -> None:
    jsonl.write_bytes(rb'{"text": "x", "id": "i\u0000", "m": {"k\ud800": ["\u0000"]}, "big": 123456789012345678901}')
    (piece,) = found_in(jsonl)
    assert piece.id == "i\ufffd"
    assert piece.metadata == {"m": {"k\ufffd": ["\ufffd"]}, "big": 123456789012345678901.0}


def test_a_line_too_long_to_hold_is_refused(jsonl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "LONGEST_LINE", 1 << 20)
    jsonl.write_text(json.dumps({"text": "x" * (3 << 20)}) + '\n{"text": "b"}\n')
    assert "longer than 1 MiB" in refusal(jsonl).what
    assert [piece.text for piece in found_in(jsonl, SKIP)] == ["b"]


@pytest.mark.fault(25)
def test_a_record_of_ten_megabytes_and_one_of_a_million_spaces_are_cut(jsonl: Path) -> None:
    texts = ["word " * 400_000, " " * 1_000_000 + "end", "a" * 20_000]
    jsonl.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    found = found_in(jsonl)
    for piece in found:
        assert piece.line is not None
        assert texts[piece.line - 1][piece.start : piece.end] == piece.text
        assert piece.tokens <= 800
    assert [sum(piece.line == line for piece in found) > 0 for line in (1, 2, 3)] == [True] * 3


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_lines_are_read_as_they_are_and_damage_is_noticed(tmp_path: Path, suffix: str) -> None:
    compress = gzip.compress if suffix == ".gz" else zstandard.ZstdCompressor(write_checksum=True).compress
    body = "".join(json.dumps({"text": f"text {number} {os.urandom(20).hex()}"}) + "\n" for number in range(3_000))
    data = compress(body[:50_000].encode()) + compress(body[50_000:].encode())
    path = tmp_path / f"r.jsonl{suffix}"
    path.write_bytes(data)
    assert len(found_in(path)) == 3_000
    path.write_bytes(data[: len(data) // 2])
    assert "damaged or incomplete" in refusal(path).what
    path.write_bytes(data[:-1])
    assert "damaged or incomplete" in refusal(path).what
    path.write_bytes(data[:2000] + b"xxxxxxxx" + data[2008:])
    with pytest.raises(SourceError):
        findings(path)


def test_csv_and_tsv_rows_are_records_with_the_lines_where_they_start(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b'\xef\xbb\xbfid,text,k\r\n1,"two\r\nlines, ""quoted""",v\r\n,plain,\r\n3,,w\r\n')
    one, two, three = found_in(path)
    assert (one.id, one.text, one.line, one.metadata) == ("1", 'two\r\nlines, "quoted"', 2, {"k": "v"})
    assert (two.id, two.text, two.metadata) == ("t.csv:4", "plain", {"k": ""})
    assert three.problem == ("empty_text", "the record at t.csv:5 has no text")
    tsv = tmp_path / "t.tsv.gz"
    tsv.write_bytes(gzip.compress(b"text\tid\na, b\tx\n"))
    assert [(piece.id, piece.text) for piece in found_in(tsv)] == [("x", "a, b")]


@pytest.mark.parametrize(
    ("body", "line", "what"),
    [
        ("a,b\n1,2\n", 1, "no field 'text'; fields there: a, b"),
        ("text,text\n1,2\n", 1, "two columns have the same name"),
        ("text,b\n1,2\n1,2,3\n", 3, "3 cells, but the header has 2"),
        ("text,b\n1,2\n\n1,2\n", 3, "a blank line between records"),
        ('text,b\n1,2\n"1"x,2\n', 3, "not CSV"),
        ('text,b\n1,2\n"1,2\n', 3, "not CSV"),
    ],
)
def test_a_broken_table_is_refused_with_its_line(tmp_path: Path, body: str, line: int, what: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(body)
    error = refusal(path)
    assert what in error.what
    assert error.where == f"{path}:{line}"
    if line > 1:
        assert "1" in [piece.text for piece in found_in(path, SKIP)]


def test_bad_text_in_a_table_follows_the_policy(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"text,k\na\xffb,c\0d\ngood,x\n")
    bad, good = found_in(path)
    assert (bad.text, bad.metadata, good.text) == ("a\ufffdb", {"k": "c\ufffdd"}, "good")
    assert "t.csv:2 (invalid UTF-8 at byte 1" in findings(path).notes[0]
    assert len(found_in(path, Reading(on_bad_text="skip"))) == 1


def test_a_cell_of_a_megabyte_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"text\n{'word ' * 200_000}\n")
    assert sum(piece.end - piece.start for piece in found_in(path, chunking=Chunking(overlap=0))) == 1_000_000


def test_parquet_rows_are_records(tmp_path: Path) -> None:
    import datetime
    import decimal

    path = tmp_path / "t.parquet"
    when, price = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC), decimal.Decimal("1.50")
    table = pa.table(
        {
            "id": [1, 2, 3],
            "text": ["a\0b", None, "c"],
            "when": [when] * 3,
            "price": [price] * 3,
            "raw": [b"\x01"] * 3,
            "f": [float("nan"), 1.0, 2.0],
            "l": [[{"x": 1}]] * 3,
        }
    )
    pq.write_table(table, path)
    one, two, three = found_in(path)
    assert (one.id, one.text, one.line) == ("1", "a\ufffdb", 1)
    assert one.metadata == {"when": str(when), "price": "1.50", "raw": "01", "f": None, "l": [{"x": 1}]}
    assert two.problem == ("empty_text", "the record at t.parquet:2 has no text")
    assert three.text == "c"


def test_a_parquet_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1 nothing PAR1")
    assert "not a Parquet file" in refusal(path).what
    pq.write_table(pa.table({"a": [1]}), path)
    assert "no field 'text'" in refusal(path).what


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": ["a"]}), path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError) as caught:
        findings(path)
    assert "corpusmill[parquet]" in caught.value.next_step


def test_standard_input_is_read_as_json_lines() -> None:
    program = (
        "from corpusmill.intake import *; from corpusmill.tokens import encoding\n"
        "r = Reading(); s = scan(['-'], r); f = validate(s, r)\n"
        "print([(p.id, p.text) for p in pieces(s, r, Chunking(), encoding(), f)]); path = s.files[0].path; del s\n"
        "print(path.exists())"
    )
    lines = '{"text": "a"}\n{"id": "x", "text": "b"}\n'
    done = subprocess.run([sys.executable, "-c", program], input=lines, capture_output=True, text=True, check=True)
    assert done.stdout == "[('stdin.jsonl:1', 'a'), ('x', 'b')]\nFalse\n"


def test_a_named_pipe_is_read_once_into_a_private_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=('{"text": "a"}\n',))
    writer.start()
    found = scan([pipe], Reading())
    writer.join()
    copy = found.files[0].path
    assert copy.parent.stat().st_mode & 0o077 == 0
    assert [piece.text for piece in pieces(found, Reading(), Chunking(), encoding())] == ["a"]
    del found
    assert not copy.exists()


def test_a_stream_given_twice_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=('{"text": "a"}\n',))
    writer.start()
    with pytest.raises(UsageError, match="only once"):
        scan([pipe, pipe], Reading())
    writer.join()


# --- big sources ------------------------------------------------------------------------------------------------


@pytest.fixture
def pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "POOLED_FROM_BYTES", 0)
    monkeypatch.setattr(pool, "_BATCH_CHARACTERS", 20_000)


def folder_of_everything(folder: Path) -> Path:
    lines = [{"id": f"r{n}", "text": f"Record {n} speaks. " * (n % 50), "n": n} for n in range(300)]
    (folder / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for number in range(30):
        (folder / f"d{number:02}.md").write_text(f"Document {number} has words in it.\n" * 40 * (number % 7 + 1))
    return folder


def test_counting_processes_give_the_same_pieces_in_the_same_order(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    found = scan([folder_of_everything(tmp_path)], Reading())
    alone = list(pieces(found, Reading(), Chunking(tokens=100, overlap=10), encoding()))
    request.getfixturevalue("pooled")
    together = list(pieces(found, Reading(), Chunking(tokens=100, overlap=10), encoding()))
    assert len(together) > 500
    assert together == alone


@pytest.mark.usefixtures("pooled")
def test_an_error_in_a_counting_process_comes_back_as_it_was(tmp_path: Path) -> None:
    found = scan([folder_of_everything(tmp_path)], Reading())
    (tmp_path / "d20.md").write_text("changed")
    with pytest.raises(SourceError, match="changed while") as caught:
        list(pieces(found, Reading(), Chunking(), encoding()))
    assert caught.value.where == str(tmp_path / "d20.md")


@pytest.mark.usefixtures("pooled")
def test_no_process_outlives_pieces_that_nobody_wants_any_more(tmp_path: Path) -> None:
    import psutil

    found = scan([folder_of_everything(tmp_path)], Reading())
    running = pieces(found, Reading(), Chunking(tokens=100, overlap=10), encoding())
    next(running)
    children = [
        child for child in psutil.Process().children() if "corpusmill.intake.counter" in " ".join(child.cmdline())
    ]
    assert len(children) == 2
    running.close()  # type: ignore[attr-defined]
    assert not any(child.is_running() for child in children)


def test_a_script_without_a_main_guard_in_a_hostile_folder_can_read_big_sources(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    folder_of_everything(corpus)
    (tmp_path / "tasks.py").write_text("raise SystemExit('the wrong module')")
    (tmp_path / "corpusmill.py").write_text("raise SystemExit('the wrong module')")
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path[:] = {[str(Path.cwd()), *sys.path]!r}\n"
        "from corpusmill.intake import *; from corpusmill.intake import pool; from corpusmill.tokens import encoding\n"
        "pool.POOLED_FROM_BYTES = 0; r = Reading(); s = scan(['corpus'], r)\n"
        "print('once', sum(1 for _ in pieces(s, r, Chunking(), encoding())) > 100)\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("once True\n", "")


@pytest.mark.timeout(120)
def test_memory_does_not_grow_with_the_size_of_a_line_file(tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl"
    line = json.dumps({"text": "=" * 64 + " some words " * 250, "k": "v"}) + "\n"
    with path.open("w") as file:
        for _ in range(40_000_000 // len(line)):
            file.write(line)
    program = (
        "import sys, psutil; from corpusmill.intake import *; from corpusmill.tokens import encoding\n"
        "r, me, peak = Reading(), psutil.Process(), 0; s = scan(sys.argv[1:], r); f = validate(s, r)\n"
        "for n, _ in enumerate(pieces(s, r, Chunking(whole=True), encoding(), f)):\n"
        "    if n % 2000 == 0: peak = max(peak, sum(p.memory_info().rss for p in [me, *me.children()]))\n"
        "print(n, peak >> 20)"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    records, peak_mib = map(int, done.stdout.split())
    assert records > 10_000
    assert peak_mib < 300


def test_a_parquet_source_without_pyarrow_is_an_error_even_in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.md").write_text("text")
    (tmp_path / "r.parquet").write_bytes(b"PAR1")
    for source in (tmp_path, tmp_path / "r.parquet"):
        with pytest.raises(UsageError, match="needs pyarrow") as refused:
            scan([source], Reading())
        assert refused.value.where == str(tmp_path / "r.parquet") and "pip install pyarrow" in refused.value.next_step
    assert len(scan([tmp_path], Reading(exclude=("*.parquet",))).files) == 1


@pytest.mark.parametrize(("name", "content"), [("r.jsonl", '{"text": "a", "id": 1}\n'), ("r.csv", "text,id\na,1\n")])
def test_an_id_field_that_is_named_must_be_there_and_the_default_need_not(
    tmp_path: Path, name: str, content: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    for source in (path, tmp_path):
        reading = Reading(id_field="sku")
        with pytest.raises(SourceError, match="no field 'sku'; fields there: text, id") as refused:
            validate(scan([source], reading), reading)
        assert refused.value.where == f"{path}:1" and "--id-field" in refused.value.next_step
    path.write_text(content.replace("id", "no"))
    assert [piece.id for piece in found_in(path)] == [f"{name}:{1 + name.endswith('csv')}"]
