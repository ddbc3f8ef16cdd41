"""`collection drop`: all of a collection goes but its bill, and nothing of one that somebody still works on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corpusmill.cli.main import outcome
from corpusmill.ledger.schedule_records import NewSchedule
from corpusmill.mill.place import Place
from corpusmill.settings import Settings
from tests.integration.test_ledger_collections import add, begun, completed

Drop = Callable[..., tuple[int, Any]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("CORPUSMILL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return Place(Settings.load())


@pytest.fixture
def drop(capsys: pytest.CaptureFixture[str]) -> Drop:
    """Type it; gives the exit code and the object of `--json`."""

    def run(*arguments: str) -> tuple[int, Any]:
        code = outcome(["collection", "drop", *arguments, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def test_drop_says_what_would_go_asks_and_takes_all_but_the_bill(place: Place, drop: Drop) -> None:
    with place:
        for name in ("a.md", "b.md"):
            version = begun(place.ledger)
            add(place.ledger, version, name, [f"one of {name}", "two"])
            completed(place.ledger, version)
        going = {"documents": 2, "chunks": 4, "vectors": 4, "answers": 3, "collection_versions": 2}

        code, told = drop("docs", "--dry-run")
        assert (code, {name: told["rows"][name] for name in going}) == (0, going)
        code, told = drop("docs")
        assert (code, "--yes" in told["error"]["next_step"]) == (2, True)
        assert place.ledger.collections.find("docs").version == 2

        code, told = drop("docs", "--yes")

        assert (code, {name: told["rows"][name] for name in going}) == (0, going)
        assert place.ledger.collections.named("docs") is None
        assert {job.state for job in place.ledger.jobs()} <= {"purged"}
        version = begun(place.ledger)
        add(place.ledger, version, "a.md", ["one of a.md"])
        assert completed(place.ledger, version) == ["one of a.md"]


def test_a_collection_that_is_synced_or_scheduled_is_not_dropped(place: Place, drop: Drop) -> None:
    with place:
        version = begun(place.ledger)
        add(place.ledger, version, "a.md", ["one"])
        code, told = drop("docs", "--yes")
        assert (code, "under way" in told["error"]["what"]) == (2, True)
        completed(place.ledger, version)

        shared = ("--budget", "{usd_left}", "--budget-tokens", "{tokens_left}")
        commands = {
            "weekly": ("sync", *shared, "docs", "folder"),
            "load": ("export", "docs@model-a-2", "--to", "env:BOOKS"),
            "other": ("sync", "else", "docs"),
        }
        for name, words in commands.items():
            new = NewSchedule(name, words, "/", "0 3 * * 0", "UTC")
            place.ledger.schedules.add(new, asking=False, now_s=0.0)
        code, told = drop("docs", "--yes")
        assert (code, told["error"]["what"].endswith("by the schedule load, weekly")) == (2, True)
        assert told["error"]["next_step"] == "corpusmill schedule remove load"
        for name in ("load", "weekly"):
            place.ledger.schedules.remove(place.ledger.schedules.find(name).id)

        assert drop("docs", "--yes")[0] == 0
        code, told = drop("docs", "--yes")
        assert (code, "no collection 'docs'" in told["error"]["what"]) == (2, True)
