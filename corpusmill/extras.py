"""Packages that come with an extra: asked for before anything is spent, not when the result is written."""

from __future__ import annotations

from importlib.util import find_spec

from corpusmill.errors import UsageError


def need_pyarrow(where: str, *, otherwise: str = "") -> None:
    """Make sure that Parquet can be read and written; pyarrow itself, a slow import, is only looked for.

    Args:
        where: the file that needs it.
        otherwise: what can be done instead of installing it.

    Raises:
        UsageError: the extra `parquet` is not installed.
    """
    if find_spec("pyarrow") is None:
        install = "pip install pyarrow, or pip install 'corpusmill[parquet]'"
        raise UsageError(
            "Parquet needs pyarrow, which is not installed",
            where=where,
            next_step=f"{install}; {otherwise}" if otherwise else install,
        )


def need_pgvector(where: str) -> None:
    """Make sure that vectors can be loaded into PostgreSQL.

    Raises:
        UsageError: the extra `pgvector` is not installed.
    """
    if find_spec("pgvector") is None or find_spec("psycopg") is None:
        raise UsageError(
            "loading into PostgreSQL needs pgvector and psycopg, which are not installed",
            where=where,
            next_step="pip install 'corpusmill[pgvector]'",
        )
