"""Run a command of corpusmill again and again: by cron, in a time zone, within a budget a day and a part of the limit.

Without a fleet, schedules fire while `corpusmill up` runs. Each due time fires once; a schedule never overlaps itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from corpusmill.cli.output import out
from corpusmill.errors import UsageError

if TYPE_CHECKING:
    from corpusmill.cli.scheduled import Scheduled
    from corpusmill.ledger.schedule_records import NewSchedule, Schedule
    from corpusmill.mill import Mill

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]
_NAMES = "a-z, A-Z, 0-9, dot, dash and underscore"


def add(
    name: Name,
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="-- COMMAND...", help="sync, reembed, embed, complete, run, export or purge, with its flags."
        ),
    ],
    cron: Annotated[str, typer.Option(metavar="CRON", help='When: minute, hour, day, month, weekday: "0 3 * * 0".')],
    tz: Annotated[str, typer.Option(metavar="ZONE", help="The time zone, such as Europe/Berlin.")] = "UTC",
    catch_up: Annotated[
        Literal["once", "skip"], typer.Option(help="What was missed while nothing ran: made up for once, or left out.")
    ] = "once",
    daily_usd: Annotated[
        str | None, typer.Option(metavar="USD", help="Spend so much a day at most; the rest goes on the next day.")
    ] = None,
    daily_tokens: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Use so many tokens a day; the rest goes on the next day.")
    ] = None,
    max_share: Annotated[
        float | None, typer.Option(metavar="F", help="Use such a part of the limit at most, for example 0.3.")
    ] = None,
) -> None:
    """Add a schedule; its command is checked now, by the parser that will read it then.

    Paths count from the current folder, whose corpusmill.toml and .env are read as well. The command runs detached, at
    low priority unless it says another, with the label schedule=NAME.
    """
    from corpusmill.cli.following import opened
    from corpusmill.cli.scheduled import scheduled
    from corpusmill.ledger.schedule_records import NewSchedule
    from corpusmill.mill.options import money, share

    usd = None if daily_usd is None else money(daily_usd)
    part = None if max_share is None else share(max_share)
    limits = {"budgeted": usd is not None, "capped": daily_tokens is not None}
    found = scheduled(command, schedule=_checked(name), max_share=part, **limits)
    new = NewSchedule(name, found.argv, str(Path.cwd()), cron, tz, catch_up, found.needs, usd, daily_tokens, part)
    with opened() as mill:
        _refuse_unpriced(mill, found, usd)
        made = _added(mill, new)
        notes = _firing(mill, found)
    _tell(made, notes)


def list_() -> None:
    """List the schedules, and what their last runs came to."""
    from corpusmill.cli.following import opened
    from corpusmill.cli.schedule_views import facts, row

    with opened() as mill:
        ledger = mill.place.ledger
        listed = [(each, ledger.schedules.last(each.id, 1)) for each in ledger.schedules.listed()]
        rows = [row(ledger, schedule, runs) for schedule, runs in listed]
        objects = [facts(ledger, schedule, runs) for schedule, runs in listed]
    if rows:
        out.table(("SCHEDULE", "CRON", "TIME ZONE", "NEXT", "LAST RUN", "DONE", "USD", "COMMAND"), rows, right=(5, 6))
    else:
        out.line("no schedules yet; add one with `corpusmill schedule add`")
    out.result({"schedules": objects})


def show(name: Name) -> None:
    """Show one schedule: its command, its next five times, and its last runs with what they came to and cost."""
    from corpusmill.cli.following import opened
    from corpusmill.cli.schedule_views import facts, lines, run_row

    with opened() as mill:
        ledger = mill.place.ledger
        schedule = ledger.schedules.find(name)
        runs = ledger.schedules.last(schedule.id, 10)
        for line in lines(schedule):
            out.line(line)
        if runs:
            out.table(("DUE", "STATE", "JOB", "DONE", "USD", "NOTE"), [run_row(ledger, schedule, run) for run in runs])
        result = facts(ledger, schedule, runs)
    out.result(result)


def pause(name: Name) -> None:
    """Let a schedule fire no more; a run that is under way goes on. `resume` makes up for nothing."""
    _set(name, "paused")


def resume(name: Name) -> None:
    """Let a paused schedule fire from its next due time on."""
    _set(name, "active")


def run(name: Name) -> None:
    """Run a schedule's command now, besides its due times."""
    from corpusmill.cli.following import opened

    with opened() as mill:
        known = mill.place.ledger.schedules
        schedule = known.find(name)
        made = known.run_now(schedule.id, now_s=time.time())
        if made.state == "skipped":
            raise UsageError(f"{name} cannot run now: {made.note}", next_step=f"corpusmill schedule show {name}")
        notes = _unserved(mill)
    out.summary(f"✓ {name} is due now; follow it: corpusmill schedule show {name}")
    for note in notes:
        out.note(note)
    out.result({"schedule": name, "due_at": made.due_at})


def remove(name: Name) -> None:
    """Forget a schedule and the record of its runs; its jobs and what they brought stay."""
    from corpusmill.cli.following import opened

    with opened() as mill:
        known = mill.place.ledger.schedules
        known.remove(known.find(name).id)
    out.summary(f"✓ {name} is removed; its jobs stay: corpusmill jobs")
    out.result({"schedule": name, "removed": True})


def _set(name: str, state: Literal["active", "paused"]) -> None:
    from corpusmill.cli.following import opened
    from corpusmill.cli.schedule_views import facts, when

    with opened() as mill:
        ledger = mill.place.ledger
        known, now_s = ledger.schedules, time.time()
        (known.activate if state == "active" else known.pause)(known.find(name).id, now_s=now_s)
        schedule = known.find(name)
        result = facts(ledger, schedule, [])
        notes = _unserved(mill) if state == "active" else []
    out.summary(f"✓ {name} is {state}" + (f", next {when(schedule, schedule.next_at)}" if state == "active" else ""))
    for note in notes:
        out.note(note)
    out.result(result)


def _checked(name: str) -> str:
    if not name or not all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in name):
        raise UsageError(f"{name!r} is no name for a schedule", where=f"letters that may be in one: {_NAMES}")
    return name


def _refuse_unpriced(mill: Mill, found: Scheduled, usd: Decimal | None) -> None:
    """The provider has to be known, and a budget needs a price."""
    from corpusmill.mill.pricing import card_for_model, refuse_budget

    provider, _ = mill.settings.provider(found.facts.get("provider"))
    model = found.facts.get("model")
    if usd is not None and model:
        refuse_budget(usd, model, priced=card_for_model(mill.settings, provider, model) is not None)


def _added(mill: Mill, new: NewSchedule) -> Schedule:
    """The schedule, once the process that will run it has said that it sees what it needs."""
    from corpusmill import sight
    from corpusmill.cli.asking import ask_scheduler, not_seen

    known = mill.place.ledger.schedules
    if not mill.settings.embedded:
        return ask_scheduler(known, new)
    if unmet := sight.unmet(new.paths):
        raise not_seen(unmet, "on this machine")
    return known.add(new, asking=False, now_s=time.time())


def _firing(mill: Mill, found: Scheduled) -> Sequence[str]:
    """Hand the provider to machinery that stays up; else say that nothing fires yet."""
    from corpusmill.embedded.client import join, stays

    if mill.settings.embedded and stays(mill.settings):
        provider, _ = mill.settings.provider(found.facts.get("provider"))
        with join(mill.settings, provider_names=[provider]):
            return ()
    return _unserved(mill)


def _unserved(mill: Mill) -> Sequence[str]:
    from corpusmill.embedded.client import stays

    if mill.settings.embedded and not stays(mill.settings):
        return ("schedules fire while `corpusmill up` runs, and it does not: corpusmill up --detach",)
    return ()


def _tell(schedule: Schedule, notes: Sequence[str]) -> None:
    from corpusmill.cli.schedule_views import lines, object_of

    out.summary(f"✓ {schedule.name} is scheduled")
    for line in lines(schedule)[1:]:
        out.summary(line)
    for note in notes:
        out.note(note)
    out.result(object_of(schedule))
