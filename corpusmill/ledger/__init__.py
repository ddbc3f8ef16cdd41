"""SQL: jobs, items, answers, results, usage. The truth, and its only writer.

Everything that decides whether something was lost or paid twice happens here, in short transactions on SQLite (WAL)
or PostgreSQL. `Ledger` is the whole of it for callers; `corpusmill.ledger.records` are the data it takes and gives.
"""

from corpusmill.ledger.ledger import Ledger
from corpusmill.ledger.schema import is_empty, migrate, migrations_dir

__all__ = ["Ledger", "is_empty", "migrate", "migrations_dir"]
