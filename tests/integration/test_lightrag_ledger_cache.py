"""LightRAG's functions without a fleet but with a database: the ledger's answers are their response cache."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpusmill.errors import CorpusmillError
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import Answer, Batch
from corpusmill.lightrag import choosing
from corpusmill.lightrag.local import Local
from corpusmill.lightrag.openai import openai_complete_if_cache, openai_embed
from corpusmill.lightrag.utils import TokenTracker, TruncatedResponse
from corpusmill.spec import COMPLETIONS_PATH, EMBEDDINGS_PATH, JobSpec
from tests.fixtures.simulator import Simulator, StartSimulator

MODEL = "gpt-6-luna"
# What another process does in the same folder: one answer, one stream, two vectors.
OTHER = """
import asyncio, json
from corpusmill.lightrag.openai import openai_complete_if_cache, openai_embed
from corpusmill.lightrag.utils import TokenTracker


async def main():
    tracker = TokenTracker()
    common = {"token_tracker": tracker}
    whole = await openai_complete_if_cache("gpt-6-luna", "a river", system_prompt="Be brief.", **common)
    stream = await openai_complete_if_cache("gpt-6-luna", "a long lake", stream=True, **common)
    pieces = [text async for text in stream]
    vectors = await openai_embed.func(["one", "two"], **common)
    counted = [tracker.call_count, tracker.cached_count, tracker.total_tokens]
    print(json.dumps([whole, "".join(pieces), vectors[:, :3].tolist(), counted]))


asyncio.run(main())
"""


@pytest.fixture
def endpoint(simulator: StartSimulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    started = simulator(latency_ms="5")
    monkeypatch.setenv("OPENAI_API_BASE", started.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody")
    return started


@pytest.fixture
def local(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Local]:
    """Local mode over a database that is set by the environment, closed at the end."""
    monkeypatch.setenv("CORPUSMILL_DATABASE_URL", database_url)
    chosen = choosing.use_local()
    yield chosen
    chosen.close()
    monkeypatch.delenv("CORPUSMILL_DATABASE_URL")
    choosing.use_local()


async def complete(prompt: str, **options: Any) -> str:
    answer = await openai_complete_if_cache(MODEL, prompt, **options)
    assert isinstance(answer, str)
    return answer


def run(program: str, folder: Path) -> Any:
    ran = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("database", ["sqlite_url", "empty_postgres_url"])
async def test_what_one_process_paid_for_is_a_hit_for_another(
    database: str, endpoint: Simulator, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = request.getfixturevalue(database)
    (tmp_path / "corpusmill.toml").write_text(f'database_url = "{url}"\n')
    monkeypatch.chdir(tmp_path)
    with closing(choosing.use_local()):
        whole = await complete("a river", system_prompt="Be brief.")
        stream = await openai_complete_if_cache(MODEL, "a long lake", stream=True)
        assert not isinstance(stream, str)
        pieces = [text async for text in stream]
        vectors = await openai_embed.func(["one", "two"])
    *again, counted = await asyncio.to_thread(run, OTHER, tmp_path)
    assert again == [whole, "".join(pieces), vectors[:, :3].tolist()]
    assert counted == [0, 3, 0]
    assert (endpoint.stats()["paid_requests"], endpoint.stats()["duplicates_paid"]) == (3, 0)


async def test_an_answer_is_paid_for_once_and_stands_in_the_ledger(
    local: Local, endpoint: Simulator, database_url: str
) -> None:
    with TokenTracker() as tracker:
        answers = await asyncio.gather(*(complete("a lake") for _ in range(10)))
        answers.append(await complete("a lake"))
    assert len(set(answers)) == 1
    assert (tracker.call_count, tracker.cached_count) == (1, 10)
    assert endpoint.stats()["paid_requests"] == 1
    (paid,) = endpoint.paid()
    asked = JobSpec("completion", COMPLETIONS_PATH, MODEL, endpoint.base_url, prompt="{text}")
    key = asked.content_key("a lake", "a.md")
    with Ledger.open(database_url) as ledger:
        kept = ledger.answers([key])[key]
    assert (kept.prompt_tokens, kept.completion_tokens) == (paid["prompt_tokens"], paid["completion_tokens"])
    assert json.loads(kept.body)["choices"][0]["message"]["content"] == answers[0]


async def test_what_a_job_paid_for_is_a_hit(local: Local, endpoint: Simulator, database_url: str) -> None:
    job = JobSpec("completion", COMPLETIONS_PATH, MODEL, endpoint.base_url, "Name {text}", "Be brief.", {"seed": 7})
    vectors = JobSpec("embedding", EMBEDDINGS_PATH, "text-embedding-3-small", endpoint.base_url)
    reply = {"choices": [{"message": {"role": "assistant", "content": "Orlen"}, "finish_reason": "stop"}]}
    row = np.arange(1536, dtype="<f4")
    bodies = {
        job.content_key("a river", "a.md"): json.dumps(reply).encode(),
        vectors.content_key("a river", "a.md"): row.tobytes(),
    }
    with Ledger.open(database_url) as ledger:
        answers = [Answer(key, body, MODEL, None, "stop", 1, 1) for key, body in bodies.items()]
        ledger.commit(Batch(answers=answers), worker_id="a job's", lease_s=30)
    assert await complete("Name a river", system_prompt="Be brief.", seed=7) == "Orlen"
    assert np.array_equal((await openai_embed.func(["a river"]))[0], row)
    assert endpoint.stats()["requests"] == 0


async def test_an_answer_that_was_cut_is_never_served_but_the_whole_one_beside_it_is(
    local: Local, endpoint: Simulator, database_url: str
) -> None:
    endpoint.set_faults("length@1")
    assert isinstance(await complete("x"), TruncatedResponse)
    assert not isinstance(await complete("x"), TruncatedResponse)
    reply = {"choices": [{"message": {"role": "assistant", "content": "Or"}, "finish_reason": "length"}]}
    key = JobSpec("completion", COMPLETIONS_PATH, MODEL, endpoint.base_url, prompt="{text}").content_key("y", "a.md")
    with Ledger.open(database_url) as ledger:
        answer = Answer(key, json.dumps(reply).encode(), MODEL, None, "length", 1, 1, truncated=True)
        ledger.commit(Batch(answers=[answer]), worker_id="a job's", lease_s=30)
    whole = await complete("y")
    assert whole != "Or"
    assert await complete("y") == whole
    assert endpoint.stats()["paid_requests"] == 3


async def test_reasoning_alone_is_served_to_whoever_wants_it_and_the_answer_beside_it_to_others(
    local: Local, endpoint: Simulator
) -> None:
    endpoint.set_faults("reasoning@text:pensive")
    thought = await complete("pensive", enable_cot=True)
    endpoint.set_faults()
    answer = await complete("pensive")
    assert thought.startswith("<think>")
    assert not answer.startswith("<think>")
    assert (await complete("pensive", enable_cot=True), await complete("pensive")) == (thought, answer)
    assert endpoint.stats()["paid_requests"] == 2


async def test_a_fresh_answer_is_paid_for(local: Local, endpoint: Simulator) -> None:
    await complete("x")
    await complete("x", use_cache=False)
    await openai_embed.func(["x"])
    await openai_embed.func(["x"], use_cache=False)
    assert endpoint.stats()["paid_requests"] == 4


async def test_the_cache_is_off_by_the_setting(
    local: Local, endpoint: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await complete("x")
    monkeypatch.setenv("CORPUSMILL_CACHE", "off")
    choosing.use_local()
    await complete("x")
    assert endpoint.stats()["paid_requests"] == 2


async def test_many_answers_at_once_are_all_kept(local: Local, endpoint: Simulator, database_url: str) -> None:
    await asyncio.gather(*(complete(f"q {number}") for number in range(200)))
    with TokenTracker() as tracker:
        await asyncio.gather(*(complete(f"q {number}") for number in range(200)))
    assert (tracker.call_count, tracker.cached_count) == (0, 200)
    assert endpoint.stats()["paid_requests"] == 200


async def test_a_ledger_that_cannot_be_opened_stops_the_first_call_before_it_is_paid(
    endpoint: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORPUSMILL_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    chosen = choosing.use_local()
    with pytest.raises(CorpusmillError, match=re.escape("127.0.0.1")):
        await complete("x")
    chosen.close()
    assert endpoint.stats()["requests"] == 0


async def test_while_the_ledger_is_away_calls_go_on_without_it(
    endpoint: Simulator, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CORPUSMILL_DATABASE_URL", sqlite_url)
    chosen = choosing.use_local()
    await complete("kept")
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as other:
        other.execute("ALTER TABLE answers RENAME TO away")
        assert await complete("kept") == await complete("kept")
        assert "response cache is away" in caplog.text
        other.execute("ALTER TABLE away RENAME TO answers")
    await complete("kept")
    chosen.close()
    assert endpoint.stats()["paid_requests"] == 3


async def test_an_answer_is_written_although_its_caller_gave_up(
    local: Local, endpoint: Simulator, database_url: str
) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(complete("slow"), 0.001)
    assert await complete("slow")
    assert endpoint.stats()["paid_requests"] <= 1
