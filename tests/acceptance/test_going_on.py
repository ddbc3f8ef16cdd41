"""Stopping and going on: Ctrl-C, `--first`, `--budget`, `--detach`, retries, two shells."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.corpora import documents, prose
from tests.fixtures.shell import Shell, until
from tests.fixtures.simulator import Simulator, StartSimulator

# One call a second: a job of forty is not over before a test is done with it.
SLOW = {"CORPUSMILL_LIMITS__RPM": "60"}
ASK = ("complete", "docs", "--prompt", "Say", "--model", "gpt-6-luna")


def notes(shell: Shell, count: int) -> None:
    """Make a folder `docs` of so many small texts, one chunk each."""
    for number in range(count):
        shell.write(f"docs/n{number:03}.md", prose(number, 20))


def started(endpoint: Simulator, requests: int = 1) -> None:
    """Wait until the endpoint has seen so many requests."""
    until(lambda: endpoint.stats()["requests"] >= requests)


def test_ctrl_c_pauses_says_how_to_go_on_and_loses_nothing(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator())
    notes(shell, 30)

    # Five a second: the job is in its middle when it is stopped.
    process = shell.start(*ASK, "--out", "x.jsonl", env={"CORPUSMILL_LIMITS__RPM": "300"})
    started(endpoint, 4)
    stopped = shell.interrupt(process)

    assert stopped.code == 130, str(stopped)
    job = shell.ok("show", "last")
    assert (job["state"], job["reason"]) == ("paused", "user")
    assert f"corpusmill resume {job['job']}" in stopped.err
    assert not (shell.folder / "x.jsonl").exists()

    resumed = shell.ok("resume", job["job"])
    assert (resumed["state"], resumed["succeeded"]) == ("finished", 30)
    assert len(shell.lines("x.jsonl")) == 30
    assert endpoint.stats()["paid_inputs"] == 30
    assert endpoint.stats()["duplicates_paid"] == 0


def test_ctrl_c_with_json_still_ends_with_the_summary(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator())
    notes(shell, 40)
    process = shell.start(*ASK, "--json", env=SLOW)
    started(endpoint)
    stopped = shell.interrupt(process)
    assert (stopped.code, stopped.object["state"]) == (130, "paused")


def test_first_runs_so_many_and_the_full_run_goes_on_from_there(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator())
    notes(shell, 12)

    first = shell.ok(*ASK, "--first", 5, "--out", "x.jsonl")
    assert (first["state"], first["reason"], first["succeeded"], first["open"]) == ("paused", "first", 5, 7)
    assert [line["source"] for line in shell.lines("x.jsonl")] == [f"n{number:03}.md" for number in range(5)]

    same = shell.ok(*ASK, "--first", 5, "--out", "x.jsonl")
    assert (same["requests"], same["succeeded"]) == (0, 5)

    more = shell.ok(*ASK, "--first", 7, "--out", "x.jsonl")
    assert (more["job"], more["requests"], more["succeeded"]) == (first["job"], 2, 7)

    full = shell.ok(*ASK, "--out", "x.jsonl")
    assert (full["job"], full["state"], full["requests"], full["succeeded"]) == (first["job"], "finished", 5, 12)
    assert len(shell.lines("x.jsonl")) == 12
    assert endpoint.stats()["paid_inputs"] == 12


def test_a_plan_after_a_first_run_reckons_with_its_mean(shell: Shell, simulator: StartSimulator) -> None:
    shell.connect(simulator())
    notes(shell, 12)
    before = shell.ok("plan", *ASK)
    assert "assumed" in before["assumption"]
    shell.ok(*ASK, "--first", 3)
    plan = shell.ok("plan", *ASK)
    assert "mean of the job's answers" in plan["assumption"]
    assert plan["items"] == 12


def test_a_plan_is_kept_by_the_run(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator())
    documents(shell)
    ask = ("embed", "docs", "--model", "text-embedding-3-small")
    plan = shell.ok("plan", *ask)
    assert endpoint.stats()["requests"] == 0
    summary = shell.ok(*ask)
    assert plan["items"] == summary["items"]
    assert plan["rows"][0]["requests"] == summary["requests"]


def test_a_budget_holds_and_the_job_goes_on_with_a_higher_one(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator(latency_ms="50"))
    notes(shell, 30)
    ask = (*ASK, "--max-completion-tokens", 16)

    short = shell.run(*ask, "--budget", "0.0001", "--json")
    assert short.code == 5, str(short)
    assert (short.object["state"], short.object["reason"]) == ("paused", "budget")
    assert 0 < short.object["succeeded"] < 30
    # An answer may cost a little more than was set aside for it: the estimate of its prompt is one.
    assert short.object["usd"] <= 0.0001 * 1.2
    assert "--budget MORE" in short.err

    full = shell.ok(*ask, "--budget", "1")
    assert (full["job"], full["state"], full["succeeded"]) == (short.object["job"], "finished", 30)
    assert endpoint.stats()["paid_inputs"] == 30


def test_a_budget_for_an_unpriced_model_is_refused(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator())
    notes(shell, 1)
    done = shell.run("complete", "docs", "--prompt", "Say", "--model", "nobody-prices-this", "--budget", 1)
    assert done.code == 2
    assert "no known price" in done.err
    assert endpoint.stats()["requests"] == 0
    free = shell.ok("complete", "docs", "--prompt", "Say", "--model", "nobody-prices-this")
    assert free["usd"] is None
    assert shell.run("resume", free["job"], "--budget", 1).code == 2


def test_a_detached_job_goes_on_and_watch_writes_its_output(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator(latency_ms="300"))
    notes(shell, 10)

    done = shell.run(*ASK, "--out", "x.jsonl", "--detach")
    assert done.code == 0, str(done)
    assert "x.jsonl" in done.out
    assert "corpusmill watch" in done.out
    started(endpoint)
    assert not (shell.folder / "x.jsonl").exists()

    watched = shell.ok("watch", "last")
    assert (watched["state"], watched["succeeded"]) == ("finished", 10)
    assert len(shell.lines("x.jsonl")) == 10
    assert shell.ok("show", "last")["out"] == str(shell.folder / "x.jsonl")


def test_ctrl_c_leaves_a_detached_job_running(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator())
    notes(shell, 40)
    job = shell.ok(*ASK, "--detach", env=SLOW)["job"]
    watching = shell.start("watch", job, env=SLOW)
    shell.wait_for(watching, job)
    left = shell.interrupt(watching)
    assert left.code == 130, str(left)
    assert "goes on" in left.err
    started(endpoint, endpoint.stats()["requests"] + 2)
    assert shell.ok("cancel", job)["state"] == "cancelled"


def test_failed_items_are_listed_and_tried_again_on_demand(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator(fault=["content_policy@text:forbidden"]))
    notes(shell, 4)
    shell.write("docs/bad.md", "a forbidden word")

    done = shell.run(*ASK, "--out", "x.jsonl", "--json")
    assert done.code == 3, str(done)
    assert (done.object["succeeded"], done.object["failed"], done.object["open"]) == (4, 1, 0)
    failures = shell.ok("failures", "last")
    assert [failure["source"] for failure in failures["failures"]] == ["bad.md"]
    assert "forbidden" not in json.dumps(failures), "no text of a document in an error"
    assert shell.run("failures", "last").out.startswith("bad.md")

    again = shell.run(*ASK, "--out", "x.jsonl", "--json")
    assert (again.code, again.object["requests"]) == (3, 0)

    assert shell.ok("failures", "last", "--class", "content_policy")["failures"] == failures["failures"]
    assert shell.ok("failures", "last", "--class", "timeout")["failures"] == []
    other = shell.run("retry", "last", "--class", "timeout", "--json")
    assert (other.code, other.object["failed"], other.object["requests"]) == (3, 1, 0), (
        "nothing to try, nothing started"
    )
    retried = shell.run("retry", "last", "--class", "content_policy", "--json")
    assert (retried.code, retried.object["failed"], retried.object["requests"]) == (3, 1, 1)

    endpoint.set_faults()
    assert shell.ok("retry", "last")["failed"] == 0
    assert shell.ok("verify", "last")["ok"]


def test_the_command_itself_tries_failed_items_again_when_told_to(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator(fault=["content_policy@text:forbidden"]))
    notes(shell, 4)
    shell.write("docs/bad.md", "a forbidden word")
    assert shell.run(*ASK, "--out", "x.jsonl", "--json").code == 3
    endpoint.set_faults()
    retried = shell.ok(*ASK, "--out", "x.jsonl", "--retry-failed")
    assert (retried["succeeded"], retried["failed"], retried["requests"]) == (5, 0, 1)
    assert len(shell.lines("x.jsonl")) == 5


@pytest.mark.fault(27)
def test_two_shells_with_one_command_are_two_viewers_of_one_job(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator(latency_ms="300"))
    documents(shell)
    processes = [shell.start(*ASK, "--out", "x.jsonl", "--json") for _ in range(2)]
    first, second = (shell.finish(process) for process in processes)
    assert (first.code, second.code) == (0, 0), f"{first}\n{second}"
    assert first.object["job"] == second.object["job"]
    assert first.object["succeeded"] == second.object["succeeded"] == len(shell.lines("x.jsonl"))
    assert endpoint.stats()["duplicates_paid"] == 0
    assert shell.ok(*ASK, "--out", "x.jsonl")["requests"] == 0


def test_ctrl_c_in_one_of_two_shells_does_not_pause_the_other(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator())
    notes(shell, 40)
    staying = shell.start(*ASK, "--json", "--name", "shared", env=SLOW)
    started(endpoint)
    leaving = shell.start(*ASK, env=SLOW)
    shell.wait_for(leaving, "j_")
    left = shell.interrupt(leaving)
    assert left.code == 130, str(left)
    assert "goes on" in left.err
    started(endpoint, endpoint.stats()["requests"] + 2)
    shell.ok("cancel", "shared")
    assert shell.finish(staying).object["state"] == "cancelled"


def test_pause_resume_and_cancel_from_another_shell(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator())
    notes(shell, 60)
    process = shell.start(*ASK, "--name", "steered", "--json", env=SLOW)
    started(endpoint)
    assert shell.ok("pause", "steered")["reason"] == "user"
    assert shell.finish(process).code == 4

    process = shell.start("resume", "steered", "--json", env=SLOW)
    until(lambda: shell.ok("show", "steered")["state"] == "running")
    assert shell.ok("cancel", "steered")["state"] == "cancelled"
    assert shell.finish(process).code == 4

    full = shell.ok(*ASK, env={"CORPUSMILL_LIMITS__RPM": "0"})
    assert (full["state"], full["succeeded"]) == ("finished", 60)
    assert endpoint.stats()["duplicates_paid"] == 0
