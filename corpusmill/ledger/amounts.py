"""What calls take of a job's budgets: dollars and tokens, always together."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

PICO = Decimal("1E-12")


def rounded(usd: Decimal) -> Decimal:
    """`usd` as the ledger can hold it: whole pico-dollars (1e-12). Round once, before summing."""
    return usd.quantize(PICO, rounding=ROUND_HALF_EVEN)


def plain(usd: Decimal) -> str:
    """Dollars without an exponent and without zeros at the end."""
    return f"{usd.normalize():f}"


@dataclass(frozen=True, slots=True)
class Amount:
    """USD and tokens (prompt and completion); of the difference of two, either may be negative."""

    usd: Decimal = Decimal(0)
    tokens: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.usd + other.usd, self.tokens + other.tokens)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.usd - other.usd, self.tokens - other.tokens)

    def __mul__(self, times: int) -> Amount:
        return Amount(self.usd * times, self.tokens * times)

    def __bool__(self) -> bool:
        return bool(self.usd or self.tokens)

    def covers(self, other: Amount) -> bool:
        """Whether it is enough of both."""
        return self.usd >= other.usd and self.tokens >= other.tokens

    def at_most(self, other: Amount) -> Amount:
        """The less of each."""
        return Amount(min(self.usd, other.usd), min(self.tokens, other.tokens))

    def beyond(self, other: Amount) -> Amount:
        """What it has more than the other, of each; 0 where it has less."""
        return self - self.at_most(other)

    def rounded(self) -> Amount:
        """As the ledger can hold it."""
        return Amount(rounded(self.usd), self.tokens)


NOTHING = Amount()


@dataclass(frozen=True, slots=True)
class Budget:
    """What a job may use over its life; None: as much as it takes."""

    usd: Decimal | None
    tokens: int | None

    def __bool__(self) -> bool:
        return self.usd is not None or self.tokens is not None

    def words(self) -> list[str]:
        """Each side, as the note of a job says it that was paused for it."""
        usd = [] if self.usd is None else [f"the budget of {plain(self.usd)} USD"]
        return usd + ([] if self.tokens is None else [f"the budget of {self.tokens:,} tokens"])

    def covers(self, amount: Amount) -> bool:
        """Whether so much may be used."""
        return (self.usd is None or amount.usd <= self.usd) and (self.tokens is None or amount.tokens <= self.tokens)
