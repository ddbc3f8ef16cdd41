"""A folder in, answers and vectors out: exact, complete, and paid for once."""

from __future__ import annotations

from typing import Any

import numpy as np
from pyarrow import parquet

from corpusmill.simulator.embeddings import digest, vectors
from corpusmill.spec import fill
from tests.acceptance.corpora import chunk_of, documents
from tests.fixtures.shell import Shell
from tests.fixtures.simulator import StartSimulator

PROMPT = "Summarise this part of {source}:\n{text}"
CHUNKS = ("--chunk-tokens", 120, "--chunk-overlap", 20)
COMPLETE = ("complete", "docs", "--prompt", PROMPT, "--model", "gpt-6-luna", *CHUNKS)
EMBED = ("embed", "docs", "--model", "text-embedding-3-small", "--dimensions", 64, *CHUNKS)
# What may differ when a finished command is run again.
MOMENTARY = {"requests"}


def lasting(summary: dict[str, Any]) -> dict[str, Any]:
    """A summary without what counts from the start of the command."""
    return {name: value for name, value in summary.items() if name not in MOMENTARY}


def test_every_chunk_of_a_folder_is_completed_once_and_its_offsets_reproduce_it(
    shell: Shell, simulator: StartSimulator
) -> None:
    endpoint = shell.connect(simulator())
    folder = documents(shell)

    first = shell.ok(*COMPLETE, "--out", "x.jsonl")
    lines = shell.lines("x.jsonl")

    assert first["state"] == "finished"
    assert (first["failed"], first["open"]) == (0, 0)
    assert first["items"] == first["succeeded"] == len(lines) > 20
    assert len({(line["id"], line["chunk"]) for line in lines}) == len(lines)
    assert [line["source"] for line in lines] == sorted(line["source"] for line in lines)
    asked = {request["body"]["messages"][0]["content"] for request in endpoint.requests(10_000)}
    assert asked == {fill(PROMPT, text=chunk_of(folder, line), source=line["source"]) for line in lines}
    stats = endpoint.stats()
    assert stats["paid_inputs"] == first["succeeded"] - first["cached"]
    assert stats["duplicates_paid"] == 0

    again = shell.ok(*COMPLETE, "--out", "x.jsonl")

    assert again["requests"] == 0
    assert lasting(again) == lasting(first)
    assert shell.lines("x.jsonl") == lines
    assert endpoint.stats()["requests"] == stats["requests"]


def test_vectors_stand_in_the_order_of_the_source_and_match_their_texts(
    shell: Shell, simulator: StartSimulator
) -> None:
    endpoint = shell.connect(simulator(fault=["shuffled=1"]))
    folder = documents(shell)

    first = shell.ok(*EMBED, "--out", "v.npy")
    index, array = shell.lines("v.jsonl"), np.load(shell.folder / "v.npy")

    assert array.dtype == np.float32
    assert array.shape == (first["succeeded"], 64)
    assert [line["row"] for line in index] == list(range(len(array)))
    expected = vectors([digest("text-embedding-3-small", chunk_of(folder, line)) for line in index], 64)
    np.testing.assert_allclose(array, expected, rtol=1e-6)
    assert endpoint.stats()["paid_inputs"] == first["succeeded"] - first["cached"]
    assert first["usd"] > 0

    again = shell.ok(*EMBED, "--out", "v.npy")
    assert again["requests"] == 0
    assert lasting(again) == lasting(first)

    shell.ok("export", first["job"], "--out", "v.parquet")
    table = parquet.read_table(shell.folder / "v.parquet")
    np.testing.assert_array_equal(np.stack(table.column("embedding").to_numpy()), array)


def test_a_text_that_stands_twice_is_paid_for_once(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator())
    for name in ("a.md", "b.md", "c.md"):
        shell.write(f"docs/{name}", "The very same words.")
    shell.write("docs/d.md", "Other words.")

    summary = shell.ok("embed", "docs", "--model", "text-embedding-3-small")
    assert (summary["succeeded"], summary["cached"]) == (4, 2)
    assert endpoint.stats()["paid_inputs"] == 2

    apart = shell.ok("embed", "docs", "--model", "text-embedding-3-small", "--no-cache")
    assert (apart["succeeded"], apart["cached"]) == (4, 0)
    assert apart["job"] != summary["job"]
    assert endpoint.stats()["paid_inputs"] == 2 + 4

    same = shell.ok("embed", "docs", "--model", "text-embedding-3-small", "--no-cache")
    assert (same["job"], same["requests"]) == (apart["job"], 0)


def test_answers_paid_for_by_one_job_serve_another(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator())
    shell.write("docs/a.md", "Some words.")
    shell.ok("complete", "docs", "--prompt", "Say", "--model", "m")
    shell.write("docs/b.md", "More words.")
    summary = shell.ok("complete", "docs", "--prompt", "Say", "--model", "m")
    assert (summary["succeeded"], summary["cached"], summary["requests"]) == (2, 1, 1)
    assert endpoint.stats()["paid_requests"] == 2
