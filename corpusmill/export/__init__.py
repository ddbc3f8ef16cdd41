"""Results written to files: JSON lines, NumPy arrays with an index, Parquet, and OpenAI Batch lines.

Every format is streamed, keeps the order of the source, and appears under its name only when it is complete.
"""

from __future__ import annotations

from corpusmill.export.rows import Row
from corpusmill.export.write import Job, Written, targets, write

__all__ = ["Job", "Row", "Written", "targets", "write"]
