"""The fleet's limiter: requests and tokens a minute, shared by all processes through Redis."""

from corpusmill.limits.charge import Charge, charge, facts_of
from corpusmill.limits.concurrency import Concurrency, Ending, Place
from corpusmill.limits.errors import LimiterParked, RequestTooLarge
from corpusmill.limits.gate import Gate
from corpusmill.limits.headers import Told, day_over_s, duration_s, told_by
from corpusmill.limits.limiter import Limiter
from corpusmill.limits.refusals import Refusal
from corpusmill.limits.scope import Grant, Limits, Priority, Rates, Scope, Settle

__all__ = [
    "Charge", "Concurrency", "Ending", "Gate", "Grant", "Limiter", "LimiterParked", "Limits", "Place", "Priority",
    "Rates", "Refusal", "RequestTooLarge", "Scope", "Settle", "Told", "charge", "day_over_s", "duration_s",
    "facts_of", "told_by",
]  # fmt: skip
