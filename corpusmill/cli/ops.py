"""Running the machinery: up, down, worker, scheduler, migrate and config."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from corpusmill import _entry
from corpusmill.cli.output import out
from corpusmill.errors import UsageError

if TYPE_CHECKING:
    from corpusmill.embedded.client import Session
    from corpusmill.settings import Settings

# SQLite has one writer at a time: a third worker only waits for the other two.
MOST_SQLITE_WORKERS = 2

MetricsFlag = Annotated[
    int | None,
    typer.Option(
        "--metrics",
        metavar="PORT",
        min=0,
        max=65535,
        help="Answer /metrics and /healthz there, on 127.0.0.1; CORPUSMILL_METRICS_PORT unless said, 0: not at all.",
    ),
]


def up(
    *,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; 1 unless said, at most 2.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return when all is running, and leave it running.")] = False,
    metrics: MetricsFlag = None,
) -> None:
    """Start the machinery on this machine and keep it up until `corpusmill down`.

    One supervisor process with Valkey, the scheduler and a worker on the ledger in CORPUSMILL_HOME. Commands start it
    by themselves; `up` keeps it, so that detached jobs go on and the next command starts at once. In the foreground
    Ctrl-C stops it. With --metrics the scheduler has that port, the workers those after it.
    """
    from corpusmill.embedded.client import join
    from corpusmill.settings import Settings

    settings = _embedded(Settings.load(metrics_port=metrics), "up")
    if workers is not None and workers > MOST_SQLITE_WORKERS:
        raise UsageError(
            f"{workers} workers are too many for SQLite, which has one writer at a time; {MOST_SQLITE_WORKERS} at most",
            next_step="for more, run a fleet on PostgreSQL: set CORPUSMILL_BROKER_URL and CORPUSMILL_DATABASE_URL",
        )
    with join(settings, provider_names=list(settings.providers)) as session:
        state = session.up(workers=workers)
        if session.metrics_port != settings.metrics_port:
            out.note(f"metrics stay at port {session.metrics_port}: the machinery ran already; `corpusmill down` first")
        if detach:
            _show_up(settings, session, state)
        else:
            _stay(settings, session, state)


def _show_up(settings: Settings, session: Session, state: dict[str, Any]) -> None:
    for note in session.notes:
        out.note(note)
    names = ", ".join(f"{child['name']} {child['pid'] or 'is being started again'}" for child in state["children"])
    out.summary(f"up: supervisor {session.pid} ({names}) in {settings.home}")
    out.summary("stop it with: corpusmill down")
    out.result({"pid": session.pid, "home": str(settings.home), **state})
    # It stays: who reads this through a pipe must not wait for its end.
    sys.stdout.flush()


def _stay(settings: Settings, session: Session, state: dict[str, Any]) -> None:
    """Say that it is up and wait for the end; Ctrl-C and SIGTERM, as from a service manager, bring it about."""
    from corpusmill.embedded.client import down

    # First: who reads that it is up may stop it at once.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _show_up(settings, session, state)
        out.note(f"stopped: {session.wait_until_stopped()}")
    except KeyboardInterrupt:
        out.note("stopping; what is in flight is finished and saved first")
        down(settings)


def down() -> None:
    """Stop what `up` or a command started, gracefully.

    Workers finish and save what is in flight (CORPUSMILL_GRACE_S at most). Jobs that were never detached are paused;
    detached ones go on when the machinery is started again.
    """
    from corpusmill.embedded.client import down as stop
    from corpusmill.settings import Settings

    stopped = stop(_embedded(Settings.load(), "down"))
    out.summary("stopped" if stopped else "nothing was running")
    out.result({"stopped": stopped})


def worker(*, metrics: MetricsFlag = None) -> None:
    """Run one worker of a fleet in the foreground, one process a core.

    Needs CORPUSMILL_BROKER_URL and CORPUSMILL_DATABASE_URL. SIGTERM finishes and saves what is in flight
    (CORPUSMILL_GRACE_S at most) and gives the rest back; a second one ends at once.
    """
    _become("workers", metrics)


def scheduler(*, metrics: MetricsFlag = None) -> None:
    """Run the scheduler of a fleet in the foreground; one is needed, a second does no harm.

    Needs CORPUSMILL_BROKER_URL and CORPUSMILL_DATABASE_URL.
    """
    _become("scheduler", metrics)


def _become(process: str, metrics: int | None) -> NoReturn:
    """Replace this process: signals and exit status are the worker's own, and no foreign module is in reach."""
    from corpusmill.embedded.place import prepare
    from corpusmill.settings import Settings

    settings = Settings.load()
    if settings.embedded:
        raise UsageError(
            "a worker or scheduler of its own belongs to a fleet, and no broker and database are configured",
            where="on this machine alone the commands start what they need",
            next_step="corpusmill up  (or set CORPUSMILL_BROKER_URL and CORPUSMILL_DATABASE_URL)",
        )
    # The journal lies there: it needs a disk whose locks hold.
    prepare(settings)
    sys.stdout.flush()
    env = _entry.clean_env() | ({} if metrics is None else {"CORPUSMILL_METRICS_PORT": str(metrics)})
    os.execve(sys.executable, _entry.child_command(process), env)  # noqa: S606 - our own program


def migrate() -> None:
    """Bring the database to this version's schema; safe to run twice, and while workers run."""
    from corpusmill.embedded.place import prepare
    from corpusmill.ledger import migrate as bring_up
    from corpusmill.settings import Settings
    from corpusmill.urls import without_password

    settings = Settings.load()
    url = settings.database_url or prepare(settings).database_url
    before, after = bring_up(url)
    what = f"already at {after}" if before == after else f"{before or 'empty'} → {after}"
    out.summary(f"{without_password(url)}: {what}")
    out.result({"database": without_password(url), "before": before, "after": after})


def config() -> None:
    """Show every setting, its value and where it came from; secrets are masked.

    Flags beat the environment, which beats `.env`, which beats `corpusmill.toml` (in the current folder, else in
    CORPUSMILL_HOME).
    """
    from corpusmill.settings import Settings

    rows = Settings.load().origins()
    out.table(("SETTING", "VALUE", "FROM"), rows)
    out.result({"settings": [{"name": name, "value": value, "from": origin} for name, value, origin in rows]})


def _embedded(settings: Settings, command: str) -> Settings:
    if not settings.embedded:
        raise UsageError(
            f"`corpusmill {command}` is for this machine's own machinery, and a fleet is configured",
            where="CORPUSMILL_BROKER_URL and CORPUSMILL_DATABASE_URL are set",
            next_step="run `corpusmill worker` and `corpusmill scheduler`, or unset both",
        )
    return settings
