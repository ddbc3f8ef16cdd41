"""A job that may use a part of the limit only: it leaves the rest to others, and they use all of it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from corpusmill.cli.main import outcome
from tests.fixtures.bench import StartBench
from tests.fixtures.fleet import JoinFleet, wait_until
from tests.fixtures.simulator import StartSimulator

RPM = 1_800
WATCHED_S = 5.0


@pytest.mark.parametrize("priority", ["low", "normal"])
async def test_a_scheduled_job_with_a_share_leaves_the_rest_to_a_live_one_and_all_is_used(
    bench: StartBench, simulator: StartSimulator, priority: str
) -> None:
    endpoint = simulator(rpm=RPM, latency_ms=30)
    async with bench(endpoint.base_url, limits={"rpm": RPM, "tpm": 0}) as b:
        live = b.complete([f"live {number}" for number in range(600)])
        scheduled = b.complete([f"scheduled {number}" for number in range(600)], priority=priority, max_share=0.3)
        running = [asyncio.create_task(b.run(job)) for job in (scheduled, live)]
        await asyncio.sleep(1)
        before, started = endpoint.stats()["paid_requests"], time.monotonic()
        first = [b.counts(job).requests for job in (live, scheduled)]
        await asyncio.sleep(WATCHED_S)
        sent, took = endpoint.stats()["paid_requests"] - before, time.monotonic() - started
        lives, others = (b.counts(job).requests - n for job, n in zip((live, scheduled), first, strict=True))
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    assert lives >= 0.65 * (lives + others)
    assert sent >= 0.9 * RPM / 60 * took


async def test_a_job_alone_uses_no_more_than_its_share(bench: StartBench, simulator: StartSimulator) -> None:
    endpoint = simulator(rpm=RPM, latency_ms=30)
    async with bench(endpoint.base_url, limits={"rpm": RPM, "tpm": 0}) as b:
        job = b.complete([f"alone {number}" for number in range(600)], priority="low", max_share=0.3)
        task = asyncio.create_task(b.run(job))
        await asyncio.sleep(1)
        before, started = endpoint.stats()["requests"], time.monotonic()
        await asyncio.sleep(WATCHED_S)
        sent, took = endpoint.stats()["requests"] - before, time.monotonic() - started
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert 0.2 * RPM / 60 * took <= sent <= 0.33 * RPM / 60 * took


TPM = 300_000
MEASURED_S = 240.0
SHARED = ("--dimensions", "8", "--provider", "sim", "--detach")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("priority", "least", "most"), [("normal", 0.65, 0.75), ("low", 0.9, 1.0)])
def test_a_reembedding_with_a_share_leaves_the_rest_to_a_live_embedding_and_all_is_used(
    join_fleet: JoinFleet,
    sqlite_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    priority: str,
    least: float,
    most: float,
) -> None:
    """One limit is that of a model; so the collection comes from another one. Prints what each has got."""
    fleet = join_fleet(sqlite_url)

    def typed(*words: str) -> dict[str, Any]:
        assert outcome(["--json", *words]) == 0, capsys.readouterr().err
        found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return found

    for folder in ("kept", "live"):
        (tmp_path / folder).mkdir()
        for number in range(600):
            words = " ".join(f"{folder} {number} {word}" for word in range(300))
            (tmp_path / folder / f"{number}.txt").write_text(words)
    fleet.scheduler()
    fleet.worker()
    typed("sync", "kb", "kept", "--model", "text-embedding-3-small", *SHARED)
    wait_until(lambda: fleet.ledger.collections.find("kb").version == 1, what="the collection")
    typed("limits", "set", "sim", "--tpm", str(TPM))
    terms = ("--max-share", "0.3", "--priority", priority)
    scheduled = typed("reembed", "kb", "--model", "text-embedding-3-large", *SHARED, *terms)["job"]
    live = typed("embed", "live", "--model", "text-embedding-3-large", *SHARED)["job"]
    jobs = [fleet.ledger.job(job) for job in (live, scheduled)]
    wait_until(lambda: fleet.ledger.spent(jobs[0].id).tokens > 0, what="the first pack of the live job")
    before, started = [fleet.ledger.spent(job.id).tokens for job in jobs], time.monotonic()
    time.sleep(MEASURED_S)
    took = time.monotonic() - started
    lives, others = (fleet.ledger.spent(job.id).tokens - n for job, n in zip(jobs, before, strict=True))
    share, used = lives / (lives + others), (lives + others) / (TPM / 60 * took)
    with capsys.disabled():
        print(f"\n{priority}: live {share:.1%}, re-embedding {1 - share:.1%}; {used:.1%} of the limit in {took:.0f} s")
    assert [fleet.state(job) for job in jobs] == ["running", "running"]
    assert least <= share <= most
    assert 0.9 <= used <= 1.1
