"""A real source tree of more than two thousand chunks, completed and embedded: each exactly once, each as it stands."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import celery
import numpy as np
import pytest

from corpusmill.simulator.embeddings import digest, vectors
from corpusmill.spec import fill
from tests.acceptance.corpora import chunk_of
from tests.acceptance.machinery import fresh_home
from tests.fixtures.shell import Shell
from tests.fixtures.simulator import Simulator, StartSimulator

pytestmark = [pytest.mark.xdist_group("embedded-faults"), pytest.mark.timeout(180)]

TREE = Path(celery.__file__).parent
PROMPT = "Explain {source}:\n{text}"
CHUNKS = (str(TREE), "--chunk-tokens", 200, "--chunk-overlap", 30)
COMPLETE = ("complete", *CHUNKS, "--prompt", PROMPT, "--model", "gpt-6-luna", "--out", "x.jsonl")
EMBED = ("embed", *CHUNKS, "--model", "text-embedding-3-small", "--dimensions", 16, "--out", "v.npy")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A HOME of the test's own: its ledger is looked into."""
    with fresh_home(tmp_path) as shell:
        yield shell


def assert_one_result_a_chunk(summary: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    """Chunks of a file are counted from 0, overlap or touch, and leave out nothing but white space."""
    assert summary["items"] == summary["succeeded"] == len(lines) >= 2_000
    assert len({(line["id"], line["chunk"]) for line in lines}) == len(lines)
    for source, some in groupby(lines, key=lambda line: line["source"]):
        chunks = list(some)
        assert [chunk["chunk"] for chunk in chunks] == list(range(len(chunks)))
        text = (TREE / source).read_text("utf-8")
        covered = 0
        for chunk in chunks:
            assert text[covered : chunk["start"]].strip() == "", source
            covered = chunk["end"]
        assert text[covered:].strip() == "", source


def assert_once_and_again_for_nothing(shell: Shell, endpoint: Simulator, command: tuple[object, ...]) -> dict[str, Any]:
    """Run it, hold its numbers against the endpoint's, run it again; the numbers."""
    before = endpoint.stats()
    first = shell.ok(*command)
    stats = endpoint.stats()
    assert (first["state"], first["failed"], first["open"]) == ("finished", 0, 0)
    assert stats["paid_inputs"] - before["paid_inputs"] == first["succeeded"] - first["cached"]
    assert stats["paid_requests"] - before["paid_requests"] == first["requests"] == first["requests_total"]
    assert stats["duplicates_paid"] == 0

    assert shell.ok(*command) == {**first, "requests": 0}
    assert endpoint.stats()["requests"] == stats["requests"]
    return first


def test_more_than_two_thousand_chunks_have_one_result_each_and_a_repeat_buys_nothing(
    shell: Shell, simulator: StartSimulator
) -> None:
    endpoint = shell.connect(simulator(latency_ms="50:0.3"))

    completed = assert_once_and_again_for_nothing(shell, endpoint, COMPLETE)
    lines = shell.lines("x.jsonl")
    asked = {request["body"]["messages"][0]["content"] for request in endpoint.requests(1_000)}
    assert_one_result_a_chunk(completed, lines)
    assert asked <= {fill(PROMPT, text=chunk_of(TREE, line), source=line["source"]) for line in lines}

    embedded = assert_once_and_again_for_nothing(shell, endpoint, EMBED)
    rows, array = shell.lines("v.jsonl"), np.load(shell.folder / "v.npy")
    assert_one_result_a_chunk(embedded, rows)
    # The simulator's vectors are made of the texts.
    expected = vectors([digest("text-embedding-3-small", chunk_of(TREE, row)) for row in rows], 16)
    np.testing.assert_allclose(array, expected, rtol=1e-6)
