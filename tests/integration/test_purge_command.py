"""`corpusmill purge` and `cache` as they are typed, on a ledger in HOME where nothing runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corpusmill.cli.main import outcome
from corpusmill.ledger import Ledger
from corpusmill.ledger.collection_records import Writing
from corpusmill.ledger.records import Batch
from tests.fixtures import jobs
from tests.integration.test_ledger_collections import begun, completed
from tests.integration.test_ledger_purging import Killed, killed_at, synced


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CORPUSMILL_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def typed(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Type a command: its exit code and what it printed."""

    def type_(*arguments: str) -> tuple[int, str, str]:
        code = outcome(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return type_


def test_a_purge_is_counted_first_asks_proves_itself_and_keeps_the_bill_if_told(
    home: Path, typed: Callable[..., Any]
) -> None:
    with Ledger.open(f"sqlite:///{home / 'ledger.db'}") as ledger:
        job = jobs.submit(ledger, "abcd")
        jobs.work_off(ledger, job)
        open_ = jobs.submit(ledger, "x")
        ledger.commit(Batch(answers=[jobs.reply(jobs.key("y"))]), worker_id="w", lease_s=1)
    usage = typed("usage", "--json")

    code, told, _ = typed("purge", job.public_id, "--keep-usage", "--dry-run")
    assert (code, told) == (0, "would go: 1 job, 4 results, 4 items, 4 chunks, 4 documents, 4 answers\n")
    code, _, err = typed("purge", job.public_id, "--keep-usage")
    assert (code, "add --yes" in err) == (2, True)
    code, _, err = typed("purge", open_.public_id, "--yes")
    assert (code, f"corpusmill cancel {open_.public_id}" in err) == (2, True)
    code, told, _ = typed("purge", "--jobs", "--older-than", "0s", "--keep-usage", "--yes", "--json")
    assert code == 0
    assert json.loads(told)["jobs"] == [job.public_id]

    assert typed("verify", job.public_id)[0] == 0
    assert typed("usage", "--json") == usage
    code, _, err = typed("export", job.public_id, "--out", "x.jsonl")
    assert (code, "was purged" in err) == (2, True)
    cache = json.loads(typed("cache", "show", "--json")[1])
    assert (cache["answers"], cache["referred"]) == (1, 0)
    assert typed("cache", "trim", "--max-bytes", "0", "--yes")[:2] == (0, "✓ purged, nothing is left: 1 answer\n")


def test_what_stays_under_a_purged_name_is_told_with_the_command_for_it(home: Path, typed: Callable[..., Any]) -> None:
    with Ledger.open(f"sqlite:///{home / 'ledger.db'}") as ledger:
        synced(ledger, {"a.md": ["one"]})
        with pytest.raises(Killed), killed_at(ledger, 1):
            ledger.purging.collection("docs")
        synced(ledger, {"old.md": ["secret"]})
        second, place = begun(ledger), bytes(4)
        rows = [
            (1, "new.md", "new.md", None, None, place + b"new.md" + bytes(9), jobs.key("old.md"), 0, 1),
            (2, "old.md", "old.md", None, None, place + b"old.md" + bytes(9), jobs.key("else"), 1, 0),
        ]
        ledger.collections.write(second, "me", Writing(documents=rows, ended_documents=[0]))
        completed(ledger, second)

    code, told, _ = typed("purge", "--collection", "docs", "--yes")
    assert (code, "the new docs stays; to purge that, too: corpusmill purge --collection docs\n" in told) == (0, True)
    code, told, _ = typed("purge", "--collection", "docs", "--document", "new.md", "--yes")
    assert (code, "called old.md stays; to purge that, too: corpusmill purge --collection docs --document old.md\n"
            in told) == (0, True)  # fmt: skip


def test_what_a_dead_process_left_in_its_journal_has_to_come_in_first(home: Path, typed: Callable[..., Any]) -> None:
    with Ledger.open(f"sqlite:///{home / 'ledger.db'}") as ledger:
        job = jobs.submit(ledger, "a")
        jobs.work_off(ledger, job)
    (home / "journal" / "1-dead").mkdir(parents=True)
    code, _, err = typed("purge", job.public_id, "--yes")
    assert (code, "adopts them within seconds" in err) == (1, True)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "say one thing to purge"),
        (("last", "--jobs"), "say one thing to purge"),
        (("--jobs",), "--older-than 90d"),
        (("--jobs", "--older-than", "soon"), "is no span of time"),
        (("--document", "a.md"), "--collection NAME --document"),
        (("--answers", "--max-bytes", "much"), "is no number of bytes"),
        (("--collection", "nowhere"), "there is no collection 'nowhere'"),
    ],
)
def test_what_is_unclear_is_refused_with_an_example(
    typed: Callable[..., Any], flags: tuple[str, ...], words: str
) -> None:
    code, _, err = typed("purge", *flags, "--yes")
    assert (code, words in err) == (2, True), err
