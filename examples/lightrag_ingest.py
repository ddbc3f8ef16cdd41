"""A folder of documents into LightRAG, as fast as the fleet's limits allow.

export CORPUSMILL_BROKER_URL=… CORPUSMILL_DATABASE_URL=…    # a fleet with at least one `corpusmill worker`
export OPENAI_API_KEY=…                                     # the key and address that the workers have
python examples/lightrag_ingest.py DOCUMENTS GRAPH          # again after a crash: what was paid for is a hit
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from lightrag import LightRAG

from corpusmill.lightrag import for_bulk, ingest
from corpusmill.lightrag.openai import openai_complete, openai_embed
from corpusmill.lightrag.utils import TokenTracker


def documents_in(folder: str) -> dict[str, str]:
    """Every Markdown and text file below `folder`, by its path."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix in (".md", ".txt"))
    return {str(path): path.read_text() for path in paths}


async def main(documents: dict[str, str], graph: str) -> None:
    """Insert the documents into the graph in the folder `graph`."""
    rag = LightRAG(
        working_dir=graph,
        llm_model_func=openai_complete,
        llm_model_name="gpt-6-luna",
        embedding_func=openai_embed,
        **for_bulk(),
    )
    await rag.initialize_storages()
    with TokenTracker() as tracker:
        await ingest(rag, list(documents.values()), file_paths=list(documents))
    documents_by_state = await rag.doc_status.get_status_counts()
    print(f"{tracker.cached_count} calls needed no paid one; {tracker.usd} USD; {documents_by_state}")
    await rag.finalize_storages()


if __name__ == "__main__":
    asyncio.run(main(documents_in(sys.argv[1]), sys.argv[2]))
