"""LightRAG itself over our functions: documents in, answers out, in every mode."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.fixtures.fleet import KEY, StartFleet, wait_until
from tests.fixtures.lightrag import lightrag_module
from tests.fixtures.simulator import Simulator, StartSimulator

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "lightrag_openai_demo.py"

# As a user of LightRAG writes it; only the prefix of one import is ours.
PROGRAM = """
import asyncio, json, os
from pathlib import Path

from lightrag import LightRAG, QueryParam
from lightrag.kg.shared_storage import initialize_pipeline_status
from corpusmill.lightrag.openai import gpt_4o_mini_complete, openai_embed
from corpusmill.lightrag.utils import TokenTracker, logger


async def initialize_rag():
    rag = LightRAG(working_dir="./graph", embedding_func=openai_embed, llm_model_func=gpt_4o_mini_complete)
    await rag.initialize_storages()
    await initialize_pipeline_status()
    return rag


async def main():
    rag = await initialize_rag()
    with TokenTracker() as tracker:
        texts = [path.read_text() for path in sorted(Path(os.environ["DOCUMENTS"]).glob("*.md"))]
        await rag.ainsert(texts)
        answers = {
            mode: await rag.aquery("What does the Lamplighter Guild do?", param=QueryParam(mode=mode))
            for mode in ("naive", "local", "global", "hybrid", "mix", "bypass")
        }
        streamed = await rag.aquery("And Orlen?", param=QueryParam(mode="hybrid", stream=True))
        answers["stream"] = streamed if isinstance(streamed, str) else "".join([text async for text in streamed])
    statuses = await rag.doc_status.get_status_counts()
    labels = await rag.get_graph_labels()
    await rag.finalize_storages()
    found = {"answers": answers, "statuses": statuses, "labels": labels, "usage": tracker.get_usage()}
    Path("found.json").write_text(json.dumps(found))


asyncio.run(main())
"""

# What LightRAG's `examples/lightrag_openai_demo.py` does, step by step, for LightRAG's own modules.
THEIR_DEMO = """
import asyncio, logging, logging.config, os
from lightrag import LightRAG, QueryParam
from lightrag.llm.openai import gpt_4o_mini_complete, openai_embed
from lightrag.kg.shared_storage import initialize_pipeline_status
from lightrag.utils import logger, set_verbose_debug

FOLDER = "./novel"


def log_to(path):
    handler = {"class": "logging.FileHandler", "filename": path}
    told = {"handlers": ["file"], "level": "INFO", "propagate": False}
    logging.config.dictConfig({"version": 1, "handlers": {"file": handler}, "loggers": {"lightrag": told}})
    logger.setLevel(logging.INFO)
    set_verbose_debug(False)


async def initialize_rag():
    rag = LightRAG(working_dir=FOLDER, embedding_func=openai_embed, llm_model_func=gpt_4o_mini_complete)
    await rag.initialize_storages()
    await initialize_pipeline_status()
    return rag


async def main():
    rag = await initialize_rag()
    try:
        with open("./book.txt", encoding="utf-8") as book:
            await rag.ainsert(book.read())
        for mode in ("naive", "local", "global", "hybrid"):
            print(await rag.aquery("What is the tale about?", param=QueryParam(mode=mode)))
    finally:
        await rag.finalize_storages()


if __name__ == "__main__":
    os.makedirs(FOLDER, exist_ok=True)
    log_to("demo.log")
    asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def lightrag_is_installed() -> None:
    if importlib.util.find_spec("lightrag") is None:
        pytest.skip("lightrag-hku is not installed: pip install -e '.[lightrag]'")
    lightrag_module("lightrag.llm._error_utils")


def environment(**more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TIKTOKEN_CACHE_DIR") if name in os.environ}
    return {**kept, "PYTHONWARNINGS": "ignore", **more}


@pytest.mark.timeout(150)
def test_twenty_documents_become_a_graph_that_answers_in_every_mode(simulator: StartSimulator, tmp_path: Path) -> None:
    endpoint = simulator(latency_ms="5")
    (tmp_path / "program.py").write_text(PROGRAM)
    documents = str(DEMO.with_name("lightrag_documents"))
    settings = environment(OPENAI_API_BASE=endpoint.base_url, OPENAI_API_KEY="sk-nobody", DOCUMENTS=documents)
    ran = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, env=settings, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["statuses"]["processed"] == 20
    assert not found["statuses"].get("failed")
    assert {"Lamplighter Guild", "Orlen"} <= set(found["labels"])
    assert all("Simulated answer" in answer for answer in found["answers"].values()), found["answers"]
    stats, paid = endpoint.stats(), endpoint.paid()
    assert stats["duplicates_paid"] == 0
    assert found["usage"]["call_count"] == stats["paid_requests"]
    assert found["usage"]["prompt_tokens"] == sum(line["prompt_tokens"] for line in paid)
    assert found["usage"]["completion_tokens"] == sum(line["completion_tokens"] for line in paid)


@pytest.mark.timeout(150)
def test_lightrags_demo_gives_four_answers_when_its_imports_alone_are_changed(
    simulator: StartSimulator, tmp_path: Path
) -> None:
    endpoint = simulator(latency_ms="5")
    program = THEIR_DEMO.replace("from lightrag.llm.", "from corpusmill.lightrag.")
    (tmp_path / "demo.py").write_text(program.replace("from lightrag.utils", "from corpusmill.lightrag.utils"))
    documents = sorted(DEMO.with_name("lightrag_documents").glob("*.md"))[:6]
    (tmp_path / "book.txt").write_text("\n\n".join(path.read_text() for path in documents))
    settings = environment(OPENAI_API_BASE=endpoint.base_url, OPENAI_API_KEY="sk-nobody")
    ran = subprocess.run(
        [sys.executable, "demo.py"], cwd=tmp_path, env=settings, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    answers = ran.stdout.strip().splitlines()
    assert len(set(answers)) == 4
    assert all(answer.startswith("Simulated answer") for answer in answers)
    assert (tmp_path / "novel").is_dir()
    assert endpoint.stats()["duplicates_paid"] == 0


@pytest.mark.timeout(150)
def test_the_example_of_an_ingestion_pays_once_for_two_graphs(simulator: StartSimulator, tmp_path: Path) -> None:
    endpoint = simulator(latency_ms="5")
    (tmp_path / "docs").mkdir()
    for path in sorted(DEMO.with_name("lightrag_documents").glob("*.md"))[:4]:
        (tmp_path / "docs" / path.name).write_bytes(path.read_bytes())
    settings = environment(
        OPENAI_API_BASE=endpoint.base_url,
        OPENAI_API_KEY="sk-nobody",
        CORPUSMILL_DATABASE_URL=f"sqlite:///{tmp_path}/ledger.db",
    )
    for graph in ("one", "two"):
        command = [sys.executable, str(DEMO.with_name("lightrag_ingest.py")), "docs", graph]
        ran = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr[-3000:]
        assert "'processed': 4" in ran.stdout
    assert "; 0 USD;" in ran.stdout
    assert endpoint.stats()["duplicates_paid"] == 0


@pytest.mark.timeout(170)
def test_the_fleet_carries_a_whole_ingestion_although_a_worker_is_killed(
    start_fleet: StartFleet, simulator: StartSimulator, postgres_url: str, tmp_path: Path
) -> None:
    # The lease outlasts the five seconds after which a dead worker's journal is read, as it does by default.
    fleet = start_fleet(simulator(latency_ms="150"), postgres_url, window=20, lease_s=12)
    fleet.scheduler()
    workers = [fleet.worker(), fleet.worker()]
    bulk = PROGRAM.replace("await rag.ainsert(texts)", "await ingest(rag, texts)")
    bulk = bulk.replace("llm_model_func=gpt", "default_embedding_timeout=300, llm_model_func=gpt")
    (tmp_path / "program.py").write_text(f"from corpusmill.lightrag import ingest\n{bulk}")
    settings = environment(
        **fleet.settings.as_environment(),
        OPENAI_API_BASE=fleet.simulator.base_url,
        OPENAI_API_KEY=KEY,
        DOCUMENTS=str(DEMO.with_name("lightrag_documents")),
    )
    with subprocess.Popen(
        [sys.executable, "program.py"], cwd=tmp_path, env=settings, stderr=subprocess.PIPE
    ) as program:
        assert program.stderr is not None
        wait_until(lambda: fleet.simulator.stats()["paid_requests"] > 15)
        unread = kill_one_with_unread_replies(workers, fleet.simulator)
        said = program.stderr.read().decode()
    assert program.returncode == 0, said[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["statuses"]["processed"] == 20
    assert not found["statuses"].get("failed")
    assert all("Simulated answer" in answer for answer in found["answers"].values()), found["answers"]

    paid, rows = fleet.simulator.paid(), usage_rows(postgres_url)
    # Each paid call has its row: by its request id where the reply was read, else as an unknown spend.
    read = {row["request_id"] for row in rows if row["outcome"] == "paid"}
    lost = [line for line in paid if line["request_id"] not in read]
    assert Counter(row["outcome"] for row in rows) == {"paid": len(paid) - len(lost), "unknown": len(lost)}
    assert len(lost) >= unread > 0
    # What was in flight at the kill is paid once more, and nothing else is.
    assert fleet.simulator.stats()["duplicates_paid"] == sum(line["inputs"] for line in lost)
    told = {line["request_id"]: (line["prompt_tokens"], line["completion_tokens"]) for line in paid}
    mine = [row for row in rows if row["outcome"] == "paid"]
    assert all((row["prompt_tokens"], row["completion_tokens"]) == told[row["request_id"]] for row in mine)
    for tokens in ("prompt_tokens", "completion_tokens"):
        assert found["usage"][tokens] == sum(row[tokens] for row in mine)
    assert all(job.state == "finished" for job in fleet.ledger.jobs())
    # LightRAG's own queue lets 4 completions through at once; embedding calls travel in packs.
    assert fleet.simulator.stats()["peak_in_flight"] > 8


def kill_one_with_unread_replies(workers: list[subprocess.Popen[bytes]], simulator: Simulator) -> int:
    """Stop both until the simulator has billed all it was asked, then kill the one that has more replies to read.

    What lies unread in its sockets is what the kill loses: how many, and never none.
    """
    while True:
        asked = stopped(workers, simulator)
        unread = {worker.pid: unread_replies(worker.pid, simulator.port) for worker in workers}
        victim = max(workers, key=lambda worker: unread[worker.pid])
        if unread[victim.pid]:
            victim.kill()
        for worker in workers:
            worker.send_signal(signal.SIGCONT)
        if unread[victim.pid]:
            return unread[victim.pid]
        wait_until(partial(lambda before: simulator.stats()["requests"] > before, asked))


def stopped(workers: list[subprocess.Popen[bytes]], simulator: Simulator) -> int:
    """Stop the workers, and wait until the simulator has nothing left to answer; how much it was asked until then."""
    for worker in workers:
        worker.send_signal(signal.SIGSTOP)
    asked = -1
    while (stats := simulator.stats())["in_flight"] or stats["requests"] != asked:
        asked = stats["requests"]
        time.sleep(0.05)
    return asked


def unread_replies(pid: int, port: int) -> int:
    """Connections of a process to a port of this machine with bytes that it has not read."""
    files = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    waiting = {f"socket:[{line[9]}]" for line in lines if line[2].endswith(f":{port:04X}") and int(line[4][9:], 16)}
    return len(waiting.intersection(files))


def usage_rows(database_url: str) -> list[dict[str, Any]]:
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        return connection.execute("SELECT * FROM corpusmill_usage").fetchall()


@pytest.mark.timeout(150)
def test_the_demo_answers_without_a_key(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(DEMO)], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    headings = Counter(line for line in ran.stdout.splitlines() if line.startswith("=== "))
    wanted = ("naive", "local", "global", "hybrid", "mix", "bypass", "hybrid, streamed")
    assert headings == Counter(f"=== {name} ===" for name in wanted)
    assert ran.stdout.count("Simulated answer") == len(wanted)
    assert list(tmp_path.iterdir()) == []
