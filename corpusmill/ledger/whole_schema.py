"""The schema as the migrations make it: the tables, and their indexes with a condition.

Those are beside the tables because SQLAlchemy loads each database's dialect to take a condition, which would be a
twentieth of what a command takes to start; no statement needs to know an index.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, text

from corpusmill.ledger.base import Base, Col
from corpusmill.ledger.models import Document, Result, Shard, Usage

METADATA = Base.metadata


def _index(name: str, *columns: Col[Any], where: str) -> None:
    """Add it to the table of its columns."""
    Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


_index("documents_by_place", Document.collection_id, Document.place, where="place IS NOT NULL")
_index("shards_ready", Shard.job_id, Shard.shard_no, where="NOT done AND sent_at IS NULL")
_index("shards_sent", Shard.job_id, Shard.shard_no, where="NOT done AND sent_at IS NOT NULL")
_index("results_failed", Result.job_id, Result.error_class, where="error_class IS NOT NULL")
_index("usage_wasted", Usage.job_id, Usage.item_no, where="item_no IS NOT NULL")
