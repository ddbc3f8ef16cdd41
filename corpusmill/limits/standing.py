"""How buckets stand, for people to look at: two glances at each, a moment apart, tell what is being used."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from corpusmill.limits.scope import Scope
from corpusmill.limits.scripts import source

# Long enough for some grants to fall between the two, short enough for somebody who waits.
BETWEEN_S = 0.5


@dataclass(frozen=True, slots=True)
class Standing:
    """One bucket. `set_*`: None is not set; `told_*`: None is not told yet; 0 is no limit; `*_used`: shares of 1.

    `cool_s`: nothing is granted for so long. `slowed_to`: share of the rate in use after overload. `processes`: how
    many draw from it.
    """

    set_rpm: int | None
    set_tpm: int | None
    told_rpm: int | None
    told_tpm: int | None
    rpm: int
    tpm: int
    learning: bool
    used: float
    cool_s: float
    slowed_to: float
    processes: int


@dataclass(frozen=True, slots=True)
class _Glance:
    """What `look.lua` returns, by its names there."""

    set_r: int
    set_t: int
    told_r: int
    told_t: int
    rpm: int
    tpm: int
    learning: int
    rate_r: int
    rate_t: int
    level_r: int
    level_t: int
    cap_r: int
    cap_t: int
    cool_us: int
    factor: int
    now: int
    processes: int


def standings(redis: Any, scopes: Sequence[Scope]) -> list[Standing | None]:
    """How the buckets of these scopes stand; None: nothing has drawn from it. `redis` is a client that blocks."""
    before = [_glance(redis, scope) for scope in scopes]
    if not any(before):
        return [None] * len(scopes)
    time.sleep(BETWEEN_S)
    after = [_glance(redis, scope) for scope in scopes]
    return [_standing(one, other) if one and other else None for one, other in zip(before, after, strict=True)]


def _glance(redis: Any, scope: Scope) -> _Glance | None:
    known, *facts = redis.eval(source("look"), 2, scope.key("bucket"), scope.key("present"))
    return _Glance(*facts) if known else None


def _standing(before: _Glance, after: _Glance) -> Standing:
    seconds = max(1, after.now - before.now) / 1e6
    used = (
        _used(after.rate_r, before.level_r, after.level_r, after.cap_r, seconds, after.factor),
        _used(after.rate_t, before.level_t, after.level_t, after.cap_t, seconds, after.factor),
    )
    return Standing(
        set_rpm=_known(after.set_r),
        set_tpm=_known(after.set_t),
        told_rpm=_known(after.told_r),
        told_tpm=_known(after.told_t),
        rpm=after.rpm,
        tpm=after.tpm,
        learning=bool(after.learning),
        used=max(used),
        cool_s=after.cool_us / 1e6,
        slowed_to=after.factor / 1e6,
        processes=after.processes,
    )


def _known(limit: int) -> int | None:
    return None if limit < 0 else limit


def _used(rate: int, before: int, after: int, capacity: int, seconds: float, factor: int) -> float:
    """The share of the refill that was taken; a bucket that is full at the end has lost some of it untaken."""
    refill = rate / 1e6 * seconds * factor / 1e6
    if refill <= 0 or after >= capacity:
        return 0.0
    return min(1.0, max(0.0, (refill - (after - before)) / refill))
