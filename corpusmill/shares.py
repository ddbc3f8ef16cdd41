"""One bill, many texts."""

from __future__ import annotations

from collections.abc import Sequence


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """Split `total` in proportion to `weights` so that the parts add up to it exactly.

    A bill for a whole pack becomes one for each text; weights of 0 alone are split evenly.
    """
    weights = weights if any(weights) else [1] * len(weights)
    whole, parts, seen = sum(weights), [], 0
    for weight in weights:
        before = total * seen // whole
        seen += weight
        parts.append(total * seen // whole - before)
    return parts
