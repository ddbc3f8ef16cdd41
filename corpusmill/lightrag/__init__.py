"""LightRAG's OpenAI integration, drop-in: its module names, functions and behaviour over one shared pool.

`openai`, `binding_options` and `utils` carry the names that LightRAG's modules of these names carry, so that moving
to corpusmill is a change of prefix in the imports. What differs, and why, stands in `docs/lightrag.md`.
"""

from __future__ import annotations

from corpusmill.lightrag.choosing import use_fleet, use_local
from corpusmill.lightrag.ingesting import for_bulk, ingest

__all__ = ["for_bulk", "ingest", "use_fleet", "use_local"]
