"""`corpusmill schedule`: what is refused when it is added, and what is shown of what was added."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corpusmill.cli.main import outcome
from tests.fixtures.shell import CANARY_KEY

EMBED = ("--", "embed", "docs", "--model", "text-embedding-3-small", "--dimensions", "8")
WEEKLY = ("--cron", "0 3 * * 0")


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Type a command in an empty folder, on a HOME where nothing runs: its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CORPUSMILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", CANARY_KEY)
    (tmp_path / "docs").mkdir()

    def type_(*arguments: str) -> tuple[int, str, str]:
        code = outcome(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return type_


def test_a_purge_by_age_can_be_scheduled_and_asks_nobody(typed: Callable[..., Any]) -> None:
    purge = ("--", "purge", "--jobs", "--older-than", "90d", "--keep-usage")
    code, told, err = typed("schedule", "add", "tidy", *WEEKLY, *purge, "--json")
    assert code == 0, err
    assert json.loads(told)["command"][:4] == ["purge", "--yes", "--json", "--no-progress"]


def test_a_load_into_a_database_can_be_scheduled_and_keeps_no_password(typed: Callable[..., Any]) -> None:
    code, told, err = typed("schedule", "add", "load", *WEEKLY, "--json", "--", "export", "docs", "--to", "env:BOOKS")
    assert code == 0, err
    assert json.loads(told)["command"] == ["export", "--json", "--no-progress", "docs", "--to", "env:BOOKS"]
    code, _, err = typed(
        "schedule", "add", "open", *WEEKLY, "--", "export", "docs", "--to", "postgresql://a:sesame@h/b"
    )
    assert (code, "--to env:NAME" in err, "sesame" in err) == (2, True, False)


REFUSED: list[tuple[tuple[str, ...], str]] = [
    (("--cron", "0 3 * *", *EMBED), "is no schedule: it has to have five fields"),
    ((*WEEKLY, "--tz", "Berlin", *EMBED), "did you mean --tz Europe/Berlin?"),
    ((*WEEKLY, "--", "embed", "docs"), "Missing option '--model'"),
    ((*WEEKLY, *EMBED, "--modell", "x"), "No such option"),
    ((*WEEKLY, "--", "embed", "--help"), "does no work"),
    ((*WEEKLY, "--", "embed", "nowhere", "--model", "m"), "is not there (the nearest folder that is:"),
    ((*WEEKLY, *EMBED, "--out", "nowhere/x.npy", "--force"), "is not there (the nearest folder that is:"),
    ((*WEEKLY, "--", "complete", "docs", "--model", "m", "--prompt", "@ask.txt"), "ask.txt is not there"),
    ((*WEEKLY, "--", "jobs"), "`jobs` cannot be scheduled"),
    ((*WEEKLY, "--", "export", "docs", "--out", "x.npy"), "a scheduled export loads a collection into a database"),
    ((*WEEKLY, "--", "embed", "-", "--model", "m"), "nobody gives a scheduled command its input"),
    ((*WEEKLY, *EMBED, "--out", "x.npy"), "add --force"),
    ((*WEEKLY, "--daily-usd", "1", *EMBED, "--budget", "2"), "leave --budget out"),
    ((*WEEKLY, "--daily-usd", "1", "--", "embed", "docs", "--model", "m"), "has no known price"),
    ((*WEEKLY, "--daily-usd", "-1", *EMBED), "is no sum of money"),
    ((*WEEKLY, "--max-share", "1.5", *EMBED), "--max-share 0.3"),
    ((*WEEKLY, *EMBED, "--provider", "nobody"), "there is no provider nobody"),
]


@pytest.mark.parametrize(("flags", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_could_not_run_is_refused_when_it_is_added(
    typed: Callable[..., Any], flags: tuple[str, ...], words: str
) -> None:
    code, _, err = typed("schedule", "add", "never", *flags)
    assert (code, words in err) == (2, True), err
    assert len(err.splitlines()) <= 4
    assert typed("schedule", "list")[1].startswith("no schedules yet")


def test_schedules_are_listed_paused_resumed_and_removed(typed: Callable[..., Any], tmp_path: Path) -> None:
    flags = ("--cron", "30 2 * * *", "--tz", "Europe/Berlin", "--daily-usd", "0.5", "--max-share", "0.3")
    code, out, err = typed("schedule", "add", "weekly", *flags, "--json", *EMBED)
    assert (code, "schedules fire while `corpusmill up` runs, and it does not" in err) == (0, True), err
    added = json.loads(out)
    assert len(added["next"]) == 5
    assert added["folder"] == str(tmp_path)
    assert added["command"] == [
        *("embed", "--detach", "--json", "--no-progress", "--label", "schedule=weekly", "--priority", "low"),
        *("--max-share", "0.3", "--budget", "{usd_left}", *EMBED[2:]),
    ]
    code, _, err = typed("schedule", "add", "weekly", *flags, *EMBED)
    assert (code, "there is a schedule weekly already" in err) == (2, True)
    assert typed("schedule", "pause", "weekly")[:2] == (0, "✓ weekly is paused\n")
    assert "paused" in typed("schedule", "list")[1]
    assert typed("schedule", "resume", "weekly")[1].startswith("✓ weekly is active, next ")
    assert "0.5 USD a day, 30% of the limit" in typed("schedule", "show", "weekly")[1]
    code, _, err = typed("schedule", "run", "weekly")
    assert (code, "`corpusmill up` runs, and it does not" in err) == (0, True)
    code, _, err = typed("schedule", "run", "weekly")
    assert (code, "the run before it has not ended" in err) == (2, True)
    assert typed("schedule", "remove", "weekly")[0] == 0
    code, _, err = typed("schedule", "show", "weekly")
    assert (code, "there is no schedule weekly" in err) == (2, True)


def test_a_command_s_own_priority_and_share_are_kept(typed: Callable[..., Any]) -> None:
    words = ("embed", "docs", "--model", "m", "--priority=normal")
    typed("schedule", "add", "own", *WEEKLY, "--", *words)
    command = json.loads(typed("schedule", "show", "own", "--json")[1])["command"]
    assert "low" not in command
    assert command[-4:] == ["docs", "--model", "m", "--priority=normal"]
