"""An endpoint and key that jobs are bound to, as this process sees it: where calls go, and whether they may go at all.

A pool is one lane with several members; a member whose key or account fails is left out until the lane is opened
again, and the lane is shut when none is left.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from corpusmill.endpoint import Endpoint, fingerprint
from corpusmill.ledger.records import PauseReason
from corpusmill.limits import Gate, Limiter, Scope
from corpusmill.llm.client import Client
from corpusmill.llm.pool import ClientPool
from workers import keyring

# So many failed connections with no success between them, and the endpoint counts as dead.
DEAD_AFTER = 10
# A member of a pool that was shut is tried again after so long, while others serve.
REST_S = 60.0


@dataclass(slots=True)
class Member:
    """One endpoint of a lane, and what has happened at it lately."""

    endpoint: Endpoint
    fingerprint: str
    client: Client
    gates: dict[str, Gate]
    under_way: int = 0
    unreached: int = 0
    shut: PauseReason | None = None
    shut_at: float = 0.0

    def reached(self) -> None:
        """It has answered, with whatever."""
        self.unreached = 0

    def missed(self) -> bool:
        """A connection failed; True when that was one too many."""
        self.unreached += 1
        return self.unreached >= DEAD_AFTER


class Lane:
    """The members of a lane and their gates. Used on the loop only."""

    def __init__(self, key: keyring.Lane, salt: bytes, clients: ClientPool, limiter: Limiter) -> None:
        self.key, self._salt, self._clients, self._limiter = key, salt, clients, limiter
        self.members: list[Member] = []
        self.pausing = False

    def open(self, endpoints: Sequence[Endpoint]) -> None:
        """Use these endpoints from now on. With all of them shut they are tried again: somebody let the job go on."""
        known = {member.endpoint: member for member in self.members}
        self.members = [known.get(endpoint) or self._member(endpoint) for endpoint in endpoints]
        if self.pausing:
            return
        rested = time.monotonic() - REST_S
        nobody = self.choose() is None
        for member in self.members:
            if member.shut and (nobody or member.shut_at < rested):
                member.shut, member.unreached = None, 0

    def heed(self, endpoints: Sequence[Endpoint]) -> None:
        """Hold what is under way to the limits of these endpoints, should they have others now."""
        limits = {endpoint.name: endpoint.limits for endpoint in endpoints}
        for member in self.members:
            for gate in member.gates.values():
                gate.heed(limits.get(member.endpoint.name, member.endpoint.limits))

    def choose(self) -> Member | None:
        """The member with the least under way; None when all are shut."""
        usable = [member for member in self.members if member.shut is None]
        return min(usable, key=lambda member: member.under_way, default=None)

    def shut(self, member: Member, reason: PauseReason) -> bool:
        """Leave a member out; True when it was the last, so that the lane's jobs have to pause."""
        if member.shut is None:
            member.shut, member.shut_at = reason, time.monotonic()
        return all(each.shut for each in self.members)

    def gate(self, member: Member, model: str) -> Gate:
        """The limiter's gate for a model at a member."""
        gate = member.gates.get(model)
        if gate is None:
            endpoint = member.endpoint
            scope = Scope(endpoint.base_url, member.fingerprint, endpoint.deployment or model)
            gate = self._limiter.gate(scope, endpoint.limits, settle=endpoint.settle)
            member.gates[model] = gate
        return gate

    def _member(self, endpoint: Endpoint) -> Member:
        return Member(endpoint, fingerprint(endpoint.api_key or "", self._salt), self._clients.client(endpoint), {})
