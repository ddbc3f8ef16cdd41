"""Requests that share one fate: a completion job's, or those of embedding jobs that may share a pack.

They go to one lane, with the same model and parameters, so the first answers speak for all: until one call has
succeeded only a few are made, and when a handful of items, or all of a small job, has failed in a way that may concern
every one of them, and nothing has succeeded, their jobs are stopped instead of burning through a corpus.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from corpusmill.ledger.records import Priority
from corpusmill.llm.errors import CallError
from workers.flex import Patience
from workers.held import HeldShard, Unit
from workers.lane import Lane
from workers.probation import Probation
from workers.turns import Turns

if TYPE_CHECKING:
    from workers.delivery import Delivery

HANDFUL = 5


@dataclass(frozen=True, slots=True)
class Withheld:
    """Items whose failure is not written yet: it may be everybody's."""

    units: tuple[Unit, ...]
    error: CallError


class Stream:
    """One stream and what is under way in it. Used on the loop only.

    `turns` bounds those that hold a place in the window while they wait at the gate.
    """

    def __init__(self, lane: Lane, model: str, priority: Priority, turns: Turns) -> None:
        self.lane, self.model, self.priority = lane, model, priority
        self.probation = Probation()
        self.patience = Patience()
        self.turns = turns
        self.shards: set[HeldShard] = set()
        self.deliveries: set[Delivery] = set()
        self.waiting_to_be_packed = 0
        self._withheld: list[Withheld] = []

    @property
    def proved(self) -> bool:
        """Whether a call has succeeded, so that a failure is the item's own."""
        return self.probation.passed

    @property
    def withheld_items(self) -> int:
        """How many items have failed without it being decided whose fault it is."""
        return sum(len(each.units) for each in self._withheld)

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way that could still succeed."""
        return not self.deliveries and not self.waiting_to_be_packed

    def prove(self) -> list[Withheld]:
        """A call has succeeded; returns the failures that are the items' own after all."""
        self.probation.pass_()
        return self.take_withheld()

    def withhold(self, units: tuple[Unit, ...], error: CallError) -> None:
        """Keep a failure back until it is clear whose it is."""
        self._withheld.append(Withheld(units, error))

    def take_withheld(self) -> list[Withheld]:
        """The failures kept back so far, to be written or dropped."""
        taken, self._withheld = self._withheld, []
        return taken

    def reconsider(self) -> None:
        """A shard was halted: requests that nobody wants any more are called off."""
        for delivery in list(self.deliveries):
            delivery.reconsider()
