"""`from corpusmill import Mill`: the verbs of the command line for programs, with results as an iterator."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from corpusmill import AsyncMill, CorpusmillError, Mill, Settings
from corpusmill.endpoint import Limits
from corpusmill.simulator.embeddings import digest, vectors
from tests.acceptance.corpora import prose
from tests.fixtures.shell import PATIENCE_S
from tests.fixtures.simulator import Simulator, StartSimulator

MODEL = "text-embedding-3-small"


@pytest.fixture
def endpoint(simulator: StartSimulator) -> Simulator:
    return simulator()


@pytest.fixture
def settings(home: Path, endpoint: Simulator) -> Settings:
    providers = {"openai": {"base_url": endpoint.base_url, "api_key": "sk-test"}}
    return Settings.load(home, home=home, providers=providers, limits=Limits(rpm=0, tpm=0).model_dump())


@pytest.fixture
def mill(settings: Settings) -> Iterator[Mill]:
    with Mill(settings) as mill:
        yield mill


def test_texts_become_vectors_in_their_order(mill: Mill, endpoint: Simulator) -> None:
    texts = [prose(number, 12) for number in range(20)]
    job = mill.embed(texts=texts, model=MODEL, dimensions=8)
    summary = job.wait(timeout_s=PATIENCE_S)
    assert (summary.state, summary.succeeded, summary.exit_code) == ("finished", 20, 0)
    np.testing.assert_allclose(job.vectors(), vectors([digest(MODEL, text) for text in texts], 8), rtol=1e-6)
    assert [result.id for result in job.results()] == [str(number) for number in range(20)]
    assert mill.embed(texts=texts, model=MODEL, dimensions=8).wait().requests == 0
    assert endpoint.stats()["paid_inputs"] == 20


def test_records_keep_their_ids_and_metadata_and_failures_are_told(mill: Mill) -> None:
    records = [{"id": "a", "text": "One.", "lang": "en"}, {"id": "b", "text": ""}]
    job = mill.complete(texts=records, prompt="Say", model="gpt-6-luna", temperature=0.5, labels={"team": "x"})
    summary = job.wait(timeout_s=PATIENCE_S)
    (result,) = job.results()
    (failure,) = job.failures()
    assert (result.id, result.metadata, bool(result.output)) == ("a", {"lang": "en"}, True)
    assert result.reply["usage"]["prompt_tokens"] == result.prompt_tokens
    assert (failure.id, failure.line, failure.error_class) == ("b", 2, "empty_text")
    assert (summary.succeeded, summary.failed, summary.exit_code) == (1, 1, 3)
    assert mill.job(job.id).summary().succeeded == 1
    (total,) = [total for total in mill.usage("label:team") if total.group == "x"]
    assert isinstance(total.usd, Decimal)
    assert total.usd == summary.usd


def test_a_folder_is_exported_by_the_same_job(mill: Mill, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.md").write_text(prose(1, 300))
    job = mill.embed(tmp_path / "docs", model=MODEL, chunk_tokens=100, out=tmp_path / "v.npy")
    summary = job.wait(timeout_s=PATIENCE_S)
    assert job.export() == (tmp_path / "v.npy", tmp_path / "v.jsonl")
    assert np.load(tmp_path / "v.npy").shape == (summary.succeeded, 1536)
    assert [listed.id for listed in mill.jobs(1)] == [job.id]


def test_waiting_ends_in_time_and_the_job_goes_on(mill: Mill, simulator: StartSimulator, settings: Settings) -> None:
    slow = simulator(latency_ms="1500")
    provider = settings.providers["openai"].model_copy(update={"base_url": slow.base_url})
    with Mill(settings.with_providers({"openai": provider})) as other:
        job = other.complete(texts=["x"], prompt="Say", model="m")
        with pytest.raises(TimeoutError):
            job.wait(timeout_s=0.1)
        assert job.wait(timeout_s=PATIENCE_S).state == "finished"


def test_a_detached_job_is_collected_by_another_mill(settings: Settings, endpoint: Simulator) -> None:
    with Mill(settings) as submitting:
        job_id = submitting.complete(texts=["Collect me."], prompt="Say", model="m", detach=True).id
    with Mill(settings) as collecting:
        assert collecting.job(job_id).wait(timeout_s=PATIENCE_S).succeeded == 1


def test_mistakes_are_corpusmills_errors(mill: Mill, tmp_path: Path) -> None:
    with pytest.raises(CorpusmillError, match="nowhere"):
        mill.embed(tmp_path / "nowhere", model=MODEL)
    with pytest.raises(CorpusmillError, match="no option modle"):
        mill.embed(texts=["x"], model=MODEL, modle="y")  # type: ignore[call-arg]
    with pytest.raises(CorpusmillError, match="no job"):
        mill.job("nobody")


async def test_the_same_verbs_can_be_awaited(settings: Settings) -> None:
    async with AsyncMill(settings) as mill:
        jobs = await asyncio.gather(
            mill.complete(texts=["One."], prompt="Say", model="gpt-6-luna"),
            mill.embed(texts=["One.", "Two."], model=MODEL, dimensions=4),
        )
        summaries = await asyncio.gather(*(job.wait(timeout_s=PATIENCE_S) for job in jobs))
        assert [summary.succeeded for summary in summaries] == [1, 2]
        found = [result.vector.shape async for result in jobs[1].results()]
        assert found == [(4,), (4,)]
        assert {job.id for job in await mill.jobs()} >= {job.id for job in jobs}
        assert sum(total.requests for total in await mill.usage()) >= 2
