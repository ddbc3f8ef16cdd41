"""An endpoint and key that jobs are bound to, as this process sees it: where calls go, and whether they may go at all.

A pool is one lane with several members, each with limits of its own. A request goes where it would wait least; a
member whose key or account fails, or that is dead, is left out, and tried again after a while with one call.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from corpusmill.endpoint import Endpoint, fingerprint
from corpusmill.ledger.records import PauseReason
from corpusmill.limits import Concurrency, Gate, Limiter, Scope, charge
from corpusmill.llm.client import Client
from corpusmill.llm.pool import ClientPool
from workers import keyring
from workers.rules import Rules
from workers.work import Facts

# So many failed connections with no success between them, and the endpoint counts as dead.
DEAD_AFTER = 10
# A member of a pool that was shut is tried again after so long, while others serve.
REST_S = 60.0


@dataclass(frozen=True, slots=True)
class Door:
    """How calls for one model get to a member: by its limits, or, where it tells none, by what it bears at once."""

    gate: Gate
    room: Concurrency

    def wait_s(self, tokens: int) -> float:
        """How long one more request of `tokens` would wait, as far as this process knows; infinite: for ever."""
        return max(self.gate.expected_wait_s(tokens), self.room.wait_s() if self.gate.unlimited else 0.0)


@dataclass(slots=True)
class Member:
    """One endpoint of a lane, and what has happened at it lately. `on_trial`: it was shut, and one call may try it."""

    endpoint: Endpoint
    fingerprint: str
    client: Client
    doors: dict[str, Door] = field(default_factory=dict)
    under_way: int = 0
    unreached: int = 0
    shut: PauseReason | None = None
    shut_at: float = 0.0
    on_trial: bool = False
    trying: bool = False

    @property
    def usable(self) -> bool:
        """Whether one more call may go there."""
        return self.shut is None and not (self.on_trial and self.trying)

    def reached(self) -> None:
        """It has answered, with whatever."""
        self.unreached = 0

    def served(self) -> None:
        """It has answered as it should: it is trusted again."""
        self.unreached, self.on_trial = 0, False

    def missed(self) -> bool:
        """A connection failed; True when that was one too many."""
        self.unreached += 1
        return self.on_trial or self.unreached >= DEAD_AFTER

    def tokens(self, facts: Facts) -> int:
        """What the endpoint will charge for a request."""
        return charge(self.endpoint.charge, max_output=facts.max_output, chars=facts.chars)

    def open(self) -> None:
        """Let it be called as if nothing had happened."""
        self.shut, self.unreached, self.on_trial = None, 0, False


class Lane:
    """The members of a lane and their gates. Used on the loop only."""

    def __init__(
        self, key: keyring.Lane, salt: bytes, clients: ClientPool, limiter: Limiter, rules: Rules | None = None
    ) -> None:
        self.key, self._salt, self._clients, self._limiter = key, salt, clients, limiter
        self._rules = rules or Rules()
        self.members: list[Member] = []
        self.pausing = False

    def open(self, endpoints: Sequence[Endpoint]) -> None:
        """Use these endpoints from now on. With all of them shut they are tried again: somebody let the job go on."""
        known = {member.endpoint: member for member in self.members}
        self.members = [known.get(endpoint) or self._member(endpoint) for endpoint in endpoints]
        if not self.pausing and all(member.shut for member in self.members):
            for member in self.members:
                member.open()

    def heed(self, endpoints: Sequence[Endpoint]) -> None:
        """Hold what is under way to the limits of these endpoints and to the rules, should they be others now."""
        known = {endpoint.name: endpoint for endpoint in endpoints}
        for member in self.members:
            endpoint = known.get(member.endpoint.name, member.endpoint)
            for model, door in member.doors.items():
                door.gate.heed(self._rules.limits(endpoint, model))

    def choose(self, model: str, facts: Facts) -> Member | None:
        """The member where a request would wait least; None when all are shut."""
        if len(self.members) == 1:
            only = self.members[0]
            return None if only.shut else only
        self._try_the_rested()
        usable = [member for member in self.members if member.usable]
        # On trial first: one request is enough, and it may bring back a whole member.
        return min(
            usable,
            key=lambda each: (not each.on_trial, self._wait_s(each, model, facts), each.under_way),
            default=None,
        )

    def shortest_wait_s(self, model: str, facts: Facts) -> float:
        """How long a request would wait at the best of the members; infinite when all are shut."""
        return min((self._wait_s(each, model, facts) for each in self.members if each.shut is None), default=math.inf)

    def tpm(self, model: str) -> int | None:
        """The tightest limit of tokens a minute of its members, set or told, as far as it is known; None: none is."""
        known = (self._tpm(member, model) for member in self.members)
        return min((tpm for tpm in known if tpm), default=None)

    def shut(self, member: Member, reason: PauseReason) -> bool:
        """Leave a member out; True when it was the last, so that the lane's jobs have to pause."""
        if member.shut is None:
            member.shut, member.shut_at = reason, time.monotonic()
        return not self.has_open

    @property
    def has_open(self) -> bool:
        """Whether any member may be called, now or soon."""
        return any(each.shut is None for each in self.members)

    def door(self, member: Member, model: str) -> Door:
        """The way to a model at a member."""
        door = member.doors.get(model)
        if door is None:
            endpoint = member.endpoint
            scope = Scope(endpoint.base_url, member.fingerprint, endpoint.deployment or model)
            gate = self._limiter.gate(scope, self._rules.limits(endpoint, model), settle=endpoint.settle)
            door = member.doors[model] = Door(gate, Concurrency())
        return door

    def _tpm(self, member: Member, model: str) -> int | None:
        rates = self.door(member, model).gate.rates
        return self._rules.limits(member.endpoint, model).tpm if rates is None else rates.tpm

    def _wait_s(self, member: Member, model: str, facts: Facts) -> float:
        return self.door(member, model).wait_s(member.tokens(facts))

    def _try_the_rested(self) -> None:
        rested = time.monotonic() - REST_S
        for member in self.members:
            if member.shut and member.shut_at < rested:
                member.open()
                member.on_trial = True

    def _member(self, endpoint: Endpoint) -> Member:
        return Member(endpoint, fingerprint(endpoint.api_key or "", self._salt), self._clients.client(endpoint))
