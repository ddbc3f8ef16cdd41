"""`corpusmill limits`: what holds, and setting it while workers run."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from corpusmill.cli.main import outcome
from corpusmill.ledger.records import LimitRule
from corpusmill.mill import Mill
from tests.fixtures.bench import Bench, StartBench
from tests.fixtures.fleet import KEY, StartFleet, wait_until
from tests.fixtures.simulator import StartSimulator


def texts(count: int) -> list[str]:
    return [f"chunk number {number}" for number in range(count)]


async def rpm_within(b: Bench, rpm: int, within_s: float = 2.0) -> None:
    """The one gate of the bench keeps to `rpm` in time."""
    (route,) = b.runtime.runner.routes.streams()
    deadline = time.monotonic() + within_s
    while True:
        rates = [door.gate.rates for member in route.lane.members for door in member.doors.values()]
        if [rate and rate.rpm for rate in rates] == [rpm]:
            return
        assert time.monotonic() < deadline, rates
        await asyncio.sleep(0.02)


async def test_a_limit_set_while_work_runs_outranks_the_settings_and_is_followed_within_two_seconds(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator(latency_ms=20)
    async with bench(endpoint.base_url, limits={"rpm": 3000, "tpm": 0}) as b:
        job = b.complete(texts(300))
        task = asyncio.create_task(b.run(job))
        await asyncio.sleep(1)
        with Mill(b.settings) as mill:
            await asyncio.to_thread(mill.set_limits, "sim", rpm=600)
            await rpm_within(b, 600)
            before, started = endpoint.stats()["requests"], time.monotonic()
            await asyncio.sleep(2)
            sent, took = endpoint.stats()["requests"] - before, time.monotonic() - started
            assert 0.7 * 10 * took <= sent <= 10 * took + 11
            await asyncio.to_thread(mill.set_limits, "sim", "gpt-6-luna", rpm=60_000)
            await rpm_within(b, 60_000)
            await task
            assert b.counts(job).succeeded == 300
            await asyncio.to_thread(mill.unset_limits, "sim", "gpt-6-luna")
            await rpm_within(b, 600)
            await asyncio.to_thread(mill.unset_limits, "sim")
            await rpm_within(b, 3000)


async def test_what_the_endpoint_tells_lowers_a_limit_that_was_set_and_never_raises_it(
    bench: StartBench, simulator: StartSimulator
) -> None:
    endpoint = simulator(rpm=1200, latency_ms=10, depth_s=1)
    async with bench(endpoint.base_url, limits={"rpm": 600, "tpm": 0}) as b:
        job = b.complete(texts(20))
        await b.run(job)
        await rpm_within(b, 600)
        with Mill(b.settings) as mill:
            await asyncio.to_thread(mill.set_limits, "sim", rpm=9000)
            await rpm_within(b, 1200)
            (row,) = await asyncio.to_thread(mill.limits)
            assert row.standing is not None
            assert (row.limits.rpm, row.standing.told_rpm, row.standing.rpm) == (9000, 1200, 1200)
            assert row.rule is not None


def test_rules_are_versions_of_which_the_newest_holds(
    start_fleet: StartFleet, simulator: StartSimulator, sqlite_url: str
) -> None:
    ledger = start_fleet(simulator(), sqlite_url).ledger
    first = ledger.set_limit_rule(LimitRule("sim", rpm=100, tpm=5000))
    second = ledger.set_limit_rule(LimitRule("sim", rpm=200))
    assert second.version > first.version
    assert ledger.limits_version() == second.version
    assert [(rule.rpm, rule.tpm) for rule in ledger.limit_rules()] == [(200, 5000)]
    assert ledger.unset_limit_rule("sim", "")
    assert not ledger.unset_limit_rule("sim", "")
    assert ledger.limit_rules() == []
    assert ledger.limits_version() > second.version


def both_draw(mill: Mill) -> bool:
    (row,) = mill.limits()
    assert row.standing is not None
    return (row.standing.rpm, row.standing.processes) == (300, 2) and row.standing.used > 0.5


@pytest.mark.timeout(150)
def test_two_workers_of_a_fleet_follow_a_limit_within_two_seconds(
    start_fleet: StartFleet, simulator: StartSimulator, sqlite_url: str
) -> None:
    endpoint = simulator(latency_ms=20)
    fleet = start_fleet(endpoint, sqlite_url, limits={"rpm": 3000, "tpm": 0})
    fleet.scheduler()
    fleet.worker()
    fleet.worker()
    job = fleet.complete(texts(700), shard_size=20)  # more shards than one worker takes
    deadline = time.monotonic() + 20
    while endpoint.stats()["paid_requests"] < 60:
        assert time.monotonic() < deadline, fleet.log()
        time.sleep(0.05)
    with Mill(fleet.settings) as mill:
        mill.set_limits("sim", rpm=300)
        time.sleep(2)
        before, started = endpoint.stats()["requests"], time.monotonic()
        time.sleep(2)
        sent, took = endpoint.stats()["requests"] - before, time.monotonic() - started
        assert sent <= 5 * took + 6
        # The second worker may have been given its first shard a moment ago.
        wait_until(lambda: both_draw(mill), what="a bucket that both workers draw from")
        mill.set_limits("sim", rpm=0)
        assert fleet.wait(job).succeeded == 700


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CORPUSMILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("CORPUSMILL_PROVIDERS__A__BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("CORPUSMILL_PROVIDERS__BOTH__MEMBERS", "openai,a")
    return tmp_path


@pytest.mark.usefixtures("shell")
def test_the_command_sets_lists_and_unsets_and_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> tuple[int, str]:
        code = outcome(["limits", *arguments])
        told = capsys.readouterr()
        return code, told.out + told.err

    assert said("set", "openai/meta/llama", "--rpm", "100", "--burst-s", "2")[0] == 0
    assert said("set", "a", "--tpm", "0", "--rpd", "5")[0] == 0
    code, listed = said()
    assert code == 0
    assert "meta/llama" in listed
    assert "limits set (version 1)" in listed
    rows = json.loads(said("--json")[1])["limits"]
    assert {(row["provider"], row["model"]): row["set"] for row in rows} == {
        ("openai", "meta/llama"): {"rpm": 100, "burst_s": 2.0},
        ("a", ""): {"tpm": 0, "rpd": 5, "burst_s": 1.0},
    }
    assert said("unset", "openai/meta/llama")[0] == 0
    for wrong, words in {
        ("set", "openai"): "no limit is given",
        ("set", "both", "--rpm", "1"): "is a pool",
        ("set", "nobody", "--rpm", "1"): "there is no provider nobody",
        ("set", "openai", "--rpm", "-1"): "--rpm",
        ("unset", "openai"): "no limit was set",
        ("unset", "/x"): "names no provider",
    }.items():
        code, told = said(*wrong)
        assert code == 2, wrong
        assert words in told
        assert KEY not in told


def test_a_plan_counts_what_was_set_for_a_minute_and_for_a_day(shell: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        json.dumps(
            {
                "custom_id": str(n),
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "hi"}]},
            }
        )
        for n in range(250)
    ]
    (shell / "r.jsonl").write_text("\n".join(lines))

    def hours() -> float:
        assert outcome(["plan", "run", "r.jsonl", "--provider", "openai", "--json"]) == 0
        found: float = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"][0]["hours"]
        return found

    assert outcome(["limits", "set", "openai", "--rpm", "50", "--tpm", "0"]) == 0
    capsys.readouterr()
    assert hours() == pytest.approx(250 / 50 / 60, rel=0.01)
    assert outcome(["limits", "set", "openai/gpt-6-luna", "--rpd", "100"]) == 0
    capsys.readouterr()
    assert hours() == 48
