"""What goes wrong in a chaos run: drawn from its seed alone, so that a seed says everything."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

# What the provider does for a while. Some of what it answers is paid for and of no use.
PROVIDER_FAULTS = (
    ("overloaded=0.2",),
    ("server_error=0.15",),
    ("rate_limit:0.2=0.2",),
    ("reset=0.1",),
    ("lost_reply=0.05", "bad_json=0.05"),
    ("empty=0.05", "truncated_body=0.05"),
    ("insufficient_quota=0.02",),
)
# Of these, the endpoint had made the answer before it got lost or spoilt.
PAID_FAULTS = ("lost_reply", "bad_json", "empty", "truncated_body", "drip", "no_choices")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that goes wrong once `share` of the items are paid for; `who` is a worker, `seconds` how long."""

    share: float
    what: str
    who: int = 0
    seconds: float = 0.0
    rules: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.share:.2f} {self.what} who={self.who} s={self.seconds:.1f} {' '.join(self.rules)}".rstrip()


Draw = Callable[[random.Random, float], Event]


def _worker(what: str, least: float, most: float) -> Draw:
    """Something that happens to one of two workers, and lasts so many leases."""
    return lambda dice, lease_s: Event(0, what, dice.randrange(2), dice.uniform(least, most) * lease_s)


def _service(what: str, least_s: float = 0.0, most_s: float = 0.0) -> Draw:
    """Something that happens to a service that all share, for so many seconds."""
    return lambda dice, _: Event(0, what, seconds=dice.uniform(least_s, most_s))


def _provider(dice: random.Random, _: float) -> Event:
    return Event(0, "provider", seconds=dice.uniform(0.5, 2), rules=dice.choice(PROVIDER_FAULTS))


_DRAWS: tuple[tuple[int, Draw], ...] = (
    (4, _worker("kill", 0, 0.5)),
    (2, _worker("terminate", 0, 0.3)),
    (3, _worker("suspend", 1.2, 1.7)),
    (2, _worker("nap", 0.1, 0.4)),
    (2, _service("kill scheduler")),
    (2, _service("restart redis", 0, 1)),
    (2, _service("flush redis")),
    (2, _service("pause redis", 0.3, 2)),
    (2, _service("restart postgres", 0, 0.5)),
    (1, _service("restart fast postgres", 0, 0.5)),
    (2, _service("cut postgres")),
    (2, _service("pause postgres", 0.2, 1)),
    (4, _provider),
)


def plan(seed: int, *, lease_s: float) -> list[Event]:
    """The events of a seed, in the order in which they come: four to eight."""
    dice = random.Random(seed)
    draws = dice.choices([draw for _, draw in _DRAWS], [weight for weight, _ in _DRAWS], k=dice.randint(4, 8))
    shares = sorted(dice.uniform(0.03, 0.9) for _ in draws)
    drawn = [draw(dice, lease_s) for draw in draws]
    return [
        Event(share, event.what, event.who, event.seconds, event.rules)
        for share, event in zip(shares, drawn, strict=True)
    ]
