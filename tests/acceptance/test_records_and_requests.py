"""Records with ids and metadata, and Batch request files: what goes in comes back under its own name."""

from __future__ import annotations

import json

import numpy as np

from corpusmill.simulator.embeddings import digest, vectors
from tests.fixtures.shell import Shell
from tests.fixtures.simulator import StartSimulator

MODEL = "text-embedding-3-small"
LONG = "word " * 9_000


def test_prechunked_records_come_back_in_order_with_ids_and_metadata(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator(fault=["shuffled=1"]))
    records = [
        {"id": f"r{number}", "text": f"Record number {number}.", "lang": "de", "n": number} for number in range(9)
    ]
    records[2]["text"] = LONG
    records[4]["text"] = ""
    records[6]["text"] = "The end <|endoftext|> of it."
    shell.write("chunks.jsonl", "".join(json.dumps(record) + "\n" for record in records))

    embed = ("embed", "chunks.jsonl", "--model", MODEL, "--dimensions", 16)
    done = shell.run(*embed, "--no-chunk", "--too-long", "truncate", "--out", "v.npy", "--json")
    assert done.code == 3, str(done)
    assert (done.object["succeeded"], done.object["failed"]) == (8, 1)

    index, array = shell.lines("v.jsonl"), np.load(shell.folder / "v.npy")
    kept = [record for record in records if record["text"]]
    assert [line["id"] for line in index] == [record["id"] for record in kept]
    assert [line["metadata"] for line in index] == [{"lang": "de", "n": record["n"]} for record in kept]
    texts = {str(record["id"]): str(record["text"]) for record in kept}
    texts["r2"] = LONG[: index[2]["end"]]
    assert 0 < len(texts["r2"]) < len(LONG)
    expected = vectors([digest(MODEL, texts[line["id"]]) for line in index], 16)
    np.testing.assert_allclose(array, expected, rtol=1e-6)

    (failure,) = shell.ok("failures", "last")["failures"]
    assert (failure["id"], failure["line"]) == ("r4", 5)
    assert "chunks.jsonl:5" in shell.run("failures", "last").out
    assert endpoint.stats()["paid_inputs"] == 8


def test_an_over_long_record_is_split_by_default_and_may_fail_alone(shell: Shell, simulator: StartSimulator) -> None:
    shell.connect(simulator())
    shell.write(
        "r.jsonl", json.dumps({"id": "a", "text": LONG}) + "\n" + json.dumps({"id": "b", "text": "short"}) + "\n"
    )
    shell.ok("embed", "r.jsonl", "--model", MODEL, "--no-chunk", "--out", "v.jsonl")
    parts = [(line["id"], line["chunk"]) for line in shell.lines("v.jsonl")]
    assert parts == [("a", 0), ("a", 1), ("b", 0)]
    done = shell.run("embed", "r.jsonl", "--model", MODEL, "--no-chunk", "--too-long", "fail", "--json")
    assert (done.code, done.object["succeeded"], done.object["failed"]) == (3, 1, 1)


def test_records_come_from_standard_input_too(shell: Shell, simulator: StartSimulator) -> None:
    shell.connect(simulator())
    done = shell.run("embed", "-", "--model", MODEL, "--json", stdin='{"text": "one"}\n{"text": "two"}\n')
    assert (done.code, done.object["succeeded"]) == (0, 2), str(done)


def request(custom_id: str, content: str, **more: object) -> str:
    body = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": content}], **more}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}) + "\n"


def test_a_request_file_runs_live_and_comes_back_as_batch_output(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator(fault=["content_policy@text:forbidden"]))
    tool = {"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}
    lines = [request("one", "Hello", n=2), request("two", "forbidden"), request("three", "Call it", tools=[tool])]
    shell.write("requests.jsonl", "".join(lines))

    done = shell.run("run", "requests.jsonl", "--out", "out.jsonl", "--errors", "failed.jsonl")
    assert done.code == 3, str(done)
    assert "live" in done.out.splitlines()[0]
    assert "full price" in done.out.splitlines()[0]

    first, third = shell.lines("out.jsonl")
    assert (first["custom_id"], third["custom_id"]) == ("one", "three")
    assert first["response"]["status_code"] == 200
    assert len(first["response"]["body"]["choices"]) == 2
    assert third["response"]["body"]["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "find"
    assert first["error"] is None
    (failed,) = shell.lines("failed.jsonl")
    assert (failed["custom_id"], failed["response"]) == ("two", None)
    assert failed["error"]["code"]
    assert "forbidden" not in failed["error"]["message"]
    sent = [json.loads(json.dumps(each["body"])) for each in endpoint.requests(10)]
    assert {json.dumps(body, sort_keys=True) for body in sent} == {
        json.dumps(json.loads(line)["body"], sort_keys=True) for line in lines
    }

    again = shell.run("run", "requests.jsonl", "--out", "out.jsonl", "--errors", "failed.jsonl", "--json")
    assert (again.code, again.object["requests"], len(again.out.splitlines())) == (3, 0, 1)
    assert "live" in again.err


def test_errors_of_a_request_file_stand_beside_its_output(shell: Shell, simulator: StartSimulator) -> None:
    shell.connect(simulator())
    shell.write("requests.jsonl", request("one", "Hello"))
    shell.ok("run", "requests.jsonl", "--out", "out.jsonl")
    assert len(shell.lines("out.jsonl")) == 1
    assert shell.lines("out.errors.jsonl") == []


def test_embedding_requests_come_back_whole(shell: Shell, simulator: StartSimulator) -> None:
    shell.connect(simulator())
    body = {"model": MODEL, "input": ["a", "b"], "dimensions": 4}
    line = json.dumps({"custom_id": "e", "method": "POST", "url": "/v1/embeddings", "body": body})
    shell.write("requests.jsonl", line + "\n")
    summary = shell.ok("run", "requests.jsonl", "--out", "out.jsonl")
    (out,) = shell.lines("out.jsonl")
    assert [len(entry["embedding"]) for entry in out["response"]["body"]["data"]] == [4, 4]
    assert summary["succeeded"] == 1


def test_a_budget_over_several_models_is_refused_with_the_reason(shell: Shell) -> None:
    shell.environment["OPENAI_API_KEY"] = "k"
    shell.write("requests.jsonl", request("one", "a") + request("two", "b", model="gpt-6-sol"))
    done = shell.run("run", "requests.jsonl", "--budget", 1)
    assert done.code == 2, str(done)
    assert "several models" in done.err


def test_request_files_with_a_fault_are_refused_with_the_line(shell: Shell) -> None:
    shell.environment["OPENAI_API_KEY"] = "k"
    shell.write("twice.jsonl", request("one", "a") + request("two", "b") + request("one", "c"))
    shell.write("stream.jsonl", request("one", "a") + request("two", "b", stream=True))
    for name, lines in (("twice.jsonl", ("1", "3")), ("stream.jsonl", ("2",))):
        done = shell.run("run", name)
        assert done.code == 2, str(done)
        assert all(f"{name}:{line}" in done.err or f"line {line}" in done.err for line in lines), str(done)
