"""What a simulator is started with."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from corpusmill.errors import UsageError
from corpusmill.simulator.telling import Dialect, RetryAfter

DEFAULT_PORT = 8901


@dataclass(frozen=True, slots=True)
class Latency:
    """How long an answer takes: lognormal, `median_ms` in the middle, `sigma` the spread of its logarithm."""

    median_ms: float = 0.0
    sigma: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Latency:
        """Read `MEDIAN` or `MEDIAN:SIGMA`, such as `50` or `50:0.4`."""
        median, _, sigma = text.partition(":")
        try:
            latency = cls(float(median), float(sigma or 0))
        except ValueError:
            latency = cls(-1)
        if not (0 <= latency.median_ms < float("inf") and 0 <= latency.sigma < float("inf")):
            raise UsageError(
                f"--latency-ms {text}: not a latency", next_step="write MEDIAN or MEDIAN:SIGMA, such as 50 or 50:0.4"
            )
        return latency

    def draw_s(self, dice: random.Random) -> float:
        """The seconds that one answer takes."""
        if not self.sigma:
            return self.median_ms / 1000
        return self.median_ms / 1000 * dice.lognormvariate(0, self.sigma)


@dataclass(frozen=True, slots=True)
class Options:
    """How the endpoint behaves.

    `rpm`, `tpm`: requests and tokens a minute for each key and model; None: no limit, and no headers of it.
    `rpd`, `tpd`: the same a day of `day_s` seconds, which begins with the first request.
    `tell`: in which headers limits are told. `retry_after`: how a refusal writes the wait. `growth`: by how much of
    itself a second's traffic may outgrow the one before; more is refused with `slow_down`. `capacity`: calls that are
    answered at once; more share it, so that each takes longer; None: any number.
    `depth_s`: how many seconds of a limit may be used at once. `charge`: `estimate` takes max(output cap, characters/4)
    and gives nothing back; `actual` puts that right to the usage once the answer is there. `charge_factor` multiplies
    what is charged in tokens. `keys`: keys that are accepted; empty: any. `models`: models that exist; empty: any.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    rpm: int | None = None
    tpm: int | None = None
    rpd: int | None = None
    tpd: int | None = None
    day_s: float = 86_400.0
    tell: Dialect = "openai"
    retry_after: RetryAfter = "both"
    growth: float | None = None
    capacity: int | None = None
    depth_s: float = 2.0
    charge: Literal["estimate", "actual"] = "estimate"
    charge_factor: float = 1.0
    latency: Latency = field(default_factory=Latency)
    dimensions: int = 1536
    faults: tuple[str, ...] = ()
    paid: Path | None = None
    seed: int = 0
    keys: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
