"""The bill: what `usage` sums is what the jobs say, unpriced is not free, and a price can come later."""

from __future__ import annotations

import subprocess

import pytest

from tests.acceptance.corpora import prose
from tests.fixtures.shell import COMMAND, PATIENCE_S, Shell
from tests.fixtures.simulator import StartSimulator

PRICES = '[models."house-model"]\ninput = 1.0\noutput = 2.0\n'


def test_usage_sums_what_the_jobs_say_and_reprices_what_was_unpriced(shell: Shell, simulator: StartSimulator) -> None:
    shell.connect(simulator())
    for number in range(3):
        shell.write(f"docs/{number}.md", prose(number, 30))
    priced = shell.ok("complete", "docs", "--prompt", "Say", "--model", "gpt-6-luna", "--label", "team=a")
    unpriced = shell.ok("complete", "docs", "--prompt", "Say", "--model", "house-model", "--label", "team=b")
    assert (unpriced["usd"], unpriced["unknown_usd"]) == (None, None)

    by_job = {group["group"]: group for group in shell.ok("usage")["groups"]}
    assert by_job[priced["job"]]["usd"] == pytest.approx(priced["usd"], abs=1e-12)
    assert by_job[priced["job"]]["prompt_tokens"] == priced["prompt_tokens"]
    assert by_job[unpriced["job"]]["usd"] is None
    assert "unpriced" in shell.run("usage").out

    shell.write("prices.toml", PRICES)
    after = shell.ok("usage", "--reprice", "--by", "label:team", env={"CORPUSMILL_PRICES": "prices.toml"})
    expected = (unpriced["prompt_tokens"] * 1.0 + unpriced["completion_tokens"] * 2.0) / 1e6
    (group,) = [group for group in after["groups"] if group["group"] == "b"]
    assert after["repriced"] == 3
    assert group["usd"] == pytest.approx(expected, abs=1e-12)
    assert shell.ok("show", unpriced["job"])["usd"] == pytest.approx(expected, abs=1e-12)


def test_flags_before_the_command_and_quiet_and_a_reader_that_leaves(shell: Shell, simulator: StartSimulator) -> None:
    shell.connect(simulator())
    shell.write("docs/a.md", "Words.")
    ask = ("complete", "docs", "--prompt", "Say", "--model", "gpt-6-luna")
    before = shell.run("--json", "--no-progress", *ask)
    assert (before.code, before.object["state"]) == (0, "finished"), str(before)
    quiet = shell.run(*ask, "-q", "--out", "x.jsonl")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    piped = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {COMMAND} jobs | true; exit ${{PIPESTATUS[0]}}"],
        env=shell.variables(), cwd=shell.folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert piped.stderr == ""
    assert piped.returncode in (0, 141)


def test_an_output_inside_the_source_folder_does_not_make_another_job(shell: Shell, simulator: StartSimulator) -> None:
    shell.connect(simulator())
    shell.write("a.md", "Words.")
    ask = ("embed", ".", "--model", "text-embedding-3-small", "--out", "v.npy")
    first = shell.ok(*ask)
    again = shell.ok(*ask)
    assert (again["job"], again["requests"]) == (first["job"], 0)
    shell.write("records.jsonl", '{"text": "x"}\n')
    done = shell.run(
        "complete", "records.jsonl", "--prompt", "Say", "--model", "m", "--out", "records.jsonl", "--force"
    )
    assert done.code == 2
    assert "is a source of this job" in done.err
