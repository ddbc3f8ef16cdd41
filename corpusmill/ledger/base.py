"""Tables written as classes: SQLAlchemy's Core with a column an attribute, and no object-relational mapper.

The ledger reads and writes rows, never objects. Without the mapper every process of ours starts with a tenth of a
second of CPU less, and a statement is a Core statement, whose cache key takes less to make.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple

from sqlalchemy import Boolean, Column, ColumnClause, Double, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.types import TypeEngine

from corpusmill.ledger.types import Usd

# A `Column` is one; as an attribute of a class, type checkers take that name for something of SQLAlchemy's own.
Col = ColumnClause

_TYPES: dict[str, type[TypeEngine[Any]]] = {
    int.__name__: Integer,
    float.__name__: Double,
    bytes.__name__: LargeBinary,
    str.__name__: Text,
    bool.__name__: Boolean,
    Decimal.__name__: Usd,
}
_ANNOTATION = re.compile(r"Col\[(\w+)( \| None)?\]")


class _Said(NamedTuple):
    arguments: tuple[Any, ...]
    options: dict[str, Any]


def column(*arguments: Any, **options: Any) -> Any:
    """What a column's annotation does not say of it, as `sqlalchemy.Column` takes it: name, type, constraints."""
    return _Said(arguments, options)


class Base:
    """A table of the ledger. `name: Col[int | None]` is a column; `None` lets it be null, `column(…)` says more."""

    metadata: ClassVar[MetaData] = MetaData()
    __tablename__: ClassVar[str]
    # Indexes and the like; the table's options last.
    __table_args__: ClassVar[tuple[Any, ...]] = ()
    __table__: ClassVar[Table]

    def __init_subclass__(cls) -> None:
        columns = dict(_columns(cls))
        parts = [part for part in cls.__table_args__ if not isinstance(part, dict)]
        options = next((part for part in cls.__table_args__ if isinstance(part, dict)), {})
        cls.__table__ = Table(cls.__tablename__, Base.metadata, *columns.values(), *parts, **options)
        for name, made in columns.items():
            setattr(cls, name, made)

    @classmethod
    def __clause_element__(cls) -> Table:
        """How SQLAlchemy takes the class for its table, in `insert(Job)` or `.join(Job, …)`."""
        return cls.__table__


def _columns(cls: type[Base]) -> Iterator[tuple[str, Column[Any]]]:
    """Name of the attribute, and the column."""
    for name, annotation in cls.__annotations__.items():
        # Annotations are text here (`from __future__ import annotations`): there are two hundred to read at each start.
        found = _ANNOTATION.fullmatch(annotation)
        if found is not None:
            yield name, _made(name, found[1], cls.__dict__.get(name, column()), nullable=bool(found[2]))


def _made(name: str, kind: str, said: _Said, *, nullable: bool) -> Column[Any]:
    arguments = list(said.arguments)
    if arguments and isinstance(arguments[0], str):
        name = arguments.pop(0)
    # A foreign key has the type of what it points to.
    return Column(name, *(arguments or [_TYPES[kind]]), nullable=nullable, **said.options)
