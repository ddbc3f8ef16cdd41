"""Many documents into LightRAG at the speed of the limits instead of LightRAG's own small queues.

Of these, the queue of completions and the number of documents at once can be widened on an instance that exists. The
queue of embedding calls, their batches and their time-out are fixed when it is made: `for_bulk()` gives all of them.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

log = logging.getLogger(__name__)

CALLS = 256
# LightRAG kills a call at twice these. The fleet's queue may be long, and what was paid for is kept anyway.
LLM_TIMEOUT_S = 1_800
EMBEDDING_TIMEOUT_S = 600
EMBEDDING_BATCH = 64
_CHUNKS_A_DOCUMENT = 4
# The role whose queue an ingestion's completions go through.
_ROLE = "extract"
_FIXED = ("embedding_func_max_async", "embedding_batch_num", "default_embedding_timeout")


def for_bulk(calls: int = CALLS) -> dict[str, Any]:
    """Arguments of `LightRAG(…)` that let `calls` completions be under way at once."""
    return {
        "llm_model_max_async": calls,
        "embedding_func_max_async": max(8, calls // 4),
        "embedding_batch_num": EMBEDDING_BATCH,
        "max_parallel_insert": max(4, calls // _CHUNKS_A_DOCUMENT),
        "default_llm_timeout": LLM_TIMEOUT_S,
        "default_embedding_timeout": EMBEDDING_TIMEOUT_S,
    }


async def ingest(
    rag: Any,
    documents: str | Sequence[str],
    *,
    ids: Sequence[str] | None = None,
    file_paths: Sequence[str] | None = None,
    calls: int = CALLS,
) -> str:
    """LightRAG's own `ainsert`, with as many calls and documents under way at once as the limits may take.

    While it runs, `rag` makes `calls` completions at once, or more if it did before, and waits for them longer.

    Args:
        rag: a LightRAG instance whose functions are this package's, best made with `**for_bulk()`.
        documents: their texts.
        ids: their ids; None: made by LightRAG of the texts.
        file_paths: where they are from, for citations.
        calls: completions at once, over a quarter as many documents.

    Returns:
        LightRAG's id for the run; `rag.aget_docs_by_track_id` tells what became of each document.
    """
    _tell_what_is_fixed(rag, calls)
    texts = [documents] if isinstance(documents, str) else list(documents)
    async with _widened(rag, calls):
        track: str = await rag.ainsert(
            texts, ids=None if ids is None else list(ids), file_paths=None if file_paths is None else list(file_paths)
        )
    return track


def _tell_what_is_fixed(rag: Any, calls: int) -> None:
    wanted = for_bulk(calls)
    small = [
        f"{name}={wanted[name]} (now {getattr(rag, name)})" for name in _FIXED if getattr(rag, name) < wanted[name]
    ]
    if small:
        log.warning(
            "embeddings go through the queue that this LightRAG was made with; LightRAG(…, **for_bulk()) sets %s",
            ", ".join(small),
        )


@asynccontextmanager
async def _widened(rag: Any, calls: int) -> AsyncIterator[None]:
    """What can be widened on an instance that exists, for as long as the block lasts."""
    documents = {"max_parallel_insert", "llm_model_max_async"}
    before = {name: getattr(rag, name) for name in documents}
    queue = rag.get_llm_role_config(_ROLE)
    # Chunks of one document at once follow the number of calls; the queue itself was sized when it was made.
    rag.llm_model_max_async = max(before["llm_model_max_async"], calls)
    rag.max_parallel_insert = max(before["max_parallel_insert"], calls // _CHUNKS_A_DOCUMENT)
    await rag.aupdate_llm_role_config(
        _ROLE, max_async=max(queue["max_async"], calls), timeout=max(queue["timeout"], LLM_TIMEOUT_S)
    )
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(rag, name, value)
        await rag.aupdate_llm_role_config(_ROLE, max_async=queue["max_async"], timeout=queue["timeout"])
