"""Refusals that a fault forces, whatever the limits say."""

from __future__ import annotations

from corpusmill.simulator.asks import Ask
from corpusmill.simulator.durations import go_duration
from corpusmill.simulator.errors import ERROR_KINDS, HTML, Refused, masked, refusal
from corpusmill.simulator.faults import Fault
from corpusmill.simulator.telling import RetryAfter, retry_after

# Seconds in Retry-After unless the rule names others; kinds that are not here send no such header.
_RETRY_AFTER_S = {"rate_limit_requests": 1.0, "rate_limit_tokens": 1.0, "rate_limit_day": 3600.0, "slow_down": 1.0}
_ECHOED_CHARACTERS = 60


def forced(fault: Fault, ask: Ask, headers: bytes, form: RetryAfter = "both") -> Refused:
    """The refusal that `fault` stands for; `headers`: those of the limits; `form`: how the wait is written."""
    wait_s = _RETRY_AFTER_S.get(fault.kind, 0.0) if fault.seconds is None else fault.seconds
    if wait_s:
        headers += retry_after(wait_s, form)
    if fault.kind == "bad_gateway":
        return Refused(502, HTML, headers, b"text/html")
    if fault.kind == "rate_limit_day":
        headers = _day_used_up(wait_s) + retry_after(wait_s, form)
    return refusal(
        ERROR_KINDS[fault.kind],
        headers=headers,
        model=ask.model,
        wait=go_duration(wait_s),
        key=masked(ask.key),
        # As real endpoints do: whoever logs error bodies logs texts.
        text=(ask.texts[-1] if ask.texts else "")[:_ECHOED_CHARACTERS],
    )


def _day_used_up(reset_s: float) -> bytes:
    return (
        "x-ratelimit-limit-requests: 10000\r\nx-ratelimit-remaining-requests: 0\r\n"
        f"x-ratelimit-reset-requests: {go_duration(reset_s)}\r\n"
    ).encode()
