"""What holds for each provider and model: set, told, in force; and setting it while workers run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from corpusmill.embedded import lock
from corpusmill.embedded.place import Sockets, place_of
from corpusmill.endpoint import Endpoint, Limits, fingerprint
from corpusmill.errors import SettingsError, Unavailable, UsageError
from corpusmill.ledger.records import LimitRule
from corpusmill.limits import Scope
from corpusmill.limits.standing import Standing, standings
from corpusmill.mill.place import Place
from corpusmill.settings import Settings

NEWEST_JOBS = 500


@dataclass(frozen=True, slots=True)
class LimitRow:
    """A provider and model. `rule`: the number of the `limits set` that holds, None where settings do.

    `standing` is the fleet's bucket as it is now; None where nothing was sent yet, or the limiter is not running.
    """

    provider: str
    model: str
    limits: Limits
    rule: int | None
    standing: Standing | None

    @property
    def cool_until(self) -> float | None:
        """Until when nothing is sent, in epoch seconds."""
        cool_s = self.standing.cool_s if self.standing else 0.0
        return time.time() + cool_s if cool_s > 0 else None

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        found = self.standing
        return {
            "provider": self.provider,
            "model": self.model,
            "set": self.limits.model_dump(exclude={"requests_window_s"}, exclude_none=True),
            "rule": self.rule,
            "told": {"rpm": found.told_rpm, "tpm": found.told_tpm} if found else None,
            "in_force": {"rpm": found.rpm, "tpm": found.tpm, "learning": found.learning} if found else None,
            "used": round(found.used, 3) if found else None,
            "slowed_to": round(found.slowed_to, 3) if found else None,
            "processes": found.processes if found else None,
            "cool_until": self.cool_until,
        }


def limits(place: Place) -> list[LimitRow]:
    """Every provider that is set here, with each model that a job or a rule names."""
    rules = place.ledger.limit_rules() if place.has_ledger else []
    rows = [
        (Scope(endpoint.base_url, _fingerprint(place, endpoint), endpoint.deployment or model), endpoint, model)
        for endpoint in _endpoints(place)
        for model in _models(place, endpoint, rules)
    ]
    found = _standings(place, [scope for scope, _, _ in rows])
    return [_row(endpoint, model, rules, standing) for (_, endpoint, model), standing in zip(rows, found, strict=True)]


def limits_with_rules(place: Place, provider: str, model: str, settings: Settings) -> Limits:
    """What is set for a model: by a rule for it, by a rule for its provider, by the settings."""
    base = settings.limits_for(provider)
    rules = place.ledger.limit_rules() if place.has_ledger else []
    return _ruled(base, provider, model, rules)[0]


def set_limits(place: Place, provider: str, model: str, said: dict[str, int | float | None]) -> LimitRule:
    """Let this hold for all workers.

    Raises:
        UsageError: nothing is said, or the provider is a pool: its members have limits of their own.
        SettingsError: there is no such provider.
    """
    if all(value is None for value in said.values()):
        raise UsageError(
            "no limit is given", next_step=f"corpusmill limits set {provider} --rpm N --tpm N   (0: no limit)"
        )
    name = _single(place, provider)
    rule = replace(LimitRule(name, model), **said)  # type: ignore[arg-type]  # names and types are the caller's
    return place.ledger.set_limit_rule(rule)


def unset_limits(place: Place, provider: str, model: str) -> None:
    """Let the settings hold again.

    Raises:
        UsageError: nothing was set for it.
    """
    if not place.ledger.unset_limit_rule(provider.lower(), model):
        scope = f"{provider}/{model}" if model else provider
        raise UsageError(f"no limit was set for {scope}", next_step="corpusmill limits   # lists what holds")


def _single(place: Place, provider: str) -> str:
    name, found = place.settings.provider(provider)
    if found.members:
        raise UsageError(
            f"{name} is a pool: each of its members has limits of its own",
            where=f"its members: {', '.join(found.members)}",
            next_step=f"corpusmill limits set {found.members[0]} …",
        )
    return name


def _endpoints(place: Place) -> Iterator[Endpoint]:
    for name, provider in place.settings.providers.items():
        if not provider.members:
            try:
                yield place.settings.endpoints(name)[0]
            except SettingsError:  # its key file cannot be read: `doctor` says so
                continue


def _models(place: Place, endpoint: Endpoint, rules: list[LimitRule]) -> list[str]:
    """Models that jobs have been given to this endpoint, or a pool with it, and those that rules name."""
    settings = place.settings
    pools = [name for name, provider in settings.providers.items() if endpoint.name in provider.members]
    lanes = {settings.endpoint(name) for name in (endpoint.name, *pools)}
    jobs = place.ledger.jobs(NEWEST_JOBS) if place.has_ledger else []
    named = {job.model for job in jobs if job.endpoint in lanes}
    named |= {rule.model for rule in rules if rule.provider == endpoint.name and rule.model}
    return sorted(named) or [""]


def _row(endpoint: Endpoint, model: str, rules: list[LimitRule], standing: Standing | None) -> LimitRow:
    limits, version = _ruled(endpoint.limits, endpoint.name, model, rules)
    return LimitRow(endpoint.name, model, limits, version, standing)


def _ruled(base: Limits, provider: str, model: str, rules: list[LimitRule]) -> tuple[Limits, int | None]:
    by_scope = {(rule.provider, rule.model): rule for rule in rules}
    holding = [rule for scope in ((provider, ""), (provider, model)) if (rule := by_scope.get(scope))]
    said: dict[str, int | float] = {}
    for rule in holding:
        said |= rule.said()
    return base.model_copy(update=said), max((rule.version for rule in holding), default=None)


def _fingerprint(place: Place, endpoint: Endpoint) -> str:
    return fingerprint(endpoint.api_key or "", place.ledger.salt()) if place.has_ledger else ""


def _standings(place: Place, scopes: list[Scope]) -> list[Standing | None]:
    url = _redis_url(place)
    if url is None or not scopes:
        return [None] * len(scopes)
    import redis

    try:
        with redis.Redis.from_url(url.replace("redis+socket://", "unix://", 1), socket_timeout=2) as client:
            return standings(client, scopes)
    except (redis.RedisError, OSError) as error:
        raise Unavailable(
            f"the limiter's Redis does not answer: {type(error).__name__}", next_step="corpusmill doctor"
        ) from None


def _redis_url(place: Place) -> str | None:
    """The limiter's Redis; None when nothing runs on this machine."""
    if not place.settings.embedded:
        return place.settings.redis_url
    from pathlib import Path

    from corpusmill.embedded.valkey import redis_url

    path = place_of(place.settings).lock
    note = lock.read(path) if lock.is_held(path) else None
    return redis_url(Sockets(Path(note.folder))) if note else None
