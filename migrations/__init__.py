"""Alembic migrations of the ledger; `corpusmill migrate` runs them."""
