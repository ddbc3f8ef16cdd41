"""The parts of the benchmark, in the order of the page, and how much of each.

A part is a function that measures and returns a `report.Section`. It may take as long as it likes: it runs in a
process of its own, and its figures are kept when it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks import growth, hot_path, intake, ledger_rates, lightrag, limit_cases, limit_share, scale
from benchmarks import simulator as other_end
from benchmarks.peers import costs, shares
from benchmarks.report import Section


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of each part."""

    turns: int
    chats: int
    embeddings: int
    limits: Callable[[], Sequence[limit_cases.Case]]
    limit_s: float
    growth: Sequence[int]
    ledger_items: int
    simulator_s: float
    intake_mb: int
    lightrag_calls: int
    peer_share: float
    peer_limit_s: float
    peer_limit_turns: int
    scale: scale.Sizes


QUICK = Sizes(
    1, 2_000, 6_000, limit_cases.quick, 15, (1_000, 5_000), 10_000, 1, 30, 40, 0.1, 4, 1, scale.Sizes(0.3, 2, 4, 500)
)  # fmt: skip
USUAL = Sizes(
    3, 6_000, 15_000, limit_cases.usual, 20, (10_000, 100_000), 50_000, 3, 200, 100, 1.0, 15, 1,
    scale.Sizes(2, 10, 15, 20_000),
)  # fmt: skip
FULL = Sizes(
    5, 6_000, 15_000, limit_cases.full, 45, (10_000, 100_000, 1_000_000), 100_000, 5, 200, 200, 1.0, 20, 5,
    scale.Sizes(4, 20, 30, 50_000),
)  # fmt: skip

PARTS: Mapping[str, Callable[[Sizes], Section]] = {
    "hot-path": lambda sizes: hot_path.measure(hot_path.tasks(sizes.chats, sizes.embeddings), sizes.turns),
    "limits": lambda sizes: limit_share.measure(sizes.limits(), sizes.limit_s),
    "peers": lambda sizes: costs.measure(
        costs.Counts({"chat": sizes.chats, "embeddings": sizes.embeddings}, sizes.peer_share), sizes.turns
    ),
    "peers-limits": lambda sizes: shares.measure(sizes.peer_limit_s, sizes.peer_limit_turns),
    "growth": lambda sizes: growth.measure(sizes.growth),
    "ledger": lambda sizes: ledger_rates.measure(sizes.ledger_items),
    "intake": lambda sizes: intake.measure(sizes.intake_mb),
    "lightrag": lambda sizes: lightrag.measure(sizes.lightrag_calls, sizes.turns),
    "scale": lambda sizes: scale.measure(sizes.scale),
    "simulator": lambda sizes: other_end.measure(sizes.simulator_s),
}
