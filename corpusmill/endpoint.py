"""Where calls go and what they are signed with: an endpoint, its key, and the key's fingerprint.

The key itself lives in processes only; jobs, workers and Redis know it by a salted fingerprint.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

OPENAI_BASE_URL = "https://api.openai.com/v1"
Settle = Literal["estimate", "actual"]
MaxTokensName = Literal["max_completion_tokens", "max_tokens"]


class Formula(BaseModel):
    """A provider's own way to charge a request: output cap and characters, each times a figure, added or the larger."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_output: NonNegativeFloat = 1.0
    characters: NonNegativeFloat = 0.25
    request: NonNegativeFloat = 0.0
    combine: Literal["max", "sum"] = "sum"


Charge = Literal["openai", "azure"] | Formula


class Limits(BaseModel):
    """What the endpoint allows the whole fleet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rpm: NonNegativeInt | None = Field(
        default=None, description="Requests a minute; unset: learnt from the first reply, 60 until then; 0: no limit."
    )
    tpm: NonNegativeInt | None = Field(
        default=None,
        description="Prompt and completion tokens a minute, together; unset: learnt from the reply; 0: no limit.",
    )
    rpd: NonNegativeInt | None = Field(
        default=None,
        description="Requests a day, until midnight UTC or the hour that the endpoint told; 0: no limit.",
    )
    tpd: NonNegativeInt | None = Field(default=None, description="Tokens a day, as rpd.")
    requests_window_s: PositiveFloat = Field(
        default=60.0,
        description="Seconds that the endpoint's x-ratelimit-limit-requests is counted over; 10 at Azure.",
    )
    burst_s: PositiveFloat = Field(
        default=1.0,
        description="Seconds of the rate that may be used at once; 60 where the provider grants the full minute.",
    )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Everything that shapes a client: one long-lived session is kept for each distinct value.

    `headers` are sent with every call; they and the key never show in a `repr`. `timeout_s` is the total deadline
    of one call. `charge` and `settle` say how the provider counts a request against its token limit.
    """

    name: str
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    kind: Literal["openai", "azure"] = "openai"
    api_version: str | None = None
    deployment: str | None = None
    max_tokens_name: MaxTokensName = "max_completion_tokens"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    proxy: str | None = field(default=None, repr=False)
    timeout_s: float = 300.0
    charge: Charge = "openai"
    settle: Settle = "estimate"
    limits: Limits = field(default_factory=Limits)


def fingerprint(key: str, salt: bytes) -> str:
    """A key's name in jobs, workers and Redis: 16 hex digits; the salt is the ledger's (`Ledger.salt`)."""
    return hmac.new(salt, key.encode(), hashlib.sha256).hexdigest()[:16]
