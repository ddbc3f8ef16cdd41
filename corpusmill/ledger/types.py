"""Column types that keep money, JSON and row numbers alike on SQLite and PostgreSQL."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import BigInteger, Dialect, Integer, Text
from sqlalchemy.types import TypeDecorator

from corpusmill.ledger.amounts import rounded

# SQLite numbers rows by itself only in an INTEGER key; a BIGINT one stays null and is refused.
BigId = BigInteger().with_variant(Integer, "sqlite")


class Usd(TypeDecorator[Decimal]):
    """Money as whole pico-dollars in a BIGINT, up to 9.2 million dollars: sums are exact on both databases."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        """Dollars to pico-dollars."""
        return None if value is None else int(rounded(Decimal(value)).scaleb(12))

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        """Pico-dollars to dollars; PostgreSQL hands sums over as Decimal."""
        return None if value is None else Decimal(int(value)).scaleb(-12)


class Json(TypeDecorator[Any]):
    """JSON kept as text, so that it comes back as it was: key order, and NUL as its escape."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Anything JSON knows, to text."""
        return None if value is None else orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Text to what it says."""
        return None if value is None else orjson.loads(value)
