"""List what limits hold for each provider and model; set and unset them while workers run.

A limit set here outranks the settings and is followed by all workers within two seconds. What the endpoint tells can
lower it, never raise it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from corpusmill.cli.output import out
from corpusmill.cli.times import hour
from corpusmill.errors import UsageError

if TYPE_CHECKING:
    from corpusmill.limits.standing import Standing
    from corpusmill.mill.limits import LimitRow

Where = Annotated[str, typer.Argument(metavar="PROVIDER[/MODEL]", help="A provider, or one model at it.")]


def _number(text: str) -> typer.models.OptionInfo:
    found: typer.models.OptionInfo = typer.Option(min=0, metavar="N", help=text)
    return found


def limits() -> None:
    """List what holds."""
    from corpusmill.cli.following import opened

    with opened() as mill:
        rows = mill.limits()
    if rows:
        head = ("PROVIDER", "MODEL", "SET RPM/TPM", "TOLD", "IN FORCE", "USED", "UNTIL", "BY")
        out.table(head, [_cells(row) for row in rows], right=(5,))
    else:
        out.line("no provider is set")
    out.result({"limits": [row.as_dict() for row in rows]})


def set_(
    where: Where,
    rpm: Annotated[int | None, _number("Requests a minute; 0: no limit.")] = None,
    tpm: Annotated[int | None, _number("Tokens a minute; 0: no limit.")] = None,
    burst_s: Annotated[
        float | None, typer.Option(min=0.001, metavar="S", help="Seconds of the rate that may be used at once.")
    ] = None,
    rpd: Annotated[int | None, _number("Requests a day; 0: no limit.")] = None,
    tpd: Annotated[int | None, _number("Tokens a day; 0: no limit.")] = None,
) -> None:
    """Set limits for a provider or one of its models; all workers follow within two seconds."""
    from corpusmill.cli.following import opened

    provider, model = _scope(where)
    with opened() as mill:
        said: dict[str, int | float | None] = {"rpm": rpm, "tpm": tpm, "burst_s": burst_s, "rpd": rpd, "tpd": tpd}
        rule = mill.set_limits(provider, model, **said)
    told = ", ".join(f"{name} {value:,}" for name, value in rule.said().items())
    out.summary(f"✓ {where}: {told} (version {rule.version}); it outranks the settings until `limits unset {where}`")
    out.result(asdict(rule))


def unset(where: Where) -> None:
    """Let the settings hold again for a provider or one of its models."""
    from corpusmill.cli.following import opened

    provider, model = _scope(where)
    with opened() as mill:
        mill.unset_limits(provider, model)
    out.summary(f"✓ {where}: the settings hold again")
    out.result({"provider": provider, "model": model})


def _scope(where: str) -> tuple[str, str]:
    provider, slash, model = where.partition("/")
    if not provider or (slash and not model):
        raise UsageError(f"{where!r} names no provider", next_step="write PROVIDER or PROVIDER/MODEL")
    return provider.lower(), model


def _cells(row: LimitRow) -> tuple[str, ...]:
    found = row.standing
    return (
        row.provider,
        row.model or "-",
        _pair(row.limits.rpm, row.limits.tpm),
        _pair(found.told_rpm, found.told_tpm) if found else "-",
        _in_force(found),
        f"{found.used:.0%}" if found and (found.rpm or found.tpm) else "-",
        "-" if row.cool_until is None else hour(row.cool_until),
        f"limits set (version {row.rule})" if row.rule else "settings",
    )


def _in_force(found: Standing | None) -> str:
    if found is None:
        return "-"
    words = _pair(found.rpm, found.tpm)
    if found.learning:
        return f"{words} until told"
    return f"{words} at {found.slowed_to:.0%}" if found.slowed_to < 0.995 else words


def _pair(rpm: int | None, tpm: int | None) -> str:
    return "/".join("-" if limit is None else "none" if limit == 0 else f"{limit:,}" for limit in (rpm, tpm))
