"""`corpusmill doctor`: is everything there that a job needs, and if not, what to type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from corpusmill.cli.output import out
from corpusmill.errors import CorpusmillError, UsageError

if TYPE_CHECKING:
    from corpusmill.cli.finding import Finding

MARKS = {"ok": "✓", "warning": "!", "failed": "✗"}


def doctor(
    *,
    only: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Only these checks, separated by commas, such as broker,disk.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="The provider to try; the default one unless said.")] = None,
) -> int:
    """Check that everything a job needs is in place, and say how to mend what is not.

    home, database, broker, limiter, endpoint (with the key: one free request for the list of models), disk, clock,
    versions, scheduler, workers, and lanes (jobs that wait for an account, a key or an endpoint). Exits with 0 when
    nothing failed; warnings do not count.
    """
    from corpusmill.cli.checks import CHECKS
    from corpusmill.cli.finding import Finding, Patient
    from corpusmill.settings import Settings

    names = [name.strip() for name in only.split(",")] if only else list(CHECKS)
    for name in names:
        if name not in CHECKS:
            raise UsageError(f"there is no check `{name}`", next_step=f"the checks are: {', '.join(CHECKS)}")
    findings: list[Finding] = []
    with Patient(Settings.load(), provider) as patient:
        for name in names:
            try:
                found = CHECKS[name](patient)
            except CorpusmillError as error:
                found = Finding.of(error)
            findings.append(found)
            _show(name, found)
    out.result({"checks": [{"name": name, **found.as_json()} for name, found in zip(names, findings, strict=True)]})
    return next((found.exit_code for found in findings if found.state == "failed"), 0)


def _show(name: str, found: Finding) -> None:
    out.line(f"{MARKS[found.state]} {name:<9} {found.what}")
    if found.fix:
        out.line(f"  {'':<9} → {found.fix}")
