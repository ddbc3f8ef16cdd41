"""What is measured of the limiter: fleets of one to four workers under one limit, told in different ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import fmean
from typing import Literal

from benchmarks.loads import CHAT

RPM, TPM = 6_000, 1_500_000
USUAL_MS, LONG_MS = "300:0.5", "4470:0.76"  # lognormal; 19 of 20 of the long ones take 1 to 20 s
SEEN_TEXTS = 2_000
LEARNT_S = 62.0  # after the first minute

Happens = Literal["nothing", "storm", "change", "kill"]


@dataclass(frozen=True, slots=True)
class Case:
    """A limit, what the workers are told of it, and what happens meanwhile.

    `depth_s`: what the endpoint's bucket holds. `told`: the fleet's settings, none to learn the limits from headers.
    `counted`: whether the share is that of bucket and refill from the first request on, or that of the refill from
    `warm_s` on. `at_most_429`: of the requests sent.
    """

    name: str
    workers: int
    depth_s: float = 2.0
    told: dict[str, float | None] = field(default_factory=dict)
    latency_ms: str = USUAL_MS
    charge_factor: float = 1.0
    counted: Literal["bucket and refill", "refill"] = "refill"
    warm_s: float = 5.0
    at_most_429: float = 0.0
    happens: Happens = "nothing"

    @property
    def charged(self) -> float:
        """The tokens that the endpoint charges one request, on average."""
        return _mean_characters() / 4 * self.charge_factor

    @property
    def rate(self) -> float:
        """Our requests a second that the tighter of both limits lets through."""
        return min(RPM, TPM / self.charged) / 60

    def allowed(self, seconds: float) -> float:
        """The requests that bucket and refill let through by then."""
        return self.rate * (seconds + self.depth_s)


@cache
def _mean_characters() -> float:
    """Texts have numbers of one to four digits, so they are not all of one length."""
    around = len(CHAT.prompt or "") - len("{text}")
    return fmean(len(text) + around for text in CHAT.texts(SEEN_TEXTS, "measured"))


def told(depth_s: float | None = None) -> dict[str, float | None]:
    """RPM and TPM, and the depth where the user knows it."""
    return {"rpm": RPM, "tpm": TPM, **({} if depth_s is None else {"burst_s": depth_s})}


def _known(depth_s: float, workers: int) -> Case:
    return Case(
        f"told RPM, TPM and depth, {depth_s:.0f} s deep", workers, depth_s, told(depth_s), counted="bucket and refill"
    )


def _long(depth_s: float, workers: int) -> Case:
    return Case(
        f"the same at latencies of 1-20 s, {depth_s:.0f} s deep", workers, depth_s, told(depth_s), LONG_MS,
        counted="bucket and refill",
    )  # fmt: skip


def quick() -> list[Case]:
    """Two of them, for a look."""
    return [_known(2, 2), _charging_more(2)]


def usual() -> list[Case]:
    """One of each kind."""
    return [
        *(_known(2, workers) for workers in (1, 2, 4)),
        _known(60, 2),
        _long(2, 2),
        _charging_more(2),
        Case("learnt from headers", 2, warm_s=LEARNT_S, at_most_429=0.001),
        *_events(),
    ]


def full() -> list[Case]:
    """All that was asked for."""
    return [
        *(_known(depth_s, workers) for depth_s in (2, 60) for workers in (1, 2, 4)),
        *(_long(depth_s, workers) for depth_s in (2, 60) for workers in (1, 2, 4)),
        *(_charging_more(workers) for workers in (1, 2, 4)),
        *(Case("learnt from headers", workers, warm_s=LEARNT_S, at_most_429=0.001) for workers in (1, 2, 4)),
        Case("learnt at latencies of 1-20 s", 2, latency_ms=LONG_MS, warm_s=LEARNT_S, at_most_429=0.001),
        *_events(),
    ]


def _charging_more(workers: int) -> Case:
    return Case("told RPM and TPM, charged 3 % more than the formula says", workers, told=told(), charge_factor=1.03)


def _events() -> Sequence[Case]:
    return (
        Case("one of four workers killed", 4, told=told(), happens="kill"),
        Case("a storm of 429s for 10 s", 2, told=told(2), at_most_429=1.0, happens="storm"),
        Case("limits halved and doubled while running", 2, at_most_429=1.0, warm_s=10.0, happens="change"),
    )
