"""The command of a schedule: read by the very parser that will read it at each due time, and made fit to run alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from corpusmill.cli.commands import COMMANDS
from corpusmill.errors import UsageError

# What does work on sources, takes what it came to elsewhere, or takes it away again; the rest needs no schedule.
SCHEDULABLE = ("sync", "reembed", "embed", "complete", "run", "export", "purge")
# Commands that make no job, and what lets them run alone.
_WITHOUT_JOB = {"export": ("--json", "--no-progress"), "purge": ("--yes", "--json", "--no-progress")}
# Where a command has the collection that it is about.
_COLLECTION = {"sync": "collection", "reembed": "collection", "export": "job"}
# What a run fills in, as its parser would take it.
_FILLED_IN = {"{usd_left}": "0", "{tokens_left}": "0"}
_EXAMPLE = "for example: corpusmill schedule add NAME --cron '0 3 * * 0' -- embed docs --model M"


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A command that can be run unseen. `needs`: see `corpusmill.sight`; `facts`: its arguments as they were read."""

    argv: tuple[str, ...]
    needs: tuple[str, ...]
    facts: dict[str, Any]


def scheduled(
    words: Sequence[str], *, schedule: str, budgeted: bool, capped: bool, max_share: float | None
) -> Scheduled:
    """The command that these words mean, with what a schedule adds: detached, labelled, at low priority.

    `budgeted`, `capped`: a day's money, a day's tokens are limited; what is left of them is filled in at each run.

    Raises:
        UsageError: it is no command that can be scheduled, its own parser refuses it, or it could not run unseen.
    """
    name = words[0]
    if name not in SCHEDULABLE or name not in COMMANDS:
        known = ", ".join(command for command in SCHEDULABLE if command in COMMANDS)
        raise UsageError(f"`{name}` cannot be scheduled; these can: {known}", next_step=_EXAMPLE)
    facts = _read(name, words[1:])
    _refuse(name, facts, budgeted=budgeted, capped=capped)
    if name == "export":
        _refuse_target(facts["to"])
    if name in _WITHOUT_JOB:
        return Scheduled((name, *_WITHOUT_JOB[name], *words[1:]), tuple(_needs(facts)), facts)
    added = ["--detach", "--json", "--no-progress", "--label", f"schedule={schedule}"]
    if not _says(words, "--priority"):
        added += ["--priority", "low"]
    if max_share is not None:
        added += ["--max-share", str(max_share)]
    if budgeted:
        added += ["--budget", "{usd_left}"]
    if capped:
        added += ["--budget-tokens", "{tokens_left}"]
    return Scheduled((name, *added, *words[1:]), tuple(dict.fromkeys(_needs(facts))), facts)


def names_collection(argv: Sequence[str], collection: str) -> bool:
    """Whether the command of a schedule is about this collection."""
    name, words = argv[0], [_FILLED_IN.get(word, word) for word in argv[1:]]
    if name not in _COLLECTION:
        return False
    try:
        facts = _read(name, words)
    except UsageError:
        # Written by another version, with flags that this one does not know.
        return collection in words
    return bool(facts[_COLLECTION[name]].partition("@")[0] == collection)


def _read(name: str, arguments: Sequence[str]) -> dict[str, Any]:
    """What the command's own parser makes of the arguments."""
    from corpusmill.cli.main import load

    command = load(COMMANDS[name])
    help_line = f"`corpusmill {name} --help` explains every flag"
    try:
        context = command.make_context(name, list(arguments))
    except typer.TyperException as error:
        raise UsageError(f"`corpusmill {name}`: {error.format_message()}", next_step=help_line) from None
    except typer.Exit:
        raise UsageError(f"`corpusmill {name}` with these flags does no work", next_step=help_line) from None
    return dict(context.params)


def _refuse(name: str, facts: dict[str, Any], *, budgeted: bool, capped: bool) -> None:
    if "-" in _sources(facts):
        raise UsageError(f"`corpusmill {name} -`: nobody gives a scheduled command its input", next_step=_EXAMPLE)
    if facts.get("dry_run"):
        raise UsageError(f"`corpusmill {name} --dry-run` does no work", next_step="leave --dry-run out")
    for given, flag, daily in ((budgeted, "budget", "usd"), (capped, "budget_tokens", "tokens")):
        if given and facts.get(flag) is not None:
            own = "--" + flag.replace("_", "-")
            raise UsageError(
                f"{own} is the cap of one job, --daily-{daily} that of each day: they cannot both be kept",
                next_step=f"leave {own} out",
            )
    if facts.get("out") is not None and not facts.get("force"):
        raise UsageError(
            f"{facts['out']} would be refused from the second run on: another job wrote it",
            where="--out without --force",
            next_step="add --force, so that each run replaces what the one before it wrote",
        )


def _refuse_target(to: str | None) -> None:
    """Of exports only loads are scheduled, and the ledger keeps no password for them."""
    if to is None:
        raise UsageError(
            "a scheduled export loads a collection into a database", next_step="corpusmill export NAME --to env:NAME"
        )
    if not to.startswith("env:"):
        raise UsageError(
            "the command of a schedule is kept and shown, and a URL may hold a password",
            where="--to",
            next_step="give the URL to the scheduler in an environment variable: --to env:NAME",
        )


def _sources(facts: dict[str, Any]) -> list[str]:
    return [*(facts.get("sources") or ()), *([facts["requests"]] if facts.get("requests") else [])]


def _needs(facts: dict[str, Any]) -> Iterator[str]:
    here = Path.cwd()
    yield f"read {here}"
    for source in _sources(facts):
        yield f"read {here / source}"
    for value in facts.values():
        if isinstance(value, str) and value.startswith("@") and not value.startswith("@@"):
            yield f"read {here / value[1:]}"
    for name in ("out", "errors"):
        if facts.get(name) is not None:
            yield f"write {(here / facts[name]).parent}"


def _says(words: Sequence[str], flag: str) -> bool:
    return any(word == flag or word.startswith(f"{flag}=") for word in words)
