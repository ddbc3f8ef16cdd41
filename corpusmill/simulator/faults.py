"""Which request goes wrong, and how.

A rule is written `KIND[:SECONDS]` with one of

    =RATE          that share of the requests, 0 to 1; drawn from seed and request, whatever the order of arrival
    @N, @N-M, @N-  the N-th request since the rules were set, those from N to M, those from N on
    @text:MARK     requests with a text that contains MARK
    @key:KEY       requests under that key
    @tier:TIER     requests that ask for that service tier

The first rule that fits decides. `SECONDS` is the Retry-After of a refusal (0: without that header), and the pause
between two bytes of `drip`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from corpusmill.errors import UsageError
from corpusmill.simulator.asks import Ask
from corpusmill.simulator.errors import ERROR_KINDS

Where = Literal["both", "completion", "embedding"]

# Kinds that are not a refusal: where they apply.
ANSWER_KINDS: dict[str, Where] = {
    "html200": "both",  # a page of HTML where an answer should be
    "bad_json": "both",  # a paid answer, cut inside its JSON
    "no_usage": "both",
    "empty": "both",  # no text, or no vectors
    "no_choices": "completion",
    "length": "completion",
    "content_filter": "completion",
    "refusal": "completion",
    "reasoning": "completion",  # nothing but reasoning, as DeepSeek writes it
    "thinking": "completion",  # reasoning, then the answer
    "no_room": "completion",  # the output cap was used up by reasoning
    "short_data": "embedding",  # one vector too few
    "shuffled": "embedding",  # right indices, wrong order
    "wrong_dim": "embedding",
    "nan": "embedding",
    "hang": "both",  # no answer, ever; nothing is paid
    "drip": "both",  # a paid answer, byte by byte
    "reset": "both",  # the connection is reset before anything is paid
    "lost_reply": "both",  # paid, then the connection is reset
    "truncated_body": "both",  # paid, then closed in the middle of the body
}
KINDS = (*ERROR_KINDS, *ANSWER_KINDS)


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one request; `seconds` None: the kind's own."""

    kind: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as it was written, and what it means. `fits(ask, number, seen)` decides for one request."""

    text: str
    fault: Fault
    where: Where
    fits: Callable[[Ask, int, int], bool]

    @classmethod
    def parse(cls, text: str, *, seed: int = 0) -> Rule:
        """Read a rule; see the module's docstring.

        Raises:
            UsageError: the kind is unknown, or the rule cannot be read.
        """
        split = min((i for i in (text.find("="), text.find("@")) if i > 0), default=len(text))
        head, sign, when = text[:split], text[split : split + 1], text[split + 1 :]
        kind, _, seconds = head.partition(":")
        if kind not in KINDS:
            near = get_close_matches(kind, KINDS, 1)
            hint = f"did you mean {near[0]}?" if near else f"the kinds are: {', '.join(KINDS)}"
            raise UsageError(f"--fault {text}: there is no fault {kind!r}", next_step=hint)
        try:
            fault = Fault(kind, float(seconds) if seconds else None)
            fits = _by_rate(float(when), f"{seed}\n{kind}\n") if sign == "=" else _by_place(when)
        except ValueError:
            raise UsageError(
                f"--fault {text}: cannot be read",
                next_step="write KIND=RATE (0 to 1), KIND@N, KIND@N-M, KIND@text:MARK, KIND@key:KEY or KIND@tier:TIER",
            ) from None
        return cls(text, fault, ANSWER_KINDS.get(kind, "both"), fits)


def _by_rate(rate: float, salt: str) -> Callable[[Ask, int, int], bool]:
    if not 0 <= rate <= 1:
        raise ValueError(rate)
    threshold = int(rate * 2**64)

    def fits(ask: Ask, _number: int, seen: int) -> bool:
        drawn = hashlib.blake2b(salt.encode() + ask.digest + seen.to_bytes(8, "little"), digest_size=8).digest()
        return int.from_bytes(drawn, "little") < threshold

    return fits


def _by_place(when: str) -> Callable[[Ask, int, int], bool]:
    if when.startswith("text:") and (mark := when[5:]):
        return lambda ask, _number, _seen: any(mark in text for text in ask.texts)
    if when.startswith("key:") and (key := when[4:]):
        return lambda ask, _number, _seen: ask.key == key
    if when.startswith("tier:") and (tier := when[5:]):
        return lambda ask, _number, _seen: ask.body.get("service_tier") == tier
    first, dash, last = when.partition("-")
    start = int(first)
    end = int(last) if last else start
    if start < 1 or end < start:
        raise ValueError(when)
    return lambda _ask, number, _seen: start <= number and (number <= end or (bool(dash) and not last))


class Faults:
    """The rules in force, and how many requests they have looked at."""

    def __init__(self, texts: Iterable[str], *, seed: int = 0) -> None:
        self._seed = seed
        self.counts: dict[str, int] = {}
        self.set(texts)

    def set(self, texts: Iterable[str]) -> None:
        """Put these rules in the place of the old ones and count requests from 1 again."""
        self.rules = tuple(Rule.parse(text, seed=self._seed) for text in texts)
        self._number = 0
        # How often a request came: a retry is drawn for anew.
        self._seen: dict[bytes, int] = {}

    def pick(self, ask: Ask) -> Fault | None:
        """What goes wrong with this request; None: nothing."""
        if not self.rules:
            return None
        self._number += 1
        seen = self._seen[ask.digest] = self._seen.get(ask.digest, 0) + 1
        for rule in self.rules:
            if rule.where in ("both", ask.kind) and rule.fits(ask, self._number, seen):
                self.counts[rule.fault.kind] = self.counts.get(rule.fault.kind, 0) + 1
                return rule.fault
        return None
