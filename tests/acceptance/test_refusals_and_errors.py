"""What cannot work is refused in words, before anything is spent; what breaks says what to type next."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.corpora import documents
from tests.acceptance.machinery import fresh_home
from tests.fixtures.shell import CANARY_KEY, Done, Shell
from tests.fixtures.simulator import StartSimulator

ASK = ("complete", "docs", "--prompt", "Say", "--model", "gpt-6-luna")


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Shell]:
    """A HOME of the test's own, where no job of another test waits for its endpoint."""
    with fresh_home(tmp_path, grace_s=1) as shell:
        yield shell


def told(done: Done, code: int, *words: str) -> None:
    """Three lines at most, the right code, no traceback, and the words that matter."""
    assert done.code == code, str(done)
    assert "Traceback" not in done.err
    assert all(word in done.err for word in words), str(done)
    assert CANARY_KEY not in done.out + done.err


def test_without_a_key_it_says_how_to_set_one_and_names_the_demo(shell: Shell) -> None:
    shell.write("docs/a.md", "Words.")
    told(shell.run(*ASK), 2, "no API key is set", "OPENAI_API_KEY", "corpusmill demo")


def test_an_output_of_somebody_else_is_refused_before_spending(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator())
    shell.write("docs/a.md", "Words.")
    other = shell.write("x.jsonl", "precious\n")

    told(shell.run(*ASK, "--out", "x.jsonl"), 2, "x.jsonl", "--force")
    assert other.read_text() == "precious\n"
    assert endpoint.stats()["requests"] == 0

    shell.ok(*ASK, "--out", "x.jsonl", "--force")
    assert shell.lines("x.jsonl")[0]["source"] == "a.md"
    shell.ok(*ASK, "--out", "x.jsonl")
    shell.write("x.jsonl", "edited\n")
    told(shell.run(*ASK, "--out", "x.jsonl"), 2, "--force")
    assert endpoint.stats()["paid_requests"] == 1


def test_the_index_beside_an_array_is_nobody_elses_either(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator())
    shell.write("docs/a.md", "Words.")
    shell.write("v.jsonl", "precious\n")
    told(shell.run("embed", "docs", "--model", "m", "--out", "v.npy"), 2, "v.jsonl", "--force")
    assert endpoint.stats()["requests"] == 0


@pytest.mark.parametrize("out", ["x.csv", "x", "no/such/folder/x.jsonl", "docs"])
def test_an_output_that_cannot_be_is_refused_before_spending(shell: Shell, simulator: StartSimulator, out: str) -> None:
    endpoint = shell.connect(simulator())
    shell.write("docs/a.md", "Words.")
    told(shell.run(*ASK, "--out", out), 2, out)
    assert endpoint.stats()["requests"] == 0


@pytest.mark.parametrize("name", ["last", "j_7fk2qa"])
def test_names_that_mean_something_else_are_refused(shell: Shell, name: str) -> None:
    shell.write("docs/a.md", "Words.")
    told(shell.run(*ASK, "--name", name, env={"OPENAI_API_KEY": "k"}), 2, name)


def test_sources_that_cannot_be_read_are_named(shell: Shell) -> None:
    shell.environment["OPENAI_API_KEY"] = CANARY_KEY
    (shell.folder / "empty").mkdir()
    shell.write("paper.pdf", b"%PDF-1.7 ...")
    shell.write("broken.jsonl", '{"text": "fine"}\n{"text": \n')
    shell.write("twice.jsonl", '{"id": "a", "text": "x"}\n{"id": "b", "text": "y"}\n{"id": "a", "text": "z"}\n')
    embed = ("embed", "--model", "m")
    told(shell.run(*embed, "nowhere"), 2, "nowhere")
    told(shell.run(*embed, "empty"), 2, "empty")
    told(shell.run(*embed, "paper.pdf"), 2, "paper.pdf", "markitdown")
    told(shell.run(*embed, "broken.jsonl"), 2, "broken.jsonl:2")
    told(shell.run(*embed, "twice.jsonl"), 2, "twice.jsonl:1", "twice.jsonl:3")
    assert shell.ok("jobs", env={"CORPUSMILL_HOME": str(shell.folder / "own")}) == {"jobs": []}


def test_a_wrong_key_stops_at_once_and_a_corrected_one_goes_on(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator(key="sk-right"), key=CANARY_KEY)
    documents(shell)
    refused = shell.run(*ASK, "--json")
    told(refused, 77, "key")
    assert (refused.object["state"], refused.object["reason"]) == ("paused", "key")
    assert endpoint.stats()["requests"] <= refused.object["items"], "nothing was retried"

    shell.connect(endpoint, key="sk-right")
    full = shell.ok(*ASK)
    assert (full["job"], full["state"], full["failed"]) == (refused.object["job"], "finished", 0)


def test_an_endpoint_that_is_down_exits_69_and_uses_up_no_attempt(shell: Shell, simulator: StartSimulator) -> None:
    for number in range(12):
        shell.write(f"docs/{number}.md", f"Words {number}.")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1", "OPENAI_API_KEY": CANARY_KEY}
    done = shell.run(*ASK, "--json", env=environment)
    told(done, 69, f"127.0.0.1:{port}", "corpusmill resume")
    assert (done.object["state"], done.object["reason"]) == ("paused", "endpoint")
    assert (done.object["failed"], done.object["open"]) == (0, 12)

    simulator(port=port)
    assert shell.ok(*ASK, env=environment)["succeeded"] == 12


def test_a_model_that_does_not_exist_stops_the_job(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator(models="gpt-6-luna"))
    documents(shell)
    done = shell.run("complete", "docs", "--prompt", "Say", "--model", "gpt-9", "--json")
    told(done, 2, "every item fails alike")
    assert done.object["state"] == "stopped"
    assert endpoint.stats()["paid_requests"] == 0
    assert shell.ok("show", "last")["failed"] == 0


def test_spent_credit_pauses_and_is_not_retried(alone: Shell, simulator: StartSimulator) -> None:
    shell = alone
    endpoint = shell.connect(simulator(fault=["credit_balance_exhausted@1-"]))
    documents(shell)
    done = shell.run(*ASK, "--json", env={"CORPUSMILL_WINDOW": "4"})
    told(done, 5, "corpusmill resume")
    assert (done.object["state"], done.object["reason"]) == ("paused", "billing")
    job = done.object["job"]
    assert "paused (billing)" in shell.run("jobs").out
    assert "billing" in shell.run("show", job).out
    assert "corpusmill resume --provider openai" in shell.run("doctor", "--only", "lanes").out
    assert shell.ok("verify", job)["ok"]
    endpoint.set_faults()
    assert job in shell.ok("resume", "--provider", "openai")["resumed"]
    assert shell.ok("watch", job)["state"] == "finished"
    assert shell.ok("resume", "--provider", "openai")["resumed"] == []
    assert shell.ok("doctor", "--only", "lanes")["checks"][0]["state"] == "ok"


def test_resume_wants_a_job_or_a_provider_that_is_known(shell: Shell) -> None:
    told(shell.run("resume"), 2, "--provider")
    told(shell.run("resume", "last", "--provider", "openai"), 2, "--provider")
    told(shell.run("resume", "--provider", "opennai"), 2, "there is no provider opennai")


def test_only_one_of_broker_and_database_is_refused_by_every_command(shell: Shell) -> None:
    only = {"CORPUSMILL_BROKER_URL": "redis://127.0.0.1:1/0"}
    for arguments in (("jobs",), ("show", "last"), ASK, ("usage",)):
        told(shell.run(*arguments, env=only), 2, "CORPUSMILL_DATABASE_URL")


def test_a_database_that_is_away_is_told_without_its_password(shell: Shell) -> None:
    away = {
        "CORPUSMILL_BROKER_URL": "redis://:secret@127.0.0.1:1/0",
        "CORPUSMILL_DATABASE_URL": "postgresql://me:secret@127.0.0.1:1/mill",
    }
    done = shell.run("jobs", env=away)
    told(done, 69, "127.0.0.1")
    assert "secret" not in done.out + done.err


def test_a_broker_that_is_away_is_told_even_while_no_worker_runs(shell: Shell) -> None:
    shell.write("docs/a.md", "Words.")
    away = {
        "CORPUSMILL_BROKER_URL": "redis://:secret@127.0.0.1:1/0",
        "CORPUSMILL_DATABASE_URL": f"sqlite:///{shell.folder}/fleet.db",
        "OPENAI_API_KEY": CANARY_KEY,
    }
    done = shell.run(*ASK, env=away)
    told(done, 69, "broker", "127.0.0.1")
    assert "secret" not in done.out + done.err


def test_unknown_jobs_are_answered_with_near_ones(shell: Shell, simulator: StartSimulator) -> None:
    shell.connect(simulator())
    shell.write("docs/a.md", "Words.")
    shell.ok(*ASK, "--name", "harvest")
    told(shell.run("show", "harvset"), 2, "harvest")
    assert shell.ok("show", "harvest")["state"] == "finished"


def test_nothing_of_the_key_lies_on_disk(shell: Shell, simulator: StartSimulator) -> None:
    shell.connect(simulator())
    shell.write("docs/a.md", "Words.")
    shell.ok(*ASK)
    holders = [path for path in shell.home.rglob("*") if path.is_file() and _holds(path, CANARY_KEY)]
    assert holders == []


def _holds(path: Path, words: str) -> bool:
    return words.encode() in path.read_bytes()
