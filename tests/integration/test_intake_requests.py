"""OpenAI Batch request files: checked line by line, bodies untouched."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from corpusmill.errors import SourceError
from corpusmill.intake import requests, scan_requests, validate_requests
from corpusmill.intake.pool import POOLED_FROM_BYTES
from corpusmill.spec import key_of_body


def request(number: int, **changes: Any) -> dict[str, Any]:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello world"}]}
    return {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions", "body": body} | changes


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "requests.jsonl"


def write(file: Path, *lines: dict[str, Any] | str) -> Path:
    file.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return file


def test_a_body_comes_out_as_its_bytes_stood(file: Path) -> None:
    message = r'{"content":"caf\u00e9 \"}{\"","role":"user"}'
    body = f'{{ "model":"gpt-4o","n":1.0, "messages" : [{message}],"seed":12345678901234567890123}}'
    write(file, f'{{"url": "/v1/chat/completions", "body":{body}  ,"custom_id":"a"}}')
    (line,) = requests(file)
    assert line.body == body.encode()
    assert (line.custom_id, line.model, line.url, line.line) == ("a", "gpt-4o", "/v1/chat/completions", 1)


@pytest.mark.parametrize(
    ("url", "body", "tokens"),
    [
        ("/v1/chat/completions", {"messages": [{"content": "hello world"}, {"content": "hello world"}]}, 4),
        (
            "/v1/chat/completions",
            {"messages": [{"content": [{"type": "text", "text": "hello world"}, {"type": "image_url"}]}]},
            2,
        ),
        ("/v1/chat/completions", {"messages": [{"role": "assistant", "content": None}]}, 0),
        ("/v1/embeddings", {"input": "hello world"}, 2),
        ("/v1/embeddings", {"input": ["hello world", "hello"]}, 3),
        ("/v1/embeddings", {"input": [5, 6, 7]}, 3),
        ("/v1/embeddings", {"input": [[5, 6], [7]]}, 3),
        ("/embeddings", {"input": "<|endoftext|>"}, 7),
        ("/v1/responses", {"input": "hello world", "instructions": "hello"}, 3),
        ("/v1/completions", {"prompt": "hello world"}, 2),
    ],
)
def test_the_tokens_of_messages_and_inputs_are_counted(file: Path, url: str, body: dict[str, Any], tokens: int) -> None:
    write(file, request(1, url=url, body={"model": "gpt-4o", **body}))
    assert [line.tokens for line in requests(file)] == [tokens]


WRONG: dict[str, dict[str, Any] | str] = {
    "not JSON": "{",
    "not an object": "[]",
    "a blank line": "",
    "no 'custom_id'": request(2, custom_id=None),
    "none that is a text": request(2, custom_id=5),
    "'method' is not POST": request(2, method="GET"),
    "'url' is none of": request(2, url="/v1/moderations"),
    "no 'body'": request(2, body=[]),
    "names no 'model'": request(2, body={"messages": [{}]}),
    "'stream' is set": request(2, body={"model": "m", "messages": [{}], "stream": True}),
    "has no 'messages'": request(2, body={"model": "m", "messages": []}),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_line_that_is_not_in_order_is_refused_or_left_out_and_told(file: Path, wrong: str) -> None:
    write(file, request(1), WRONG[wrong], request(3))
    with pytest.raises(SourceError) as caught:
        next(requests(file))
    assert wrong in caught.value.what
    assert caught.value.where == f"{file}:2"
    assert [line.custom_id for line in requests(file, skip_invalid=True)] == ["r1", "r3"]
    findings = validate_requests(scan_requests(file), skip_invalid=True)
    assert wrong in findings.notes[0]
    assert (findings.records, findings.skipped) == (2, 1)


def test_stream_false_is_in_order(file: Path) -> None:
    write(file, request(1, body={"model": "m", "messages": [{}], "stream": False}))
    assert len(list(requests(file))) == 1


def test_a_repeated_custom_id_is_refused_with_both_lines_or_the_first_is_kept(file: Path) -> None:
    write(file, request(1), request(2), request(1))
    with pytest.raises(SourceError, match=f"'r1' is there twice: {file}:1 and {file}:3"):
        next(requests(file))
    assert [line.line for line in requests(file, skip_invalid=True)] == [1, 2]


def test_two_urls_in_a_file_are_refused_with_both_lines(file: Path) -> None:
    write(file, request(1), request(2, url="/v1/embeddings", body={"model": "m", "input": "x"}))
    with pytest.raises(SourceError, match=r"/v1/chat/completions in line 1, /v1/embeddings in line 2"):
        next(requests(file, skip_invalid=True))


def test_the_models_that_a_file_asks_for_are_known_after_validation(file: Path) -> None:
    write(file, request(1), request(2, body={"model": "gpt-4.1", "messages": [{}]}))
    assert validate_requests(scan_requests(file)).models == {"gpt-4o", "gpt-4.1"}


def test_the_name_of_a_request_file_does_not_matter(tmp_path: Path) -> None:
    assert len(list(requests(write(tmp_path / "batch.txt", request(1))))) == 1


@pytest.mark.parametrize(("name", "body"), [("r.csv", "a,b\n1,2\n"), ("r.jsonl", "\n"), ("r.parquet", "x")])
def test_a_file_without_requests_is_refused(tmp_path: Path, name: str, body: str) -> None:
    (tmp_path / name).write_text(body)
    with pytest.raises(SourceError, match="request"):
        list(requests(tmp_path / name))


def test_a_folder_is_no_request_file(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"text": "x"})
    write(tmp_path / "b.jsonl", {"text": "x"})
    with pytest.raises(SourceError, match="not a Batch request file"):
        scan_requests(tmp_path)


PADDING = "x" * 9_000
BIG = POOLED_FROM_BYTES // len(PADDING) + 200


def padded(number: int, **changes: Any) -> dict[str, Any]:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": f"hello {number}"}], "user": PADDING}
    return request(number, body=body) | changes


def big(file: Path, changed: dict[int, dict[str, Any] | str] | None = None) -> Path:
    """A file that is read by several processes; some lines can be others."""
    lines: list[dict[str, Any] | str] = [padded(number) for number in range(1, BIG + 1)]
    for number, line in (changed or {}).items():
        lines[number - 1] = line
    return write(file, *lines)


def test_a_file_that_several_processes_read_comes_out_in_order_counted_and_keyed(file: Path) -> None:
    key_of = partial(key_of_body, "http://endpoint/v1", "/chat/completions")
    read = list(requests(big(file), key_of=key_of))
    assert [line.custom_id for line in read] == [f"r{number}" for number in range(1, BIG + 1)]
    assert [line.line for line in read] == list(range(1, BIG + 1))
    last = read[-1]
    assert json.loads(last.body) == padded(BIG)["body"]
    assert last.key == key_of(json.loads(last.body))
    assert last.tokens == 4


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ("{", "not JSON"),
        ("", "a blank line"),
        (
            request(1_500, url="/v1/embeddings", body={"model": "m", "input": "x"}),
            "/v1/chat/completions in line 1, /v1/embeddings in line 1500",
        ),
        (padded(7), "'r7' is there twice"),
    ],
)
def test_a_wrong_line_in_the_middle_of_a_big_file_is_told_with_its_number(
    file: Path, changed: dict[str, Any] | str, told: str
) -> None:
    with pytest.raises(SourceError, match=told) as caught:
        validate_requests(scan_requests(big(file, {1_500: changed})))
    assert caught.value.where == f"{file}:1500"


def test_wrong_lines_of_a_big_file_are_left_out_counted_and_the_first_few_named(file: Path) -> None:
    wrong: Iterator[int] = iter(range(100, 1_700, 200))
    found = scan_requests(big(file, {number: "{" for number in wrong} | {1_800: padded(9)}))
    findings = validate_requests(found, skip_invalid=True)
    assert (findings.records, findings.skipped) == (BIG - 9, 9)
    assert "requests.jsonl:900 (not JSON" in findings.notes[0]
    assert findings.notes[0].endswith("and 4 more")
    assert sum(1 for _ in requests(found, True, findings)) == BIG - 9


def test_a_packed_file_is_read_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl.gz"
    file.write_bytes(gzip.compress(write(tmp_path / "r.jsonl", request(1), request(2)).read_bytes()))
    assert [line.line for line in requests(file)] == [1, 2]
