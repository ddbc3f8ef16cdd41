"""kill -9 and Ctrl-C in the middle of 2,000 items on one machine: nothing lost, no more than in flight paid twice."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.machinery import assert_down_leaves_nothing, fresh_home, kill, named
from tests.fixtures.shell import Done, Shell, until
from tests.fixtures.simulator import Simulator, StartSimulator

# Each test has a supervisor, a worker and a Valkey: one at a time.
pytestmark = [pytest.mark.xdist_group("embedded-faults"), pytest.mark.timeout(180)]

ITEMS = 2_000
# Every fiftieth text stands twice.
DISTINCT = ITEMS - ITEMS // 50
WINDOW = 100
MIDDLE = 600
COMPLETE = ("complete", "items.jsonl", "--prompt", "Say", "--model", "gpt-6-luna", "--out", "x.jsonl", "--json")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A HOME of the test's own with the corpus in the folder; leases are short, so that a takeover is soon."""
    with fresh_home(tmp_path, window=WINDOW, lease_s=4, grace_s=5, viewer_s=1) as shell:
        lines = [{"id": f"i{number}", "text": text(number)} for number in range(ITEMS)]
        shell.write("items.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        yield shell


def text(number: int) -> str:
    """The text of an item; every fiftieth repeats its predecessor's."""
    return f"Record {number - 1 if number % 50 == 49 else number} of the mill's ledger: so many sacks of flour."


@pytest.fixture
def endpoint(shell: Shell, simulator: StartSimulator) -> Simulator:
    """Where the calls go: about five hundred a second."""
    return shell.connect(simulator(latency_ms="150:0.3"))


def in_the_middle(endpoint: Simulator) -> None:
    """Wait until a good part is paid for, and much is in flight."""
    until(lambda: endpoint.stats()["paid_requests"] >= MIDDLE)


def assert_complete(shell: Shell, summary: dict[str, Any]) -> None:
    """Every item has exactly one result, in the summary and in the output."""
    assert (summary["state"], summary["succeeded"], summary["failed"], summary["open"]) == ("finished", ITEMS, 0, 0)
    recount = shell.ok("verify", "last")
    assert (recount["ok"], recount["items"], recount["succeeded"], recount["open"]) == (True, ITEMS, ITEMS, 0)
    lines = shell.lines("x.jsonl")
    assert [line["id"] for line in lines] == [f"i{number}" for number in range(ITEMS)]
    # The simulator's answers quote the request.
    assert all(text(number)[:20] in line["output"] for number, line in enumerate(lines))


def assert_paid_at_most_twice_what_was_in_flight(shell: Shell, endpoint: Simulator, twice: int) -> None:
    """The bill of the endpoint and that of the ledger, held against each other."""
    stats = endpoint.stats()
    paid_twice = stats["paid_inputs"] - DISTINCT
    assert 0 <= paid_twice <= twice
    assert paid_twice == stats["duplicates_paid"]
    assert stats["peak_in_flight"] <= WINDOW
    # No call is missing from the ledger: it brought a result, or nobody knows whether it was paid.
    bill = outcomes(shell)
    assert bill["paid"] == DISTINCT
    assert paid_twice <= bill.get("unknown", 0) <= twice
    assert shell.ok("show", "last")["requests_total"] == sum(bill.values())


def outcomes(shell: Shell) -> dict[str, int]:
    """The calls in the ledger by outcome, from the view for SQL."""
    with closing(sqlite3.connect(shell.home / "ledger.db")) as ledger:
        return dict(ledger.execute("SELECT outcome, count(*) FROM corpusmill_usage GROUP BY outcome").fetchall())


def assert_again_costs_nothing(shell: Shell, endpoint: Simulator, summary: dict[str, Any]) -> None:
    """The same command once more: the same numbers, no request."""
    before = endpoint.stats()["requests"]
    again = shell.run(*COMPLETE)
    assert again.code == 0, str(again)
    assert again.object == {**summary, "requests": 0}
    assert endpoint.stats()["requests"] == before


def finished(shell: Shell, done: Done) -> dict[str, Any]:
    """The summary of a command that has run to the job's end."""
    assert done.code == 0, f"{done}\n{(shell.home / 'supervisor.log').read_text()[-6000:]}"
    return done.object


@pytest.mark.parametrize(
    ("victims", "twice"),
    [(("worker",), WINDOW), (("valkey",), 0), (("supervisor",), WINDOW), (("scheduler", "guard"), 0)],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else "",
)
def test_the_running_command_outlives_the_kill_of(
    victims: tuple[str, ...], twice: int, shell: Shell, endpoint: Simulator
) -> None:
    command = shell.start(*COMPLETE)
    in_the_middle(endpoint)
    kill(shell.home, *victims)

    summary = finished(shell, shell.finish(command))

    assert_complete(shell, summary)
    assert_paid_at_most_twice_what_was_in_flight(shell, endpoint, twice)
    assert_again_costs_nothing(shell, endpoint, summary)
    assert_down_leaves_nothing(shell)


@pytest.mark.slow
def test_a_worker_that_grew_too_large_is_started_anew_and_nothing_is_lost_or_paid_twice(
    shell: Shell, endpoint: Simulator
) -> None:
    shell.environment |= {"CORPUSMILL_MAX_RSS_MB": "1", "CORPUSMILL_LEASE_S": "6"}  # it looks three times a lease
    command = shell.start(*COMPLETE)
    in_the_middle(endpoint)
    summary = finished(shell, shell.finish(command))
    before, left, after = (shell.home / "supervisor.log").read_text().partition('"name":"workers","code":75')
    assert "too much memory" in before
    assert left
    assert "shard ended" in after
    assert_complete(shell, summary)
    assert_paid_at_most_twice_what_was_in_flight(shell, endpoint, 0)
    assert_down_leaves_nothing(shell)


def test_a_killed_command_is_missed_and_its_job_paused_until_the_same_command_comes(
    shell: Shell, endpoint: Simulator
) -> None:
    shell.start(*COMPLETE)
    in_the_middle(endpoint)
    kill(shell.home, "command")

    until(lambda: shell.ok("show", "last")["state"] == "paused")
    until(lambda: endpoint.stats()["in_flight"] == 0)
    asked = endpoint.stats()["requests"]
    assert asked < DISTINCT, "it went on with nobody looking"

    summary = finished(shell, shell.run(*COMPLETE))
    assert summary["requests"] == DISTINCT - asked
    assert_complete(shell, summary)
    assert_paid_at_most_twice_what_was_in_flight(shell, endpoint, 0)
    assert_down_leaves_nothing(shell)


def test_after_a_kill_of_everything_at_once_the_same_command_completes_the_job(
    shell: Shell, endpoint: Simulator
) -> None:
    shell.start(*COMPLETE)
    in_the_middle(endpoint)
    kill(shell.home, "command", "supervisor", "worker", "scheduler", "guard", "valkey")

    summary = finished(shell, shell.run(*COMPLETE))

    assert_complete(shell, summary)
    assert_paid_at_most_twice_what_was_in_flight(shell, endpoint, WINDOW)
    assert_again_costs_nothing(shell, endpoint, summary)
    assert_down_leaves_nothing(shell)


def test_ctrl_c_in_the_middle_saves_what_is_in_flight_and_the_same_command_buys_the_rest(
    shell: Shell, endpoint: Simulator
) -> None:
    command = shell.start(*COMPLETE)
    in_the_middle(endpoint)

    stopped = shell.interrupt(command)

    assert (stopped.code, stopped.object["state"], stopped.object["reason"]) == (130, "paused", "user"), str(stopped)
    until(lambda: endpoint.stats()["in_flight"] == 0)
    asked = endpoint.stats()["requests"]
    assert not (shell.folder / "x.jsonl").exists()
    assert named(shell.home, "supervisor"), "it lingers for the next command"

    summary = finished(shell, shell.run(*COMPLETE))
    assert summary["requests"] == DISTINCT - asked
    assert_complete(shell, summary)
    assert_paid_at_most_twice_what_was_in_flight(shell, endpoint, 0)
    assert_down_leaves_nothing(shell)
