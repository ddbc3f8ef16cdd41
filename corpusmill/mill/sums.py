"""Sums of money as a person reads them."""

from __future__ import annotations

from decimal import Decimal


def usd(amount: Decimal | None) -> str:
    """A sum of money; unpriced is not zero, and what is more than nothing never reads as nothing."""
    if amount is None:
        return "unpriced"
    if 0 < amount < Decimal("0.0001"):
        return f"{amount:.{1 - amount.adjusted()}f}"
    return f"{amount:,.2f}" if amount >= 100 else f"{amount:,.4f}"


def exact(amount: Decimal) -> str:
    """All digits of a sum and no zeros after them: `0.005`."""
    return f"{amount.normalize():f}"
