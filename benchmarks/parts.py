"""The parts of the benchmark, in the order of the page, and how much of each.

A part is a function that measures and returns a `report.Section`. It may take as long as it likes: it runs in a
process of its own, and its figures are kept when it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks import (
    collections,
    growth,
    hot_path,
    intake,
    ledger_rates,
    lightrag,
    limit_cases,
    limit_share,
    memory,
    scale,
    submits,
)
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
    submits: Sequence[int]
    submits_on_postgres: Sequence[int]
    ledger_items: int
    simulator_s: float
    intake_mb: int
    lightrag_calls: int
    peer_share: float
    peer_limit_s: float
    peer_limit_turns: int
    collection_chunks: int
    scale: scale.Sizes


QUICK = Sizes(
    turns=1,
    chats=2_000,
    embeddings=6_000,
    limits=limit_cases.quick,
    limit_s=15,
    growth=(1_000, 5_000),
    submits=(1_000, 5_000),
    submits_on_postgres=(),
    ledger_items=10_000,
    simulator_s=1,
    intake_mb=30,
    lightrag_calls=40,
    peer_share=0.1,
    peer_limit_s=4,
    peer_limit_turns=1,
    collection_chunks=5_000,
    scale=scale.Sizes(script_s=0.3, hundred_s=2, fleet_s=4, rows=500),
)
USUAL = Sizes(
    turns=3,
    chats=6_000,
    embeddings=15_000,
    limits=limit_cases.usual,
    limit_s=20,
    growth=(10_000, 100_000),
    submits=(10_000, 100_000),
    submits_on_postgres=(),
    ledger_items=50_000,
    simulator_s=3,
    intake_mb=200,
    lightrag_calls=100,
    peer_share=0.5,
    peer_limit_s=10,
    peer_limit_turns=1,
    collection_chunks=100_000,
    scale=scale.Sizes(script_s=2, hundred_s=10, fleet_s=15, rows=20_000),
)
FULL = replace(
    USUAL,
    turns=5,
    limits=limit_cases.full,
    limit_s=20,
    growth=(10_000, 100_000, 1_000_000),
    submits=(10_000, 100_000, 1_000_000),
    submits_on_postgres=(5_000_000,),
    ledger_items=100_000,
    simulator_s=5,
    lightrag_calls=200,
    peer_share=1.0,
    peer_limit_s=20,
    peer_limit_turns=5,
    collection_chunks=1_000_000,
    scale=scale.Sizes(script_s=4, hundred_s=20, fleet_s=30, rows=50_000),
)

PARTS: Mapping[str, Callable[[Sizes], Section]] = {
    "hot-path": lambda sizes: hot_path.measure(hot_path.tasks(sizes.chats, sizes.embeddings), sizes.turns),
    "memory": lambda _: memory.measure(),
    "limits": lambda sizes: limit_share.measure(sizes.limits(), sizes.limit_s),
    "peers": lambda sizes: costs.measure(
        costs.Counts({"chat": sizes.chats, "embeddings": sizes.embeddings}, sizes.peer_share), sizes.turns
    ),
    "peers-limits": lambda sizes: shares.measure(sizes.peer_limit_s, sizes.peer_limit_turns),
    "growth": lambda sizes: growth.measure_embedded(sizes.growth),
    "growth-fleet": lambda sizes: growth.measure_on_servers(sizes.growth),
    "submit": lambda sizes: submits.measure(sizes.submits, on_postgres=sizes.submits_on_postgres),
    "ledger": lambda sizes: ledger_rates.measure(sizes.ledger_items),
    "intake": lambda sizes: intake.measure(sizes.intake_mb),
    "collections": lambda sizes: collections.measure(sizes.collection_chunks),
    "lightrag": lambda sizes: lightrag.measure(sizes.lightrag_calls, sizes.turns),
    "scale": lambda sizes: scale.measure(sizes.scale),
    "simulator": lambda sizes: other_end.measure(sizes.simulator_s),
}
