"""Several keys or deployments for one model: each its own limits, work where it is free, nothing lost by a failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from pydantic import SecretStr

from corpusmill.settings import Limits, Provider
from tests.fixtures.bench import StartBench
from tests.fixtures.fleet import chunks, completions
from tests.fixtures.simulator import Simulator, StartSimulator
from workers import lane as lanes


def texts(count: int) -> list[str]:
    return [f"chunk number {number}" for number in range(count)]


def pool(*members: Simulator, rpm: tuple[int, ...] = ()) -> dict[str, Provider]:
    """Providers m0, m1, … and the pool `all` of them."""
    providers = {
        f"m{number}": Provider(
            base_url=each.base_url,
            api_key=SecretStr(f"sk-key-{number}"),
            limits=Limits(rpm=rpm[number] if rpm else 0, tpm=0),
        )
        for number, each in enumerate(members)
    }
    return {**providers, "all": Provider(members=tuple(providers))}


async def until(happened: Callable[[], bool], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_three_members_of_different_limits_are_all_used_to_their_limits(
    bench: StartBench, simulator: StartSimulator
) -> None:
    rates = (6000, 1500, 300)
    members = [simulator(rpm=rpm, depth_s=1, latency_ms="80:0.4") for rpm in rates]
    async with bench(members[0].base_url, providers=pool(*members, rpm=rates)) as b:
        spec = completions("pool:all")
        job = b.submit(spec, chunks(spec, texts(1100)))
        task = asyncio.create_task(b.run(job))
        await until(lambda: sum(each.stats()["requests"] for each in members) > 150)
        before, started = [each.stats()["requests"] for each in members], time.monotonic()
        await asyncio.sleep(4)
        took = time.monotonic() - started
        sent = [each.stats()["requests"] - one for each, one in zip(members, before, strict=True)]
        await task
        assert b.counts(job).succeeded == 1100
    assert sum(sent) >= 0.95 * sum(rates) / 60 * took, (sent, took)
    for count, rpm in zip(sent, rates, strict=True):
        assert count >= 0.9 * rpm / 60 * took - 2, (sent, took)
    assert sum(each.stats()["answered_429"] for each in members) == 0
    assert sum(each.stats()["paid_requests"] for each in members) == 1100


@pytest.mark.fault(20)
async def test_a_key_revoked_in_the_middle_is_left_out_and_nothing_is_lost(
    bench: StartBench, simulator: StartSimulator
) -> None:
    members = [simulator(latency_ms=30) for _ in range(3)]
    async with bench(members[0].base_url, window=30, providers=pool(*members)) as b:
        spec = completions("pool:all")
        job = b.submit(spec, chunks(spec, texts(600)))
        task = asyncio.create_task(b.run(job))
        await until(lambda: members[1].stats()["paid_requests"] > 20)
        members[1].set_faults("invalid_key=1")
        await task
        assert b.state(job) == "finished"
        assert b.counts(job).succeeded == 600
    stats = [each.stats() for each in members]
    assert sum(each["paid_requests"] for each in stats) == 600
    assert stats[1]["faults"]["invalid_key"] <= 30
    assert all(each["duplicates_paid"] == 0 for each in stats)


@pytest.mark.parametrize("fault", ["invalid_key=1", "insufficient_quota=1"])
async def test_a_member_that_was_out_comes_back_after_one_call_that_tries_it(
    bench: StartBench, simulator: StartSimulator, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(lanes, "REST_S", 0.4)
    good, out = simulator(latency_ms=40), simulator(latency_ms=40, fault=fault)
    async with bench(good.base_url, window=8, providers=pool(good, out)) as b:
        spec = completions("pool:all")
        job = b.submit(spec, chunks(spec, texts(1000)))
        task = asyncio.create_task(b.run(job))
        await until(lambda: sum(out.stats()["faults"].values()) >= 10)
        tried = sum(out.stats()["faults"].values())
        await asyncio.sleep(1)
        # About one call every 0.4 s, and no more.
        assert sum(out.stats()["faults"].values()) - tried <= 5
        out.set_faults()
        await task
        assert b.counts(job).succeeded == 1000
    assert out.stats()["paid_requests"] > 10


async def test_a_dead_member_is_left_out_and_the_others_do_all(bench: StartBench, simulator: StartSimulator) -> None:
    good, dead = simulator(latency_ms=10), simulator()
    dead.kill()
    async with bench(good.base_url, providers=pool(good, dead)) as b:
        spec = completions("pool:all")
        job = b.submit(spec, chunks(spec, texts(200)))
        await b.run(job)
        assert b.counts(job).succeeded == 200
    assert good.stats()["paid_requests"] == 200


async def test_a_member_whose_day_is_used_up_parks_nothing_while_another_has_some_left(
    bench: StartBench, simulator: StartSimulator
) -> None:
    spent, free = simulator(rpd=20, latency_ms=10), simulator(latency_ms=10)
    async with bench(free.base_url, window=10, providers=pool(spent, free, rpm=(6000, 6000))) as b:
        spec = completions("pool:all")
        job = b.submit(spec, chunks(spec, texts(300)))
        reports = await b.run(job)
        assert {report.outcome for report in reports} == {"done"}
        assert b.counts(job).succeeded == 300
    assert (spent.stats()["paid_requests"], free.stats()["paid_requests"]) == (20, 280)
