"""A set of vectors in a table of the user's own PostgreSQL, through the extension pgvector (extra `pgvector`).

The table holds one set at one version, always: a load is one transaction that changes what differs. Which set and
which version it holds is a row of `corpusmill_loads`, in the same schema.
"""

from corpusmill.pgvector.loading import load
from corpusmill.pgvector.shapes import Loaded, Outline, Source, Vector
from corpusmill.pgvector.tables import table_name
from corpusmill.pgvector.target import Target, target

__all__ = ["Loaded", "Outline", "Source", "Target", "Vector", "load", "table_name", "target"]
