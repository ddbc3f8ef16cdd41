"""How the fleet answers each kind of refusal by the endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from corpusmill.limits.bucket import Slowdown

Refusal = Literal["rate", "slow_down", "overload", "day"]

LONGEST_COOL_S = 86_400.0
# Above this, `slow_down` means: grow by at most half in a quarter of an hour.
RAMP_RULE_TPM = 1_000_000
SLOW_RAMP = -0.5 / 900


@dataclass(frozen=True, slots=True)
class Answer:
    """`cool_s` without a Retry-After, the share of the rate to keep, and what it grows by a second: see `Slowdown`."""

    cool_s: float
    keep: float
    ramp: float


ANSWERS: Mapping[Refusal, Answer] = {
    # Within the limits as we know them, but not as the endpoint does: back to the full rate within seconds.
    "rate": Answer(0.0, 0.8, 0.1),
    "overload": Answer(1.0, 0.5, 0.05),
    "slow_down": Answer(1.0, 0.5, 0.05),
    # Nothing goes until the day is over; whoever does not say when is asked again after an hour.
    "day": Answer(3600.0, 1.0, 0.0),
}


def slowdown_for(kind: Refusal, retry_after_s: float | None, *, tpm: int, floor_s: float) -> Slowdown:
    """What to tell the bucket after a refusal.

    Args:
        kind: what the endpoint objected to.
        retry_after_s: what it said; None: nothing.
        tpm: the limit of tokens a minute, 0 for none.
        floor_s: what usual work leaves in the bucket, in seconds of the rate. So much may be there after the wait, in
            which the endpoint's own has refilled: work goes on when it is over, and nobody has saved anything up.
    """
    answer = ANSWERS[kind]
    ramp = SLOW_RAMP if kind == "slow_down" and tpm > RAMP_RULE_TPM else answer.ramp
    cool_s = answer.cool_s if retry_after_s is None else min(max(retry_after_s, 0.0), LONGEST_COOL_S)
    of_traffic = kind in ("overload", "slow_down")
    return Slowdown(
        cool_s=cool_s,
        keep=answer.keep,
        ramp=ramp,
        left_s=min(cool_s, floor_s),
        day=kind == "day",
        of_traffic=of_traffic,
    )


def strongest(one: Slowdown | None, other: Slowdown) -> Slowdown:
    """One slowdown that asks for all that both do."""
    if one is None:
        return other
    stricter = min(one, other, key=lambda slowdown: (slowdown.keep, slowdown.ramp))
    return replace(
        stricter,
        cool_s=max(one.cool_s, other.cool_s),
        left_s=min(one.left_s, other.left_s),
        day=one.day or other.day,
    )
