"""What holds for each provider and model: set, told, in force."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from corpusmill.embedded import lock
from corpusmill.embedded.place import Sockets, place_of
from corpusmill.endpoint import Endpoint, Limits, fingerprint
from corpusmill.errors import SettingsError, Unavailable
from corpusmill.ledger.records import LimitRule
from corpusmill.limits.scope import Scope
from corpusmill.limits.standing import Standing, standings
from corpusmill.mill.place import Place
from corpusmill.mill.rules import ruled

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
    limits, version = ruled(endpoint.limits, endpoint.name, model, rules)
    return LimitRow(endpoint.name, model, limits, version, standing)


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
