"""What a load takes and gives; the ledger's rows have these shapes."""

# Properties, because a protocol's plain attributes would have to be writable; their names say it all.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Outline(Protocol):
    """A chunk without its text and vector. `key` names the vector: another key, another vector."""

    @property
    def chunk_no(self) -> int: ...
    @property
    def id(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def chunk(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def metadata(self) -> Mapping[str, Any] | None: ...
    @property
    def key(self) -> bytes: ...


class Vector(Protocol):
    """A chunk's text and its vector, as little-endian float32."""

    @property
    def chunk_no(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def body(self) -> bytes: ...
    @property
    def model(self) -> str: ...
    @property
    def prompt_tokens(self) -> int | None: ...


class Source(Protocol):
    """One set at one version: what the table is to hold.

    `ledger` tells collections of one name in two ledgers apart; `dimensions` is None when nobody knows it.
    """

    @property
    def ledger(self) -> str: ...
    @property
    def collection(self) -> str: ...
    @property
    def set_name(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def dimensions(self) -> int | None: ...

    def outline(self) -> Iterable[Outline]:
        """All its chunks that have a vector."""
        ...

    def vectors(self, chunk_nos: Sequence[int]) -> Sequence[Vector]:
        """Those chunks, in any order."""
        ...

    def refuse_gone(self) -> None:
        """Raise an error when some of it was taken away while it was read."""
        ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load came to: rows added, changed and deleted, and how many the table holds.

    `before` is the set, as COLLECTION@SET, that the table held before, None for a new table.
    """

    collection: str
    set: str
    model: str
    version: int
    dimensions: int | None
    table: str
    added: int
    changed: int
    deleted: int
    rows: int
    before: str | None
